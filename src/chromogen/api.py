"""The front door from Python: functions that take an array or a file, and results that notebooks show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from chromogen.app.staining import plan_stains
from chromogen.app.unmix import parse_vectors
from chromogen.errors import expected
from chromogen.evaluation.evaluate import Evaluation, evaluate_files
from chromogen.image import Image, PathLike, encode_image, resize, scaled, shrunk, write_image
from chromogen.models import LOOK_CLAIM
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.outlines import Nuclei
from chromogen.pixel_size import ASSUMED_MPP, check_mpp, is_same_mpp
from chromogen.slides.slide import Picture, open_slide, read_picture
from chromogen.staining.looks import Look, write_look
from chromogen.staining.stainer import STAINERS, Stainer, stain_image
from chromogen.staining.where_network import Model, write_model
from chromogen.stains.deconvolution import separate_stains_od10, stain_alone
from chromogen.stains.glass import white_level
from chromogen.style.encoder import Encoder
from chromogen.style.measured_style import measure_style
from chromogen.style.recipes import Recipe, build_recipe
from chromogen.style.stylize import Stylized
from chromogen.style.stylize import stylized as optimize
from chromogen.training.pairs import Registration, model_of, read_pairs
from chromogen.training.train import Training, train_where
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.measured_looks import measure_look
from chromogen.whole_slide.stain import stain_slide, stain_tile
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
    made = stainer if isinstance(stainer, Stainer) else Stainer.from_pretrained(stainer)
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
    IHC's, else 0.5; an IHC file is resampled to it. `chromogen.style.stylize.stylized` has checkpoints, tiles,
    masks and callbacks. Raises: ValueError, FileNotFoundError, OSError; ArithmeticError if the loss is not finite.
    """
    check_mpp("mpp", mpp)
    recipe = preset if isinstance(preset, Recipe) else build_recipe(preset, {}, settings)
    content, style = read_picture(he, mpp), read_picture(ihc)
    at = content.mpp or style.mpp or ASSUMED_MPP
    if style.mpp and not is_same_mpp(style.mpp, at):
        style = Picture(scaled(style.pixels, style.mpp / at), at)
    encoder = Encoder(device=device)
    return optimize(
        content.pixels, measure_style([style.pixels], recipe, encoder, mpp=at), recipe, encoder=encoder
    )


@dataclass(frozen=True)
class TrainedStainer:
    """What `train` learnt: the `look` of reference IHCs, and of pairs a `model` too, which says where."""

    look: Look
    model: Model | None = None

    def save(self, path: PathLike) -> Path:
        """Write a file for `Stainer.from_pretrained` and `--stainer`: .json for a look, .safetensors for a model.

        Returns its path. Raises: ValueError for another suffix; OSError.
        """
        file = Path(path)
        if self.model:
            write_model(file, self.model)
        else:
            write_look(file, self.look)
        return file

    def _repr_html_(self) -> str:
        """What it stains and may claim, for notebooks."""
        claim = self.model.claim if self.model else LOOK_CLAIM
        doubts = "".join(f"<li>The exemplar {escape(doubt)}.</li>" for doubt in self.look.doubts)
        said = f"<b>{escape(self.look.name)}</b>: {escape(self.look.target_stain)}. {escape(claim)}."
        return f"<p>{said}</p><ul>{doubts}</ul>"


def train(
    style: ImageOrPath | Sequence[PathLike] | None = None,
    *,
    pairs: PathLike | None = None,
    name: str = "",
    mpp: float | None = None,
    site: str = "auto",
    register: bool = False,
    training: Training | None = None,
) -> TrainedStainer:
    """Learn a stain from reference IHCs in seconds, or from pairs of H&E and IHC, in minutes, also where it lies.

    `style` is an IHC as an array uint8 (H, W, 3), or files or folders. `pairs` is a folder in which each H&E lies
    beside its IHC; with `register` their sections need not lie on each other. `mpp` is um per pixel of files that
    do not say it. `site` is what the marker stains: nuclear, cytoplasm, or auto. `training` has the steps.
    Raises: ValueError, FileNotFoundError, OSError.
    """
    if pairs is not None and style is None:
        asked = training or Training(site=site)
        read = read_pairs(Path(pairs), mpp=mpp, registration=Registration() if register else None)
        model = model_of(name or Path(pairs).name, asked, train_where(read.kept, asked), read.data, read)
        return TrainedStainer(model.look, model)
    if style is None or pairs is not None:
        got = "neither" if style is None else "both"
        raise expected("style", "given, or `pairs`", got, "give reference IHCs, or a folder of pairs")
    with TemporaryDirectory() as folder:
        styles = _as_file(Path(folder) / "style.png", style) if isinstance(style, np.ndarray) else style
        return TrainedStainer(measure_look(styles, site=site, mpp=mpp, name=name))


@dataclass(frozen=True)
class StainDensities:
    """The amounts of two stains in an image: `od10`, float64 (H, W, 3), densities of base 10, the third residual.

    `matrix` (3, 3) has a unit vector of red, green and blue for each, `white` (3,) is the level of bare glass.
    """

    od10: NDArray[np.float64]
    matrix: NDArray[np.float64]
    white: NDArray[np.float64]

    def alone(self, index: int) -> Image:
        """The picture that one stain would give alone on white, uint8 (H, W, 3)."""
        return stain_alone(self.od10 * np.log(10), index, self.matrix)

    def _repr_png_(self) -> bytes:
        """Both stains side by side, for notebooks."""
        both = [shrunk(self.alone(index), OVERVIEW_PX // 2) for index in range(2)]
        return encode_image(np.concatenate(both, axis=1), ".png")


def unmix(image: ImageOrPath, stains: str = "h-dab", mpp: float | None = None) -> StainDensities:
    """Take the stains of an image apart (Ruifrok & Johnston 2001): an array uint8 (H, W, 3), or a file.

    `stains` is a name of `VECTORS` ("h-dab", "h-e"), or two vectors "r,g,b;r,g,b". The level of bare glass is the
    image's own, so its pixel size `mpp` in um tells fine glass from pale tissue. Raises: ValueError,
    FileNotFoundError.

    >>> float(unmix(np.full((64, 64, 3), 240, np.uint8)).od10.round(2).max())
    0.0
    """
    matrix, picture = parse_vectors(stains), read_picture(image, mpp)
    white = white_level(picture.pixels, picture.mpp or ASSUMED_MPP)
    return StainDensities(separate_stains_od10(picture.pixels, matrix, white), matrix, white)


def find_nuclei(image: ImageOrPath, mpp: float | None = None) -> Nuclei:
    """Find the nuclei of an H&E or IHC image: an array uint8 (H, W, 3), or a file; in its pixels.

    `mpp` is the size of a pixel in um, by default the file's, else 0.5. `chromogen nuclei` takes whole slides of
    any size, and counts positive nuclei. Raises: ValueError, FileNotFoundError.
    """
    picture = read_picture(image, mpp)
    return nuclei_of_image(picture.pixels, picture.mpp or ASSUMED_MPP)


def evaluate(
    prediction: ImageOrPath,
    he: ImageOrPath | None = None,
    real: ImageOrPath | None = None,
    *,
    mpp: float | None = None,
    encoder: Encoder | None = None,
) -> Evaluation:
    """Score a virtual stain against its H&E and a real IHC, as far as they are given.

    All are arrays uint8 (H, W, 3), or all are files or folders, matched by name. `mpp` is the pixel size of all in
    um, by default the files'. `evaluate_files` has more options. Raises: ValueError, FileNotFoundError.
    """
    with TemporaryDirectory() as folder:
        at = Path(folder)
        return evaluate_files(
            _as_file(at / "prediction.png", prediction),
            None if he is None else _as_file(at / "he.png", he),
            None if real is None else _as_file(at / "real.png", real),
            mpp=mpp,
            encoder=encoder,
        )


def _as_file(file: Path, given: ImageOrPath) -> PathLike:
    """A path as it is; an array as a file, since cases are matched by their files."""
    if not isinstance(given, np.ndarray):
        return given
    write_image(file, given)
    return file
