"""Ways to stain side by side: what each gives of the stain and keeps of the tissue, along its own dial.

    python benchmarks/methods.py --data DATA [--images NAME ...] [--size 256] [--peer-steps 200] --out DIR

Chromogen in stain space and with free colours, each with three weights of content;
pastiche 1.6 with its defaults but for the steps; colour transfer; the H&E itself.
Writes methods.png (a line a method), a table, and a page with all pictures. Finished pictures are not made again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from pastiche.pastiche import save_image

from chromogen.evaluation.fields import Crop
from chromogen.evaluation.scores import Measures
from chromogen.image import read_image, write_image
from chromogen.plots import save_plot
from chromogen.study.cells import StudyCell, crop_scores, run_study
from chromogen.study.experiments import Experiment
from chromogen.study.report import Study, write_study
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS, with_term
from histology import crops, follow, rows_of, table
from pastiche_objective import artist_of

DIALS = {"content": (0.05, 0.5, 5.0)}  # the weight of a preset with free colours in the middle
IMAGES = ("demo-1", "PR-skimage-1", "ER-own-1")
PEER = "pastiche"
POINTS = {"he": "H&E", "colors": "colour transfer", PEER: "pastiche"}
KEPT = {"hematoxylin_r": "haematoxylin kept (r)", "dab_determined": "DAB that follows from the tissue (R2)"}


def methods() -> dict[str, list[Experiment]]:
    """By name, a method along its dial."""
    held = {name: (PRESETS[name], "content") for name in ("histology", "balanced")}
    return {
        name: [
            Experiment(f"{name} {weight:g}", f"{name} {weight:g}", term, with_term(recipe, term, weight=weight))
            for weight in DIALS[term]
        ]
        for name, (recipe, term) in held.items()
    }


def peer_cell(crop: Crop, steps: int, folder: Path, measures: Measures) -> StudyCell:
    """Pastiche's picture with its scores."""
    pair = folder / "he.png", folder / "ihc.png"
    picture = folder / f"{PEER}_{steps}.png"
    began = time.perf_counter()
    if not picture.is_file():
        artist = artist_of(*pair)
        for _ in range(steps):
            artist.draw()
        save_image(artist.pastiche, str(picture))
    image = read_image(picture)
    write_image(picture, image)
    seconds = time.perf_counter() - began
    return StudyCell(
        crop.name, crop.place, crop.slide, PEER, picture, crop_scores(crop, image, measures), {}, None, seconds
    )


def drawn(lines: dict[str, list[Experiment]], cells: Sequence[StudyCell]) -> Figure:
    """Means over crops: a line a method, a point for what has no dial."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, (kept, title) in zip(figure.subplots(1, 2), KEPT.items(), strict=True):
        for name, along in lines.items():
            x, y = zip(*(means(cells, e.name, kept) for e in along), strict=True)
            axes.plot(x, y, "o-", label=name)
        for name, called in POINTS.items():
            axes.plot(*means(cells, name, kept), "s", label=called)
        axes.set(xlabel="style error (less is closer to the stain)", ylabel=title, xscale="log")
        axes.grid(alpha=0.3)
    axes.legend()
    return figure


def means(cells: Sequence[StudyCell], name: str, metric: str) -> tuple[float, float]:
    """Of style error and another metric."""
    there = [cell.scores for cell in cells if cell.name == name]
    found = [(s["style_error"], s[metric]) for s in there if isinstance(s[metric], float)]
    pair = np.mean(np.array(found, float), axis=0)
    return float(pair[0]), float(pair[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", nargs="+", default=IMAGES)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--peer-steps", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    chosen = [crop for crop in crops(asked.data, asked.size) if crop.name in asked.images]
    encoder, lines = Encoder(), methods()
    experiments = [experiment for along in lines.values() for experiment in along]
    cells = run_study(chosen, experiments, asked.out, encoder, follow)
    measures = Measures(encoder.exact)
    cells += [peer_cell(crop, asked.peer_steps, asked.out / crop.name, measures) for crop in chosen]
    for name in (*POINTS, *(e.name for e in experiments)):
        print(table(name, rows_of(cells, name)).splitlines()[-1].replace("mean", name), flush=True)
    save_plot(drawn(lines, cells), asked.out / "methods.png")
    peer = Experiment(PEER, f"pastiche, {asked.peer_steps} steps", "its defaults", PRESETS["paper"])
    write_study(Study(chosen, [*experiments, peer], cells, (), measures.values, None, ()), asked.out, {})


if __name__ == "__main__":
    main()
