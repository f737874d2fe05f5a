"""How often people tell real IHC from virtual: the answers to a blind test, scored by its key."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chromogen.errors import expected, missing, repeated
from chromogen.evaluation.agreement import share_interval
from chromogen.evaluation.blind import COLUMNS, KEY_COLUMNS, KINDS, Kind

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
