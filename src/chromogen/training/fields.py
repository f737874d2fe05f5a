"""What pairs teach: features of an H&E, and levels of DAB that its registered IHC has at several blurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from chromogen.errors import expected
from chromogen.image import Image
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
    SlideStains,
    density_from,
    features_of,
    slide_stains,
)
from chromogen.stains.light import blurred
from chromogen.stains.tissue import tissue_mask
from chromogen.training.pairs import BLURS_PX, CheckedPair, trust_of

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


def _stains_of_slides(shown: Sequence[CheckedPair]) -> dict[str, SlideStains]:
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


def _field(one: CheckedPair, stains: SlideStains, ihc: _Ihc, exemplar: Exemplar) -> Field:
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
