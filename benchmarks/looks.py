"""All ways to stain side by side, on one page: every H&E image of DATA, with the measures of what people see.

    python benchmarks/looks.py --data DATA --out looks.html [--images NAME ...] [--side 400] [--histology]

A row of pictures for each image: the H&E, the built-in looks, a colour transfer, and the real IHC where there is
one (of a neighbouring section, or of another field). Below it a table of `chromogen.evaluation.scores`, each
way against the IHC whose look it gives. `--histology` adds the report's optimization: minutes for each picture.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chromogen.evaluation.feature_distances import patch_precision, patch_statistics
from chromogen.evaluation.metrics import CREDIBLE_ALONE, CREDIBLE_BESIDE_REAL, TISSUE_MEASURES
from chromogen.evaluation.scores import score_pictures
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.files import write_text
from chromogen.image import Image, read_image
from chromogen.page import Section, render
from chromogen.slides.slide import read_picture
from chromogen.staining.stainer import Stainer, builtin_ihc
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS
from chromogen.style.stylize import stylized
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
    """A way to stain, the real IHC that it is measured against, and the statistics of that one's patches."""

    stain: Callable[[Image], Image]
    reference: Image
    patches: NDArray[np.float64]


def ways(data: Path, encoder: Encoder, *, histology: bool) -> Mapping[str, Way]:
    """All ways, by name."""
    epithelial, nuclear = builtin_ihc(), read_picture(data / "exemplars/OS-2-ndpi.ome.tif", at_mpp=MPP).pixels
    glands, nuclei = ((ihc, patches_of(ihc, ihc, encoder)) for ihc in (epithelial, nuclear))
    found = {
        "H&E": Way(np.copy, *glands),
        "epithelial": Way(Stainer.from_pretrained("epithelial"), *glands),
        "nuclear": Way(Stainer.from_pretrained("nuclear"), *nuclei),
        "color-transfer": Way(Stainer.from_pretrained("color-transfer"), *glands),
    }
    return found | ({"histology": Way(partial(optimized, ihc=epithelial), *glands)} if histology else {})


def optimized(he: Image, ihc: Image) -> Image:
    """The report's method."""
    return stylized(he, ihc, PRESETS["histology"]).image


def images(data: Path, side_px: int) -> Iterator[tuple[str, Image, Image | None]]:
    """Names, middles of H&E images, and their real IHC."""
    for marker in MARKERS:
        he, real = (read_image(data / f"pairs/mist/{marker}_{stain}.png") for stain in ("he", "ihc"))
        yield f"MIST {marker}", middle(he, side_px), middle(real, side_px)
    for file in sorted([*data.glob("he/*.png"), *data.glob("he/*.jpg"), *data.glob("he/*.tif")]):
        yield file.stem, middle(read_image(file), side_px), None
    yield "OS-1", middle(read_picture(data / "exemplars/OS-1-detail.ome.tif", at_mpp=MPP).pixels, side_px), None


def middle(image: Image, side_px: int) -> Image:
    """At most so much of it along each side."""
    height, width = image.shape[:2]
    top, left = max(0, height - side_px) // 2, max(0, width - side_px) // 2
    return np.ascontiguousarray(image[top : top + side_px, left : left + side_px])


def measured(made: Image, he: Image, way: Way, encoder: Encoder) -> Numbers:
    """The numbers of SHOWN, NaN where one is not defined."""
    measures = (*TISSUE_MEASURES, *CREDIBLE_ALONE, *CREDIBLE_BESIDE_REAL)
    values = score_pictures(measures, made, he, placed(way.reference, *made.shape[:2]), MPP)
    found = {name: value for name, value in values.items() if isinstance(value, float)}
    with suppress(UndefinedError):
        found["patch_precision"] = patch_precision(patches_of(made, he, encoder), way.patches)
    return {name: found.get(name, math.nan) for name in SHOWN}


def patches_of(image: Image, he: Image, encoder: Encoder) -> NDArray[np.float64]:
    """Statistics of the patches of an image where the H&E has tissue."""
    return np.asarray(patch_statistics(encoder, image, Tile(image, he, mpp=MPP).tissue), np.float64)


def placed(reference: Image, height: int, width: int) -> Image:
    """A reference IHC as large as a picture: its middle, mirrored where it is smaller."""
    rows, columns = (max(0, side - has) for side, has in zip((height, width), reference.shape[:2], strict=True))
    grown = np.pad(reference, ((0, rows), (0, columns), (0, 0)), mode="symmetric")
    top, left = (grown.shape[0] - height) // 2, (grown.shape[1] - width) // 2
    return np.ascontiguousarray(grown[top : top + height, left : left + width])


def shown(numbers: Numbers) -> list[str]:
    return ["" if math.isnan(numbers[name]) else f"{numbers[name]:.2f}" for name in SHOWN]


def compared(he: Image, real: Image | None, all_ways: Mapping[str, Way]) -> Iterator[tuple[str, Image, Way]]:
    """Names, pictures, and what each is measured against."""
    for name, way in all_ways.items():
        yield name, way.stain(he), way
    if real is not None:
        yield "real IHC", real, all_ways["nuclear"]


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
    parser.add_argument("--side", type=int, default=SIDE_PX, help="px of each image")
    parser.add_argument("--histology", action="store_true")
    parser.add_argument("--threads", type=int)
    asked = parser.parse_args()
    pin_threads(asked.threads)
    encoder = Encoder(precision="fp32")
    all_ways = ways(asked.data, encoder, histology=asked.histology)
    header, sections = ["", *SHOWN.values()], []
    found: dict[str, list[Numbers]] = {}
    for name, he, real in images(asked.data, asked.side):
        if asked.images and name not in asked.images:
            continue
        lines, pictures = [], []
        for title, made, way in compared(he, real, all_ways):
            numbers = measured(made, he, way, encoder)
            found.setdefault(title, []).append(numbers)
            lines.append([title, *shown(numbers)])
            pictures.append((made, title))
            print(f"| {name} | {' | '.join(lines[-1])} |", flush=True)
        sections.append(Section(name, pictures=pictures, header=header, rows=lines))
    for line in means(found):
        print(f"| mean | {' | '.join(line)} |")
    summary = Section("Means over images", [AGAINST], header=header, rows=means(found))
    page = render("sections.html", "Ways to stain, side by side", sections=[summary, *sections])
    write_text(asked.out, page)


if __name__ == "__main__":
    main()
