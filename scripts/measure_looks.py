"""Measure the exemplars that come with Chromogen.

    python scripts/measure_looks.py KI67_SLIDE --out src/chromogen/models

KI67_SLIDE is a Ki67 IHC of known pixel size: OS-2.ndpi of OpenSlide's test data, or a part of it. The other
exemplar comes with scikit-image.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from chromogen.slides.slide import read_picture
from chromogen.staining.exemplar import measure_exemplar
from chromogen.staining.looks import SUFFIX, Look, write_look
from chromogen.staining.stainer import builtin_ihc
from chromogen.staining.tissue import MPP


def main() -> None:
    """Write both looks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ki67", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    epithelial = Look(
        "epithelial",
        "DAB in epithelial cells",
        "skimage.data.immunohistochemistry(): colon glands, H-DAB",
        "no known copyright restrictions",
        measure_exemplar(builtin_ihc(), "cytoplasm"),
    )
    nuclear = Look(
        "nuclear",
        "DAB in some nuclei, as Ki67",
        "OS-2.ndpi of OpenSlide's freely distributable test data: Ki67, H-DAB, Hamamatsu scanner",
        "CC0-1.0",
        measure_exemplar(read_picture(given.ki67, at_mpp=MPP).pixels, "nuclear"),
    )
    for look in (epithelial, nuclear):
        write_look(given.out / f"{look.name}{SUFFIX}", look)


if __name__ == "__main__":
    main()
