"""Pictures, as densities, from amounts of stain: H&E, IHC and haematoxylin alone by many labs and scanners."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import expit

from chromogen.stains.deconvolution import DAB, EOSIN, HEMATOXYLIN

Array = NDArray[np.float32]


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _vector(rng: np.random.Generator, mean: tuple[float, float, float], spread: float) -> Array:
    made = np.clip(np.array(mean) + rng.normal(0, spread, 3), 0.02, None)
    return np.asarray(made / np.linalg.norm(made), np.float32)


def restained(stains: str, rng: np.random.Generator, amounts: Array, _labels: NDArray[np.int16]) -> Array:
    """Densities of base 10, (3, H, W), of an exemplar's own amounts in the stains of another lab."""
    hematoxylin, other, rest = amounts
    second = EOSIN if stains == "h-e" else DAB
    gains = [_log_uniform(rng, 0.5, 1.8), _log_uniform(rng, 0.4, 1.8)]
    od = _mixed(gains[0] * hematoxylin, HEMATOXYLIN, gains[1] * other, second, rng)
    return _seen(rng, od + rest * rng.normal(0, 0.3, 3).astype(np.float32)[:, None, None])


def stained(rng: np.random.Generator, amounts: Array, labels: NDArray[np.int16]) -> Array:
    """Densities of base 10, (3, H, W), of one random stain of a field: of nuclei, blue and other matter."""
    nuclear, blue, other = amounts
    soft = gaussian_filter((labels > 0).astype(np.float32), rng.uniform(0.4, 1.0))
    scale = _log_uniform(rng, 0.2, 1.6) / _typical(nuclear, labels)
    floor = np.percentile(nuclear, 3) * rng.uniform(0, 1)
    own = np.clip(nuclear - floor * (1 - soft), 0, None) * scale
    h = own * soft + own * (1 - soft) * rng.uniform(0, 1.2)
    inside = float(np.median(h[labels > 0])) if (labels > 0).any() else 0.4
    h = h + blue * inside * rng.uniform(0, 0.8) * (rng.random() < 0.7)
    red_cells = _red_cells(rng, labels) if rng.random() < 0.25 else np.zeros_like(other)
    way = rng.random()
    if way < 0.5:
        amount = np.maximum(other, red_cells) * _log_uniform(rng, 0.05, 0.7) * (1 - rng.uniform(0, 1) * soft)
        od = _mixed(h, HEMATOXYLIN, amount, EOSIN, rng)
    elif way < 0.8:
        flat = rng.random() < 0.3
        d = brown_nuclei(rng, nuclear, labels, flat) + np.maximum(other, red_cells) * rng.uniform(0, 0.12)
        hidden = 1.0 if flat else rng.uniform(0, 1)
        od = _mixed(h * (1 - np.clip(2 * d if flat else d, 0, 1) * hidden), HEMATOXYLIN, d, DAB, rng)
    elif way < 0.9:
        amount = other * _log_uniform(rng, 0.1, 1.0) * (1 - rng.uniform(0.2, 1) * soft)
        od = _mixed(h, HEMATOXYLIN, amount + red_cells * rng.uniform(0, 0.12), DAB, rng)
    else:
        od = h * _vector(rng, HEMATOXYLIN, 0.08)[:, None, None]
    return _seen(rng, od)


def _typical(nuclear: Array, labels: NDArray[np.int16]) -> float:
    values = nuclear[labels > 0]
    return max(float(np.percentile(values, 80)), 0.05) if len(values) else 1.0


def _mixed(
    h: Array,
    h_mean: tuple[float, float, float],
    s: Array,
    s_mean: tuple[float, float, float],
    rng: np.random.Generator,
) -> Array:
    return h * _vector(rng, h_mean, 0.06)[:, None, None] + s * _vector(rng, s_mean, 0.06)[:, None, None]


def brown_nuclei(rng: np.random.Generator, nuclear: Array, labels: NDArray[np.int16], flat: bool) -> Array:
    """DAB in some nuclei, of every grade, in the pattern of their chromatin or as flat discs."""
    many = int(labels.max()) + 1
    level = np.exp(rng.normal(np.log(_log_uniform(rng, 0.15, 1.2)), rng.uniform(0.1, 0.7), many))
    level = np.where(rng.random(many) < rng.beta(0.7, 0.9), level, level * rng.uniform(0, 0.1))
    level[0] = 0
    amount = level.astype(np.float32)[labels]
    pattern = (nuclear / _typical(nuclear, labels)).clip(0.1, 2) ** (0 if flat else rng.uniform(0, 1))
    grain = 1 + rng.uniform(0, 0.1 if flat else 0.35) * gaussian_filter(rng.normal(size=labels.shape), 0.8) / 0.35
    return np.asarray(gaussian_filter(amount * pattern * grain.clip(0.1), rng.uniform(0.3, 0.9)), np.float32).clip(
        0
    )


def _red_cells(rng: np.random.Generator, labels: NDArray[np.int16]) -> Array:
    """Red cells: round, dense in eosin and faint in DAB, without nuclear matter."""
    yy, xx = np.mgrid[: labels.shape[0], : labels.shape[1]].astype(np.float32)
    made = np.zeros(labels.shape, np.float32)
    for _ in range(rng.integers(3, 40)):
        y, x, radius = rng.uniform(0, labels.shape[0]), rng.uniform(0, labels.shape[1]), rng.uniform(3.5, 8)
        disc = expit((radius - np.hypot(yy - y, xx - x)) * 2)
        made = np.maximum(made, disc * rng.uniform(0.8, 2.0))
    return np.asarray(made * (labels == 0), np.float32)


def _seen(rng: np.random.Generator, od: Array) -> Array:
    """What a microscope and a camera make of it: blur, sharpening, noise, a tint of the light."""
    size = od.shape[1:]
    light = 10.0 ** -np.clip(od, 0, 3)
    light = gaussian_filter(light, (0, *(2 * [_log_uniform(rng, 0.3, 1.4)])))
    if rng.random() < 0.4:
        light = light + rng.uniform(0, 1.5) * (light - gaussian_filter(light, (0, 1.2, 1.2)))
    grain = gaussian_filter(rng.normal(size=od.shape), (0, *(2 * [rng.uniform(0.2, 0.8)])))
    light = light + rng.uniform(0, 0.02) * grain / max(grain.std(), 1e-6)
    light = light * 10.0 ** -rng.uniform(-0.02, 0.08, 3)[:, None, None]
    ramp = np.linspace(-1, 1, size[0])[:, None] * rng.normal(0, 0.03) + np.linspace(-1, 1, size[1]) * rng.normal(
        0, 0.03
    )
    light = (light * (1 + ramp)).clip(0, 1) ** rng.uniform(0.8, 1.25)
    levels = (255 * light).clip(0, 255)
    if rng.random() < 0.4:
        levels = _compressed(levels, int(rng.integers(35, 95)))
    return np.asarray(-np.log10((levels + 1) / 256), np.float32)


def _compressed(levels: Array, quality: int) -> Array:
    """The picture (3, H, W), 0 to 255, after JPEG."""
    file = io.BytesIO()
    Image.fromarray(levels.transpose(1, 2, 0).round().astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), np.float32).transpose(2, 0, 1)


def under_foreign_matter(rng: np.random.Generator, od: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The field (3, H, W) under a pen's line or specks of dust; and where those hide it, (H, W)."""
    y, x = np.indices(od.shape[1:], np.float32)
    if rng.random() < 0.5:
        angle, wave = rng.uniform(0, np.pi), rng.uniform(0, 20) * np.sin(x / rng.uniform(15, 60))
        across = (x - 80) * np.cos(angle) + (y - 80) * np.sin(angle) + wave + rng.uniform(-60, 60)
        cover = 1 / (1 + np.exp((abs(across) - rng.uniform(4, 40)) / rng.uniform(0.5, 2)))
        color = rng.uniform(0.05, 1.2, 3).astype(np.float32)[:, None, None]
    else:
        cover, color = np.zeros_like(y), np.full((3, 1, 1), rng.uniform(0.5, 1.5), np.float32)
        for _ in range(rng.integers(1, 25)):
            at, radius = rng.uniform(0, 160, 2), rng.uniform(0.5, 2.5)
            cover = np.maximum(cover, 1 / (1 + np.exp((np.hypot(y - at[0], x - at[1]) - radius) * 3)))
    return np.asarray(od * (1 - cover) + color * cover, np.float32), cover > 0.5
