"""Slides as layers of napari: in um, at all levels; and sample data."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from chromogen import data
from chromogen.image import PathLike
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.slides.slide import SLIDE_SUFFIXES
from chromogen.whole_slide.lazy import LazyPicture, lazy_slide
from chromogen.whole_slide.view import SlideFile, shared_slide

LayerData: TypeAlias = tuple[Any, dict[str, Any], str]
Paths: TypeAlias = PathLike | Sequence[PathLike]
ABOUT = "chromogen"  # under this name a layer's metadata say what it shows
VIRTUAL = "virtual, research use only"


def reader_of(path: Paths) -> Callable[[Paths], list[LayerData]] | None:
    """The function by which napari reads slides and images; None for a TIFF, Zarr or image of another kind.

    A slide that is named as such is always tried, so that a broken one says what is wrong with it.
    """
    return read_layers if all(map(_is_for_us, _files(path))) else None


def read_layers(path: Paths) -> list[LayerData]:
    """An image layer for each file. Raises: SlideError or OSError where a file cannot be read."""
    return [slide_layer(file, lazy_slide(file)) for file in _files(path)]


def _files(path: Paths) -> list[Path]:
    return [Path(path)] if isinstance(path, str | os.PathLike) else [Path(file) for file in path]


def _is_for_us(file: Path) -> bool:
    if file.suffix.lower() in SLIDE_SUFFIXES:
        return True
    try:
        with shared_slide(SlideFile(file).absolute()):
            return True
    except (ValueError, OSError):
        return False


def slide_layer(file: Path, picture: LazyPicture) -> LayerData:
    """A multiscale image layer in um, or in pixels where no pixel size is known.

    The origin is the slide's corner, as QuPath has it. napari places the middle of the first pixel.
    """
    mpp = picture.mpps[0]
    x_um, y_um = picture.origin_um
    middle_um = (mpp or 0.0) / 2
    about = {"path": str(file.absolute()), "mpp": mpp, "notice": picture.notice}
    kwargs = {
        "name": f"{file.name} ({VIRTUAL})" if picture.notice else file.name,
        "rgb": True,
        "multiscale": len(picture.levels) > 1,
        "scale": (mpp or 1.0, mpp or 1.0),
        "translate": (y_um + middle_um, x_um + middle_um),
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
