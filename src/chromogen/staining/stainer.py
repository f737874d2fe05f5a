"""Stainers: a callable with facts attached. `stainer(image)` is the image in another stain."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Each, SlidingWindow, TileGrid, Window, mirrored, whole
from chromogen.errors import choose, expected
from chromogen.image import Image, PathLike
from chromogen.models import LOOK_SUFFIX, LOOKS, MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.stains.appearance import monge_kantorovich_map
from chromogen.stains.deconvolution import H_E, StainLook, optical_density, stain_look
from chromogen.stains.glass import white_level
from chromogen.stains.tissue import tissue_mask

if TYPE_CHECKING:
    from chromogen.staining.looks import Look
    from chromogen.staining.where import Where

Statistics: TypeAlias = Any  # what `measure` finds and `paint` is given: small, picklable
Location: TypeAlias = tuple[int, int]  # (x, y) on the whole picture, in pixels of the stainer's mpp
Paint: TypeAlias = Callable[[Image, Statistics, Location], Image]
Measure: TypeAlias = Callable[[Image], Statistics]

STRIP_PX = 32
TARGET_OF_GENERATOR = "as its generator was trained"
MAX_KEPT_BYTES = 60_000_000  # a dozen windows of looks
LOOK_WINDOW_PX, LOOK_BLEND_PX = 1152, 128  # of *where* times *how*: a window begins where a slide's block does
MAX_STRENGTH = 4.0  # of a stain, times the exemplar's: what is stained is black by then
MAX_SAMPLED_PX = (
    4_000_000  # of an image, whose statistics are measured on every second or third pixel of a row beyond
)


@dataclass(frozen=True)
class Stainer:
    """How an image, sRGB uint8 (H, W, 3) at `mpp` um/px, becomes the same tissue in another stain.

    `paint(image, statistics, location)` makes a picture of the same size of an image that lies at `location` on
    the slide; what is further than `halo_px` from a pixel does not change it. `measure(sample)` finds what must be
    the same over a whole slide. All are called from several threads at once and sent to other machines:
    module-level functions with small arguments, a file's name rather than its weights. Images begin at multiples
    of `stride_px`, seen from the whole. An image may be a thousand pixels wide: a network may cut it up and run
    parts as a batch. `identity` names all that decides the pixels (a hash of weights, or name and version),
    statistics apart.
    With a `sliding_window`, `paint` sees its windows, one at a time, and they are blended. `white` (r, g, b) is
    the colour of glass in what it paints, where that is not the slide's own. `where` is what an output says of the
    source of *where*, as plain data. A fourth channel of what it paints says how sure it is (`Levels`). `prepare`
    loads what painting takes, for whoever wants it to be there when the first image comes.
    """

    name: str
    target_stain: str
    paint: Paint
    identity: str
    measure: Measure | None = None
    mpp: float = 0.5
    halo_px: int = 0
    stride_px: int = 1
    statistics: Statistics = None
    sliding_window: SlidingWindow | None = None
    white: tuple[int, int, int] | None = None
    where: Mapping[str, Any] | None = None
    prepare: Callable[[], object] | None = None

    @classmethod
    def from_pretrained(
        cls,
        name: PathLike,
        model_mpp: float | None = None,
        *,
        value_range: str | None = None,
        blend_px: int | None = None,
    ) -> Stainer:
        """A stainer by its name, or by the file of a look, a model of pairs, or an ONNX generator.

        A model of pairs says *where*, and the look of its pairs' IHC *how*. For a generator, `model_mpp` is the
        pixel size in um it was trained at, by default as its file says. Its numbers lie in `value_range`, one of
        `RANGES`, by default as its last layer tells. Its windows, as large as it says or 512 px, overlap by
        `blend_px`, by default a quarter.

        Raises: FileNotFoundError; ValueError, with the nearest name, for another stainer, and for a file that is
        no stainer or damaged; RuntimeError or ArithmeticError for a generator that does not run.

        >>> Stainer.from_pretrained("identity").target_stain
        'as it is'
        """
        if Path(name).suffix.lower() == ONNX_SUFFIX:
            return _of_generator(name, model_mpp, value_range, blend_px)
        for option, given in (("value_range", value_range), ("blend_px", blend_px), ("model_mpp", model_mpp)):
            if given is not None:
                raise expected(option, f"given with a generator ({ONNX_SUFFIX})", given, "leave it out")
        if is_look(name):
            return stainer_of_look(load_look(name), where=look_where(name))
        return STAINERS[choose("stainer", str(name), STAINERS)]()

    def __call__(self, image: Image) -> Image:
        """The image in the target stain; by its own statistics where `fit` has not fixed others."""
        return self.part(image, whole((image.shape[1], image.shape[0])))

    def part(self, image: Image, part: Window, each: Each = map, location: Location = (0, 0)) -> Image:
        """A window of what becomes of the image; what is further than the halo from it need not be painted.

        The image lies at `location` on the slide: chance depends on it.
        `each`, a pool's `map`, may work on sliding windows side by side.
        """
        return np.ascontiguousarray(self.painted(image, part, each, location)[..., :3])

    def painted(self, image: Image, part: Window, each: Each = map, location: Location = (0, 0)) -> Image:
        """As `part`, uint8 (h, w, 3), or (h, w, 4) where the stainer says how sure it is (`Levels`)."""
        statistics = (self if self.statistics is not None else self.fit(image)).statistics
        if self.sliding_window is not None:
            x, y = location

            def paint(window: Window) -> Image:
                seen, at = mirrored(image, window), (x + window.left, y + window.top)
                key = (self.identity, statistics, at, seen.shape, blake2b(seen.tobytes()).digest())
                return _painted_last().get(key, lambda: self.paint(seen, statistics, at))

            return self.sliding_window.blended(paint, image.shape, part, each)
        return self.paint(image, statistics, location)[part.at]

    def fit(self, sample: Image) -> Stainer:
        """The stainer with a slide's statistics, measured on uint8 (H, W, 3) of its tissue, best at `mpp`."""
        return self if self.measure is None else replace(self, statistics=self.measure(sample))


@cache
def _painted_last() -> LruCache[Image]:
    """The last windows of sliding windows, for parts of an image that share one."""
    return LruCache(MAX_KEPT_BYTES, lambda image: image.nbytes)


def _of_generator(file: PathLike, mpp: float | None, value_range: str | None, blend_px: int | None) -> Stainer:
    from chromogen.staining.onnx_generator import read_generator

    generator, mpp, windows = read_generator(file, mpp, value_range, blend_px)
    seen = f"{windows.window_px} px windows, {windows.blend_px} blended"
    return Stainer(
        name=Path(file).stem,
        target_stain=TARGET_OF_GENERATOR,
        paint=generator.paint,
        identity=f"{generator.sha256}, {generator.range}, {seen}",
        mpp=mpp,
        halo_px=windows.window_px,
        stride_px=windows.step_px,
        sliding_window=windows,
    )


def is_look(name: PathLike) -> bool:
    """Whether a name is that of a measured look: one that comes with Chromogen, or a file of a look or model."""
    return str(name) in LOOKS or Path(name).suffix.lower() in (LOOK_SUFFIX, MODEL_SUFFIX)


def load_look(name: PathLike) -> Look:
    """A measured look by its name or file, or that of a model's pairs.

    Raises: FileNotFoundError; ValueError for what is none, or damaged.
    """
    from chromogen.models import FOLDER
    from chromogen.staining.looks import read_look

    if _is_model(name):
        from chromogen.staining.where_network import read_model

        return read_model(Path(name)).look
    return read_look(FOLDER / f"{name}{LOOK_SUFFIX}" if str(name) in LOOKS else Path(name))


def look_where(name: PathLike) -> Where | None:
    """The source of *where* that comes with a look: a model of pairs is both. None: the slide's own tissue."""
    if not _is_model(name):
        return None
    from chromogen.staining.where_files import read_paired

    return read_paired(Path(name))


def _is_model(name: PathLike) -> bool:
    return Path(name).suffix.lower() == MODEL_SUFFIX


def stainer_of_look(
    look: Look,
    share: float | None = None,
    seed: int = 0,
    where: Where | None = None,
    intensity: float = 1.0,
    counterstain: float = 1.0,
    *,
    fill: bool = False,
) -> Stainer:
    """The stainer that gives H&E the look of a measured exemplar, where its marker is likely: *where* times *how*.

    `where` is a source of *where*, by default the slide's own tissue. `share` of the nuclei are positive, for a
    marker of nuclei: by default as many as in the exemplar. All chance comes from `seed` and the place on the
    slide. `intensity` multiplies the second stain, `counterstain` the haematoxylin, both 0 to MAX_STRENGTH.
    Tissue unlike any in the exemplar is only counterstained, unless `fill`.
    Raises: ValueError for a share that is not between 0 and 1, or that `where` gives itself, and for a strength
    out of bounds.
    """
    from chromogen.nuclei.find import built_in
    from chromogen.nuclei.outlines import WEIGHTS
    from chromogen.provenance import sha256_of
    from chromogen.staining.tissue import MPP
    from chromogen.staining.where import BY_TISSUE
    from chromogen.staining.window import Dials, look_of, painted_window

    if share is not None and not 0 <= share <= 1:
        raise expected("share", "0 to 1, the positive ones of all nuclei", share)
    if share is not None and look.exemplar.site != "nuclear":
        raise expected("share", f"left out: {look.name} stains {look.exemplar.site}, not nuclei", share)
    where = where or BY_TISSUE
    if share is not None and where.gives_shares:
        raise expected("share", f"left out: the map of `where`, {where.name}, gives shares", share)
    for name, strength in (("intensity", intensity), ("counterstain", counterstain)):
        if not 0 <= strength <= MAX_STRENGTH:
            raise expected(name, f"0 to {MAX_STRENGTH:g} times the exemplar's", strength)
    filled = ", filled" if fill else ""
    dials = Dials(look.exemplar.share if share is None else share, seed, intensity, counterstain, where, fill)
    red, green, blue = look.exemplar.white
    sliding_window = SlidingWindow(LOOK_WINDOW_PX, LOOK_BLEND_PX, fixed=False)
    return Stainer(
        look.name,
        look.target_stain,
        partial(painted_window, look.exemplar, dials),
        f"{look.sha256}, nuclei {sha256_of(WEIGHTS)}, share {dials.share:g}, seed {seed}, "
        f"intensity {intensity:g}, counterstain {counterstain:g}, where {where.identity}{filled}",
        partial(look_of, dials),
        MPP,
        sliding_window.window_px,
        sliding_window.step_px,
        sliding_window=sliding_window,
        white=(round(red), round(green), round(blue)),
        where=where.record(),
        prepare=partial(built_in, views=1),
    )


def identity() -> Stainer:
    """The image as it is: slide handling without a stainer."""
    return Stainer("identity", "as it is", _as_it_is, "identity 1")


def color_transfer() -> Stainer:
    """The tissue in the colours of scikit-image's IHC, by the linear Monge-Kantorovich map (Pitie & Kokaram 2007).

    We map optical densities about 0 instead of colours about their mean, so that glass stays as it is. One map for
    a whole slide; it moves colours and knows nothing of stains: a baseline.
    """
    return Stainer("color-transfer", "DAB (colours)", _recolored, "color-transfer 1", _color_map)


def normalize() -> Stainer:
    """H&E as if stained like a reference (Macenko et al. 2009): its vectors, strengths and a white of 255."""
    return Stainer("normalize", "H&E", _normalized, "normalize 1", stain_look)


STAINERS: dict[str, Callable[[], Stainer]] = {
    **{name: partial(Stainer.from_pretrained, name) for name in LOOKS},
    "identity": identity,
    "color-transfer": color_transfer,
    "normalize": normalize,
}

# QuPath's vectors, and the 99th percentiles of concentrations that implementations of Macenko et al. agree on.
REFERENCE = StainLook(H_E, np.array([1.9705, 1.0308]), np.full(3, 255.0))


def builtin_ihc() -> Image:
    """The IHC exemplar that comes with scikit-image: DAB in colon glands, uint8 (512, 512, 3)."""
    from skimage.data import immunohistochemistry

    return np.asarray(immunohistochemistry(), np.uint8)


def _as_it_is(image: Image, _statistics: Statistics, _location: Location) -> Image:
    return image


@dataclass(frozen=True)
class ColorMap:
    """A matrix (3, 3) from density to density, and the colour of glass (3,), which it leaves alone."""

    matrix: NDArray[Any]
    white: NDArray[Any]


def _color_map(sample: Image) -> ColorMap:
    """What gives the sample's densities the exemplar's second moments."""
    white, about = white_level(sample), np.zeros(3)
    matrix, _ = monge_kantorovich_map((about, _second_moments(sample, white)), (about, _ihc_moments()))
    return ColorMap(matrix, white)


@cache
def _ihc_moments() -> NDArray[np.float64]:
    exemplar = builtin_ihc()
    return _second_moments(exemplar, white_level(exemplar))


def _second_moments(image: Image, white: NDArray[Any]) -> NDArray[np.float64]:
    """Means of products of densities (3, 3) over the tissue, or over everything where there is none."""
    mask = tissue_mask(image)
    density = optical_density(image[mask] if mask.any() else image.reshape(-1, 3), white)
    return np.asarray(density.T @ density / len(density))


def _recolored(image: Image, statistics: ColorMap, _location: Location) -> Image:
    return _through_density(image, statistics.white, statistics.matrix, statistics.white)


def _normalized(image: Image, look: StainLook, _location: Location) -> Image:
    """As `normalize_stains`, by one matrix from density to density."""
    gain = np.ones(3)
    there = (look.strength > 0) & (REFERENCE.strength > 0)
    gain[:2][there] = REFERENCE.strength[there] / look.strength[there]
    between = np.linalg.inv(look.matrix) @ np.diag(gain) @ REFERENCE.matrix
    return _through_density(image, look.white, between.T, REFERENCE.white)


def _through_density(image: Image, white: NDArray[Any], matrix: NDArray[Any], new_white: NDArray[Any]) -> Image:
    """The picture whose densities over `new_white` are `matrix @` the image's over `white`.

    Sums are in an order that never depends on the image's size, and in strips that stay in a processor's cache.
    """
    levels = optical_density(np.arange(256)[:, None], white).astype(np.float32).T
    made = np.empty_like(image)
    for top in range(0, len(image), STRIP_PX):
        strip, out = image[top : top + STRIP_PX], made[top : top + STRIP_PX]
        densities = [level[strip[..., channel]] for channel, level in enumerate(levels)]
        for channel, weights in enumerate(matrix.astype(np.float32)):
            density = sum(weight * part for weight, part in zip(weights, densities, strict=True))
            light = np.exp(-density) * np.float32(new_white[channel] + 1) - 1
            out[..., channel] = np.rint(light).clip(0, 255)
    return made


def stain_image(stainer: Stainer, image: Image, core_px: int = 1024, each: Each = map) -> Image:
    """An image, uint8 (H, W, 3) at the stainer's mpp, stained tile by tile to what it would be in one piece.

    `each`: as in `Stainer.part`.
    """
    return np.ascontiguousarray(paint_image(stainer, image, core_px, each)[..., :3])


def paint_image(stainer: Stainer, image: Image, core_px: int = 1024, each: Each = map) -> Image:
    """As `stain_image`, uint8 (H, W, 3), or (H, W, 4) where the stainer says how sure it is (`Levels`)."""
    size = image.shape[1], image.shape[0]
    every = 1 + math.isqrt(image.size // 3 // MAX_SAMPLED_PX)
    fitted = stainer if stainer.statistics is not None else stainer.fit(image[::every, ::every])
    painted = np.empty_like(image)
    for tile in TileGrid(size, core_px, stainer.halo_px):
        outer = tile.outer.aligned(stainer.stride_px)
        inside, location = tile.core.seen_from(outer), outer.location
        part = fitted.painted(image[outer.at], inside, each, location)
        if part.shape[2] != painted.shape[2]:
            painted = np.empty((*image.shape[:2], part.shape[2]), np.uint8)
        painted[tile.core.at] = part
    return painted
