"""Fields to train the nucleus network on: real drawn nuclei, drawn tissue, and both stained by physics.

A field is amounts of stain and a label image. Amounts become a picture only in the batch (`stained`), so that one
field serves H&E, IHC with brown and blue nuclei, IHC of cytoplasm and haematoxylin alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from chromogen.nuclei.network import MAX_RADIUS_PX
from chromogen.nuclei.outlines import RAYS, STRIDE_PX

Array = NDArray[np.float32]
FIELD_PX = 160
MEDIAN_PX = (10.0, 24.0)  # diameters of nuclei, from lymphocytes of small pixels to tumours, at 0.5 um/px


@dataclass(frozen=True)
class Drawn:
    """A stained field with drawn nuclei: `hematoxylin` (H, W) in densities of base 10, `labels` (H, W)."""

    hematoxylin: Array
    labels: NDArray[np.int32]
    name: str


def drawn_fields(folder: Path) -> list[Drawn]:
    """The fields of a folder with NNN_rgb.png and NNN_lab.npz."""
    return [_drawn_field(path) for path in sorted(folder.glob("*_rgb.png"))]


def _drawn_field(path: Path) -> Drawn:
    rgb = np.asarray(Image.open(path).convert("RGB"))
    with np.load(path.with_name(path.name.replace("_rgb.png", "_lab.npz"))) as file:
        labels = file["lab"].astype(np.int32)
    density = -np.log10((rgb + 1.0) / 256)
    eosin = density[..., 1] - np.maximum(density[..., 0], density[..., 2]) > 0.15  # the red fibres of the H&E ones
    amount = density[..., 0] if eosin.mean() > 0.05 else density.mean(axis=2)
    return Drawn(amount.astype(np.float32), labels, path.name[:3])


def noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple[float, float]) -> Array:
    """Smooth noise of mean 0 and standard deviation 1."""
    made = gaussian_filter(rng.normal(size=shape).astype(np.float32), sigma, mode="wrap")
    return np.asarray((made - made.mean()) / (made.std() + 1e-6), np.float32)


def crop_of(rng: np.random.Generator, field: Drawn) -> tuple[Array, NDArray[np.int32]]:
    """A crop of FIELD_PX whose nuclei have a median diameter drawn from MEDIAN_PX; turned and mirrored at will."""
    areas = np.bincount(field.labels.ravel())[1:]
    areas = areas[areas > 20]
    diameter = 2 * np.sqrt(np.median(areas) / np.pi) if len(areas) else 20.0
    scale = np.exp(rng.uniform(*np.log(MEDIAN_PX))) / diameter
    angle = rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.normal(0, 0.1))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([1 / (scale * stretch), stretch / scale])
    h, w = field.labels.shape
    room = np.maximum(np.array([h, w]) - FIELD_PX / scale, 0) / 2
    centre = np.array([h, w]) / 2 + rng.uniform(-1, 1, 2) * (room + 0.15 * np.array([h, w]))
    if len(areas) and rng.random() < 0.5:  # where nuclei are, rather than in empty corners
        spot = rng.choice(np.flatnonzero(field.labels))
        centre = (
            np.array(np.unravel_index(spot, field.labels.shape)) + rng.uniform(-0.3, 0.3, 2) * FIELD_PX / scale
        )
    offset = centre - matrix @ np.array([FIELD_PX / 2, FIELD_PX / 2])
    size = (FIELD_PX, FIELD_PX)
    smooth = gaussian_filter(field.hematoxylin, max(0.0, 0.45 / scale - 0.3))
    amount = ndimage.affine_transform(smooth, matrix, offset, size, order=1, mode="mirror")
    labels = ndimage.affine_transform(field.labels, matrix, offset, size, order=0, mode="mirror")
    return amount.astype(np.float32), _in_pieces(labels)


def turned_exemplar(
    rng: np.random.Generator, amounts: Array, labels: NDArray[np.int32], unsure: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.int32], NDArray[np.float32]]:
    """A crop of FIELD_PX of an exemplar of known size, turned, mirrored and scaled a little."""
    scale = np.exp(rng.uniform(np.log(0.75), np.log(1.35)))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([1 / scale, rng.choice([-1, 1]) / scale])
    centre = rng.uniform(0, 1, 2) * labels.shape
    offset = centre - matrix @ np.array([FIELD_PX / 2, FIELD_PX / 2])
    size = (FIELD_PX, FIELD_PX)
    place = {"matrix": matrix, "offset": offset, "output_shape": size, "mode": "mirror"}
    made = np.stack([ndimage.affine_transform(amount, order=1, **place) for amount in amounts])
    moved = ndimage.affine_transform(labels, order=0, **place)
    left_out = ndimage.affine_transform(unsure.astype(np.float32), order=0, **place)
    return made, _in_pieces(moved), left_out


def _in_pieces(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Labels whose nuclei are connected: a mirror shows some nuclei several times."""
    pieces = np.zeros_like(labels)
    count = 0
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            part, many = ndimage.label(labels[box] == value)
            pieces[box] += np.where(part > 0, part + count, 0).astype(np.int32)
            count += many
    return pieces


def outlines_at(labels: NDArray[np.int32]) -> tuple[Array, Array]:
    """What the network learns of every STRIDE_PX x STRIDE_PX px: depth (h, w) in [0, 1], radii (RAYS, h, w) in px.

    Radii start in the middle of these pixels, so that all eight views of a field teach the same.
    """
    depth = np.zeros(labels.shape, np.float32)
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is not None:
            grown = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in box)
            inside = ndimage.distance_transform_edt(np.pad(labels[grown] == value, 1))[1:-1, 1:-1]
            depth[grown] = np.maximum(depth[grown], inside / max(inside.max(), 1e-6))
    coarse = labels[::STRIDE_PX, ::STRIDE_PX]
    rows, columns = np.nonzero(coarse)
    middle = STRIDE_PX / 2 + MAX_RADIUS_PX + 1
    y, x, mine = rows * STRIDE_PX + middle, columns * STRIDE_PX + middle, coarse[rows, columns]
    radii = np.zeros((RAYS, *coarse.shape), np.float32)
    steps = np.arange(0.5, MAX_RADIUS_PX, 0.5)
    edge = np.pad(labels, int(MAX_RADIUS_PX) + 1, mode="edge")
    for ray in range(RAYS):
        angle = 2 * np.pi * ray / RAYS
        down = (y[:, None] + steps * np.sin(angle)).astype(int)
        right = (x[:, None] + steps * np.cos(angle)).astype(int)
        same = edge[down, right] == mine[:, None]
        radii[ray, rows, columns] = np.where(same.all(axis=1), steps[-1], steps[same.argmin(axis=1)] - 0.25)
    height, width = coarse.shape
    return depth.reshape(height, STRIDE_PX, width, STRIDE_PX).mean(axis=(1, 3)), radii


def painted_tissue(rng: np.random.Generator) -> tuple[Array, NDArray[np.int32]]:
    """Drawn tissue: nuclei of one or two kinds in crowds, rows or scattered, with chromatin of their own."""
    size = (FIELD_PX, FIELD_PX)
    labels = np.zeros(size, np.int32)
    amount = np.zeros(size, np.float32)
    yy, xx = np.mgrid[:FIELD_PX, :FIELD_PX].astype(np.float32)
    kinds = [_kind(rng) for _ in range(rng.integers(1, 4))]
    where = noise(rng, size, 24)
    wanted = int(np.exp(rng.uniform(np.log(8), np.log(160))))
    overlap = rng.uniform(0, 0.2)
    for _ in range(wanted * 2):
        kind = kinds[rng.integers(len(kinds))]
        cy, cx = rng.uniform(-4, FIELD_PX + 4, 2)
        if where[int(np.clip(cy, 0, FIELD_PX - 1)), int(np.clip(cx, 0, FIELD_PX - 1))] < kind.from_where:
            continue
        box, shape, depth = _nucleus(rng, kind, cy, cx, yy, xx)
        covered = np.count_nonzero(labels[box][shape])
        if not shape.any() or covered > overlap * shape.sum():
            continue
        labels[box][shape & (labels[box] == 0)] = labels.max() + 1
        level = kind.level * np.exp(rng.normal(0, kind.spread))
        painted = level * _chromatin(rng, kind, shape.shape, depth)
        soft = gaussian_filter(shape.astype(np.float32), 0.6)
        amount[box] = np.maximum(amount[box] * (1 - 0.3 * soft), painted * soft)
        if labels.max() >= wanted:
            break
    return amount, _in_pieces(labels)


@dataclass(frozen=True)
class _Kind:
    radius_px: float
    long: float
    level: float
    spread: float
    vesicular: float
    coarse_px: float
    grain: float
    nucleoli: float
    from_where: float
    angle: float


def _kind(rng: np.random.Generator) -> _Kind:
    return _Kind(
        radius_px=float(np.exp(rng.uniform(np.log(4.5), np.log(13)))),
        long=float(1 + rng.exponential(0.8)),
        level=float(rng.uniform(0.2, 1.0)),
        spread=float(rng.uniform(0.05, 0.35)),
        vesicular=float(rng.uniform(0, 0.75)),
        coarse_px=float(rng.uniform(0.7, 2.2)),
        grain=float(rng.uniform(0.05, 0.4)),
        nucleoli=float(rng.uniform(0, 2.0) * (rng.random() < 0.6)),
        from_where=float(rng.uniform(-2.5, 1.0)),
        angle=float(rng.uniform(0, np.pi)),
    )


def _nucleus(
    rng: np.random.Generator, kind: _Kind, cy: float, cx: float, yy: Array, xx: Array
) -> tuple[tuple[slice, slice], NDArray[np.bool_], Array]:
    radius = kind.radius_px * np.exp(rng.normal(0, 0.15))
    long = max(1.0, kind.long * np.exp(rng.normal(0, 0.15)))
    angle = kind.angle + rng.normal(0, 0.5)
    reach = int(radius * np.sqrt(long) * 1.4) + 3
    box = (
        slice(max(0, int(cy) - reach), max(1, int(cy) + reach)),
        slice(max(0, int(cx) - reach), max(1, int(cx) + reach)),
    )
    y, x = yy[box] - cy, xx[box] - cx
    u, v = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
    u, v = u / np.sqrt(long), v * np.sqrt(long)
    around = np.arctan2(v, u)
    wobble = sum(rng.normal(0, 0.10 / k) * np.cos(k * around + rng.uniform(0, 6.3)) for k in (2, 3, 4, 5))
    depth = 1 - np.hypot(u, v) / (radius * (1 + wobble))
    return box, depth > 0, depth.astype(np.float32)


def _chromatin(rng: np.random.Generator, kind: _Kind, shape: tuple[int, int], depth: Array) -> Array:
    rim = np.exp(-(np.clip(depth, 0, 1) * kind.radius_px) / 1.6)
    body = 1 - kind.vesicular * (1 - rim)
    made = body * (1 + kind.grain * noise(rng, shape, kind.coarse_px))
    for _ in range(rng.poisson(kind.nucleoli)):
        y, x = (rng.integers(0, n) for n in shape)
        yy, xx = np.mgrid[: shape[0], : shape[1]]
        made = made + 0.6 * (depth > 0.2) * np.exp(
            -((yy - y) ** 2 + (xx - x) ** 2) / (2 * rng.uniform(0.7, 1.6) ** 2)
        )
    return np.asarray(made.clip(0.05), np.float32)


def background(rng: np.random.Generator, labels: NDArray[np.int32]) -> Array:
    """Amounts (2, H, W) of what lies between nuclei: the blue of cytoplasm, and pink or brown matter."""
    size = labels.shape
    near = gaussian_filter((labels > 0).astype(np.float32), rng.uniform(4, 9))
    cloud = 1 / (1 + np.exp(-(noise(rng, size, rng.uniform(8, 30)) * 2 + rng.normal(0, 1.5))))
    fibres = _fibres(rng, size)
    granules = noise(rng, size, rng.uniform(0.6, 1.5))
    cells = cloud * (0.5 + np.clip(near * rng.uniform(0, 3), 0, 1))
    pink = (rng.uniform(0.1, 1) * cells + rng.uniform(0, 1.0) * fibres * (1 - 0.6 * cloud)) * (1 + 0.15 * granules)
    pink = pink + rng.uniform(0, 0.8) * (rng.random() < 0.4) * _lines(rng, labels)
    blue = cells * (1 + 0.2 * noise(rng, size, rng.uniform(0.8, 3))) + 0.3 * fibres * rng.random()
    lumen = noise(rng, size, rng.uniform(10, 30)) > rng.uniform(0.6, 2.5)
    open_ = 1 - gaussian_filter((lumen & (labels == 0)).astype(np.float32), 1.0)
    pink, blue = pink * open_, blue * open_
    return np.stack([blue, pink]).clip(0).astype(np.float32)


def _fibres(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    big = noise(rng, (size[0] * 2, size[1] * 2), (rng.uniform(0.7, 2), rng.uniform(8, 25)))
    turned = ndimage.rotate(big, rng.uniform(0, 180), reshape=False, order=1, mode="wrap")
    y, x = size[0] // 2, size[1] // 2
    return np.asarray((0.6 + 0.5 * turned[y : y + size[0], x : x + size[1]]).clip(0), np.float32)


def _lines(rng: np.random.Generator, labels: NDArray[np.int32]) -> Array:
    """Membranes: midway between neighbouring nuclei."""
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    at = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    cell = labels[tuple(at)]
    edge = (cell != np.roll(cell, 1, 0)) | (cell != np.roll(cell, 1, 1))
    soft = gaussian_filter(edge.astype(np.float32), rng.uniform(0.6, 1.5))
    return np.asarray(soft / max(soft.max(), 1e-6), np.float32)
