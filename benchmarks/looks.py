"""All ways to stain side by side, on one page: every H&E image of DATA, with the measures of what people see.

    python benchmarks/looks.py --data DATA --out looks.html [--images NAME ...] [--histology]

A row of pictures for each image: the H&E, the built-in looks, a colour transfer, and the real IHC where there is
one (of a neighbouring section, or of another field). Below it a table of `chromogen.evaluation.credibility`, each
way against the IHC whose look it gives. `--histology` adds the report's optimization: minutes for each picture.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chromogen.evaluation.credibility import CREDIBLE_ALONE, CREDIBLE_BESIDE_REAL
from chromogen.evaluation.metrics import TISSUE_MEASURES
from chromogen.evaluation.patch_realism import patch_precision, patch_statistics
from chromogen.evaluation.scoring import scores
from chromogen.evaluation.sums import UndefinedError
from chromogen.evaluation.tile import Tile
from chromogen.files import write_text
from chromogen.image import Image, read_image
from chromogen.page import page, paragraph, picture, row, section, table
from chromogen.slides.picture import read_picture
from chromogen.stainer import builtin_ihc, load_stainer
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS
from chromogen.style.stylize import stylize
from measuring import pin_threads

MPP = 0.5
SIDE_PX = 400
MARKERS = ("ER", "PR", "Ki67", "HER2")
SHOWN = {
    "hematoxylin_r": "haematoxylin r",
    "chromatin_kept": "chromatin kept",
    "chromatin_r": "chromatin r",
    "dab_distance_nuclei_od10": "DAB apart: nuclei",
    "dab_distance_rings_od10": "rings",
    "dab_distance_elsewhere_od10": "elsewhere",
    "predicted_dab_far": "DAB far, %",
    "predicted_dab_spread": "DAB spread",
    "predicted_dab_bleed": "DAB bleed",
    "patch_precision": "patch precision",
}
AGAINST = (
    "Each way is measured against the IHC whose look it gives, of another tissue and lab; a real IHC against the "
    "Ki67 exemplar. Haematoxylin and chromatin are those of the H&E, which a neighbouring section has not."
)
Numbers = dict[str, float]


@dataclass(frozen=True)
class Way:
    """A way to stain, and the real IHC whose look it gives; the way to leave it as it is has none."""

    stain: Callable[[Image], Image]
    reference: Image


def ways(data: Path, *, histology: bool) -> Mapping[str, Way]:
    """All ways, by name."""
    epithelial, nuclear = builtin_ihc(), read_picture(data / "exemplars/OS-2-ndpi.ome.tif", at_mpp=MPP).pixels
    found = {
        "H&E": Way(np.copy, epithelial),
        "epithelial": Way(load_stainer("epithelial"), epithelial),
        "nuclear": Way(load_stainer("nuclear"), nuclear),
        "color-transfer": Way(load_stainer("color-transfer"), epithelial),
    }
    return found | ({"histology": Way(partial(optimized, ihc=epithelial), epithelial)} if histology else {})


def optimized(he: Image, ihc: Image) -> Image:
    """The report's method."""
    return stylize(he, ihc, PRESETS["histology"]).image


def images(data: Path) -> Iterator[tuple[str, Image, Image | None]]:
    """Names, middles of H&E images, and their real IHC."""
    for marker in MARKERS:
        he, real = (read_image(data / f"pairs/mist/{marker}_{stain}.png") for stain in ("he", "ihc"))
        yield f"MIST {marker}", middle(he), middle(real)
    for file in sorted([*data.glob("he/*.png"), *data.glob("he/*.jpg"), *data.glob("he/*.tif")]):
        yield file.stem, middle(read_image(file)), None
    yield "OS-1", middle(read_picture(data / "exemplars/OS-1-detail.ome.tif", at_mpp=MPP).pixels), None


def middle(image: Image) -> Image:
    """At most SIDE_PX of it along each side."""
    height, width = image.shape[:2]
    top, left = max(0, height - SIDE_PX) // 2, max(0, width - SIDE_PX) // 2
    return np.ascontiguousarray(image[top : top + SIDE_PX, left : left + SIDE_PX])


def measured(made: Image, he: Image, reference: Image, encoder: Encoder) -> Numbers:
    """The numbers of SHOWN, NaN where one is not defined."""
    height, width = made.shape[:2]
    alone = scores((*TISSUE_MEASURES, *CREDIBLE_ALONE), made, he, None, MPP)
    beside = scores(CREDIBLE_BESIDE_REAL, made, he, placed(reference, height, width), MPP)
    found = {name: value for name, value in (alone | beside).items() if isinstance(value, float)}
    found["patch_precision"] = realism(made, Tile(made, he, mpp=MPP).tissue, reference, encoder)
    return {name: found.get(name, math.nan) for name in SHOWN}


def placed(reference: Image, height: int, width: int) -> Image:
    """A reference IHC as large as a picture: its middle, mirrored where it is smaller."""
    rows, columns = (max(0, side - has) for side, has in zip((height, width), reference.shape[:2], strict=True))
    grown = np.pad(reference, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
    top, left = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return np.ascontiguousarray(grown[top : top + height, left : left + width])


def realism(made: Image, tissue: NDArray[np.bool_], reference: Image, encoder: Encoder) -> float:
    """Precision of a picture's patches among those of a reference IHC."""
    real = patch_statistics(encoder, reference, Tile(reference, mpp=MPP).tissue)
    try:
        return patch_precision(patch_statistics(encoder, made, tissue), real)
    except UndefinedError:
        return math.nan


def shown(numbers: Numbers) -> list[str]:
    return ["" if math.isnan(numbers[name]) else f"{numbers[name]:.2f}" for name in SHOWN]


def compared(he: Image, real: Image | None, all_ways: Mapping[str, Way]) -> Iterator[tuple[str, Image, Image]]:
    """Names, pictures, and the reference that each is measured against."""
    for name, way in all_ways.items():
        yield name, way.stain(he), way.reference
    if real is not None:
        yield "real IHC", real, all_ways["nuclear"].reference


def means(found: Mapping[str, list[Numbers]]) -> list[list[str]]:
    """A line a method: the mean over images where there is a number."""
    lines = []
    for name, numbers in found.items():
        columns = {key: [each[key] for each in numbers if not math.isnan(each[key])] for key in SHOWN}
        lines.append([name, *shown({key: float(np.mean(x)) if x else math.nan for key, x in columns.items()})])
    return lines


def main() -> None:
    """Write the page, and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", nargs="+")
    parser.add_argument("--histology", action="store_true")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    pin_threads(asked.threads)
    encoder, all_ways = Encoder(precision="fp32"), ways(asked.data, histology=asked.histology)
    header, sections = ["", *SHOWN.values()], []
    found: dict[str, list[Numbers]] = {}
    for name, he, real in images(asked.data):
        if asked.images and name not in asked.images:
            continue
        lines, pictures = [], []
        for way, made, reference in compared(he, real, all_ways):
            numbers = measured(made, he, reference, encoder)
            found.setdefault(way, []).append(numbers)
            lines.append([way, *shown(numbers)])
            pictures.append(picture(made, way))
            print(f"| {name} | {' | '.join(lines[-1])} |", flush=True)
        sections.append(section(name, row(*pictures), table(header, lines)))
    for line in means(found):
        print(f"| mean | {' | '.join(line)} |")
    summary = section("Means over images", paragraph(AGAINST), table(header, means(found)))
    write_text(asked.out, page("Ways to stain, side by side", summary, *sections))


if __name__ == "__main__":
    main()
