"""Which tissue is epithelium: told by the shape of its nuclei, then by how the slide itself stains round those."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chromogen.nuclei.outlines import Nuclei
from chromogen.staining.maps import MIN_COVER, Array, coarser, finer, guided, ramp, smooth
from chromogen.staining.tissue import COARSE, MPP, Tissue

LARGE_PERCENT = 80  # the percentile of a slide's nuclear areas that stands for large nuclei
SMALL = 0.62  # of a large one's area: what is smaller is rather no epithelium
LONG = 1.7  # ratio of axes: what is longer is rather stroma
NEIGHBOURS, NEIGHBOURS_UM = 5, 18.0
CROWDED = 0.3, 0.42  # of the tissue round a nucleus covered by nuclei: lymphocytes have hardly any cytoplasm
LYMPHOCYTE_UM2 = 45.0, 70.0  # from the area of a lymphocyte's nucleus to what is surely none
ALONE_UM, ALONE = 12.0, (0.12, 0.3)  # epithelium comes in sheets: a lone cell is rather something else
CELL_UM, FAR_UM = 5.0, 12.0  # tissue of a nucleus' own cell; tissue that no cell reaches
FAR_SHARE, FAR_WEIGHT = 0.05, 0.7  # what lies far from all nuclei is hardly epithelium
SCALES_UM = (1.5, 4.0, 9.0)
RIDGE, MAX_STEPS = 30.0, 12
MIN_KNOWN, OTHERWISE = 50, -2.0  # squares of tissue that a rule is learnt from; the logit where there are fewer
STEEP = 1.6
GUIDE_UM = 0.6  # over which the tissue is smoothed whose edges count
EDGES = ((10.0, 3e-3, 0.2, 0.8), (4.0, 2e-3, 0.3, 0.7))  # radius in um, epsilon, and what becomes 0 and 1


@dataclass(frozen=True)
class Rule:
    """A slide's own rule: what is large for a nucleus, and a logistic regression on features of tissue."""

    large_um2: float
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    weights: tuple[float, ...]
    offset: float


def rule_of(tissue: Tissue) -> Rule:
    """The rule of a sample of a slide.

    Nuclei that are large, round and in company name the tissue round them epithelium, others name it something
    else. A logistic regression with a ridge then learns from most pixels how either looks on this slide: nuclei
    are often misjudged, their surroundings together seldom.
    """
    large_um2 = float(np.percentile(tissue.nuclei.areas_um2, LARGE_PERCENT)) if len(tissue.nuclei) else 60.0
    share = np.concatenate([[0], 1 / (1 + np.exp(-2 * nuclear_logit(tissue.nuclei, large_um2)))])
    owned, distance = tissue.owner[::COARSE, ::COARSE], tissue.distance_um[::COARSE, ::COARSE]
    there = coarser(tissue.there, COARSE) > 0.5
    far = there & (distance > FAR_UM)
    known = (there & (distance < CELL_UM)) | far
    features = _features(tissue).astype(np.float64).transpose(1, 2, 0)
    if np.count_nonzero(known) < MIN_KNOWN:
        none = (0.0,) * features.shape[2]
        return Rule(large_um2, none, none, none, OTHERWISE)
    aim = np.where(far, FAR_SHARE, share[owned])[known]
    weight = np.where(far, FAR_WEIGHT, 1.0)[known]
    means, deviations = features[there].mean(axis=0), features[there].std(axis=0) + 1e-4
    fitted = _logistic((features[known] - means) / deviations, aim, weight)
    found = [tuple(map(float, values)) for values in (means, deviations, fitted[:-1])]
    return Rule(large_um2, found[0], found[1], found[2], float(fitted[-1]))


def nuclear_logit(nuclei: Nuclei, large_um2: float) -> NDArray[np.float64]:
    """How far a nucleus' shape and company speak for epithelium, (N,): 0 is undecided."""
    from scipy.spatial import cKDTree

    if not len(nuclei):
        return np.zeros(0)
    places = nuclei.centres_px * nuclei.mpp
    tree = cKDTree(places)
    areas_um2 = nuclei.areas_um2
    nearby = tree.query_ball_point(places, NEIGHBOURS_UM)
    company = np.array([len(near) - 1 for near in nearby])
    size = np.log((areas_um2 / (SMALL * large_um2)).clip(0.3, 1.8))
    long = (elongation(nuclei) - LONG).clip(-0.3, 1.5)
    covered = np.array([areas_um2[near].sum() for near in nearby]) / (np.pi * NEIGHBOURS_UM**2)
    crowded = ramp(covered, *CROWDED) * (1 - ramp(areas_um2, *LYMPHOCYTE_UM2))
    company_logit = 0.5 * ((company - NEIGHBOURS) / 4).clip(-1, 1)
    return np.asarray(2.2 * size - 1.8 * long + company_logit - 3.0 * crowded)


def epithelium(tissue: Tissue, rule: Rule) -> Array:
    """How far a pixel lies in epithelium, float32 (H, W) from 0 to 1, brought to the tissue's own edges."""
    logit = np.full(coarse_shape(tissue), rule.offset, np.float32)
    for feature, mean, deviation, weight in zip(
        _features(tissue), rule.means, rule.deviations, rule.weights, strict=True
    ):
        logit += (feature - np.float32(mean)) * np.float32(weight / max(deviation, 1e-4))
    coarse = 1 / (1 + np.exp(-STEEP * logit)) * coarser(tissue.there, COARSE)
    coarse *= ramp(smooth(coarse, ALONE_UM / MPP / COARSE), *ALONE)
    there, *guides = (coarser(x, 2) for x in (tissue.there, tissue.hematoxylin, tissue.second))
    guides = [smooth(x, GUIDE_UM / MPP / 2) for x in guides]
    share = finer(coarse, COARSE // 2, there.shape) * there
    for radius_um, eps, none, full in EDGES:
        share = ramp(guided(share, guides, round(radius_um / MPP / 4), eps, 2), none, full)
    return finer(share, 2, tissue.labels.shape) * tissue.there


def elongation(nuclei: Nuclei) -> NDArray[np.float64]:
    """Long axis over short axis of every outline."""
    around = (nuclei.outlines_px - nuclei.centres_px[:, None]).astype(np.float64)
    spread = np.linalg.eigvalsh(np.einsum("nri,nrj->nij", around, around))
    return np.asarray(np.sqrt(spread[:, 1] / np.maximum(spread[:, 0], 1e-6)))


def coarse_shape(tissue: Tissue) -> tuple[int, int]:
    """How many squares of COARSE px there are, (h, w)."""
    height, width = tissue.labels.shape
    return -(-height // COARSE), -(-width // COARSE)


def _features(tissue: Tissue) -> Array:
    """Of squares of COARSE px, (11, h, w): both stains of cytoplasm by scale, haematoxylin, grain, nuclei."""
    pixel_um = MPP * COARSE
    between, nuclear = coarser(tissue.between, COARSE), coarser(tissue.labels > 0, COARSE)
    stains = [coarser(x * tissue.between, COARSE) for x in (tissue.hematoxylin, tissue.second)]
    maps: list[Array] = []
    for um in SCALES_UM:
        cover = np.maximum(smooth(between, um / pixel_um), MIN_COVER)
        maps += [np.asarray(smooth(stain, um / pixel_um) / cover) for stain in stains]
    all_hematoxylin = coarser(tissue.hematoxylin, COARSE)
    maps += [smooth(all_hematoxylin, um / pixel_um) for um in SCALES_UM[1:]]
    grain = coarser(abs(tissue.total - smooth(tissue.total, 1.5 / MPP)), COARSE)
    maps += [smooth(grain, SCALES_UM[1] / pixel_um)]
    maps += [smooth(nuclear, um / pixel_um) for um in (5.0, 12.0)]
    return np.stack(maps)


def _logistic(
    x: NDArray[np.float64], aim: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights and offset (F + 1,) of a logistic regression with a ridge, by Newton's method; aims are shares."""
    design = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    ridge = np.eye(design.shape[1]) * RIDGE * len(x) / 1000
    ridge[-1, -1] = 1e-9
    found = np.zeros(design.shape[1])
    for _ in range(MAX_STEPS):
        share = 1 / (1 + np.exp(-design @ found))
        slope = design.T @ (weight * (aim - share)) - ridge @ found
        bend = (design * (weight * share * (1 - share))[:, None]).T @ design + ridge
        found = found + np.linalg.solve(bend, slope)
    return found
