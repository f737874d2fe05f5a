"""Which slides belong to one case, by their names: what tells stains apart is left out of them."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from chromogen.files import stem_of

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
