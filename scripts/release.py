"""Prepare a release: version, date and public address in every file that says them; wheel and sdist, checked.

    python scripts/release.py 0.1.0 --address https://forge.example/OWNER/chromogen
    python scripts/release.py 0.1.1

The address is kept from the release before. It ends with the commands that publish, which it does not run.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[1]
URLS = {
    "Documentation": "#readme",
    "Source": "",
    "Issues": "/issues",
    "Changelog": "/blob/main/CHANGELOG.md",
}
NEXT = """Published by hand, after a look at the difference:
    git commit --all --message "Release {version}" && git tag v{version} && git push --follow-tags
A tag starts .github/workflows/release.yml, which uploads wheel and sdist to PyPI by trusted publishing."""

Edit: TypeAlias = Callable[[str], str]


def edits(version: str, date: str, address: str | None) -> Mapping[str, Edit]:
    """By file, what turns its text into that of the release."""
    found: dict[str, Edit] = {
        "src/chromogen/provenance.py": partial(_put, r'^__version__ = ".*"$', f'__version__ = "{version}"'),
        "CHANGELOG.md": partial(_dated, version, date),
        "CITATION.cff": partial(_cited, version, date, address),
    }
    if address:
        found["pyproject.toml"] = partial(_with_urls, address)
        found["mkdocs.yml"] = partial(_with_repository, address)
    return found


def _put(pattern: str, line: str, text: str) -> str:
    """The text with the one line that a pattern finds replaced. Raises: ValueError where it is not there once."""
    made, count = re.subn(pattern, lambda _: line, text, flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"Expected one line like {pattern!r}, got {count}.")
    return made


def _dated(version: str, date: str, text: str) -> str:
    """Changes that wait become those of the version; one that has its section gets the date."""
    section = rf"^## \[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d$"
    if re.search(section, text, re.MULTILINE):
        return _put(section, f"## [{version}] - {date}", text)
    return _put(r"^## \[Unreleased\]$", f"## [Unreleased]\n\n## [{version}] - {date}", text)


def _cited(version: str, date: str, address: str | None, text: str) -> str:
    kept = re.sub(r"^(date-released|repository-code): .*\n", "", text, flags=re.MULTILINE) if address else text
    kept = re.sub(r"^date-released: .*\n", "", kept, flags=re.MULTILINE)
    place = f"\nrepository-code: {address}" if address else ""
    return _put(r"^version: .*$", f"version: {version}\ndate-released: {date}{place}", kept)


def _with_urls(address: str, text: str) -> str:
    kept = re.sub(r"^\[project\.urls\]\n(?:.+\n)*\n", "", text, flags=re.MULTILINE)
    urls = "".join(f'{name} = "{address}{end}"\n' for name, end in URLS.items())
    return _put(r"^\[project\.scripts\]$", f"[project.urls]\n{urls}\n[project.scripts]", kept)


def _with_repository(address: str, text: str) -> str:
    kept = re.sub(r"^repo_url: .*\n", "", text, flags=re.MULTILINE)
    return _put(r"^docs_dir: docs$", f"repo_url: {address}\ndocs_dir: docs", kept)


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare a release.")
    parser.add_argument("version")
    parser.add_argument("--address", help="of the public repository, https://...")
    parser.add_argument("--date", default=datetime.datetime.now(datetime.UTC).date().isoformat())
    asked = parser.parse_args()
    if not re.fullmatch(r"\d+\.\d+\.\d+", asked.version):
        parser.error(f"a version is like 0.1.0, not {asked.version!r}")
    if asked.address and not re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", asked.address):
        parser.error(f"an address is like https://forge.example/OWNER/chromogen, not {asked.address!r}")
    for name, edit in edits(asked.version, asked.date, asked.address).items():
        (ROOT / name).write_text(edit((ROOT / name).read_text("utf-8")), "utf-8")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build"], cwd=ROOT, check=True)
    made = sorted(map(str, ROOT.glob("dist/*")))
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *made], cwd=ROOT, check=True)
    print(NEXT.format(version=asked.version))


if __name__ == "__main__":
    main()
