"""How two slides lie on one another: the one rule for what the page shows and for what is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chromogen.app.view.pool import Opened
from chromogen.grid import Window

SAME_SHAPE = 0.02


@dataclass(frozen=True)
class Placement:
    """Where a second slide shows what a first shows: at `scale` times a place of the first, plus `offset` (x, y).

    Places are in level-0 pixels of each. `by` says how that is known; `is_guess`, that no file says it.
    """

    scale: float
    by: str
    is_guess: bool = False
    offset: tuple[float, float] = (0.0, 0.0)

    def window(self, first: Window) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of a window of the first slide, in the second."""
        (x, y), scale = self.offset, self.scale
        return scale * first.left + x, scale * first.top + y, scale * first.right + x, scale * first.bottom + y


def placement_between(one: Opened, other: Opened) -> Placement:
    """How the other slide lies on the first.

    A virtual stain lies where its file says that it was made; other slides by their pixel sizes, from the top left
    corner. Where neither file states a pixel size, slides of one shape are taken to show the same field.
    """
    first, second = _origin(one), _origin(other)
    if first.source == second.source:
        scale = second.scale / first.scale
        x, y = (there - scale * here for here, there in zip(first.offset, second.offset, strict=True))
        return Placement(scale, "where its file says that it was made", offset=(x, y))
    if one.mpp and other.mpp:
        return Placement(one.mpp / other.mpp, "by their pixel sizes, from the top left corner")
    return _guess(one, other)


def _guess(one: Opened, other: Opened) -> Placement:
    if one.mpp or other.mpp:
        lacking, known = ("its file", one.mpp) if one.mpp else ("the first one's file", other.mpp)
        by = f"by a guess: {lacking} does not state a pixel size, so {known:.3g} um is assumed for both"
        return Placement(1.0, by, is_guess=True)
    across, down = (b / a for a, b in zip(one.size, other.size, strict=True))
    if abs(across / down - 1) < SAME_SHAPE:
        by = "by a guess: neither file states a pixel size, and both have one shape"
        return Placement(across, by, is_guess=True)
    return Placement(1.0, "by a guess: pixel on pixel, as neither file states a pixel size", is_guess=True)


@dataclass(frozen=True)
class _Origin:
    """Which slide a slide was made of, itself where it is no virtual stain, and how it lies on that."""

    source: str
    scale: float = 1.0
    offset: tuple[float, float] = (0.0, 0.0)


def _origin(opened: Opened) -> _Origin:
    facts = opened.virtual or {}
    source, mpp, source_mpp = (facts.get(name) for name in ("source_quickhash", "mpp", "source_mpp"))
    if not (source and mpp and source_mpp):
        return _Origin(opened.slide.quickhash)
    scale = source_mpp / mpp
    return _Origin(source, scale, _corner(facts, scale))


def _corner(facts: Mapping[str, Any], scale: float) -> tuple[float, float]:
    """Where the source's corner lies in the pixels of a stain of a part of it, which begins at a whole pixel."""
    region = (facts.get("settings") or {}).get("region")
    return (-int(region[0] * scale), -int(region[1] * scale)) if region else (0.0, 0.0)
