"""How two slides lie on one another: the one rule for what the page shows and for what is measured."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.app.view.opened import Opened
from chromogen.app.view.slide_catalog import Entry, SlideCatalog
from chromogen.compute.tiles import Window
from chromogen.registration.transform import (
    FORMAT,
    Move,
    Transform,
    composition,
    inverse,
    read_transform,
    write_transform,
)
from chromogen.stains.deconvolution import Array

SAME_SHAPE = 0.02
MADE_THERE = "where its file says that it was made"
REACH_PX = 64.0  # around a place, in which a placement that bends is taken for an affine


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a second slide shows what a first shows.

    `move` brings points (N, 2) of the first to the second, in level-0 pixels of each. `by` says how that is known;
    `is_guess`, that no file says it; `bends`, that no affine does the same everywhere.
    """

    move: Move
    by: str
    is_guess: bool = False
    bends: bool = False

    def affine_at(self, place: tuple[float, float] = (0.0, 0.0)) -> Array:
        """The affine (2, 3) in level-0 pixels that does the same around a place (x, y) of the first slide."""
        around = np.array(place) + REACH_PX * np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]])
        middle, right, down, left, up = self.move(around)
        linear = np.column_stack([right - left, down - up]) / (2 * REACH_PX)
        return np.column_stack([linear, middle - linear @ place])

    @property
    def is_upright(self) -> bool:
        """Whether the second slide is only larger or smaller, and elsewhere."""
        (a, b, _), (c, d, _) = self.affine_at()
        return bool(not self.bends and np.allclose([b, c, a], [0, 0, d], atol=1e-9 * abs(a)) and a > 0)

    @property
    def scale(self) -> float:
        """Pixels of the second slide for one of the first, at its corner."""
        return float(np.sqrt(abs(np.linalg.det(self.affine_at()[:, :2]))))

    @property
    def offset(self) -> tuple[float, float]:
        """Where the first slide's corner lies on the second."""
        x, y = self.move(np.zeros((1, 2)))[0]
        return float(x), float(y)

    def window(self, first: Window) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the corners of a window of the first slide, in the second."""
        left, top, right, bottom = first.left, first.top, first.right, first.bottom
        corners = self.move(np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float))
        return (*map(float, corners.min(0)), *map(float, corners.max(0)))  # type: ignore[return-value]


def placement_between(one: Opened, other: Opened, transforms: Alignments | None = None) -> Placement:
    """How the other slide lies on the first.

    A virtual stain lies where its file says that it was made; other slides as a transform says, also of what a
    virtual stain was made of; else by their pixel sizes, from the top left corner. Where neither file states a
    pixel size, slides of one shape are taken to show the same field.
    """
    first, second = _origin(one), _origin(other)
    if first.source == second.source:
        return Placement(_by_way(first, _times(1.0), second), MADE_THERE)
    own = _Origin(one.slide.quickhash), _Origin(other.slide.quickhash)
    for ours, theirs in (own, (first, second)):
        if transforms and (found := transforms.between(ours.source, theirs.source)):
            by = transforms.how(ours.source, theirs.source)
            return Placement(_by_way(ours, found.forward_px, theirs), by, bends=bends(found))
    if one.mpp and other.mpp:
        return Placement(_times(one.mpp / other.mpp), "by their pixel sizes, from the top left corner")
    return _guess(one, other)


def bends(transform: Transform) -> bool:
    """Whether no affine does the same everywhere."""
    return len(transform.pieces) > 1 or transform.pieces[0].spline is not None


def _guess(one: Opened, other: Opened) -> Placement:
    if one.mpp or other.mpp:
        lacking, known = ("its file", one.mpp) if one.mpp else ("the first one's file", other.mpp)
        by = f"by a guess: {lacking} does not state a pixel size, so {known:.3g} um is assumed for both"
        return Placement(_times(1.0), by, is_guess=True)
    across, down = (b / a for a, b in zip(one.size, other.size, strict=True))
    if abs(across / down - 1) < SAME_SHAPE:
        by = "by a guess: neither file states a pixel size, and both have one shape"
        return Placement(_times(across), by, is_guess=True)
    by = "by a guess: pixel on pixel, as neither file states a pixel size"
    return Placement(_times(1.0), by, is_guess=True)


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


def _times(scale: float) -> Move:
    return lambda points: np.asarray(points, float) * scale


def _by_way(first: _Origin, between: Move, second: _Origin) -> Move:
    """From a slide to what it was made of, from there to what the other was made of, and to the other."""

    def move(points: Array) -> Array:
        there = between((np.asarray(points, float) - first.offset) / first.scale)
        return there * second.scale + second.offset

    return move


# Transforms between slides: those in the folders that were named, and those that the page keeps.

SUFFIX = ".json"
MAX_TRANSFORMS = 500
HEAD_BYTES = 100


class Alignments:
    """Which slides lie on which, by the hashes of their contents; what is kept comes before what was found.

    `look` reads the transforms beside the slides of `shelf`. Those below `folder` are the page's own.
    """

    def __init__(self, shelf: SlideCatalog, folder: Path) -> None:
        self._shelf, self._folder = shelf, folder
        self._found: dict[tuple[str, str], Transform] = {}
        self.look()

    def look(self) -> None:
        """Read what is there now."""
        found = {}
        for transform in reversed([*self._kept(), *_readable(self._shelf.entries())]):  # the first of two stays
            pair = transform.source.quickhash, transform.target.quickhash
            for key in (pair, pair[::-1]):
                found[key] = transform
        self._found = found

    def between(self, one: str, other: str) -> Transform | None:
        """From a slide to another, also by way of slides that lie on both; None where nothing leads there."""
        ways: deque[tuple[str, Transform | None]] = deque([(one, None)])
        been = {one}
        while ways:
            here, so_far = ways.popleft()
            for there in self._beside(here) - been:
                step = self._step(here, there)
                whole = composition(so_far, step) if so_far else step
                if there == other:
                    return whole
                been.add(there)
                ways.append((there, whole))
        return None

    def tissue_of(self, one: str) -> str:
        """What is the same for all slides that transforms lead to from one: the first of their hashes."""
        been, new = {one}, [one]
        while new:
            new = [there for here in new for there in self._beside(here) - been]
            been.update(new)
        return min(been)

    def direct(self, one: str, other: str) -> Transform | None:
        """The transform between two slides as its file has it, in either direction; None where there is none."""
        return self._found.get((one, other))

    def how(self, one: str, other: str) -> str:
        """By what a transform between two slides is known, in words."""
        found = self.direct(one, other)
        return (
            "by way of another slide"
            if not found
            else "by registration"
            if found.quality
            else "where you placed it"
        )

    def is_kept(self, one: str, other: str) -> bool:
        """Whether the page keeps a transform between two slides."""
        return any(path.is_file() for path in self._files(one, other))

    def keep(self, transform: Transform) -> None:
        """Keep a transform, instead of any between the same slides. Raises: OSError."""
        source, target = transform.source.quickhash, transform.target.quickhash
        path, back = self._files(source, target)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_transform(path, transform)
        back.unlink(missing_ok=True)
        self.look()

    def forget(self, one: str, other: str) -> None:
        """Keep no transform between two slides any more; one in the folders that were named holds again."""
        for path in self._files(one, other):
            path.unlink(missing_ok=True)
        self.look()

    def _beside(self, here: str) -> set[str]:
        return {there for at, there in self._found if at == here}

    def _step(self, here: str, there: str) -> Transform:
        found = self._found[here, there]
        return found if found.source.quickhash == here else inverse(found)

    def _files(self, one: str, other: str) -> tuple[Path, Path]:
        """Where the transform of two slides is kept, from the first, or from the second."""
        ours, theirs = (hashlib.sha256(content.encode()).hexdigest()[:16] for content in (one, other))
        return self._folder / f"{ours}-{theirs}{SUFFIX}", self._folder / f"{theirs}-{ours}{SUFFIX}"

    def _kept(self) -> Iterator[Transform]:
        if self._folder.is_dir():
            yield from _readable(SlideCatalog([self._folder], (SUFFIX,)).entries())


def _readable(entries: list[Entry]) -> Iterator[Transform]:
    return islice((found for entry in entries if (found := _transform(entry.path, entry.version))), MAX_TRANSFORMS)


@lru_cache(maxsize=4096)
def _transform(path: Path, _version: str) -> Transform | None:
    """The transform in a file; None for any other JSON, of which only the beginning is read."""
    try:
        with path.open("rb") as file:
            if FORMAT.encode() not in file.read(HEAD_BYTES):
                return None
        return read_transform(path)
    except (ValueError, OSError):
        return None
