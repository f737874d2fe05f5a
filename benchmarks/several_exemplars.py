"""Does a look of several exemplars foretell another field better than that of one, and how to join them?

    python benchmarks/several_exemplars.py --data DATA

DATA is the folder of development images. Of each real IHC four quarters are measured. Each is compared with the
look of one, two and three of the others: the mean of their quantiles, and quantiles of all their values together.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chromogen.slides.picture import read_picture
from chromogen.staining.exemplar import Exemplar, joined_exemplars, measure_exemplar, quantiles_of
from chromogen.staining.tissue import MPP
from chromogen.stains.chromogens import angle_deg

FILES = {
    "one slide, each of two scanners": ("exemplars/OS-2-ndpi.ome.tif", "exemplars/OS-2-vsi.ome.tif"),
    "ER, PR and Ki67 of MIST": tuple(f"pairs/mist/{marker}_ihc.png" for marker in ("ER", "PR", "Ki67")),
}
COLUMNS = ("stained", "unstained", "haematoxylin", "second stain, degrees", "share", "spread")


def main() -> None:
    """Print a table for each group of files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    print("| exemplars | joined by | " + " | ".join(COLUMNS) + " |")
    for title, files in FILES.items():
        found: dict[tuple[int, str], list[NDArray[np.float64]]] = defaultdict(list)
        for file in files:
            compare(quarters(data / file), found)
        for (count, way), distances in sorted(found.items()):
            figures = " | ".join(f"{value:.3f}" for value in np.mean(distances, axis=0))
            print(f"| {title}: {count} | {way} | {figures} |")


def quarters(file: Path) -> list[Exemplar]:
    """The looks of the four quarters of an IHC of a marker of nuclei."""
    ihc = read_picture(file, at_mpp=MPP).pixels
    height, width = (side // 2 for side in ihc.shape[:2])
    return [
        measure_exemplar(ihc[y : y + height, x : x + width], "nuclear") for y in (0, height) for x in (0, width)
    ]


def compare(exemplars: Sequence[Exemplar], found: dict[tuple[int, str], list[NDArray[np.float64]]]) -> None:
    """Add how far each exemplar is from looks of the others."""
    for index, held_out in enumerate(exemplars):
        others = [*exemplars[:index], *exemplars[index + 1 :]]
        for count in range(1, len(others) + 1):
            for chosen in combinations(others, count):
                found[count, "mean"].append(distances(joined_exemplars(chosen), held_out))
                found[count, "pooled"].append(distances(pooled(chosen), held_out))


def pooled(exemplars: Sequence[Exemplar]) -> Exemplar:
    """As `joined_exemplars`, with quantiles of all values together."""
    stained, unstained = (
        quantiles_of(np.concatenate([getattr(exemplar, kind) for exemplar in exemplars]))
        for kind in ("stained_od10", "unstained_od10")
    )
    return replace(joined_exemplars(exemplars), stained_od10=stained, unstained_od10=unstained)


def distances(look: Exemplar, held_out: Exemplar) -> NDArray[np.float64]:
    """How far a look is from a field that it has not seen: COLUMNS. The first two are Wasserstein distances."""
    stained, unstained = (
        np.abs(np.array(getattr(look, kind)) - np.array(getattr(held_out, kind))).mean()
        for kind in ("stained_od10", "unstained_od10")
    )
    spread = abs(np.std(look.stained_od10) - np.std(held_out.stained_od10))
    second = angle_deg(np.array(look.matrix[1]), np.array(held_out.matrix[1]))
    blue = np.abs(np.array(look.blue_od10) - np.array(held_out.blue_od10)).mean()
    return np.array([stained, unstained, blue, second, abs(look.share - held_out.share), spread])


if __name__ == "__main__":
    main()
