"""Which slides the web app shows: those under the paths a user named, by ids that tell no path, and by case."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from chromogen.errors import missing
from chromogen.files import stem_of
from chromogen.image import IMAGE_SUFFIXES
from chromogen.slides.openslide_reader import one_file_each
from chromogen.slides.slide import SLIDE_SUFFIXES

SUFFIXES = (*SLIDE_SUFFIXES, *IMAGE_SUFFIXES)
STORE = ".chromogen"  # ends the names of folders in which unfinished slides lie
MAX_SLIDES = 2000
MAX_FOLDERS_DEEP = 6


class UnknownSlideError(LookupError):
    """No slide of that id lies under the paths that were named."""


def without_folder(text: str, file: Path) -> str:
    """What is said of a file, without the folder that it lies in."""
    return text.replace(f"{file.parent}{os.sep}", "")


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


# Which slides belong to one case, by their names: what tells stains apart is left out of them.

_MARKERS = r"er|pr|her-?2|ki-?67|mib-?1|pd-?l?1|p53|p63|ck\d*|cd\d+\w?|cc10|prospc|masson|pas"
_STAINS = (
    rf"h&?e|hes|ihc|dab|{_MARKERS}|virtual|stained|real|"
    r"aligned|nuclear|epithelial|membrane|cytoplasm|color-transfer|normalize|identity"
)
_STAIN = re.compile(rf"(?:{_STAINS})", re.IGNORECASE)
_TAIL = re.compile(rf"(?:[\s_.-]+(?:{_STAINS}))+$", re.IGNORECASE)
_HEAD = re.compile(rf"^(?:(?:{_STAINS})[\s_-]+)+(?=.*\d)", re.IGNORECASE)


_MARKER = re.compile(rf"(?:^|[\s_./-])({_MARKERS})(?=$|[\s_./-])", re.IGNORECASE)


def marker_of(name: str) -> str:
    """The marker that a slide's name, with folders, says it is stained for, as written; "" where it says none.

    >>> marker_of("345_Ki67.svs"), marker_of("HER2/345_ihc.tif"), marker_of("345_HE.svs"), marker_of("expert.png")
    ('Ki67', 'HER2', '', '')
    """
    path = PurePosixPath(name)
    found = _MARKER.findall(str(path.with_name(stem_of(path))))  # type: ignore[arg-type]
    return found[-1] if found else ""


def case_of(name: str) -> str:
    """The case of a slide by its name with folders: words for stains are left out, and folders of such words.

    >>> case_of("345_HE.svs"), case_of("345_HE_nuclear.ome.tif"), case_of("her2/345.svs"), case_of("345-Ki67.tif")
    ('345', '345', '345', '345')
    >>> case_of("lesion/he.jpg"), case_of("lesion/Ki67.jpg"), case_of("mist/ER_he.png"), case_of("tiles/a.png")
    ('lesion', 'lesion', 'mist/ER', 'tiles/a')
    """
    path = PurePosixPath(name)
    folders = [part for part in path.parts[:-1] if not _STAIN.fullmatch(part)]
    stem = stem_of(path)  # type: ignore[arg-type]
    if _STAIN.fullmatch(stem) and folders:
        return "/".join(folders)
    return "/".join([*folders, _HEAD.sub("", _TAIL.sub("", stem)) or stem])
