"""Slides as layers of napari: in um, at all levels; and sample data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from chromogen import data
from chromogen.image import PathLike
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.whole_slide.lazy import LazyPicture, lazy_slide

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
ABOUT = "chromogen"  # under this name a layer's metadata say what it shows
VIRTUAL = "virtual, research use only"


def reader_of(path: PathLike | Sequence[PathLike]) -> Callable[[PathLike | Sequence[PathLike]], list[LayerData]]:
    """The function by which napari reads slides and images."""
    del path  # every file of the patterns is tried: what cannot be read says why
    return read_layers


def read_layers(path: PathLike | Sequence[PathLike]) -> list[LayerData]:
    """An image layer for each file. Raises: SlideError or OSError where a file cannot be read."""
    files = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(file) for file in path]
    return [slide_layer(file, lazy_slide(file)) for file in files]


def slide_layer(file: Path, picture: LazyPicture) -> LayerData:
    """A multiscale image layer in um, or in pixels where no pixel size is known."""
    mpp = picture.mpps[0]
    x_um, y_um = picture.origin_um
    about = {"path": str(file), "mpp": mpp, "notice": picture.notice}
    kwargs = {
        "name": f"{file.name} ({VIRTUAL})" if picture.notice else file.name,
        "rgb": True,
        "multiscale": len(picture.levels) > 1,
        "scale": (mpp or 1.0, mpp or 1.0),
        "translate": (y_um, x_um),
        "units": ("um", "um") if mpp else ("pixel", "pixel"),
        "metadata": {ABOUT: about},
    }
    return (list(picture.levels) if len(picture.levels) > 1 else picture.levels[0]), kwargs, "image"


def sample_he() -> list[LayerData]:
    """A whole H&E slide of skin, 2220 x 2967 px: fetched once by pip."""
    return read_layers(data.slide())


def sample_ihc() -> list[LayerData]:
    """An IHC of colon glands, DAB and haematoxylin, from scikit-image."""
    scale = (ASSUMED_MPP, ASSUMED_MPP)
    return [(data.ihc(), {"name": "IHC of colon", "rgb": True, "scale": scale, "units": ("um", "um")}, "image")]
