"""Colour matching: the colours of one image given the mean and spread of another's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image

Array: TypeAlias = NDArray[np.float64]
Moments: TypeAlias = tuple[Array, Array]  # mean (3,), and covariance (3, 3) or standard deviation (3,)

ROUNDING = 1 / 255**2 / 12  # the variance that rounding to 8 bits makes: less of it in a direction is no colour
MAX_GAIN = 10.0
MIN_SPREAD_LAB = 0.1  # rounding to 8 bits alone makes so much


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


def lab_moments(pixels: NDArray[Any]) -> Moments:
    """Mean (3,) and standard deviation (3,) of uint8 colours (..., 3) in CIE L*a*b* (D65)."""
    lab = _lab(pixels).reshape(-1, 3)
    return lab.mean(axis=0), lab.std(axis=0)


def match_lab(content: Image, style: Moments) -> Image:
    """The content, uint8 (H, W, 3), with a style's `lab_moments`, channel by channel, clipped to what sRGB shows.

    Reinhard et al. (2001), who took Ruderman's l-alpha-beta; we take L*a*b*, as histology does. A channel that
    does not vary is only shifted.
    """
    from skimage.color import lab2rgb

    (mean, spread), (style_mean, style_spread) = lab_moments(content), style
    gain = np.divide(style_spread, spread, out=np.ones(3), where=spread > MIN_SPREAD_LAB)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # colours outside sRGB are clipped, on purpose
        matched = lab2rgb((_lab(content) - mean) * gain + style_mean)
    return np.asarray(np.rint(matched.clip(0, 1) * 255), np.uint8)


def _lab(pixels: NDArray[Any]) -> Array:
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(_unit(pixels)), np.float64)


def _unit(pixels: NDArray[Any]) -> Array:
    return pixels / 255.0 if pixels.dtype == np.uint8 else pixels.astype(np.float64)


def _spectral(symmetric: Array, function: Callable[[Array], Array]) -> Array:
    """The matrix with a function applied to its eigenvalues."""
    values, vectors = np.linalg.eigh((symmetric + symmetric.T) / 2)
    return np.asarray((vectors * function(values)) @ vectors.T)
