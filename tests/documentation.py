"""Blocks of code in README and docs, and how they are marked.

A block's language says what it is. A comment right above it, which readers do not see, says what happens to it:
`slow`, `run by tests/FILE.py`, or `not run: WHY`; without one it is run.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"sh", "python", "text", "math", "json"}
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
MARK = re.compile(r"<!-- (slow|run by tests/\w+\.py|not run: .+) -->\s*\Z")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it stands, its language, its text, and its mark ("" where there is none)."""

    page: Path
    line: int
    language: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of a shell block, without comments."""
        joined = self.text.replace("\\\n", " ")
        return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        mark = MARK.search(text, 0, found.start())
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found["language"], dedent(found["text"]), mark[1] if mark else "")


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def inline_code(page: Path) -> Iterator[str]:
    """What stands between single backticks outside of blocks."""
    yield from INLINE.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
