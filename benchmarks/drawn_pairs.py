"""Pairs of H&E and IHC drawn by a known rule: the brown lies where the eosin says, which no IHC shows.

Nests of cells lie in stroma. Half of them have pink cytoplasm, half pale; their nuclei are alike. A rule says in
which of both the DAB lies: IHC of either rule look alike, so that their style cannot tell where. The IHC is the
neighbouring section: moved by some px in any direction, bent a little, its noise its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import ellipse

from chromogen.image import Image
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains

RULES = ("pink", "pale")  # which nests are brown
PINK, PALE, STROMA = 0.85, 0.3, 0.55  # eosin
BROWN, UNSPECIFIC = 0.9, 0.03  # DAB
BENT_PX, BENT_OVER_PX = 3.0, 60.0
NEST_PX, APART_PX = (18, 30), 66.0  # radii of nests, smaller than most displacements; between their centres
MARGIN_PX = 80  # drawn around, so that what is moved in is tissue
Density = NDArray[np.float64]


@dataclass(frozen=True)
class DrawnPair:
    """Both pictures, uint8 (N, N, 3); the rule's DAB (N, N) in the H&E's own place; where the IHC lies (x, y)."""

    he: Image
    ihc: Image
    dab: Density
    shift_px: tuple[float, float]


def drawn_pair(
    seed: int, rule: str, side_px: int = 384, shift_px: tuple[float, float] | None = None, bent_px: float = BENT_PX
) -> DrawnPair:
    """A pair by a seed, 10 to 50 px apart unless told how far."""
    rng = np.random.default_rng(seed)
    whole = side_px + 2 * MARGIN_PX
    hematoxylin, eosin, dab = _tissue(whole, rule, rng)
    angle, far = rng.uniform(0, 2 * np.pi), rng.uniform(10, 50)
    x, y = shift_px or (far * np.cos(angle), far * np.sin(angle))
    at = _places(whole, (x, y), bent_px, rng)
    core = np.s_[MARGIN_PX : MARGIN_PX + side_px, MARGIN_PX : MARGIN_PX + side_px]
    moved = [ndimage.map_coordinates(amount, at, order=1, mode="nearest")[core] for amount in (hematoxylin, dab)]
    he = _rendered(hematoxylin[core], eosin[core], H_E, rng)
    return DrawnPair(he, _rendered(0.7 * moved[0], moved[1], H_DAB, rng), dab[core], (float(x), float(y)))


def _places(side_px: int, shift_px: tuple[float, float], bent_px: float, rng: np.random.Generator) -> Density:
    """Where each pixel of the IHC is taken from: rows and columns (2, N, N)."""
    bend = [ndimage.gaussian_filter(rng.normal(size=(side_px, side_px)), BENT_OVER_PX, mode="wrap") for _ in "yx"]
    bent = bent_px * np.stack([field / field.std() for field in bend]) / np.sqrt(2)
    return np.asarray(np.mgrid[:side_px, :side_px] - np.reshape(shift_px[::-1], (2, 1, 1)) + bent)


def _tissue(side_px: int, rule: str, rng: np.random.Generator) -> tuple[Density, Density, Density]:
    """Haematoxylin, eosin and DAB (N, N)."""
    fibres = ndimage.gaussian_filter(rng.normal(size=(side_px, side_px)), (2, 12))
    eosin = STROMA + 0.1 * fibres / fibres.std()
    hematoxylin, dab = np.full_like(eosin, 0.08), np.full_like(eosin, UNSPECIFIC)
    for centre in rng.uniform(0, side_px, (side_px**2 // 4000, 2)):
        _nucleus(hematoxylin, centre, (2.5, 6), rng)
    for number, centre in enumerate(_apart(side_px, rng)):
        kind = RULES[number % 2]
        _nest(hematoxylin, eosin, dab, centre, kind, kind == rule, rng)
    lumen = _ellipse(eosin, rng.uniform(0, side_px, 2), np.array([35, 30]))
    for amount in (hematoxylin, eosin, dab):
        amount[lumen] = 0
    return hematoxylin, eosin, dab


def _apart(side_px: int, rng: np.random.Generator) -> list[Density]:
    """Centres of nests that lie apart."""
    found: list[Density] = []
    for centre in rng.uniform(0, side_px, (600, 2)):
        if all(np.hypot(*(centre - other)) > APART_PX for other in found):
            found.append(centre)
    return found


def _nest(
    hematoxylin: Density,
    eosin: Density,
    dab: Density,
    centre: Density,
    kind: str,
    brown: bool,
    rng: np.random.Generator,
) -> None:
    """Cells close together: their cytoplasm, its DAB, their nuclei."""
    radii, turn = rng.uniform(*NEST_PX, 2), rng.uniform(0, np.pi)
    body = _ellipse(eosin, centre, radii, turn)
    eosin[body] = (PINK if kind == "pink" else PALE) + rng.normal(0, 0.03)
    hematoxylin[body] = 0.15
    if brown:
        dab[body] = BROWN * rng.uniform(0.8, 1.1)
    for row, column in np.stack(body, 1)[:: int(rng.integers(140, 200))]:
        place = _nucleus(hematoxylin, np.array([row, column]) + rng.normal(0, 3, 2), (5, 6.5), rng)
        dab[place] = UNSPECIFIC


def _nucleus(
    hematoxylin: Density, centre: Density, radii: tuple[float, float], rng: np.random.Generator
) -> tuple[NDArray[np.int_], ...]:
    size = np.array(radii) * rng.uniform(0.85, 1.15, 2)
    place = _ellipse(hematoxylin, centre, size, rng.uniform(0, np.pi))
    hematoxylin[place] = rng.uniform(0.9, 1.4)
    return place


def _ellipse(on: Density, centre: Density, radii: Density, turn: float = 0.0) -> tuple[NDArray[np.int_], ...]:
    """Rows and columns of an ellipse, inside the picture."""
    found: tuple[NDArray[np.int_], ...] = ellipse(
        centre[0], centre[1], radii[0], radii[1], shape=on.shape, rotation=turn
    )
    return found


def _rendered(first: Density, second: Density, matrix: Density, rng: np.random.Generator) -> Image:
    """The picture of two stains, with a section's own grain."""
    amounts = np.stack([first, second, np.zeros_like(first)], 2)
    grain = np.where(amounts.sum(2, keepdims=True) > 0, rng.normal(0, 0.06, amounts.shape), 0)
    grain[..., 2] = 0
    amounts = ndimage.gaussian_filter(amounts + grain, (0.8, 0.8, 0))
    return combine_stains(amounts.clip(0), matrix)
