"""Does training on pairs recover where the brown lies? On drawn pairs whose rule is known, then on real ones.

    python benchmarks/paired.py [--rules pink pale] [--real DATA [--tissues ER ...]]

Drawn: six pairs 10 to 50 px apart, whose IHC alone do not tell which of two kinds of nests is brown; judged on
four drawn tissues not trained on, against the rule's own DAB. Real: left half against right half of a section and
its neighbour, an answer about that section and no other. Sections at 5 % of their scale are no exemplars of a
stain: their second stain is taken for DAB, and that of the 97th percentile counts as stained.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.image import Image, read_image
from chromogen.stainer import load_look
from chromogen.staining import exemplar
from chromogen.staining.edges import values_of_network
from chromogen.staining.exemplar import Exemplar, Reference
from chromogen.staining.maps import ramp
from chromogen.staining.tissue import GLASS_OD10, SMOOTH_UM, tissue_of
from chromogen.staining.where_network import STRIDE_PX, WhereNetwork, level_map, slide_stains
from chromogen.stains.deconvolution import H_DAB, densities_od10, separate_stains
from chromogen.stains.glass import white_level
from chromogen.training import fields
from chromogen.training.pairs import BLURS_PX, CheckedPair, TissuePair, check_pair, kept_of
from chromogen.training.train import Training, train_where
from drawn_pairs import RULES, drawn_pair

MPP = 0.5
SIDE_PX, PAIRS, UNSEEN = 320, 6, 4
BLUR_PX = 8.0
MARGIN_PX = 74  # between what is trained on and what is judged: three blurs, and how far sections lie apart
DARK = 0.97  # of the pixels of a section that is no exemplar
Density: TypeAlias = NDArray[np.float64]
Way: TypeAlias = Callable[[CheckedPair], CheckedPair]


def as_they_lie(found: CheckedPair) -> CheckedPair:
    """A pair that is not brought together: all of its displacement is left."""
    left = float(np.hypot(*found.found.shift_px))
    return replace(found, found=replace(found.found, shift_px=(0.0, 0.0), residual_px=left))


def brought_together(found: CheckedPair) -> CheckedPair:
    return found


WAYS: dict[str, Way] = {"pairs as they lie": as_they_lie, "pairs brought together": brought_together}


def any_section(exemplar_of: Callable[[Reference, str], Exemplar], reference: Reference, site: str) -> Exemplar:
    """The exemplar of an IHC, or, where it is none, levels alone."""
    try:
        return exemplar_of(reference, site)
    except ValueError:
        known = load_look("epithelial").exemplar
        dark = float(np.quantile(reference.tissue.second, DARK))
        quantiles = len(known.stained_od10)
        return replace(known, stained_od10=(dark,) * quantiles, unstained_od10=(0.0,) * quantiles)


def as_dab(reference_of: Callable[[Image], Reference], ihc: Image) -> Reference:
    """What an IHC shows by the vectors of haematoxylin and DAB."""
    found = reference_of(ihc)
    return replace(found, tissue=tissue_of(ihc, found.tissue.nuclei, found.tissue.white, H_DAB))


def agreement(
    network: WhereNetwork, he: Image, dab: Density, at: tuple[slice, slice] = np.s_[:, :]
) -> tuple[float, ...]:
    """Pearson's correlation of the levels that a network gives an H&E with known DAB, at each of BLURS_PX."""
    predict = partial(level_map, network, stains=slide_stains(he))
    level, _ = values_of_network(predict, he)
    fine = ndimage.zoom(level, STRIDE_PX, order=1, grid_mode=True, mode="nearest")[: he.shape[0], : he.shape[1]]
    density = densities_od10(he, white_level(he)).mean(axis=0)
    there = ramp(ndimage.gaussian_filter(density, SMOOTH_UM / MPP), *GLASS_OD10)  # as in a map that is used
    both = [[ndimage.gaussian_filter(x, sigma)[at].ravel() for x in (fine * there, dab)] for sigma in BLURS_PX]
    return tuple(float(np.corrcoef(*pair)[0, 1]) for pair in both)


def trained(pairs: Sequence[CheckedPair], site: str) -> WhereNetwork:
    return train_where(pairs, Training(site)).network.cpu()


def drawn(rule: str, way: Way) -> list[tuple[float, ...]]:
    """On tissue that no training has seen."""
    made = [drawn_pair(seed, rule, SIDE_PX) for seed in range(PAIRS)]
    checked = [check_pair(TissuePair(str(i), str(i), pair.he, pair.ihc), MPP) for i, pair in enumerate(made)]
    network = trained([way(one) for one in kept_of(checked)], "cytoplasm")
    unseen = [drawn_pair(100 + seed, rule, SIDE_PX) for seed in range(UNSEEN)]
    return [agreement(network, pair.he, pair.dab) for pair in unseen]


def real_pairs(data: Path) -> dict[str, tuple[Image, Image, str]]:
    """ER of breast, and lung lesions; with what each stains."""
    lung = data / "pairs/lung-lesion"
    files = {f"lung lesion, {file.stem.removesuffix('_aligned')}": file for file in lung.glob("*_aligned.png")}
    mist = data / "pairs/mist"
    he = read_image(lung / "he.jpg")
    return {
        "ER of breast": (read_image(mist / "ER_he.png"), read_image(mist / "ER_ihc.png"), "nuclear"),
        **{name: (he, read_image(file), "cytoplasm") for name, file in sorted(files.items())},
    }


def halves(he: Image, ihc: Image, site: str, way: Way) -> list[tuple[float, ...]] | str:
    """Trained on the left half and judged on the right, and the other way round; or why not."""
    whole = check_pair(TissuePair("", "", he, ihc), MPP)
    if whole.problem:
        return whole.problem
    x, y = whole.found.shift_px
    real = separate_stains(ndimage.shift(ihc, (-y, -x, 0), order=1, mode="nearest"), H_DAB)[..., 1].clip(0)
    middle, found = he.shape[1] // 2, []
    for ours, theirs in (
        (np.s_[:, :middle], np.s_[:, middle + MARGIN_PX :]),
        (np.s_[:, middle:], np.s_[:, : middle - MARGIN_PX]),
    ):
        half = way(CheckedPair(TissuePair("", "", he[ours], ihc[ours]), whole.found))
        found.append(agreement(trained([half], site), he, real, theirs))
    return found


def said(name: str, way: str, found: list[tuple[float, ...]] | str, cpu_s: float) -> str:
    if isinstance(found, str):
        return f"| {name} | {way} | {found} | | | | |"
    means = " | ".join(f"{r:.2f}" for r in np.mean(found, axis=0))
    each = ", ".join(f"{r[BLURS_PX.index(BLUR_PX)]:.2f}" for r in found)
    return f"| {name} | {way} | {means} | {each} | {cpu_s:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="Folder of real images; without it they are left out.")
    parser.add_argument(
        "--tissues", nargs="+", default=[""], help="Words of the names of real ones; default: all."
    )
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    exemplar_of, reference_of = partial(any_section, exemplar.exemplar_of), partial(as_dab, exemplar.reference_of)
    vars(fields).update(exemplar_of=exemplar_of, reference_of=reference_of)
    print("| tissue | training | r, 1 um | r, 4 um | r, 12 um | of each, 4 um | processor, s |")
    print("|---|---|---|---|---|---|---|", flush=True)
    works: list[tuple[str, str, Callable[[], list[tuple[float, ...]] | str]]] = [
        (f"drawn, {rule} nests", way, partial(drawn, rule, WAYS[way]))
        for rule in asked.rules
        for way in asked.ways
    ]
    for name, given in (real_pairs(asked.real) if asked.real else {}).items():
        if any(word in name for word in asked.tissues):
            works += [(name, way, partial(halves, *given, WAYS[way])) for way in asked.ways]
    for name, way, work in works:
        began = time.process_time()
        found = work()
        print(said(name, way, found, time.process_time() - began), flush=True)


if __name__ == "__main__":
    main()
