"""Does training on pairs recover where the brown lies? On drawn pairs whose rule is known, then on real ones.

    python benchmarks/paired.py [--rules pink pale] [--real DATA [--tissues ER ...]]

Drawn: six pairs 10 to 50 px apart, whose IHC alone do not tell which of two kinds of nests is brown; judged on
four drawn tissues not trained on, against the rule's own DAB. Real: left half against right half of a section and
its neighbour, an answer about that section and no other. Three ways: the pair as it was scanned; brought together
by the one displacement that `train --paired` finds; registered, as by `train --paired --register`. All are judged
by the same real IHC: a lung lesion's is bent onto its H&E by a thin-plate spline through a person's 80 landmarks,
which no way has seen; ER's is the published, registered one. `turned`: the same IHC, scanned 20 degrees further
round. The spline of the registration sees both halves' tissue, the network only one. Sections at 5 % of their
scale are no exemplars of a stain: their second stain is taken for DAB, and that of the 97th percentile counts as
stained.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RBFInterpolator
from scipy.stats import spearmanr

from chromogen.image import Image, read_image, write_image
from chromogen.registration.register import register
from chromogen.registration.registered_slide import open_registered
from chromogen.staining import exemplar
from chromogen.staining.exemplar import Exemplar, ReferenceTissue
from chromogen.staining.maps import ramp
from chromogen.staining.stainer import load_look
from chromogen.staining.tissue import GLASS_OD10, SMOOTH_UM, tissue_of
from chromogen.staining.where import values_of_network
from chromogen.staining.where_network import STRIDE_PX, WhereNetwork, level_map, slide_stains
from chromogen.stains.deconvolution import H_DAB, densities_od10, separate_stains
from chromogen.stains.glass import white_level
from chromogen.training import fields
from chromogen.training.fields import BLURS_PX, CheckedPair, TissuePair, check_pair, kept_of
from chromogen.training.train import Training, train_where
from drawn_pairs import RULES, drawn_pair

MPP = 0.5
SIDE_PX, PAIRS, UNSEEN = 320, 6, 4
BLUR_PX = 8.0
MARGIN_PX = 74  # between what is trained on and what is judged: three blurs, and how far sections lie apart
DARK = 0.97  # of the pixels of a section that is no exemplar
GLASS = 240  # beyond the scan
TURNED_DEGREES = 20.0
Density: TypeAlias = NDArray[np.float64]
Way: TypeAlias = Callable[[CheckedPair], CheckedPair]


def as_they_lie(found: CheckedPair) -> CheckedPair:
    """A pair that is not brought together: all of its displacement is left."""
    left = float(np.hypot(*found.found.shift_px))
    return replace(found, found=replace(found.found, shift_px=(0.0, 0.0), residual_px=left))


def brought_together(found: CheckedPair) -> CheckedPair:
    return found


WAYS: dict[str, Way] = {"as scanned": as_they_lie, "one displacement": brought_together}
REGISTERED = "registered"


def any_section(
    exemplar_of: Callable[[ReferenceTissue, str], Exemplar], reference: ReferenceTissue, site: str
) -> Exemplar:
    """The exemplar of an IHC, or, where it is none, levels alone."""
    try:
        return exemplar_of(reference, site)
    except ValueError:
        known = load_look("epithelial").exemplar
        dark = float(np.quantile(reference.tissue.second, DARK))
        quantiles = len(known.stained_od10)
        return replace(known, stained_od10=(dark,) * quantiles, unstained_od10=(0.0,) * quantiles)


def as_dab(reference_of: Callable[[Image], ReferenceTissue], ihc: Image) -> ReferenceTissue:
    """What an IHC shows by the vectors of haematoxylin and DAB."""
    found = reference_of(ihc)
    return replace(found, tissue=tissue_of(ihc, found.tissue.nuclei, found.tissue.white, H_DAB))


def agreement(
    network: WhereNetwork, he: Image, dab: Density, at: tuple[slice, slice] = np.s_[:, :]
) -> tuple[float, ...]:
    """How the levels that a network gives an H&E follow known DAB.

    Pearson's correlation at each of BLURS_PX, then Spearman's at BLUR_PX.
    """
    predict = partial(level_map, network, stains=slide_stains(he))
    level, _ = values_of_network(predict, he)
    fine = ndimage.zoom(level, STRIDE_PX, order=1, grid_mode=True, mode="nearest")[: he.shape[0], : he.shape[1]]
    density = densities_od10(he, white_level(he)).mean(axis=0)
    there = ramp(ndimage.gaussian_filter(density, SMOOTH_UM / MPP), *GLASS_OD10)  # as in a map that is used
    both = [[ndimage.gaussian_filter(x, sigma)[at].ravel() for x in (fine * there, dab)] for sigma in BLURS_PX]
    ranked = spearmanr(*both[BLURS_PX.index(BLUR_PX)])
    return (*(float(np.corrcoef(*pair)[0, 1]) for pair in both), float(ranked.statistic))


def trained(pairs: Sequence[CheckedPair], site: str) -> WhereNetwork:
    return train_where(pairs, Training(site)).network.cpu()


def drawn(rule: str, way: Way) -> list[tuple[float, ...]]:
    """On tissue that no training has seen."""
    made = [drawn_pair(seed, rule, SIDE_PX) for seed in range(PAIRS)]
    checked = [check_pair(TissuePair(str(i), str(i), pair.he, pair.ihc), MPP) for i, pair in enumerate(made)]
    network = trained([way(one) for one in kept_of(checked)], "cytoplasm")
    unseen = [drawn_pair(100 + seed, rule, SIDE_PX) for seed in range(UNSEEN)]
    return [agreement(network, pair.he, pair.dab) for pair in unseen]


@dataclass(frozen=True, eq=False)
class Section:
    """A real pair in files, the IHC (H, W, 3) in the H&E's frame that judges, and what the marker stains."""

    he: Path
    ihc: Path
    judge: Image
    site: str
    turned: float = 0.0  # degrees by which the IHC is scanned further round


def real_pairs(data: Path) -> dict[str, Section]:
    """ER of breast, and lung lesions as they were scanned."""
    lung, mist = data / "pairs/lung-lesion", data / "pairs/mist"
    he, ihc = mist / "ER_he.png", mist / "ER_ihc.png"
    found = {"ER of breast": Section(he, ihc, _together(read_image(he), read_image(ihc)), "nuclear")}
    for name in sorted(file.stem.removesuffix("_aligned") for file in lung.glob("*_aligned.png")):
        section = Section(lung / "he.jpg", lung / f"{name}.jpg", by_landmarks(lung, name), "cytoplasm")
        found |= {
            f"lung lesion, {name}": section,
            f"lung lesion, {name}, turned": replace(section, turned=TURNED_DEGREES),
        }
    return found


def _together(he: Image, ihc: Image) -> Image:
    """An IHC that was published on its H&E, moved by what little they are apart."""
    x, y = check_pair(TissuePair("", "", he, ihc), MPP).found.shift_px
    return np.asarray(ndimage.shift(ihc, (-y, -x, 0), order=1, mode="nearest"))


def by_landmarks(folder: Path, name: str) -> Image:
    """An IHC bent onto `he.jpg` by a thin-plate spline through landmarks (Bookstein 1989), uint8 (H, W, 3)."""
    ours, theirs = (landmarks(folder / f"{of}_landmarks.csv") for of in ("he", name))
    height, width = read_image(folder / "he.jpg").shape[:2]
    ihc = read_image(folder / f"{name}.jpg")
    rows, columns = np.indices((height, width)) + 0.5
    spline = RBFInterpolator(ours, theirs, kernel="thin_plate_spline", smoothing=1.0)
    x, y = spline(np.column_stack([columns.ravel(), rows.ravel()])).T.reshape(2, height, width) - 0.5
    planes = [ndimage.map_coordinates(ihc[..., c], (y, x), order=1, cval=GLASS) for c in range(3)]
    return np.stack(planes, 2)


def landmarks(file: Path) -> Density:
    with file.open(newline="") as lines:
        return np.array([(float(row["x"]), float(row["y"])) for row in csv.DictReader(lines)])


def scanned(section: Section, way: str) -> Image:
    """The IHC that is trained on, of the H&E's size. Raises: ValueError where registration refuses."""
    height, width = section.judge.shape[:2]
    image = read_image(section.ihc)
    if section.turned:
        turned = ndimage.rotate(image, section.turned, reshape=False, order=1, cval=GLASS)
        image = np.asarray(turned, np.uint8)
    if way == REGISTERED:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "ihc.png")
            write_image(file, image)
            with open_registered(file, register(section.he, file)) as ihc:
                return ihc.read_region((0, 0), (width, height))
    more = [(0, max(0, side - own)) for side, own in zip((height, width), image.shape[:2], strict=True)]
    return np.pad(image, (*more, (0, 0)), mode="edge")[:height, :width]


def halves(section: Section, way: str) -> list[tuple[float, ...]] | str:
    """Trained on the left half and judged on the right, and the other way round; or why not."""
    he = read_image(section.he)
    try:
        ihc = scanned(section, way)
    except ValueError as error:
        return str(error)
    whole = check_pair(TissuePair("", "", he, ihc), MPP)
    if whole.problem:
        return whole.problem
    real = separate_stains(section.judge, H_DAB)[..., 1].clip(0)
    middle, found = he.shape[1] // 2, []
    for ours, theirs in (
        (np.s_[:, :middle], np.s_[:, middle + MARGIN_PX :]),
        (np.s_[:, middle:], np.s_[:, : middle - MARGIN_PX]),
    ):
        half = WAYS.get(way, brought_together)(CheckedPair(TissuePair("", "", he[ours], ihc[ours]), whole.found))
        found.append(agreement(trained([half], section.site), he, real, theirs))
    return found


def said(name: str, way: str, found: list[tuple[float, ...]] | str, cpu_s: float) -> str:
    if isinstance(found, str):
        return f"| {name} | {way} | {found} | | | | | |"
    means = " | ".join(f"{r:.2f}" for r in np.mean(found, axis=0))
    each = ", ".join(f"{r[BLURS_PX.index(BLUR_PX)]:.2f}" for r in found)
    return f"| {name} | {way} | {means} | {each} | {cpu_s:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="Folder of real images; without it they are left out.")
    parser.add_argument(
        "--tissues", nargs="+", default=[""], help="Words of the names of real ones; default: all."
    )
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, REGISTERED], default=[*WAYS, REGISTERED])
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    exemplar_of, reference_of = (
        partial(any_section, exemplar.exemplar_of),
        partial(as_dab, exemplar.reference_tissue),
    )
    vars(fields).update(exemplar_of=exemplar_of, reference_of=reference_of)
    print("| tissue | training | r, 1 um | r, 4 um | r, 12 um | rank r, 4 um | of each, 4 um | processor, s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    works: list[tuple[str, str, Callable[[], list[tuple[float, ...]] | str]]] = [
        (f"drawn, {rule} nests", way, partial(drawn, rule, WAYS[way]))
        for rule in asked.rules
        for way in asked.ways
        if way in WAYS  # drawn pairs are not turned, so one displacement brings them together
    ]
    for name, section in (real_pairs(asked.real) if asked.real else {}).items():
        if any(word in name for word in asked.tissues):
            works += [(name, way, partial(halves, section, way)) for way in asked.ways]
    for name, way, work in works:
        began = time.process_time()
        found = work()
        print(said(name, way, found, time.process_time() - began), flush=True)


if __name__ == "__main__":
    main()
