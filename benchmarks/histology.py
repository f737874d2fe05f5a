"""How credible presets are on the development images: a table to choose the default by, and a page to look at.

    python benchmarks/histology.py --data DATA [--presets histology default ...] [--images NAME ...] --out DIR

Takes one crop of 512 px, the richest in tissue, of every H&E in DATA/he and DATA/pairs/mist and of the demo slide.
Styles are scikit-image's IHC and, for the MIST images, their own marker's real IHC; styles without stained and
unstained tissue (the HER2 one) are left out. Finished pictures are not made again. Prints one row a picture, and
the mean of each preset.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from chromogen.app.demo import demo_crops
from chromogen.evaluation.fields import Crop, crops_of
from chromogen.evaluation.scores import Measures
from chromogen.image import Image, list_images, read_image
from chromogen.staining.exemplar import measure_exemplar
from chromogen.staining.stainer import builtin_ihc
from chromogen.study.cells import StudyCell, run_study
from chromogen.study.experiments import Experiment
from chromogen.study.report import Study, write_study
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS

SIZE_PX = 512
MPP = 0.5
SHOWN = ("style_error", "hematoxylin_r", "dab_determined", "dab_profile", "nuclei_kept", "edge_r")
COLUMNS = (*SHOWN, "area / style's", "whiteness - H&E's", "foreign color - style's", "seconds")


def crops(data: Path, size_px: int = SIZE_PX) -> Iterator[Crop]:
    """The development images with their styles."""
    ihc = builtin_ihc()
    yield from demo_crops(size_px, 1)
    for file in list_images(data / "he"):
        yield from _crop(file.stem, read_image(file), ihc, size_px)
    for file in (data / "pairs/mist").glob("*_he.png"):
        marker, he = file.stem.removesuffix("_he"), read_image(file)
        yield from _crop(f"{marker}-own", he, read_image(file.with_name(f"{marker}_ihc.png")), size_px)
        yield from _crop(f"{marker}-skimage", he, ihc, size_px)


def _crop(name: str, he: Image, ihc: Image, size_px: int) -> list[Crop]:
    return crops_of(name, name, he, ihc, size_px, 1, MPP, paired=False)


def is_exemplar(ihc: Image) -> bool:
    """Whether an IHC image shows what stain space starts from."""
    try:
        measure_exemplar(ihc)
    except ValueError:
        return False
    return True


def figures(cell: StudyCell, he: StudyCell, ihc: StudyCell) -> list[float | None]:
    """What a picture is judged by, beside its H&E and its style; None where there is no value."""

    def value(of: StudyCell, name: str) -> float | None:
        found = of.scores.get(name)
        return found if isinstance(found, float) else None

    def compared(name: str, with_: StudyCell, ratio: bool) -> float | None:
        ours, theirs = value(cell, name), value(with_, name)
        if ours is None or theirs is None:
            return None
        return ours / max(theirs, 1e-3) if ratio else ours - theirs

    return [
        *(value(cell, name) for name in SHOWN),
        compared("predicted_positive_0.2", ihc, ratio=True),
        compared("background_whiteness", he, ratio=False),
        compared("foreign_color", ihc, ratio=False),
        cell.seconds,
    ]


def rows_of(cells: list[StudyCell], preset: str) -> dict[str, list[float | None]]:
    """Figures of a preset's pictures by crop."""
    by_name = {(cell.crop, cell.name): cell for cell in cells}
    made = [cell for cell in cells if cell.name == preset]
    return {c.crop: figures(c, by_name[c.crop, "he"], by_name[c.crop, "ihc"]) for c in made}


def table(title: str, rows: Mapping[str, list[float | None]]) -> str:
    """Markdown, with the mean of each column over the pictures that have a value."""
    means = [_mean([row[at] for row in rows.values()]) for at in range(len(COLUMNS))]
    lines = [f"| {title} | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, row in {**rows, "mean": means}.items():
        lines.append(f"| {name} | " + " | ".join("-" if x is None else f"{x:.2f}" for x in row) + " |")
    return "\n".join(lines)


def _mean(column: Sequence[float | None]) -> float | None:
    there = [value for value in column if value is not None]
    return sum(there) / len(there) if there else None


def follow(done: int, of: int, name: str) -> None:
    """Say what comes next."""
    print(f"{done}/{of} {name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--presets", nargs="+", default=["histology"], choices=list(PRESETS))
    parser.add_argument("--images", nargs="+", help="names of crops; default: all")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    usable = {crop.name: crop for crop in crops(asked.data) if is_exemplar(crop.ihc)}
    if unknown := {*(asked.images or usable)} - usable.keys():
        parser.error(f"expected names among {', '.join(usable)}, got {min(unknown)}")
    chosen = [usable[name] for name in asked.images or usable]
    experiments = [Experiment(name, name, "preset", PRESETS[name]) for name in asked.presets]
    encoder = Encoder()
    cells = run_study(chosen, experiments, asked.out, encoder, follow)
    for name in asked.presets:
        print(table(name, rows_of(cells, name)), flush=True)
    values = Measures(encoder).values
    write_study(Study(chosen, experiments, cells, (), values, None, ()), asked.out, {})


if __name__ == "__main__":
    main()
