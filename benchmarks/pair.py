"""The pair that comes with pip, for the benchmarks: a field of the demo slide and scikit-image's IHC, square."""

from __future__ import annotations

from chromogen.app.demo import builtin_ihc
from chromogen.app.demo_slide import demo_field, demo_slide
from chromogen.image import Image, resize
from chromogen.slides.slide import open_slide


def pictures(size_px: int) -> tuple[Image, Image]:
    """H&E as scanned, and the IHC brought to the same size."""
    with open_slide(demo_slide()) as slide:
        he = slide.read_region(*demo_field(slide, size_px))
    return he, resize(builtin_ihc(), (size_px, size_px))
