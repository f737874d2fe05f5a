"""What is to be made of a slide: all that decides the pixels, and so whether a finished block is still good."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from chromogen.errors import expected
from chromogen.grid import Window, whole
from chromogen.stainer import Stainer
from chromogen.whole_slide.view import SlideFile, View

LAYOUT = 1  # of blocks and masks: another number is another plan


@dataclass(frozen=True)
class SlideJob:
    """All that decides the pixels: slide, stainer, region (x, y, w, h) in level-0 pixels, whether glass stays."""

    file: SlideFile
    stainer: Stainer
    region: tuple[int, int, int, int] | None = None
    mask_tissue: bool = True

    def absolute(self) -> SlideJob:
        """The same for processes that work in other folders."""
        return replace(self, file=self.file.absolute())

    def window(self, view: View) -> Window:
        """The region in the view. Raises: ValueError where it is not inside the slide."""
        if self.region is None:
            return whole(view.size)
        x, y, width, height = self.region
        sides = ((x, width, 0), (y, height, 1))
        (left, right), (top, bottom) = (
            self._side(view, start, start + length, axis) for start, length, axis in sides
        )
        return Window(left, top, right, bottom)

    def _side(self, view: View, start: int, stop: int, axis: int) -> tuple[int, int]:
        own, seen = view.slide.size[axis], view.size[axis]
        if not 0 <= start < stop <= own:
            inside = f"X,Y,W,H inside the slide's {view.slide.size[0]} x {view.slide.size[1]} px"
            raise expected("region", inside, ",".join(map(str, self.region or ())))
        first = min(start * seen // own, seen - 1)
        return first, max(first + 1, round(stop * seen / own))

    def plan(self, view: View) -> dict[str, Any]:
        """The same as plain data, the slide by its hash."""
        return {
            "layout": LAYOUT,
            "slide": view.slide.quickhash,
            "slide_mpp": view.slide.mpp,
            "icc": self.file.icc,
            "stainer": self.stainer.identity,
            "mpp": view.mpp or view.slide.mpp,
            "halo_px": self.stainer.halo_px,
            "region": list(self.region) if self.region else None,
            "tissue_mask": self.mask_tissue,
        }
