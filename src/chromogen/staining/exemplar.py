"""How a stain looks: amounts and colours of a reference IHC, measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import choose, expected
from chromogen.image import Image
from chromogen.nuclei.find import find_nuclei
from chromogen.nuclei.measure import Measurements, measure
from chromogen.nuclei.positivity import FIXED_OD10, MOST_BESIDE, positive_threshold, share_beside
from chromogen.staining.maps import smooth
from chromogen.staining.tissue import MPP, Tissue, tissue_of
from chromogen.stains.deconvolution import H_DAB
from chromogen.stains.estimation import estimate_stains
from chromogen.stains.glass import white_level

SITES = ("nuclear", "cytoplasm")
QUANTILES = np.linspace(0, 1, 65)
LEVELS = 24
AWAY_UM = 1.5  # from a nucleus, where cytoplasm is itself
WIDE_UM = 4.0  # DAB smoothed so far says what is stained and what is not
UNSTAINED = 0.5  # of the border between both: surely unstained
LEAST_BORDER_OD10 = 0.1  # between stained and unstained: less is noise, or the grey of haematoxylin

Values = tuple[float, ...]
NO_DAB: Values = (0.0,) * len(QUANTILES)


@dataclass(frozen=True)
class Exemplar:
    """The look of an IHC at MPP; densities are of base 10.

    `white` is the colour of its glass, rows of `matrix` are haematoxylin, DAB and neither. `nucleus_od10` is the
    haematoxylin of its unstained nuclei, `around_od10` that of what lies round them. `stained_od10` has the
    quantiles of DAB in stained cytoplasm, or of the means of positive nuclei; `unstained_od10` those of the rest,
    and `background_od10` the typical DAB of tissue that is none of both. `hidden_od10` is the haematoxylin seen in
    nuclei, or in cytoplasm, with so much DAB as `levels_od10`. `share` is that of positive nuclei, or of stained
    tissue.
    """

    site: str
    white: Values
    matrix: tuple[Values, ...]
    nucleus_od10: float
    around_od10: float
    stained_od10: Values
    unstained_od10: Values
    background_od10: float
    levels_od10: Values
    hidden_od10: Values
    share: float


def joined_exemplars(exemplars: Sequence[Exemplar], weights: Sequence[float] | None = None) -> Exemplar:
    """The mean look of several exemplars of one marker, which weigh the same unless given `weights`.

    Raises: ValueError where they are of different sites.
    """
    first = exemplars[0]
    sites = {exemplar.site for exemplar in exemplars}
    if len(sites) > 1:
        raise expected("style", "exemplars of one kind of marker", " and ".join(sorted(sites)), "name --site")
    levels = np.linspace(0, max(exemplar.levels_od10[-1] for exemplar in exemplars), LEVELS)
    hidden = [np.interp(levels, exemplar.levels_od10, exemplar.hidden_od10) for exemplar in exemplars]
    same = {"site", "levels_od10", "hidden_od10"}
    means = {
        field.name: _plain(np.average([getattr(exemplar, field.name) for exemplar in exemplars], 0, weights))
        for field in fields(Exemplar)
        if field.name not in same
    }
    return Exemplar(
        first.site, levels_od10=_plain(levels), hidden_od10=_plain(np.average(hidden, 0, weights)), **means
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


def measure_exemplar(ihc: Image, site: str = "auto") -> Exemplar:
    """Measure a reference IHC, uint8 (H, W, 3) at MPP, of a marker of nuclei or of cytoplasm; `auto` decides.

    Raises: ValueError for another site, and for a picture that is all stained or not at all.
    """
    choose("site", site, ("auto", *SITES))
    white = white_level(ihc, MPP)
    nuclei = find_nuclei(ihc, MPP, white=white)
    tissue = tissue_of(ihc, nuclei, white, estimate_stains(ihc, H_DAB, white).matrix)
    measured = measure(nuclei, ihc, MPP, white, H_DAB)
    if site == "auto":
        site = _site_of(measured)
    parts = _of_nuclei(tissue, measured) if site == "nuclear" else _of_cytoplasm(tissue)
    return _exemplar(site, tissue, parts)


def _site_of(measured: Measurements) -> str:
    """Where the marker sits: in nuclei, if some are brown and browner than what lies round them."""
    border = positive_threshold(measured).positive_od10 or FIXED_OD10[0]
    brown = (measured.second_od10 > border).any() and share_beside(measured, border) <= MOST_BESIDE
    return "nuclear" if brown else "cytoplasm"


def _of_nuclei(tissue: Tissue, measured: Measurements) -> _Parts:
    border = positive_threshold(measured).positive_od10 or FIXED_OD10[0]
    level = tissue.of_nuclei(tissue.second)[1:]
    brown = measured.second_od10 > border
    _check_both(brown, "nuclei")
    pale = tissue.there * (smooth(tissue.second, WIDE_UM / MPP / 2) < border) > 0.5
    return _Parts(level[brown], level[~brown], ~brown, pale, float(brown.mean()))


def _of_cytoplasm(tissue: Tissue) -> _Parts:
    from skimage.filters import threshold_otsu

    there = tissue.there > 0.5
    wide = smooth(tissue.second, WIDE_UM / MPP)
    border = float(threshold_otsu(wide[there])) if there.any() else 0.0
    if border < LEAST_BORDER_OD10:
        wanted = "an IHC with stained and unstained tissue"
        raise expected("style", wanted, "hardly any DAB", "choose a field that the marker stains")
    stained, pale = there & (wide > border), there & (wide < UNSTAINED * border)
    _check_both(stained[there], "tissue")
    dab = tissue.second.clip(0)
    blue = tissue.of_nuclei(tissue.second)[1:] < border
    return _Parts(dab[stained], dab[pale], blue, pale, np.count_nonzero(stained) / np.count_nonzero(there))


def _check_both(stained: NDArray[np.bool_], what: str) -> None:
    if stained.all() or not stained.any():
        seen = "none at all" if not stained.size else "all of them stained" if stained.all() else "none stained"
        raise expected("style", f"an IHC with stained and unstained {what}", seen, "choose another field")


def _exemplar(site: str, tissue: Tissue, parts: _Parts) -> Exemplar:
    away = tissue.distance_um > AWAY_UM
    beside = parts.pale & away
    levels, hidden = _hidden(tissue, tissue.labels > 0 if site == "nuclear" else away & (tissue.there > 0.5))
    return Exemplar(
        site,
        tuple(map(float, tissue.white)),
        tuple(tuple(map(float, row)) for row in tissue.matrix),
        median_of(tissue.of_nuclei(tissue.hematoxylin)[1:][parts.blue], 0.2),
        median_of(tissue.hematoxylin[beside], 0.02),
        quantiles_of(parts.stained_od10),
        quantiles_of(parts.unstained_od10),
        median_of(tissue.second[beside].clip(0), 0.0),
        levels,
        hidden,
        parts.share,
    )


def median_of(values: NDArray[Any], otherwise: float) -> float:
    """The median, or what stands for it where there are no values."""
    return float(np.median(values)) if len(values) else otherwise


def quantiles_of(values: NDArray[Any], otherwise: Values = NO_DAB) -> Values:
    """Values at QUANTILES, or what stands for them where there are none."""
    return tuple(map(float, np.quantile(values, QUANTILES))) if len(values) else otherwise


def _hidden(tissue: Tissue, where: NDArray[np.bool_]) -> tuple[Values, Values]:
    """Mean haematoxylin by DAB: what DAB leaves to see, and how dense brown turns to black."""
    dab, hematoxylin = tissue.second[where].clip(0), tissue.hematoxylin[where]
    if not len(dab):
        return (0.0, 1.0), (0.0, 0.0)
    levels = np.linspace(0, max(float(np.quantile(dab, 0.995)), 1e-3), LEVELS)
    bins = (np.digitize(dab, levels) - 1).clip(0, LEVELS - 1)
    count = np.bincount(bins, minlength=LEVELS)
    mean = np.bincount(bins, hematoxylin, LEVELS) / np.maximum(count, 1)
    known = count > 0
    return tuple(map(float, levels[known])), tuple(map(float, mean[known]))
