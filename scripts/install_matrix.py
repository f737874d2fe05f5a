"""Installs as users do: the built wheel in an empty environment, and what must work there; prints a table.

    python scripts/install_matrix.py [--python 3.11 ...] [--versions newest oldest] [--extra view ...]

For every Python that is there (`python3.11` and so on): an environment without anything, the wheel, the given
extras one at a time, and then `--help` of everything, every module, and small work. `oldest` takes the lower
bounds of pyproject.toml, which is possible where those have wheels for that Python. With
`--without-torch`, all that does not need it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OF_TORCH = {"torch", "torchmetrics", "lightning-fabric"}
BROUGHT = {"anyio", "pydantic", "starlette"}  # by an extra, and imported by name
COMMANDS = (
    "nuclei",
    "register",
    "transfer",
    "label",
    "stylize",
    "stain",
    "train",
    "export",
    "demo",
    "evaluate",
    "study",
    "unmix",
    "info",
    "view",
)
IMPORT_ALL = """
import importlib, pkgutil, chromogen
missing = set()
for found in pkgutil.walk_packages(chromogen.__path__, "chromogen."):
    if found.name != "chromogen.__main__":
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            missing.add(error.name.partition(".")[0])
print(*sorted(missing))
"""
MAKE_IMAGES = """
from skimage import data, io
io.imsave("ihc.png", data.immunohistochemistry()[:256, :256])
io.imsave("he.png", data.immunohistochemistry()[256:, 256:])
"""


class Case(NamedTuple):
    """One environment: a Python, newest or oldest versions, an extra or none, with torch or without."""

    python: str
    versions: str
    extra: str
    torch: bool


class Place(NamedTuple):
    """Where a case works: its environment's programs, and a folder."""

    bin: Path
    folder: Path

    def run(self, *command: str) -> str:
        """What a program of the environment prints; CalledProcessError where it fails."""
        program = str(self.bin / command[0])
        done = subprocess.run([program, *command[1:]], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout


def must(fact: bool, otherwise: str) -> None:
    """RuntimeError unless it is so."""
    if not fact:
        raise RuntimeError(otherwise)


def requirements(without: set[str]) -> dict[str, str]:
    """The lower bound of every dependency, by name."""
    split = [re.fullmatch(r"([\w-]+)[>=]=([\w.]+)", line) for line in PROJECT["dependencies"]]
    return {found[1]: found[2] for found in split if found and found[1] not in without}


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    return next(folder.glob("chromogen-*.whl"))


def install(case: Case, wheel: Path, place: Place) -> None:
    """The wheel as a user installs it; without torch, its other dependencies by name."""
    bounds = requirements(set() if case.torch else OF_TORCH)
    oldest = {name: bound for name, bound in bounds.items() if case.versions == "oldest" and name != "torch"}
    lines = [f"{name}=={bound}" for name, bound in oldest.items()]
    limits = place.folder / "constraints.txt"
    limits.write_text((ROOT / "constraints.txt").read_text() + "\n".join(lines))
    pip = ("python", "-m", "pip", "install", "--quiet", "--no-compile", "--constraint", str(limits))
    if case.torch:
        place.run(*pip, f"{wheel}[{case.extra}]" if case.extra else str(wheel))
        place.run("python", "-m", "pip", "check")
        return
    extra = PROJECT["optional-dependencies"].get(case.extra, [])
    place.run(*pip, *(f"{name}>={bound}" for name, bound in bounds.items()), *extra)
    place.run(*pip, "--no-deps", str(wheel))


def check_help(place: Place) -> None:
    """Version and every help text."""
    place.run("chromogen", "--version")
    for command in ([], *([name] for name in COMMANDS)):
        must("Usage" in place.run("chromogen", *command, "--help"), f"no help of {command}")


def check_imports(case: Case, place: Place) -> None:
    """Every module imports, but for those of extras and torch that are not there."""
    lines = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    optional = {re.split(r"[>=\[]", line)[0].replace("-", "_") for line in lines}
    allowed = optional | BROUGHT | (set() if case.torch else {name.replace("-", "_") for name in OF_TORCH})
    missing = set(place.run("python", "-c", IMPORT_ALL).split())
    must(missing <= allowed, f"missing: {missing - allowed}")


def check_work(case: Case, place: Place) -> None:
    """A little of everything that does not take long."""
    place.run("python", "-c", MAKE_IMAGES)
    place.run("chromogen", "info", "he.png", "ihc.png")
    place.run("chromogen", "unmix", "ihc.png", "-o", "unmixed")
    place.run("chromogen", "stain", "he.png", "--stainer", "color-transfer", "-o", "colours.png")
    if case.torch:
        place.run("chromogen", "stain", "he.png", "-o", "stained.png")
        place.run("chromogen", "stylize", "he.png", "ihc.png", "-o", "virtual.png", "--steps", "2", "--size", "64")


def check_view(place: Place) -> None:
    """The server says where it is, and gives its page and its slides."""
    command = [str(place.bin / "chromogen"), "view", ".", "--port", "0", "--no-browser", "--json"]
    with subprocess.Popen(command, cwd=place.folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            said = json.loads(server.stdout.readline() if server.stdout else "")
            with urllib.request.urlopen(said["address"] + "api/slides", timeout=30) as answer:  # noqa: S310
                must(len(json.load(answer)) >= 2, "no slides are shown")
            must(said["page"], "the wheel has no page")
        finally:
            server.terminate()


def check_cluster(place: Place) -> None:
    """Two worker processes."""
    stain = ("stain", "he.png", "-o", "parallel.ome.tif", "--stainer", "identity", "--mpp", "0.5")
    place.run("chromogen", *stain, "--workers", "2")


def check_onnx(place: Place) -> None:
    """The libraries of the extra load together."""
    place.run("python", "-c", "import onnx, onnxruntime")


def check_tables(place: Place) -> None:
    """A table of nuclei as Parquet."""
    place.run("chromogen", "nuclei", "he.png", "-o", "nuclei", "--mpp", "0.5")
    place.run("python", "-c", "from pyarrow import parquet; parquet.read_table('nuclei/he.parquet')")


def check_arrays(place: Place) -> None:
    """A stained array, computed where it is asked for."""
    stain = "chromogen.lazy_stain('he.png', 'identity', 0.5).levels[0]"
    place.run("python", "-c", f"import chromogen; print({stain}[:9, :9].compute().mean())")


def check_spatialdata(place: Place) -> None:
    """An image as SpatialData."""
    made = "import chromogen; print(chromogen.spatial_data({'he': chromogen.lazy_slide('he.png', 0.5)}))"
    place.run("python", "-c", made)


def check_napari(place: Place) -> None:
    """napari finds the plug-in; without a Qt it opens no window."""
    place.run("npe2", "validate", "chromogen")


OF_EXTRA: dict[str, Callable[[Place], None]] = {
    "view": check_view,
    "cluster": check_cluster,
    "onnx": check_onnx,
    "tables": check_tables,
    "arrays": check_arrays,
    "spatialdata": check_spatialdata,
    "napari": check_napari,
}


def tried(case: Case, wheel: Path) -> str:
    """`works`, or the step that failed and its last line."""
    steps: dict[str, Callable[[Place], None]] = {
        "install": partial(install, case, wheel),
        "help": check_help,
        "imports": partial(check_imports, case),
        "work": partial(check_work, case),
    }
    if case.extra:
        steps[case.extra] = OF_EXTRA[case.extra]
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "venv"
        subprocess.run([f"python{case.python}", "-m", "venv", str(environment)], check=True)
        place = Place(environment / ("Scripts" if os.name == "nt" else "bin"), Path(folder))
        for name, step in steps.items():
            try:
                step(place)
            except (subprocess.CalledProcessError, RuntimeError, OSError, ValueError) as error:
                said = getattr(error, "stderr", None) or str(error)
                return f"{name} fails: {said.strip().splitlines()[-1][:160]}"
    return "works"


def is_there(python: str) -> bool:
    """Whether that Python runs."""
    try:
        return not subprocess.run([f"python{python}", "--version"], capture_output=True, check=False).returncode
    except OSError:
        return False


def cases_of(arguments: argparse.Namespace) -> Sequence[Case]:
    """All combinations; extras with the newest versions alone."""
    every = product(arguments.python, arguments.versions, ["", *arguments.extra], [not arguments.without_torch])
    return [case for case in (Case(*found) for found in every) if not (case.extra and case.versions == "oldest")]


def main() -> None:
    """Try every case, and print what came of each as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="*", default=["3.11", "3.12", "3.13"])
    parser.add_argument("--versions", nargs="*", default=["newest", "oldest"], choices=["newest", "oldest"])
    parser.add_argument("--extra", nargs="*", default=["view", "cluster", "onnx"])
    parser.add_argument("--without-torch", action="store_true")
    parser.add_argument("--wheel", type=Path, help="Take this wheel instead of building one.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = arguments.wheel.resolve() if arguments.wheel else build_wheel(Path(folder))
        print("| Python | versions | extra | torch | | s |\n|---|---|---|---|---|---|")
        for case in cases_of(arguments):
            began = time.perf_counter()
            result = tried(case, wheel) if is_there(case.python) else "no such Python here"
            words = (case.python, case.versions, case.extra or "none", "yes" if case.torch else "no", result)
            print(f"| {' | '.join(words)} | {time.perf_counter() - began:.0f} |", flush=True)


if __name__ == "__main__":
    main()
