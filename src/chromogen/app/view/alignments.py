"""Transforms between slides: those in the folders that were named, and those that the page keeps."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

from chromogen.app.view.slide_catalog import Entry, SlideCatalog
from chromogen.registration.transform import (
    FORMAT,
    Transform,
    composition,
    inverse,
    read_transform,
    write_transform,
)

SUFFIX = ".json"
MAX_TRANSFORMS = 500
HEAD_BYTES = 100


class Alignments:
    """Which slides lie on which, by the hashes of their contents; what is kept comes before what was found.

    Files of `shelf` are looked at when `look` is called; those below `folder` are the page's own.
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
