"""Forced choice: crops of real and virtual IHC in one shuffled set, and how often people tell them apart."""

from __future__ import annotations

import csv
import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected, missing, repeated
from chromogen.evaluation.agreement import files_by_name, group_of, share_interval
from chromogen.files import named_beside, write_table, write_text
from chromogen.image import Image, PathLike, write_image
from chromogen.page import render
from chromogen.pixel_size import ASSUMED_MPP, check_mpp, is_same_mpp
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.tissue import background

Kind: TypeAlias = Literal["real", "virtual"]
KINDS: tuple[Kind, Kind] = ("real", "virtual")
SIDE_PX = 256
MIN_TISSUE = 0.5
MAX_MARKS = 0.5  # of a view
OVERVIEW_PX = 2048
MAX_CROPS = 1000
LETTERS, NAME_LENGTH = "bcdfghjkmnpqrstvwxz", 8  # letters alone: a spreadsheet takes 12e45678 for a number
COLUMNS = ("crop", "answer")
KEY_COLUMNS = ("crop", "kind", "source", "file", "x", "y", "mpp")
SHEET, PAGE, KEY_ENDING = "answers.csv", "index.html", "-key.csv"


@dataclass(frozen=True)
class CropSource:
    """One file of real or virtual IHC, by its name, and the group it counts with."""

    kind: Kind
    name: str
    group: str
    file: Path


@dataclass(frozen=True)
class BlindCrop:
    """A square of a source, uint8 (SIDE_PX, SIDE_PX, 3), whose corner `location` (x, y) is in its own pixels."""

    name: str
    source: CropSource
    location: tuple[int, int]
    pixels: Image


@dataclass(frozen=True)
class BlindTest:
    """Shuffled crops, as many real as virtual, all at `mpp` um per pixel; and what to be careful of."""

    crops: tuple[BlindCrop, ...]
    mpp: float
    warnings: tuple[str, ...]


def blind_test(
    virtual: PathLike,
    real: PathLike,
    *,
    count: int,
    mpp: float | None = None,
    group: str | None = None,
    seed: int = 0,
) -> BlindTest:
    """Draw at most `count` crops of each kind, from an image or slide or a folder of them; names need not match.

    All crops have the pixel size of the coarsest file, so that none is enlarged. `mpp` is um per pixel of all
    files; without it the size that files state counts, else ASSUMED_MPP. Crops of a file do not overlap, half of
    each at least is tissue, and they are spread evenly over the files. While there is enough tissue, no place of
    two files of one name is shown as both kinds. `group` finds in a name which slide it is from, as in
    `match_cases`.
    Raises: ValueError where one kind has no crop; FileNotFoundError.
    """
    if not 1 <= count <= MAX_CROPS:
        raise expected("crops", f"from 1 to {MAX_CROPS} of each kind", count)
    check_mpp("mpp", mpp)
    sources = [*_sources("virtual", virtual, group), *_sources("real", real, group)]
    sizes_mpp = {source: _mpp_of(source, mpp) for source in sources}
    at_mpp = max(size or ASSUMED_MPP for size in sizes_mpp.values())
    squares = {source: _squares(source, mpp, at_mpp, seed) for source in sources}
    for kind in KINDS:
        _check_any(kind, squares, at_mpp)
    drawn = {kind: _drawn(kind, squares, seed) for kind in KINDS}
    each = min(count, *map(len, drawn.values()))
    chosen = [square for kind in KINDS for square in drawn[kind][:each]]
    pixels = _read(chosen, mpp, at_mpp)
    order = np.random.default_rng(seed).permutation(len(chosen))
    shuffled = [chosen[i] for i in order]
    names = _names([pixels[square] for square in shuffled])
    crops = tuple(
        BlindCrop(name, source, corner, pixels[source, corner])
        for name, (source, corner) in zip(names, shuffled, strict=True)
    )
    return BlindTest(crops, at_mpp, tuple(_warnings(sizes_mpp, squares, at_mpp, each, count)))


def _sources(kind: Kind, path: PathLike, group: str | None) -> list[CropSource]:
    argument = "prediction" if kind == "virtual" else "real"
    return [
        CropSource(kind, name, group_of(name, group), file) for name, file in files_by_name(argument, path).items()
    ]


def _opened(source: CropSource, mpp: float | None) -> Slide:
    return open_slide(source.file, mpp=mpp, assumed_mpp=ASSUMED_MPP)


def _mpp_of(source: CropSource, mpp: float | None) -> float | None:
    """The size of a source's pixels in um, None where Chromogen assumes it."""
    with _opened(source, mpp) as slide:
        return None if slide.mpp_from == "assumed" else slide.mpp


Location: TypeAlias = tuple[int, int]
Square: TypeAlias = tuple[CropSource, Location]
Squares: TypeAlias = Mapping[CropSource, list[Location] | None]  # None where a file is too small


def _squares(source: CropSource, mpp: float | None, at_mpp: float, seed: int) -> list[Location] | None:
    """Corners (x, y) at `at_mpp` of the squares of tissue, in random order; None where no square fits in.

    A real and a virtual file of one name and size have the same squares. They begin at opposite ends.
    """
    with _opened(source, mpp) as slide:
        size = slide.size_at(_resampled_to(slide, at_mpp))
        if min(size) < SIDE_PX:
            return None
        view, downsample = slide.overview(OVERVIEW_PX)
        tissue = _tissue(view, slide.need_mpp() * downsample)
    corners = list(_grid(size))
    order = np.random.default_rng([seed, _number(source.name)]).permutation(len(corners))
    shuffled = [corners[i] for i in (order if source.kind == "virtual" else order[::-1])]
    return [corner for corner in shuffled if _tissue_share(tissue, corner, size) >= MIN_TISSUE]


def _tissue(view: Image, mpp: float) -> NDArray[np.bool_]:
    """Where a view shows tissue. What passes for marks over most of it is a grey stain, and no pen's."""
    seen = background(view, mpp)
    if seen.marks.mean() > MAX_MARKS:
        seen = replace(seen, marks=np.zeros_like(seen.marks))
    return seen.tissue(view, mpp)


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _grid(size: tuple[int, int]) -> Iterator[Location]:
    """Corners of whole squares side by side, in the middle of a picture of `size` (w, h)."""
    columns, rows = (range(side % SIDE_PX // 2, side - SIDE_PX + 1, SIDE_PX) for side in size)
    return ((x, y) for y in rows for x in columns)


def _tissue_share(tissue: NDArray[np.bool_], corner: Location, size: tuple[int, int]) -> float:
    """How much of a square is tissue, in a mask of the whole picture of `size` (w, h)."""
    columns, rows = (
        slice(int(start * seen / side), max(int(start * seen / side) + 1, int((start + SIDE_PX) * seen / side)))
        for start, side, seen in zip(corner, size, tissue.shape[::-1], strict=True)
    )
    return float(tissue[rows, columns].mean())


def _check_any(kind: Kind, squares: Squares, at_mpp: float) -> None:
    of_kind = [corners for source, corners in squares.items() if source.kind == kind]
    if any(of_kind):
        return
    argument = "prediction" if kind == "virtual" else "real"
    if all(corners is None for corners in of_kind):
        least = f"at least {SIDE_PX} px wide and high at {at_mpp:g} um per pixel"
        raise expected(argument, f"an image {least}", "smaller ones only", "give larger images of this kind")
    wanted = f"an image with a square of {SIDE_PX} px of which half is tissue"
    raise expected(argument, wanted, "none", "give images with more tissue")


def _drawn(kind: Kind, squares: Squares, seed: int) -> list[Square]:
    """Squares of a kind, file by file in turn. Both kinds take names from opposite ends of one random order."""
    sources = sorted(
        (source for source in squares if source.kind == kind),
        key=lambda source: _number(f"{seed} {source.name}"),
        reverse=kind == "virtual",
    )
    rounds = zip_longest(*([(source, at) for at in squares[source] or ()] for source in sources))
    return [square for square in chain.from_iterable(rounds) if square is not None]


def _read(chosen: Sequence[Square], mpp: float | None, at_mpp: float) -> dict[Square, Image]:
    """The pixels of every square. Each file is opened once."""
    pixels: dict[Square, Image] = {}
    for source in dict.fromkeys(source for source, _ in chosen):
        with _opened(source, mpp) as slide:
            for corner in [corner for other, corner in chosen if other == source]:
                to_mpp = _resampled_to(slide, at_mpp)
                pixels[source, corner] = slide.read_at(corner, (SIDE_PX, SIDE_PX), to_mpp)
    return pixels


def _resampled_to(slide: Slide, at_mpp: float) -> float | None:
    """The pixel size in um that a slide is resampled to, None where it has that size."""
    return None if is_same_mpp(slide.need_mpp(), at_mpp) else at_mpp


def _names(crops: Sequence[Image]) -> list[str]:
    """A name for each crop that says nothing. Two tests share no name, so that a sheet fits one key only."""
    test = hashlib.sha256(b"".join(hashlib.sha256(pixels.tobytes()).digest() for pixels in crops)).hexdigest()
    digests = (hashlib.sha256(f"{test} {number}".encode()).digest() for number in range(len(crops)))
    return ["".join(LETTERS[byte % len(LETTERS)] for byte in digest[:NAME_LENGTH]) for digest in digests]


def _warnings(
    sizes_mpp: Mapping[CropSource, float | None], squares: Squares, at_mpp: float, each: int, count: int
) -> Iterator[str]:
    for source, corners in squares.items():
        if not corners:
            why = "it is smaller" if corners is None else "it has less tissue"
            yield f"{source.kind} {source.name} is left out: {why} than a crop of {SIDE_PX} px needs"
    if each < count:
        yield f"crops: there is tissue for {each} of each kind, not for {count}"
    if unknown := sum(mpp is None for mpp in sizes_mpp.values()):
        images = "1 image" if unknown == 1 else f"{unknown} images"
        yield f"pixel size: {images} without; Chromogen took {ASSUMED_MPP} um/px (set it with --mpp)"
    finer = [kind for kind in KINDS if _is_finer(kind, sizes_mpp, at_mpp)]
    if len(finer) == 1:
        yield f"{finer[0]} images are resampled to {at_mpp:g} um per pixel, the others are not; sharpness may tell"


def _is_finer(kind: Kind, sizes_mpp: Mapping[CropSource, float | None], at_mpp: float) -> bool:
    sizes = [size or ASSUMED_MPP for source, size in sizes_mpp.items() if source.kind == kind]
    return not any(is_same_mpp(size, at_mpp) for size in sizes)


def write_blind_test(test: BlindTest, folder: Path) -> dict[str, Path]:
    """Write the crops, a page and a sheet to answer on into `folder`, and the key beside it; paths by kind.

    The crops are PNG without any metadata. The key, FOLDER-key.csv, is the only file that says what they are.
    """
    folder = folder.resolve()
    for crop in test.crops:
        write_image(folder / f"{crop.name}.png", crop.pixels)
    files = {"page": folder / PAGE, "answers": folder / SHEET, "key": named_beside(folder, KEY_ENDING)}
    shown = {"crops": test.crops, "side_px": SIDE_PX, "mpp": test.mpp, "kinds": KINDS}
    write_text(files["page"], render("blind.html", "Real or virtual?", columns=COLUMNS, sheet=SHEET, **shown))
    write_table(files["answers"], [dict.fromkeys(COLUMNS, "") | {"crop": crop.name} for crop in test.crops])
    write_table(files["key"], [_key_row(crop, test.mpp) for crop in test.crops])
    return files


def _key_row(crop: BlindCrop, mpp: float) -> dict[str, object]:
    source, (x, y) = crop.source, crop.location
    values = crop.name, source.kind, source.group, source.file.name, x, y, f"{mpp:g}"
    return dict(zip(KEY_COLUMNS, values, strict=True))


# How often people tell real IHC from virtual: the answers to a blind test, scored by its key.

NAMED_AT_MOST = 5  # crops in a message


@dataclass(frozen=True)
class Answer:
    """How many crops, of how many, a person answered right."""

    right: int
    of: int

    @property
    def percent(self) -> float:
        """Share of right answers, 0 to 100; guessing gives 50."""
        return 100 * self.right / self.of

    @property
    def ci95_percent(self) -> tuple[float, float]:
        """Wilson's 95 % interval of that share, 0 to 100. It takes crops as independent."""
        low, high = share_interval(self.right, self.of)
        return 100 * low, 100 * high


@dataclass(frozen=True)
class BlindScore:
    """Right answers among all crops, by kind, and by kind and source."""

    all: Answer
    kinds: Mapping[Kind, Answer]
    sources: Mapping[Kind, Mapping[str, Answer]]


def score_answers(answers: Path, key: Path) -> BlindScore:
    """Score a filled-in sheet by the key of the same test, both CSV as `write_blind_test` writes them.

    Separators may be commas, semicolons or tabs, as spreadsheets save them; case and spaces around words do not
    matter. Raises: ValueError for a sheet that lacks answers or a crop, has unknown or repeated crops, or other
    words than real and virtual; FileNotFoundError.
    """
    answered = _answered(_rows("answers", answers, COLUMNS))
    rows = _rows("key", key, KEY_COLUMNS)
    _check_key(rows)
    _check_complete(answered, [row["crop"] for row in rows])
    told = [(row["kind"], row["source"], answered[row["crop"]] == row["kind"]) for row in rows]
    kinds = {kind: _told([right for k, _, right in told if k == kind]) for kind in KINDS}
    sources = {
        kind: {
            name: _told([right for k, source, right in told if (k, source) == (kind, name)])
            for name in sorted({source for k, source, _ in told if k == kind})
        }
        for kind in KINDS
    }
    return BlindScore(_told([right for *_, right in told]), kinds, sources)


def _told(right: Sequence[bool]) -> Answer:
    return Answer(sum(right), len(right))


def _rows(argument: str, path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that have anything in them."""
    if not path.is_file():
        raise missing(argument, "an existing CSV file", path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise expected(argument, "a CSV file in UTF-8", path, "save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=separator)
    names = [_word(name) for name in reader.fieldnames or ()]
    if not set(columns) <= set(names):
        raise expected(argument, f"a table with the columns {', '.join(columns)}", f"{', '.join(names) or 'none'}")
    reader.fieldnames = names
    rows = [{name: row.get(name) or "" for name in columns} for row in reader]
    return [row for row in rows if any(text.strip() for text in row.values())]


def _word(text: str) -> str:
    return text.strip().lower()


def _answered(rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The answer to every crop, "" where there is none."""
    crops = [_word(row["crop"]) for row in rows]
    if twice := repeated(crops):
        raise expected("answers", "a sheet with every crop once", f"{twice} more than once", "remove one line")
    found = {crop: _word(row["answer"]) for crop, row in zip(crops, rows, strict=True)}
    strange = {crop: answer for crop, answer in found.items() if answer and answer not in KINDS}
    for crop, answer in strange.items():
        raise expected("answers", f"{' or '.join(KINDS)} for each crop", f"{answer!r} for {crop}", "correct it")
    return found


def _check_key(rows: Sequence[Mapping[str, str]]) -> None:
    if not rows or {row["kind"] for row in rows} != set(KINDS):
        raise expected("key", "the key of a blind test, with real and virtual crops", "another table", "name it")


def _check_complete(answered: Mapping[str, str], crops: Sequence[str]) -> None:
    if unknown := [crop for crop in answered if crop not in crops]:
        raise expected("answers", "a sheet of the key's crops", f"{_named(unknown)} besides", "name its own key")
    if lacking := [crop for crop in crops if not answered.get(crop)]:
        raise expected("answers", "an answer for every crop", f"none for {_named(lacking)}", "answer all")


def _named(crops: Sequence[str]) -> str:
    more = len(crops) - NAMED_AT_MOST
    return ", ".join(crops[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")


def score_line(score: BlindScore) -> str:
    """The score in one line."""
    low, high = score.all.ci95_percent
    kinds = ", ".join(f"{kind} {told.right} of {told.of}" for kind, told in score.kinds.items())
    return (
        f"Told right: {score.all.right} of {score.all.of} crops, {score.all.percent:.0f} % (95 % interval "
        f"{low:.0f} to {high:.0f} %; guessing gives 50 %): {kinds}."
    )


def score_as_json(score: BlindScore) -> dict[str, Any]:
    """Plain data: `told_right`, and the same by kind, and by kind and source."""
    return {
        "told_right": _as_json(score.all),
        "kinds": {kind: _as_json(told) for kind, told in score.kinds.items()},
        "sources": {
            kind: {name: _as_json(told) for name, told in names.items()} for kind, names in score.sources.items()
        },
    }


def _as_json(told: Answer) -> dict[str, Any]:
    return {"right": told.right, "of": told.of, "percent": told.percent, "ci95": list(told.ci95_percent)}
