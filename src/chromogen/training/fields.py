"""Pairs that teach *where*: read, checked, cut into fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from chromogen.errors import expected
from chromogen.image import Image, resize
from chromogen.staining.exemplar import (
    QUANTILES,
    Exemplar,
    ReferenceTissue,
    exemplar_of,
    joined_exemplars,
    reference_tissue,
)
from chromogen.staining.maps import Array
from chromogen.staining.where_network import (
    CELL_PX,
    STRIDE_PX,
    PairStains,
    density_from,
    features_of,
    slide_stains,
)
from chromogen.stains.appearance import doubts
from chromogen.stains.deconvolution import blurred, optical_density_od10
from chromogen.stains.registration import FARTHEST_UM, MIN_CONFIDENCE, Displacement, displacement
from chromogen.stains.tissue import tissue_mask

# Pairs of an H&E and a real IHC of the same block: which can teach where the brown goes, and how finely.

BLURS_PX = (2.0, 8.0, 24.0)  # from nuclei to nests: the coarse ones outlive a displacement that the fine do not
SURE = 0.3  # from which a pair counts in full
THUMBNAIL_PX = 32
NEAR_IDENTICAL = 0.97  # correlation of thumbnails
SMALLEST_PX = 64


@dataclass(frozen=True)
class TissuePair:
    """An H&E and an IHC, uint8 (H, W, 3) of one size at the model's mpp, and the slide they are from."""

    name: str
    slide: str
    he: Image
    ihc: Image


@dataclass(frozen=True)
class CheckedPair:
    """A pair, how far apart it is, and why it is left out, if it is."""

    pair: TissuePair
    found: Displacement
    problem: str | None = None

    def row(self, mpp: float) -> dict[str, Any]:
        """As data for tables and records; distances in px at `mpp` and in um."""
        distance, left = float(np.hypot(*self.found.shift_px)), self.found.residual_px
        return {
            "pair": self.pair.name,
            "slide": self.pair.slide,
            "shift_px": [round(x, 1) for x in self.found.shift_px],
            "displacement_px": round(distance, 1),
            "displacement_um": round(distance * mpp, 1),
            "residual_px": round(left, 1),
            "residual_um": round(left * mpp, 1),
            "confidence": round(self.found.confidence, 2),
            "left_out": self.problem,
        }


def check_pair(pair: TissuePair, mpp: float) -> CheckedPair:
    """How far a pair at `mpp` um/px is apart, and what is wrong with it. Raises: ValueError for two sizes."""
    if pair.he.shape != pair.ihc.shape:
        sizes = " and ".join(f"{image.shape[1]} x {image.shape[0]} px" for image in (pair.he, pair.ihc))
        raise expected("pairs", "two pictures of one size", f"{pair.name}, {sizes}", "crop or register them")
    if min(pair.he.shape[:2]) < SMALLEST_PX:
        side = min(pair.he.shape[:2])
        raise expected("pairs", f"at least {SMALLEST_PX} px on each side", f"{pair.name}, {side} px")
    found = displacement(pair.he, pair.ihc, mpp)
    return CheckedPair(pair, found, _problem(pair, found))


def _problem(pair: TissuePair, found: Displacement) -> str | None:
    if np.array_equal(pair.he, pair.ihc):
        return "paired with itself"
    for part, image, role in (("H&E", pair.he, "content"), ("IHC", pair.ihc, "style")):
        doubt = doubts(image, role) or ""
        if doubt.startswith("looks like"):  # of another stain; a pale IHC may well be negative
            return f"its {part} {doubt.split(',')[0]}"
    if found.confidence < MIN_CONFIDENCE:
        return f"fits no better than another tissue within {FARTHEST_UM:g} um"
    return None


def trust_of(found: Displacement) -> tuple[float, ...]:
    """How far DAB counts at each of BLURS_PX, by what is left of a displacement; squares add up to 1.

    A blur below the residual compares one cell with another. What does not fit surely counts less.

    >>> trust_of(Displacement((0, 0), 0.0, 1.0, 1.0))[0] > trust_of(Displacement((0, 0), 20.0, 1.0, 1.0))[0]
    True
    """
    levels = [1 / (1 + (found.residual_px / sigma) ** 2) for sigma in BLURS_PX]
    sure = min(1.0, found.confidence / SURE)
    return tuple(float(np.sqrt(sure * level / sum(levels))) for level in levels)


def kept_of(checked: Sequence[CheckedPair]) -> list[CheckedPair]:
    """The pairs that are not left out. Raises: ValueError where none is left."""
    kept = [one for one in checked if one.problem is None]
    if not kept:
        first = f"{checked[0].pair.name} {checked[0].problem}" if checked else "none"
        more = f", and {len(checked) - 1} others that do not" if len(checked) > 1 else ""
        raise expected("pairs", "at least one H&E with an IHC of its tissue", f"{first}{more}")
    return kept


def joined_pairs(pairs: Sequence[TissuePair]) -> tuple[list[TissuePair], list[str]]:
    """The pairs, those with near-identical pictures as of one slide, and what was joined.

    So no picture is on both sides of a split under another name, turned or mirrored.
    """
    slides = [pair.slide for pair in pairs]
    said = []
    for a, b in _near_identical(pairs):
        if slides[a] != slides[b]:
            said.append(f"{pairs[a].name} and {pairs[b].name} are nearly the same picture: kept on one side")
            slides = [slides[a] if slide == slides[b] else slide for slide in slides]
    return [replace(pair, slide=slide) for pair, slide in zip(pairs, slides, strict=True)], said


def _near_identical(pairs: Sequence[TissuePair]) -> Iterator[tuple[int, int]]:
    """Which pairs, by index, have an H&E or an IHC in common."""
    alike = np.zeros((len(pairs), len(pairs)), bool)
    for images in ([pair.he for pair in pairs], [pair.ihc for pair in pairs]):
        thumbnails = np.stack([_thumbnail(image) for image in images])
        upright = _flat(thumbnails)
        for turns, mirrored in product(range(4), (False, True)):
            turned = np.rot90(thumbnails, turns, (1, 2))
            alike |= upright @ _flat(turned[:, :, ::-1] if mirrored else turned).T > NEAR_IDENTICAL
    return ((a, b) for a, b in combinations(range(len(pairs)), 2) if alike[a, b])


def _thumbnail(image: Image) -> NDArray[np.float64]:
    """Density (32, 32), about its mean, of length 1."""
    density = optical_density_od10(resize(image, (THUMBNAIL_PX, THUMBNAIL_PX))).mean(2)
    density -= density.mean()
    return np.asarray(density / max(float(np.linalg.norm(density)), 1e-9))


def _flat(thumbnails: NDArray[np.float64]) -> NDArray[np.float64]:
    return thumbnails.reshape(len(thumbnails), -1)


def alike_names(pairs: Sequence[TissuePair]) -> tuple[str, str] | None:
    """Two names of different slides that differ in their last numbers alone, as tiles of one slide do."""
    first: dict[str, TissuePair] = {}
    for pair in pairs:
        stem = re.sub(r"([-_ ]+[xy]?\d+)+$", "", pair.name)
        other = first.setdefault(stem, pair)
        if stem != pair.name and other.slide != pair.slide:
            return other.name, pair.name
    return None


# What pairs teach: features of an H&E, and levels of DAB that its registered IHC has at several blurs.

T = TypeVar("T")
BLURS_CELLS = tuple(sigma / CELL_PX for sigma in BLURS_PX)
MAX_EXEMPLARS = 16  # IHC that the look is measured of: more change it little
MIN_TISSUE = 0.02  # of a pair's pixels
MIN_COVER = 0.02  # of what a blur sees: less says nothing of a place
MAX_LEVEL = 1.5  # spots that are darker say nothing more of where


@dataclass(frozen=True)
class Field:
    """A pair in cells of 2 um: features (1, FEATURES, h, w) of its H&E, and at each blur what its IHC has.

    `stainable` (1, 1, h, w), 0 to 1, is how much of a cell the marker can stain: nuclei, or tissue; `covers`
    (1, L, h, w) is the same at each blur, `levels` the level of DAB over it, `weights` how far that counts.
    `he` is uint8 (h, w, 3).
    """

    slide: str
    he: Image
    features: Tensor
    stainable: Tensor
    covers: Tensor
    levels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class _Ihc:
    """DAB of an IHC, summed over nuclei and over tissue, and how much of a cell these are: maps (h, w) by site."""

    dab_od10: dict[str, Array]
    stainable: dict[str, Array]


def split(slides: Sequence[str]) -> tuple[list[int], list[int], str]:
    """Which pairs, by their slides, are trained on and which validated on, and how that is said.

    It is every fifth slide, at least one; of a single slide every fifth pair. A single pair is both.
    """
    names, count = list(dict.fromkeys(slides)), len(slides)
    if len(names) > 1:
        held = [at for at, slide in enumerate(slides) if slide in names[:0:-5]]
        return _others(count, held), held, f"{len(held)} of {count} pairs, not trained on"
    if count > 1:
        held = list(range(count))[:0:-5]
        return _others(count, held), held, f"{len(held)} of {count} pairs of the only slide, not trained on"
    return [0], [0], "the only pair, which was trained on"


def _others(count: int, held: Collection[int]) -> list[int]:
    return [at for at in range(count) if at not in held]


def fields_of(
    checked: Sequence[CheckedPair], site: str = "auto"
) -> tuple[list[Field], list[Field], str, Exemplar]:
    """What pairs at MPP teach: fields to train on, to validate on, how that is said, and the look of their IHC.

    `site` is what the marker stains: nuclear, cytoplasm, or auto. Raises: ValueError where no pair shows tissue,
    or no IHC that is trained on shows stained and unstained tissue.
    """
    shown = [one for one in checked if tissue_mask(one.pair.he).mean() > MIN_TISSUE]
    if not shown:
        raise expected("pairs", "H&E with tissue", "none", "choose other fields")
    train, held, words = split([one.pair.slide for one in shown])
    stains = _stains_of_slides(shown)
    seen: list[_Ihc] = []
    exemplars: list[Exemplar] = []
    refused: list[ValueError] = []
    for at, one in enumerate(shown):
        reference = reference_tissue(one.pair.ihc)
        seen.append(_seen(reference))
        if at in train and len(exemplars) < MAX_EXEMPLARS:
            try:
                exemplars.append(exemplar_of(reference, site))
            except ValueError as error:  # negative tissue is worth learning from, and no exemplar
                refused.append(error)
    if not exemplars:
        wanted = "at least one IHC, of those trained on, with stained and unstained tissue"
        raise expected("pairs", wanted, f"none: {refused[0]}", "choose fields that the marker stains")
    exemplar = _joined(exemplars)
    fields = [_field(one, stains[one.pair.slide], ihc, exemplar) for one, ihc in zip(shown, seen, strict=True)]
    return [fields[at] for at in train], [fields[at] for at in held], words, exemplar


def _joined(exemplars: Sequence[Exemplar]) -> Exemplar:
    """The mean look of those that most agree what the marker stains."""
    site = Counter(one.site for one in exemplars).most_common(1)[0][0]
    return joined_exemplars([one for one in exemplars if one.site == site])


def _stains_of_slides(shown: Sequence[CheckedPair]) -> dict[str, PairStains]:
    """Of all pictures of a slide together: stroma is pale also where a field shows nothing else."""
    found = {}
    for slide in dict.fromkeys(one.pair.slide for one in shown):
        pictures = [one.pair.he for one in shown if one.pair.slide == slide]
        height = min(len(picture) for picture in pictures)
        found[slide] = slide_stains(np.concatenate([picture[:height] for picture in pictures], 1))
    return found


def _seen(reference: ReferenceTissue) -> _Ihc:
    """What can be stained, and the DAB on it, in cells."""
    tissue = reference.tissue
    parts = {"nuclear": np.asarray(tissue.labels > 0, np.float32), "cytoplasm": tissue.there}
    dab_od10 = tissue.second.clip(0)
    return _Ihc(
        {site: in_cells(dab_od10 * part) for site, part in parts.items()},
        {site: in_cells(part) for site, part in parts.items()},
    )


def in_cells(x: Array) -> Array:
    """Means (h, w) over cells of a map (H, W), without what is left of its sides over whole pixels of the map."""
    height, width = (side // STRIDE_PX * STRIDE_PX for side in x.shape)
    cut = torch.from_numpy(np.ascontiguousarray(x[:height, :width], np.float32))
    return np.asarray(F.avg_pool2d(cut[None, None], CELL_PX)[0, 0].numpy())


def _field(one: CheckedPair, stains: PairStains, ihc: _Ihc, exemplar: Exemplar) -> Field:
    height, width = (side // STRIDE_PX * STRIDE_PX for side in one.pair.he.shape[:2])
    he = np.ascontiguousarray(one.pair.he[:height, :width])
    features = features_of(density_from(he, stains.white), torch.tensor(stains.strength))
    moved = [_brought(x, one) for x in (ihc.dab_od10[exemplar.site], ihc.stainable[exemplar.site])]
    dab, stainable = (torch.from_numpy(x)[None, None] for x in moved)
    inside = torch.from_numpy(_brought(np.ones(moved[0].shape, np.float32), one))[None, None]
    covers = [blurred(stainable, sigma) for sigma in BLURS_CELLS]
    low, high = _typical(exemplar)
    levels = [
        ((blurred(dab, sigma) / cover.clamp_min(MIN_COVER) - low) / (high - low)).clamp(0, MAX_LEVEL)
        for sigma, cover in zip(BLURS_CELLS, covers, strict=True)
    ]
    weights = [
        trust**2 * cover * (cover > MIN_COVER) * inside
        for trust, cover in zip(trust_of(one.found), covers, strict=True)
    ]
    small = he[CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX]
    return Field(one.pair.slide, small, features, stainable, *(torch.cat(x, 1) for x in (covers, levels, weights)))


def _brought(x: Array, one: CheckedPair) -> Array:
    """A map of the IHC in cells, moved onto its H&E; 0 where the IHC ends."""
    right, down = one.found.shift_px
    moved = ndimage.shift(x, (-down / CELL_PX, -right / CELL_PX), order=1, mode="constant", cval=0.0)
    return np.asarray(moved, np.float32)


def _typical(exemplar: Exemplar) -> tuple[float, float]:
    """DAB, of base 10, that counts as level 0 and as level 1: of unstained tissue, and of stained."""
    low, high = (
        float(np.interp(0.5, QUANTILES, values)) for values in (exemplar.unstained_od10, exemplar.stained_od10)
    )
    return low, max(high, low + 0.05)
