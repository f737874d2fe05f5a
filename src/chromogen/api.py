"""The front door from Python: functions that take an array or a file, and results that notebooks show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np

from chromogen.app.staining import any_stainer, plan_stains
from chromogen.errors import expected
from chromogen.image import Image, PathLike, encode_image, resize, scaled
from chromogen.pixel_size import ASSUMED_MPP, check_mpp, is_same_mpp
from chromogen.slides.picture import Picture, read_picture
from chromogen.slides.slide import open_slide
from chromogen.stainer import STAINERS, Stainer, stain_image
from chromogen.style.encoder import Encoder
from chromogen.style.measured_style import measure_style
from chromogen.style.recipes import Recipe
from chromogen.style.settings import build_recipe
from chromogen.style.stylize import Stylized
from chromogen.style.stylize import stylize as optimize
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.output import Output
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.tile import stain_tile
from chromogen.whole_slide.view import SlideFile

ImageOrPath: TypeAlias = "Image | PathLike"
OVERVIEW_PX = 1024


@dataclass(frozen=True)
class StainedFile:
    """An image or slide that `stain` wrote, and the facts of how it was made."""

    path: Path
    facts: Mapping[str, Any]

    def _repr_png_(self) -> bytes:
        """Its overview, for notebooks."""
        with open_slide(self.path, assumed_mpp=ASSUMED_MPP) as slide:
            return encode_image(slide.overview(OVERVIEW_PX)[0], ".png")


def list_stainers() -> tuple[str, ...]:
    """The names of the stainers that come with Chromogen.

    >>> list_stainers()[:2]
    ('epithelial', 'nuclear')
    """
    return tuple(STAINERS)


def load_stainer(name: PathLike, model_mpp: float | None = None) -> Stainer:
    """A stainer by its name, or by the file of a look, a model of pairs, or an ONNX generator.

    `model_mpp` is the pixel size in um that an ONNX generator was trained at. `load_generator` has more options.
    Raises: FileNotFoundError; ValueError with the nearest name for another, and for a damaged file.
    """
    return any_stainer(str(name), model_mpp, None, None)


@overload
def stain(
    he: ImageOrPath, out: None = None, stainer: Stainer | PathLike = "epithelial", mpp: float | None = None
) -> Image: ...


@overload
def stain(
    he: ImageOrPath, out: PathLike, stainer: Stainer | PathLike = "epithelial", mpp: float | None = None
) -> StainedFile: ...


def stain(
    he: ImageOrPath,
    out: PathLike | None = None,
    stainer: Stainer | PathLike = "epithelial",
    mpp: float | None = None,
) -> Image | StainedFile:
    """Stain an H&E: an array uint8 (H, W, 3), or the file of an image or slide, by a stainer or its name.

    Without `out`, returns the picture: an array has the size that was given, a file that of the stainer's pixels.
    With `out` (.ome.tif, .ome.zarr, .png ...), Chromogen writes the file with its facts; `he` must be a file then.
    `mpp` is the H&E's pixel size in um, by default the file's, or for an array the stainer's. Raises: ValueError,
    FileNotFoundError, OSError.
    """
    check_mpp("mpp", mpp)
    made = stainer if isinstance(stainer, Stainer) else load_stainer(stainer)
    if isinstance(he, np.ndarray):
        if out is not None:
            raise expected("out", "left out for an array", out, "write the result with `write_image`")
        return _stained_array(he, made, mpp or made.mpp)
    if out is not None:
        return _stained_file(Path(he), Path(out), made, mpp)
    picture = read_picture(Path(he), mpp, at_mpp=made.mpp)
    return stain_image(made, picture.pixels)


def _stained_array(he: Image, stainer: Stainer, mpp: float) -> Image:
    if is_same_mpp(mpp, stainer.mpp):
        return stain_image(stainer, he)
    stained = stain_image(stainer, scaled(he, mpp / stainer.mpp))
    return resize(stained, (he.shape[1], he.shape[0]))


def _stained_file(he: Path, out: Path, stainer: Stainer, mpp: float | None) -> StainedFile:
    (task,) = plan_stains([he], out)
    if task.is_slide:
        facts = stain_slide(SlideJob(SlideFile(he, mpp), stainer), Output(task.out))
    else:
        facts = stain_tile(task.file, task.out, stainer, mpp=mpp, icc=True)
    return StainedFile(task.out, facts)


def stylize(
    he: ImageOrPath,
    ihc: ImageOrPath,
    preset: str | Recipe = "histology",
    *,
    mpp: float | None = None,
    settings: Sequence[str] = (),
    device: str = "auto",
) -> Stylized:
    """Optimize an H&E until it looks like an IHC: arrays uint8 (H, W, 3), or files.

    `preset` is a name of `PRESETS`, or a `Recipe`. `settings` change single fields of a preset, as in
    `["steps=50", "content.weight=0.5"]`. `mpp` is the pixel size of the H&E in um, by default the file's, else the
    IHC's, else 0.5; an IHC file is resampled to it. `chromogen.style.stylize.stylize` has checkpoints, tiles,
    masks and callbacks. Raises: ValueError, FileNotFoundError, OSError; ArithmeticError if the loss is not finite.
    """
    check_mpp("mpp", mpp)
    recipe = preset if isinstance(preset, Recipe) else build_recipe(preset, {}, settings)
    content, style = _picture(he, mpp), _picture(ihc, None)
    at = content.mpp or style.mpp or ASSUMED_MPP
    if style.mpp and not is_same_mpp(style.mpp, at):
        style = Picture(scaled(style.pixels, style.mpp / at), at)
    encoder = Encoder(device=device)
    return optimize(
        content.pixels, measure_style([style.pixels], recipe, encoder, mpp=at), recipe, encoder=encoder
    )


def _picture(given: ImageOrPath, mpp: float | None) -> Picture:
    return Picture(given, mpp) if isinstance(given, np.ndarray) else read_picture(Path(given), mpp)
