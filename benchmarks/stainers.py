"""How good and how quick stainers are, one beside the other.

    python benchmarks/stainers.py --data DATA [--stainers epithelial FILE ...] [--own ER ...] --out DIR

One crop of 512 px, the richest in tissue, of every H&E in DATA and of the demo slide, judged in the look of
scikit-image's IHC. With --own, the crops of these markers, each judged in the look of its own real IHC, and by a
network of several markers stained as its own. Without it, a last table judges the real IHC of these in
scikit-image's look: what the stain itself gets on that tissue.
Pictures go to DIR, H&E above, with --own the real IHC below.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from chromogen.evaluation.fields import Crop
from chromogen.evaluation.scoring import Measures
from chromogen.image import write_image
from chromogen.models import LOOKS, MODEL_SUFFIX
from chromogen.provenance import NOTICE
from chromogen.stainer import Stainer, load_stainer
from chromogen.stainer_file import read_model
from chromogen.study.cells import crop_scores
from chromogen.style.encoder import Encoder
from histology import crops

SHOWN = ("style_error", "hematoxylin_r", "dab_determined", "dab_profile", "predicted_positive_0.2")
OWN = "-own-"


def figures(crop: Crop, stainer: Stainer, measures: Measures) -> tuple[np.ndarray, list[float]]:
    """The picture; what it is judged by, whiteness against the H&E's, and megapixels a second. NaN: no value."""
    began = time.perf_counter()
    picture = stainer(crop.he)
    speed = picture.size / 3e6 / (time.perf_counter() - began)
    found, he = (crop_scores(crop, x, measures) for x in (picture, crop.he))
    values = [x if isinstance(x := found.get(name), float) else float("nan") for name in SHOWN]
    white = [x if isinstance(x := of.get("background_whiteness"), float) else float("nan") for of in (found, he)]
    return picture, [*values, white[0] - white[1], speed]


def judged_on(data: Path, own: Sequence[str]) -> list[Crop]:
    """The crops in scikit-image's look, or those of markers in their own."""
    found = list(crops(data))
    return [crop for crop in found if marker_of(crop) in own] if own else [c for c in found if not marker_of(c)]


def marker_of(crop: Crop) -> str | None:
    """What it is to be stained as, where its own IHC is there."""
    marker, own, _ = crop.name.partition(OWN)
    return marker if own else None


def real_style_errors(data: Path, measures: Measures) -> dict[str, float]:
    """Style errors of real IHC in the look of scikit-image's, by marker."""
    own = {name: crop.ihc for crop in crops(data) if (name := marker_of(crop))}
    judged = {name: crop for crop in crops(data) for name in own if crop.name.startswith(f"{name}-skimage")}
    found = {name: crop_scores(crop, own[name], measures)["style_error"] for name, crop in judged.items()}
    return {name: value for name, value in found.items() if isinstance(value, float)}


def stainer_for(name: str, crop: Crop) -> Stainer:
    """Of several markers, the crop's."""
    several = Path(name).suffix == MODEL_SUFFIX and read_model(Path(name)).markers
    return load_stainer(name, marker_of(crop) if several else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stainers", nargs="+", default=list(LOOKS))
    parser.add_argument("--own", nargs="+", default=[], metavar="MARKER", help="markers, such as ER Ki67")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen = judged_on(asked.data, asked.own)
    measures = Measures(Encoder())
    for name in asked.stainers:
        rows = {}
        for crop in chosen:
            picture, rows[crop.name] = figures(crop, stainer_for(name, crop), measures)
            sheet = np.concatenate([crop.he, picture, *([crop.ihc] if marker_of(crop) else [])])
            write_image(asked.out / f"{Path(name).stem}_{crop.name}.png", sheet, {"notice": NOTICE})
        print(f"| {Path(name).stem} | {' | '.join((*SHOWN, 'whiteness - H&E', 'Mpx/s'))} |")
        print("|---" * (len(SHOWN) + 3) + "|")
        for crop_name, row in {**rows, "mean": list(np.nanmean(list(rows.values()), axis=0))}.items():
            print(f"| {crop_name} | " + " | ".join(f"{x:.2f}" for x in row) + " |", flush=True)
    if not asked.own:
        print("| real IHC of | style_error |\n|---|---|")
        for marker, error in real_style_errors(asked.data, measures).items():
            print(f"| {marker} | {error:.2f} |")


if __name__ == "__main__":
    main()
