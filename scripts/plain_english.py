"""Check the style guide's rules that a program can check: long sentences and forbidden turns, in README and docs.

    python scripts/plain_english.py

Prints each fault as FILE:LINE, and exits with status 1 if there is any. Lab notes are left out: they are diaries.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAB_NOTES = {"lab-notes.md", "decisions.md", "hardening.md"}
MAX_WORDS = 30
FORBIDDEN = {
    r"stands? in (?!for)": "is in, is stored in",
    r"is told|are told": "Chromogen reports, prints",
    r"is supposed": "Chromogen assumes",
    r"in every bit": "bit-identical",
    r"of one's own": "your own",
    r"is what is": "name the thing",
    r"looks? through": "uses",
    r"foretells?|foretold": "estimates, predicts",
    r"is gone on|gone on from": "continues",
    r"is said of": "name who says it",
}
# Code blocks, comments, tables, headings and raw HTML are no sentences.
NO_PROSE = re.compile(r"^```.*?^```|<!--.*?-->|^\s*[|#<:].*?$|^ {4}.*?$", re.DOTALL | re.MULTILINE)
PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*[-*] |\s*\d+\. )")
SENTENCE = re.compile(r"(?<=[.!?:;])\s+(?=[A-Z`*\[(])")


def prose(text: str) -> str:
    """A page's sentences alone, line by line: code becomes one word, and links their text.

    >>> prose("See `a b c` and [the *page*](page.md).\\n| a | table |")
    'See CODE and the *page*.\\n'
    """
    text = NO_PROSE.sub(lambda found: "\n" * found.group().count("\n"), text)
    text = re.sub(r"`[^`\n]*`", "CODE", text)
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)


def faults(text: str) -> Iterator[tuple[int, str]]:
    """Each fault of a page, with its line.

    >>> list(faults("This is told at the end."))
    [(1, '"is told": write "Chromogen reports, prints"')]
    """
    read = prose(text)
    for pattern, instead in FORBIDDEN.items():
        for found in re.finditer(rf"\b(?:{pattern})\b", read):
            yield _line(read, found.start()), f'"{found.group().strip()}": write "{instead}"'
    begin = 0
    for paragraph in PARAGRAPH.split(read):
        begin = read.index(paragraph, begin)
        for sentence in SENTENCE.split(paragraph):
            words = len(sentence.split())
            if words > MAX_WORDS:
                at = read.index(sentence, begin)
                yield _line(read, at), f"{words} words in a sentence: {' '.join(sentence.split()[:6])} ..."


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def main() -> int:
    """Print all faults; 1 if there is any."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [
        f"{page.relative_to(ROOT)}:{line}: {fault}"
        for page in pages
        if page.name not in LAB_NOTES
        for line, fault in sorted(faults(page.read_text("utf-8")))
    ]
    print("\n".join(found) or f"{len(pages)} pages are plain.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
