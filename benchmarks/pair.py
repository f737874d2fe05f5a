"""The pair that comes with pip, for the benchmarks: a field of the demo slide and scikit-image's IHC, square."""

from __future__ import annotations

import argparse
from pathlib import Path

from chromogen.data import demo_field, demo_slide
from chromogen.image import Image, resize, write_image
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import builtin_ihc
from measuring import positive


def pictures(size_px: int) -> tuple[Image, Image]:
    """H&E as scanned, and the IHC brought to the same size."""
    with open_slide(demo_slide()) as slide:
        he = slide.read_region(*demo_field(slide, size_px))
    return he, resize(builtin_ihc(), (size_px, size_px))


def main() -> None:
    """Write the pair as content.png and style.png into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=positive, default=500, metavar="PX")
    parser.add_argument("--out", type=Path, required=True, help="folder, made if need be")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, image in zip(("content", "style"), pictures(given.size), strict=True):
        write_image(given.out / f"{name}.png", image)


if __name__ == "__main__":
    main()
