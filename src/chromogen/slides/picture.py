"""A slide or image read whole, with the size of its pixels: for work that needs all of it at once."""

from __future__ import annotations

from typing import NamedTuple

from chromogen.decoders import MAX_PIXELS
from chromogen.image import Image, PathLike
from chromogen.pixel_size import is_same_mpp
from chromogen.slides.slide import open_slide
from chromogen.slides.source import error


class Picture(NamedTuple):
    """Pixels, uint8 (H, W, 3), and their size in um, None where it is not known."""

    pixels: Image
    mpp: float | None


def read_picture(path: PathLike, mpp: float | None = None, *, at_mpp: float | None = None) -> Picture:
    """Read an image or slide of any format whole, in sRGB.

    `mpp` is um per pixel of the file, where it states none or a wrong one. At `at_mpp` the picture is resampled to
    that size, unless its own is the same within 2 % or not known.
    Raises: SlideError where it cannot be read or is too large; FileNotFoundError; PermissionError.
    """
    with open_slide(path, mpp=mpp) as slide:
        own = slide.mpp
        to_mpp = None if at_mpp is None or own is None or is_same_mpp(own, at_mpp) else at_mpp
        width, height = slide.size_at(to_mpp)
        if width * height > MAX_PIXELS:
            got = f"{str(path)!r} of {width:,} x {height:,} px"
            raise error(
                "path", f"an image of at most {MAX_PIXELS:,} px", got, "cut out a region, or stain it as a slide"
            )
        return Picture(slide.read_at((0, 0), (width, height), to_mpp), to_mpp or own)
