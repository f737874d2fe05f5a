"""How a stain looks: amounts and colours of a reference IHC, measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from chromogen.errors import choose, expected
from chromogen.image import Image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.positivity import (
    FIXED_OD10,
    MAX_BESIDE,
    Measurements,
    measure,
    positive_threshold,
    share_beside,
)
from chromogen.staining.atlas import Atlas, atlas_of, joined_atlases
from chromogen.staining.confidence import KnownTissue, known_tissue, median_of
from chromogen.staining.maps import smooth
from chromogen.staining.tissue import MPP, Detail, Tissue, detail_of, tissue_of
from chromogen.stains.deconvolution import H_DAB, combine_stains, estimate_chromogen, separate_stains, stain_matrix
from chromogen.stains.deconvolution import Array as Matrix
from chromogen.stains.glass import white_level

SITES = ("nuclear", "cytoplasm")
QUANTILES = np.linspace(0, 1, 65)
LEVELS = 24
CURVE_BINS = 1.5  # over how many of LEVELS curves are smoothed
MAX_HAZE = 0.6
HAZE_UM, HAZE_REACH_UM = 6.0, (1.5, 7.0)  # how far DAB diffuses; how far from a nucleus that is measured
AWAY_UM = 1.5  # from a nucleus, where cytoplasm is itself
WIDE_UM = 4.0  # DAB smoothed so far says what is stained and what is not
UNSTAINED = 0.5  # of the border between both: surely unstained
FAINTLY = 0.6  # of the border between both: nuclei that are stained faintly
MIN_POSITIVE = 5  # nuclei that are stained: fewer are dirt, or chance
MIN_BORDER_OD10 = 0.1  # between stained and unstained: less is noise, or the grey of haematoxylin
WANTED = "an IHC with stained and unstained"

Values = tuple[float, ...]
NO_DAB: Values = (0.0,) * len(QUANTILES)


@dataclass(frozen=True)
class Exemplar:
    """The look of an IHC at MPP; densities are of base 10.

    `white` is the colour of its glass, rows of `matrix` are haematoxylin, the second stain (mostly DAB) and
    neither. `blue_od10` has
    quantiles of unstained nuclei's haematoxylin over `around_od10`, that of what lies round them. `stained_od10`
    has those of DAB in stained cytoplasm, or of the means of positive nuclei; `unstained_od10` those of the rest,
    and `background_od10` the typical DAB of tissue that is none of both. `hidden_od10` is the haematoxylin and
    `hue_od10` the density of neither stain in nuclei, or in cytoplasm, with so much DAB as `levels_od10`;
    `ground_hue_od10` is the latter in pale tissue, `blue_hue` how much comes with haematoxylin. `haze` is how much
    DAB lies beside stained nuclei (see `haze_of`). `share` is that of positive nuclei, or of stained tissue.
    `known` says which tissue it had.
    """

    site: str
    white: Values
    matrix: tuple[Values, ...]
    blue_od10: Values
    around_od10: float
    stained_od10: Values
    unstained_od10: Values
    background_od10: float
    levels_od10: Values
    hidden_od10: Values
    hue_od10: Values
    ground_hue_od10: float
    blue_hue: float
    haze: float
    share: float
    detail: Detail
    atlas: Atlas | None
    known: tuple[KnownTissue, ...]


def joined_exemplars(exemplars: Sequence[Exemplar], weights: Sequence[float] | None = None) -> Exemplar:
    """The mean look of several exemplars of one marker, which knows the tissue of each.

    They weigh the same unless given `weights`.

    Quantiles are averaged and not pooled: pooled, the strengths of several slides would pass for variation from
    cell to cell. Raises: ValueError where they are of different sites.
    """
    first = exemplars[0]
    sites = {exemplar.site for exemplar in exemplars}
    if len(sites) > 1:
        raise expected("style", "exemplars of one kind of marker", " and ".join(sorted(sites)), "name --site")
    levels = np.linspace(0, max(exemplar.levels_od10[-1] for exemplar in exemplars), LEVELS)
    curves = {
        name: _plain(
            np.average([np.interp(levels, one.levels_od10, getattr(one, name)) for one in exemplars], 0, weights)
        )
        for name in ("hidden_od10", "hue_od10")
    }
    same = {"site", "matrix", "known", "levels_od10", "atlas", "detail", *curves}
    mean = np.average([exemplar.matrix for exemplar in exemplars], 0, weights)
    means = {
        field.name: _plain(np.average([getattr(exemplar, field.name) for exemplar in exemplars], 0, weights))
        for field in fields(Exemplar)
        if field.name not in same
    }
    detail = Detail(*_plain(np.average([exemplar.detail for exemplar in exemplars], 0, weights)))
    atlas = joined_atlases([exemplar.atlas for exemplar in exemplars if exemplar.atlas is not None])
    return Exemplar(
        first.site,
        matrix=_plain(stain_matrix(mean[0], mean[1])),
        levels_od10=_plain(levels),
        detail=detail,
        atlas=atlas,
        known=tuple(known for exemplar in exemplars for known in exemplar.known),
        **curves,
        **means,
    )


def _plain(values: Any) -> Any:
    """Numbers as floats and tuples of them."""
    values = np.asarray(values)
    return tuple(map(_plain, values)) if values.ndim else float(values)


class _Parts(NamedTuple):
    """DAB that counts as stained and as unstained, which nuclei are blue, where tissue is pale, a share."""

    stained_od10: NDArray[Any]
    unstained_od10: NDArray[Any]
    blue: NDArray[np.bool_]
    pale: NDArray[np.bool_]
    share: float
    level_od10: NDArray[np.float64]
    atlas: Atlas | None = None


@dataclass(frozen=True)
class ReferenceTissue:
    """What a reference IHC shows: its tissue by its own stains, what was measured of each nucleus.

    `why` says why the vectors of the stains are not the picture's own; it is empty where they are.
    """

    tissue: Tissue
    measured: Measurements
    why: str


def measure_exemplar(ihc: Image, site: str = "auto") -> Exemplar:
    """Measure a reference IHC, uint8 (H, W, 3) at MPP, of a marker of nuclei or of cytoplasm; `auto` decides.

    Its second stain may be any chromogen. Raises: as `exemplar_of`.
    """
    return exemplar_of(reference_tissue(ihc), site)


def reference_tissue(ihc: Image, white: Matrix | None = None) -> ReferenceTissue:
    """See what a reference IHC, uint8 (H, W, 3) at MPP, shows; `white` (3,) is the colour of its slide's glass.

    Nuclei are found on the picture as if its chromogen were DAB, the only one that the network has seen.
    """
    white = white_level(ihc, MPP) if white is None else white
    stains = estimate_chromogen(ihc, white)
    as_dab = combine_stains(separate_stains(ihc, stains.matrix, white), H_DAB, white)
    nuclei = nuclei_of_image(as_dab, MPP, white=white)
    tissue = tissue_of(ihc, nuclei, white, stains.matrix)
    return ReferenceTissue(tissue, measure(nuclei, ihc, MPP, white, stains.matrix), stains.why)


def exemplar_of(reference: ReferenceTissue, site: str = "auto") -> Exemplar:
    """The look of what a reference IHC shows, of a marker of nuclei or of cytoplasm; `auto` decides.

    Raises: ValueError for another site, and for a picture that is all stained or not at all.
    """
    choose("site", site, ("auto", *SITES))
    tissue, measured = reference.tissue, reference.measured
    if not len(tissue.nuclei):
        raise expected("style", f"{WANTED} tissue", "no nuclei at all", "choose another field")
    if site == "auto":
        site = _site_of(measured)
    parts = _of_nuclei(tissue, measured) if site == "nuclear" else _of_cytoplasm(tissue, reference.why)
    return _exemplar(site, tissue, parts)


def _site_of(measured: Measurements) -> str:
    """Where the marker sits: in nuclei, if some are stained and more so than what lies round them."""
    border = positive_threshold(measured).positive_od10 or FIXED_OD10[0]
    some = np.count_nonzero(measured.second_od10 > border) >= MIN_POSITIVE
    return "nuclear" if some and share_beside(measured, border) <= MAX_BESIDE else "cytoplasm"


def _of_nuclei(tissue: Tissue, measured: Measurements) -> _Parts:
    border = positive_threshold(measured).positive_od10 or FIXED_OD10[0]
    level = tissue.of_nuclei(tissue.second)[1:]
    brown = measured.second_od10 > border
    _check_both(brown, "nuclei")
    pale = tissue.there * (smooth(tissue.second, WIDE_UM / MPP / 2) < border) > 0.5
    return _Parts(
        level[brown],
        level[~brown],
        ~brown,
        pale,
        float(brown.mean()),
        np.where(brown, level, 0),
        atlas_of(tissue, border * FAINTLY),
    )


def _of_cytoplasm(tissue: Tissue, why: str) -> _Parts:
    from skimage.filters import threshold_otsu

    there = tissue.there > 0.5
    wide = smooth(tissue.second, WIDE_UM / MPP)
    border = float(threshold_otsu(wide[there])) if there.any() else 0.0
    if border < MIN_BORDER_OD10:
        seen = f"hardly any second stain{f' ({why})' if why else ''}"
        raise expected("style", f"{WANTED} tissue", seen, "choose a field that the marker stains")
    stained, pale = there & (wide > border), there & (wide < UNSTAINED * border)
    _check_both(stained[there], "tissue")
    dab = tissue.second.clip(0)
    blue = tissue.of_nuclei(tissue.second)[1:] < border
    return _Parts(
        dab[stained],
        dab[pale],
        blue,
        pale,
        np.count_nonzero(stained) / np.count_nonzero(there),
        np.zeros(len(blue)),
    )


def _check_both(stained: NDArray[np.bool_], what: str) -> None:
    if stained.all() or not stained.any():
        seen = "none at all" if not stained.size else "all of them stained" if stained.all() else "none stained"
        raise expected("style", f"{WANTED} {what}", seen, "choose another field")


def _exemplar(site: str, tissue: Tissue, parts: _Parts) -> Exemplar:
    away = tissue.distance_um > AWAY_UM
    beside = parts.pale & away
    around_od10 = median_of(tissue.hematoxylin[beside], 0.02)
    background_od10 = median_of(tissue.second[beside].clip(0), 0.0)
    ground_hue_od10 = median_of(tissue.neither[beside], 0.0)
    levels, hidden, hue = _under(tissue, tissue.labels > 0 if site == "nuclear" else away & (tissue.there > 0.5))
    return Exemplar(
        site,
        tuple(map(float, tissue.white)),
        tuple(tuple(map(float, row)) for row in tissue.matrix),
        quantiles_of((tissue.of_nuclei(tissue.hematoxylin)[1:][parts.blue] - around_od10).clip(0)),
        around_od10,
        quantiles_of(parts.stained_od10),
        quantiles_of(parts.unstained_od10),
        background_od10,
        levels,
        hidden,
        hue,
        ground_hue_od10,
        _blue_hue(tissue, parts.blue, around_od10, ground_hue_od10),
        haze_of(tissue, parts.level_od10, background_od10),
        parts.share,
        detail_of(tissue, parts.blue, beside),
        parts.atlas,
        (known_tissue(tissue),),
    )


def _blue_hue(tissue: Tissue, blue: NDArray[np.bool_], around_od10: float, ground_hue_od10: float) -> float:
    """How much of what is neither stain comes with haematoxylin: blue that the matrix misses."""
    own, neither = (tissue.of_nuclei(x)[1:][blue] for x in (tissue.hematoxylin, tissue.neither))
    over = median_of(own, 0.0) - around_od10
    return float(np.clip((median_of(neither, 0.0) - ground_hue_od10) / max(over, 0.05), -0.5, 0.5))


def haze_of(tissue: Tissue, level_od10: NDArray[np.float64], background_od10: float) -> float:
    """DAB beside stained nuclei over that of pale tissue, as a share of theirs blurred over HAZE_UM: 0 to 2.

    `level_od10` (N,) is the DAB of stained nuclei and 0 for others.
    """
    level = np.concatenate([[0], level_od10]).astype(np.float32)
    near, far = HAZE_REACH_UM
    beside = (tissue.distance_um > near) & (tissue.distance_um < far) & (tissue.there > 0.5)
    beside &= level[tissue.owner] > 0
    blurred = smooth(level[tissue.labels], HAZE_UM / MPP)[beside]
    return float(
        np.clip(median_of((tissue.second[beside] - background_od10) / blurred.clip(0.02), 0.0), 0, MAX_HAZE)
    )


def quantiles_of(values: NDArray[Any], otherwise: Values = NO_DAB) -> Values:
    """Values at QUANTILES, or what stands for them where there are none."""
    return tuple(map(float, np.quantile(values, QUANTILES))) if len(values) else otherwise


def _under(tissue: Tissue, where: NDArray[np.bool_]) -> tuple[Values, Values, Values]:
    """Mean haematoxylin and what is neither stain, by DAB: what DAB leaves to see, and how its hue changes."""
    dab, amounts = tissue.second[where].clip(0), (tissue.hematoxylin[where], tissue.neither[where])
    if not len(dab):
        return (0.0, 1.0), (0.0, 0.0), (0.0, 0.0)
    levels = np.linspace(0, max(float(np.quantile(dab, 0.995)), 1e-3), LEVELS)
    bins = (np.digitize(dab, levels) - 1).clip(0, LEVELS - 1)
    count = gaussian_filter1d(np.bincount(bins, minlength=LEVELS).astype(float), CURVE_BINS)
    known = count > 0
    means = [gaussian_filter1d(np.bincount(bins, x, LEVELS), CURVE_BINS)[known] / count[known] for x in amounts]
    columns = [tuple(map(float, values)) for values in (levels[known], *means)]
    return columns[0], columns[1], columns[2]
