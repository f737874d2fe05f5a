"""Panels of figures: cut, tint and scale them, and lay them out with titles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from chromogen.image import Image

SHOWN_PX, GAP_PX, HEAD_PX = 300, 8, 34
THUMBNAIL_PX = 120
FROM_AFAR = 4  # how much smaller a whole slide is shown
BROWN = np.array([150, 80, 20])
GLASS = (244, 243, 244)

Panel: TypeAlias = tuple[str, Image]
Rows: TypeAlias = Sequence[Sequence[Panel]]


def sheet(rows: Rows) -> Pillow.Image:
    """Rows of pictures, each below its title if it has one, on white."""
    tops = [HEAD_PX if any(title for title, _ in row) else 0 for row in rows]
    sides = [(top + max(picture.shape[0] for _, picture in row)) for top, row in zip(tops, rows, strict=True)]
    width = max(sum(picture.shape[1] + GAP_PX for _, picture in row) for row in rows) - GAP_PX
    page = Pillow.new("RGB", (width, sum(sides) + GAP_PX * (len(rows) - 1)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=20)
    for n, row in enumerate(rows):
        left, top = 0, sum(sides[:n]) + GAP_PX * n
        for title, picture in row:
            draw.text((left + 2, top + 4), title, fill="#333333", font=font)
            page.paste(Pillow.fromarray(picture), (left, top + tops[n]))
            left += picture.shape[1] + GAP_PX
    return page


def small(image: Image) -> Image:
    return np.asarray(Pillow.fromarray(image).resize((THUMBNAIL_PX, THUMBNAIL_PX), Pillow.Resampling.LANCZOS))


def with_bar(image: Image, length_px: float) -> Image:
    page = Pillow.fromarray(image)
    left, top = 10, image.shape[0] - 16
    ImageDraw.Draw(page).rectangle((left, top, left + round(length_px), top + 5), fill="#000000")
    return np.asarray(page)


def turned(image: Image) -> Image:
    """A section that lies turned on its slide."""
    page = Pillow.fromarray(image).rotate(25, Pillow.Resampling.BICUBIC, expand=True, fillcolor=GLASS)
    return np.asarray(page)


def central(image: Image, like: Image) -> tuple[slice, slice]:
    """The middle of an image, as large as another."""
    starts = [(own - other) // 2 for own, other in zip(image.shape[:2], like.shape[:2], strict=True)]
    return slice(starts[0], starts[0] + like.shape[0]), slice(starts[1], starts[1] + like.shape[1])


def middle(image: Image) -> Image:
    """The middle of a picture, SHOWN_PX wide."""
    top, left = ((side - SHOWN_PX) // 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SHOWN_PX, left : left + SHOWN_PX])


def tinted(likely: Image) -> Image:
    """A grey map, 255 for 1, as brown on white."""
    return np.asarray(np.rint(255 - likely / 255 * (255 - BROWN)), np.uint8)


def from_afar(image: Image) -> Image:
    size = image.shape[1] // FROM_AFAR, image.shape[0] // FROM_AFAR
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BOX))
