"""Which slides the web app shows: those under the paths a user named, by ids that tell no path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from chromogen.errors import missing
from chromogen.image import IMAGE_SUFFIXES
from chromogen.slides.openslide_reader import one_file_each
from chromogen.slides.slide import SLIDE_SUFFIXES

SUFFIXES = (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES)
STORE = ".chromogen"  # ends the names of folders in which unfinished slides lie
MAX_SLIDES = 2000
MAX_FOLDERS_DEEP = 6


class UnknownSlideError(LookupError):
    """No slide of that id lies under the paths that were named."""


@dataclass(frozen=True)
class Entry:
    """A file on the shelf: its `id` in addresses, the name people see, a `version` that changes with the file."""

    id: str
    name: str
    path: Path
    version: str


class SlideCatalog:
    """The slides and images under `roots`, files or folders, looked up anew each time, so that new ones appear.

    With other `suffixes`, the files in folders whose names end so.

    A symbolic link counts only where what it points to lies under a root too. Raises: FileNotFoundError for a root
    that is not there.
    """

    def __init__(self, roots: Sequence[Path], suffixes: tuple[str, ...] = SUFFIXES) -> None:
        for root in roots:
            if not root.exists():
                raise missing("paths", "an existing slide or folder", root)
        self._roots = [root.resolve() for root in roots]
        self._suffixes = suffixes
        self._places: dict[str, tuple[Path, Path]] = {}  # root and path by id, as last seen

    def entries(self) -> list[Entry]:
        """At most `MAX_SLIDES`, folder by folder in order of their names; of a slide's DICOM files the first."""
        places = ((root, path) for root in self._roots for path in _files(root, self._suffixes))
        found = list(islice((entry for place in places if (entry := self._entry(*place))), MAX_SLIDES))
        kept = set(one_file_each(entry.path for entry in found))
        return list({entry.id: entry for entry in found if entry.path in kept}.values())

    def find(self, slide_id: str) -> Entry:
        """The entry of an id; UnknownSlideError where there is none, or it has gone."""
        if slide_id not in self._places:
            self.entries()
        place = self._places.get(slide_id)
        entry = self._entry(*place) if place else None
        if entry is None:
            raise UnknownSlideError("There is no such slide (any more); reload the list.")
        return entry

    def id_of(self, path: Path) -> str | None:
        """The id of a file under one of the roots; None where there is none."""
        for root in self._roots:
            if path.is_relative_to(root) and (entry := self._entry(root, path)):
                return entry.id
        return None

    def add(self, root: Path) -> None:
        """One more folder or file to show."""
        resolved = root.resolve()
        if resolved not in self._roots:
            self._roots.append(resolved)

    def _entry(self, root: Path, path: Path) -> Entry | None:
        """What lies at a path under a root, if it is a file and does not lead out of all roots."""
        try:
            real = path.resolve(strict=True)
            stat = real.stat()
        except OSError:
            return None
        if not (real.is_file() and any(real.is_relative_to(allowed) for allowed in self._roots)):
            return None
        name = path.name if path == root else path.relative_to(root).as_posix()
        entry = Entry(_id_of(root, path), name, real, f"{stat.st_mtime_ns:x}-{stat.st_size:x}")
        self._places[entry.id] = (root, path)
        return entry


def _id_of(root: Path, path: Path) -> str:
    return hashlib.sha256(f"{root}\0{path}".encode()).hexdigest()[:16]


def _files(root: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """The file at a root, or those under it whose names end so; not hidden ones, nor folders behind links."""
    if root.is_file():
        yield root
        return
    for folder, folders, files in os.walk(root, followlinks=False):
        here = Path(folder)
        deep = len(here.relative_to(root).parts)
        folders[:] = sorted(
            f for f in folders if f[0] != "." and not f.endswith(STORE) and deep < MAX_FOLDERS_DEEP
        )
        for name in sorted(files):
            if name[0] != "." and name.lower().endswith(suffixes):
                yield here / name
