"""Does training on pairs recover where the brown goes? On drawn pairs whose rule is known, then on real ones.

    python benchmarks/paired.py [--steps 48] [--rules pink pale] [--real DATA [--tissues ER ...]]

Drawn: six pairs 10 to 50 px apart, whose IHC alone do not tell which of two kinds of nests is brown; judged on
four drawn tissues not trained on, against the rule's own DAB. Real: left half against right half of a section and
its neighbour, an answer about that section and no other. Each row is a training of its own; all start alike.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.image import Image, read_image
from chromogen.stains.deconvolution import H_DAB, separate_stains
from chromogen.style.encoder import Encoder
from chromogen.style.kinds import PlainNetwork, kind_of
from chromogen.style.marker_network import chosen
from chromogen.style.objective import Objective, Term
from chromogen.style.recipes import hematoxylin_term, profile_term, with_pairs
from chromogen.style.statistics import PYRAMID_PX
from chromogen.training.fields import Content
from chromogen.training.pairs import CheckedPair, TissuePair, check_pair, contents_of
from chromogen.training.train import Training, train_stainer
from drawn_pairs import RULES, drawn_pair

MPP = 0.5
SIDE_PX, PAIRS, UNSEEN = 320, 6, 4
BLUR_PX = 8.0
GRAM = Term("style", 1.0, {"relu1_1": 0.5, "relu2_1": 0.5}, "gram", "gram_mse", "style", "tissue")
STYLE: Objective = (GRAM, profile_term(0.5), hematoxylin_term(0.5))
PAIRED: Objective = with_pairs(STYLE)
Density: TypeAlias = NDArray[np.float64]
Agreement: TypeAlias = tuple[float, float]


def as_they_lie(found: CheckedPair) -> CheckedPair:
    """A pair that is not brought together: all of its displacement is left."""
    left = float(np.hypot(*found.found.shift_px))
    return replace(found, found=replace(found.found, shift_px=(0.0, 0.0), residual_px=left))


def finest(content: Content) -> Content:
    """Compared cell by cell, whatever the displacement."""
    assert content.paired is not None
    trust = (1.0, *[0.0] * (len(PYRAMID_PX) - 1))
    return replace(content, paired=replace(content.paired, trust=trust))


def unpaired(checked: Sequence[CheckedPair]) -> list[Content]:
    return [replace(content, paired=None) for content in contents_of(checked)]


def pairs_as_they_lie(checked: Sequence[CheckedPair]) -> list[Content]:
    return contents_of([as_they_lie(one) for one in checked])


def cell_by_cell(checked: Sequence[CheckedPair]) -> list[Content]:
    return [finest(content) for content in pairs_as_they_lie(checked)]


WAYS: dict[str, Callable[[Sequence[CheckedPair]], list[Content]]] = {
    "style alone": unpaired,
    "pairs as they lie, cell by cell": cell_by_cell,
    "pairs as they lie, by the pyramid": pairs_as_they_lie,
    "pairs brought together, by the pyramid": contents_of,
}


def trained(contents: Sequence[Content], styles: Sequence[Image], steps: int, encoder: Encoder) -> PlainNetwork:
    """A small training: what is asked is where the brown goes, not how it looks."""
    objective = PAIRED if contents[0].paired else STYLE
    training = Training(objective, "any", MPP, steps, batch=2, learning_rate=0.02, validate_every=steps // 2)
    return chosen(train_stainer(contents, styles, training, encoder=encoder).network, ())


def agreement(network: PlainNetwork, he: Image, dab: Density, at: tuple[slice, slice] = np.s_[:, :]) -> Agreement:
    """How the DAB that a network gives an H&E agrees with what is known, both blurred, over a part of them.

    Pearson's correlation, and the slope: how much of the known difference between more and less brown there is.
    """
    kind = kind_of(network.architecture)
    ours = separate_stains(kind.stain(network, he, kind.look(network, he)), H_DAB)[..., 1].clip(0)
    both = [ndimage.gaussian_filter(x, BLUR_PX)[at].ravel() for x in (ours, dab)]
    covariance = np.cov(*both)
    return float(np.corrcoef(*both)[0, 1]), float(covariance[0, 1] / covariance[1, 1])


def drawn(rule: str, way: str, steps: int, encoder: Encoder) -> list[Agreement]:
    """On tissue that no training has seen."""
    made = [drawn_pair(seed, rule, SIDE_PX) for seed in range(PAIRS)]
    checked = [check_pair(TissuePair(str(i), str(i), pair.he, pair.ihc), MPP) for i, pair in enumerate(made)]
    network = trained(WAYS[way](checked), [pair.ihc for pair in made], steps, encoder)
    unseen = [drawn_pair(100 + seed, rule, SIDE_PX) for seed in range(UNSEEN)]
    return [agreement(network, pair.he, pair.dab) for pair in unseen]


def real_pairs(data: Path) -> dict[str, tuple[Image, Image]]:
    """ER of breast, and lung lesions."""
    lung = data / "pairs/lung-lesion"
    markers = {
        f"lung lesion, {file.stem.removesuffix('_aligned')}": file for file in sorted(lung.glob("*_aligned.png"))
    }
    mist = data / "pairs/mist"
    he = read_image(lung / "he.jpg")
    return {
        "ER of breast": (read_image(mist / "ER_he.png"), read_image(mist / "ER_ihc.png")),
        **{name: (he, read_image(file)) for name, file in markers.items()},
    }


def halves(he: Image, ihc: Image, way: str, steps: int, encoder: Encoder) -> list[Agreement] | str:
    """Trained on the left half and judged on the right, and the other way round; or why not."""
    whole = check_pair(TissuePair("", "", he, ihc), MPP)
    if whole.problem:
        return whole.problem
    x, y = whole.found.shift_px
    real = separate_stains(ndimage.shift(ihc, (-y, -x, 0), order=1, mode="nearest"), H_DAB)[..., 1].clip(0)
    middle, found = he.shape[1] // 2, []
    margin = round(3 * BLUR_PX + 50)
    for ours, theirs in (
        (np.s_[:, :middle], np.s_[:, middle + margin :]),
        (np.s_[:, middle:], np.s_[:, : middle - margin]),
    ):
        half = CheckedPair(TissuePair("", "", he[ours], ihc[ours]), whole.found)
        network = trained(WAYS[way]([half]), [ihc[ours]], steps, encoder)
        found.append(agreement(network, he, real, theirs))
    return found


def said(name: str, way: str, found: list[Agreement] | str) -> str:
    if isinstance(found, str):
        return f"| {name} | {way} | {found} | | |"
    correlation, slope = np.mean(found, axis=0)
    return f"| {name} | {way} | {correlation:.2f} | {slope:.2f} | {', '.join(f'{r:.2f}' for r, _ in found)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--real", type=Path, help="Folder of real images; without it they are left out.")
    parser.add_argument(
        "--tissues", nargs="+", default=[""], help="Words of the names of real ones; default: all."
    )
    first, *_, last = WAYS
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--rules", nargs="*", choices=RULES, default=list(RULES))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    encoder = Encoder(precision="fp32")
    print("| tissue | training | DAB r | slope | r of each |\n|---|---|---|---|---|", flush=True)
    for rule in asked.rules:
        for way in asked.ways:
            print(said(f"drawn, {rule} nests", way, drawn(rule, way, asked.steps, encoder)), flush=True)
    real = real_pairs(asked.real) if asked.real else {}
    for name, (he, ihc) in real.items():
        if not any(word in name for word in asked.tissues):
            continue
        for way in (first, last):
            print(said(name, way, halves(he, ihc, way, asked.steps, encoder)), flush=True)


if __name__ == "__main__":
    main()
