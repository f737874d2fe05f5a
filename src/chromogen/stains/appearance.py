"""What a picture looks like: colours, their transfer, and whether it is H&E or IHC."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.stains.glass import GlassView, glass_view

# Colour matching: the colours of one image given the mean and spread of another's.

Array: TypeAlias = NDArray[np.float64]
Moments: TypeAlias = tuple[Array, Array]  # mean (3,), and covariance (3, 3)

ROUNDING = 1 / 255**2 / 12  # the variance that rounding to 8 bits makes: less of it in a direction is no colour
MAX_GAIN = 10.0


def color_moments(pixels: NDArray[Any]) -> Moments:
    """Mean (3,) and covariance (3, 3) of colours (..., 3): uint8, or floats in [0, 1].

    The covariance is the mean over all pixels, not over one less. Raises: ValueError for another shape or none.
    """
    if pixels.ndim < 1 or pixels.shape[-1] != 3 or not pixels.size:
        raise expected("pixels", "colours (..., 3)", f"shape {pixels.shape}", "convert to RGB first")
    colors = _unit(pixels).reshape(-1, 3)
    mean = colors.mean(axis=0)
    centered = colors - mean
    return mean, centered.T @ centered / len(colors)


def monge_kantorovich_map(content: Moments, style: Moments) -> tuple[Array, Array]:
    """The linear map of least colour change that gives `content` the moments of `style`.

    Returns a symmetric matrix (3, 3) and an offset (3,): a colour x becomes `matrix @ x + offset`. Pitie & Kokaram
    2007, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer". We differ where
    content has no colour variance to stretch: nothing is stretched more than `MAX_GAIN` times, and content of a
    single colour is only shifted.
    """
    (content_mean, content_covariance), (style_mean, style_covariance) = content, style
    if np.trace(content_covariance) <= ROUNDING:
        return np.eye(3), style_mean - content_mean
    root = _spectral(content_covariance, lambda variance: np.sqrt(np.maximum(variance, ROUNDING)))
    inverse = np.linalg.inv(root)
    middle = _spectral(root @ style_covariance @ root, lambda variance: np.sqrt(np.maximum(variance, 0)))
    matrix = _spectral(inverse @ middle @ inverse, lambda gain: np.clip(gain, 0, MAX_GAIN))
    return matrix, style_mean - matrix @ content_mean


def match_colors(content: Image, style: Moments) -> Image:
    """The content, uint8 (H, W, 3), with the colour mean and covariance of a style (before clipping to 8 bits)."""
    matrix, offset = monge_kantorovich_map(color_moments(content), style)
    mapped = _unit(content) @ matrix.T + offset
    return np.asarray(np.rint(mapped.clip(0, 1) * 255), np.uint8)


def _unit(pixels: NDArray[Any]) -> Array:
    return pixels / 255.0 if pixels.dtype == np.uint8 else pixels.astype(np.float64)


def _spectral(symmetric: Array, function: Callable[[Array], Array]) -> Array:
    """The matrix with a function applied to its eigenvalues."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return np.asarray((vectors * function(values)) @ vectors.T)


# What a picture looks like: H&E, an IHC with DAB, haematoxylin alone, fluorescence, or nothing. For doubts.

Kind: TypeAlias = Literal["H&E", "H-DAB", "haematoxylin alone", "unclear", "black and white", "dark", "nothing"]

DARK = 60  # the level below which most of a fluorescence image lies, and no picture of stained tissue
GREY_LEVELS = 4  # between the channels of a picture in black and white
STAINED_OD10 = 0.08
MIN_STAINED = 0.002
MAX_PIXELS = 250_000
BRIGHTEST, TINTED = 99.5, 0.8  # percentile of each channel; lamps are no more tinted than that
# How much more of one light is taken than of the next. Eosin takes green light above all, DAB takes blue light.
PINK, BROWN = 1.4, 1.1
MIN_PINK, MIN_BROWN = 0.03, 0.01  # of what is stained: IHC shows no pink, and H&E hardly any brown
CLEARLY = 4.0  # times the other colour


# By the role a picture is given in: what it may not look like.
DOUBTS: dict[str, dict[Kind, str]] = {
    "content": {"H-DAB": "looks like an IHC, brown rather than pink; an H&E is expected"},
    "style": {"H&E": "looks like an H&E, pink without brown; an IHC is expected"},
}
ALWAYS_DOUBTED: dict[Kind, str] = {
    "dark": "looks like fluorescence, dark where there is nothing; stains take light away",
    "black and white": "is black and white; stains are known by their colours",
    "nothing": "shows hardly any tissue",
}


@dataclass(frozen=True)
class Appearance:
    """What a picture looks like, in which known vectors to separate it, and the evidence in a few words.

    `pink` and `brown` are shares of what is stained.
    """

    kind: Kind
    stains: Literal["h-e", "h-dab"]
    why: str
    pink: float = 0.0
    brown: float = 0.0

    @property
    def stains_doubt(self) -> str | None:
        """The evidence, where it is not sure that these are the right stains to measure."""
        return None if self.kind == self.called else self.why

    def doubt_as(self, role: str) -> str | None:
        """Why it may not be the "content" (an H&E) or "style" (an IHC) it is given as, if so.

        Haematoxylin alone passes as both: an IHC may be negative.
        """
        return (DOUBTS[role] | ALWAYS_DOUBTED).get(self.kind)

    @property
    def called(self) -> str:
        """The stains, as people write them."""
        return "H&E" if self.stains == "h-e" else "H-DAB"


def appearance(image: Image, mpp: float = ASSUMED_MPP) -> Appearance:
    """What an image, uint8 (H, W, 3) at `mpp` um/px, looks like, by the colours of what takes light in it.

    Haematoxylin takes about as much red as green light and less blue. Eosin turns that to pink, and DAB to brown.
    Neither shows in a negative IHC, nor in an H&E whose eosin has faded: we cannot know which it is. Raises:
    ValueError for what is no image.
    """
    return appearance_of(glass_view(image, mpp))


def appearance_of(seen: GlassView) -> Appearance:
    """As `appearance`, of a view whose glass is found already."""
    light, white, padding = seen.light, seen.white, seen.padding
    red, green, blue = np.moveaxis(seen.image, 2, 0)
    if (white == 255).all() and np.median(np.maximum(np.maximum(red, green), blue)) < DARK:
        return Appearance("dark", "h-dab", "it is dark where nothing is, as fluorescence is")
    pixels = light[~padding][:: 1 + light.size // 3 // MAX_PIXELS]
    stained = _stained(pixels, white)
    if len(stained) < MIN_STAINED * len(pixels):
        return Appearance("nothing", "h-dab", "it shows hardly any tissue")
    if np.percentile(np.ptp(pixels, axis=1), BRIGHTEST) <= GREY_LEVELS:
        return Appearance("black and white", "h-dab", "it is black and white")
    return _by_color(*_shares(stained))


def _stained(pixels: NDArray[np.uint8], white: NDArray[np.float64]) -> NDArray[np.float64]:
    """Densities of what takes light, of pixels (N, 3): (M, 3).

    Where no glass is in view we take the brightest for it, unless that is itself stained, or all is as bright.
    """
    brightest = np.percentile(pixels, BRIGHTEST, axis=0)
    if (white == 255).all() and brightest.min() >= TINTED * brightest.max():
        stained = _denser(pixels, brightest)
        if len(stained) >= MIN_STAINED * len(pixels):
            return stained
    return _denser(pixels, white)


def _denser(pixels: NDArray[np.uint8], white: NDArray[np.float64]) -> NDArray[np.float64]:
    density = (-np.log10((pixels + 1.0) / (white + 1))).clip(0)
    return np.asarray(density[density.max(axis=1) > STAINED_OD10])


def _shares(stained: NDArray[np.float64]) -> tuple[float, float]:
    """How much of what is stained is pink, and brown."""
    red, green, blue = stained.T
    pink = (green > PINK * red) & (green > PINK * blue)
    brown = (blue > BROWN * green) & (green > red)
    return float(pink.mean()), float(brown.mean())


def _by_color(pink: float, brown: float) -> Appearance:
    said = f"{100 * pink:.0f} % of what is stained is pink and {100 * brown:.0f} % brown"
    if pink >= MIN_PINK and pink > CLEARLY * brown:
        return Appearance("H&E", "h-e", said, pink, brown)
    if brown >= MIN_BROWN and brown > CLEARLY * pink:
        return Appearance("H-DAB", "h-dab", said, pink, brown)
    stains: Literal["h-e", "h-dab"] = "h-e" if pink > max(brown, MIN_BROWN) else "h-dab"
    if max(pink / MIN_PINK, brown / MIN_BROWN) < 1:
        return Appearance("haematoxylin alone", stains, "it shows neither eosin nor DAB", pink, brown)
    return Appearance("unclear", stains, said, pink, brown)


def doubts(image: Image, role: str, mpp: float = ASSUMED_MPP) -> str | None:
    """Why an image, uint8 (H, W, 3) at `mpp` um/px, may not be what it is given as: see `Appearance.doubt_as`."""
    return appearance(image, mpp).doubt_as(role)
