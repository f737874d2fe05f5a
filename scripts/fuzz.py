"""Broken and hostile files (`hostile.py`) by every reader and command: read, or refused in one sentence.

    python scripts/fuzz.py [--out FOLDER] [--each 20] [--commands 200] [--only CASE ...]

A process has fifty files, or one command, and at most 10 s of its own for each way into Chromogen, and 3 GB more
than it began with. What must not happen: a signal, an exception that is none of ours, an error of several lines, a
traceback, more time or memory, a file outside the output folder. Files are made by their names alone,
FORMAT/HOW/NUMBER; `--only` makes one again. Stopped at any moment, the same command goes on: what is done stands
in FOLDER/cases.jsonl and FOLDER/commands.jsonl.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil

from chromogen.app import jobs
from chromogen.app.view.upload_decoder import take_in
from chromogen.image import IMAGE_SUFFIXES, read_image, read_provenance, write_image
from chromogen.regions.masks import read_geojson
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.slides.store import BlockStore, claimed, planned
from chromogen.staining.onnx_file import read_onnx
from chromogen.staining.stainer import Stainer, builtin_ihc, load_look
from chromogen.staining.where_network import read_model
from chromogen.style.checkpoint import Checkpoint
from hostile import FORMATS, case_names, make_broken, make_whole, small

MAX_CPU_S, MAX_S, MAX_BYTES = 10, 600, 3_000_000_000
BATCH = 50  # cases in one process
OURS = (ValueError, OSError)
READ, REFUSED = "read", "refused"


@dataclass(frozen=True)
class Ended:
    """How a case ended: read, refused, or what else."""

    case: str
    how: str
    said: str
    cpu_s: float
    more_mb: float

    @property
    def is_good(self) -> bool:
        """Whether nothing happened that must not."""
        return self.how in (READ, REFUSED)


# --- what is tried with a file ---


def try_file(path: Path, before: Callable[[], None] = lambda: None) -> None:
    """Every way into Chromogen that a file of this name has. Raises: what the last of them raises."""
    problem: BaseException | None = None
    for way in _ways_in(path):
        before()
        try:
            way(path)
        except OURS as error:
            if "\n" in str(error):
                raise AssertionError(f"an error of several lines: {str(error)!r}") from error
            problem = error
    if problem:
        raise problem


def _ways_in(path: Path) -> list[Callable[[Path], object]]:
    match path.suffix:
        case ".safetensors":
            return [read_model]
        case ".json":
            return [load_look]
        case ".checkpoint":
            return [lambda file: Checkpoint(file, {"size": [1, 1]}, resume=True).load()]
        case ".geojson":
            return [lambda file: read_geojson(file, (116, 96))]
        case ".chromogen":
            return [_try_store]
        case ".zarr" | ".svs":
            return [_try_slide, read_facts]
        case ".onnx":
            return [read_onnx, _try_generator]
    return [read_image, read_provenance, read_facts, _try_slide]


def _try_slide(path: Path) -> None:
    with open_slide(path) as slide:
        width, height = slide.size
        side = min(200, width), min(200, height)
        for location in ((0, 0), (width - side[0], height - side[1])):
            slide.read_region(location, side)
        if slide.mpp:
            slide.read_at((0, 0), (1, 1), slide.mpp * 2)
        if width * height < 10**8:
            slide.overview(64)
        str(slide.properties), slide.quickhash, slide.bounds, slide.about


def _try_generator(path: Path) -> None:
    try:
        Stainer.from_pretrained(path)(small())
    except (RuntimeError, ArithmeticError) as error:  # it does not run, or makes no numbers
        raise ValueError(str(error)) from error


def _try_store(folder: Path) -> None:
    with claimed(folder):
        planned(folder, {"size": [200, 150], "stainer": "x"}, restart=False)
        store = BlockStore(folder, (200, 150), (64, 64))
        store.create()
        for index in store.indices():
            if not store.check(index):
                store.write(index, np.zeros((*store.window(index).size[::-1], 3), np.uint8), [])
        store.damage()


# --- processes ---


def in_other_processes(cases: Sequence[str], run: Callable[[str], Ended], most: int) -> Iterator[Ended]:
    """How each case ends, in forks of this process that take so many of them each, and end with one that kills."""
    todo = list(cases)
    while todo:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _run_and_leave(todo[:most], run, writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            done = [Ended(**json.loads(line)) for line in pipe]
        yield from done
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            yield Ended(todo[len(done)], f"status {status}", "", 0, 0)
        del todo[: len(done) + bool(status)]


def _run_and_leave(cases: Sequence[str], run: Callable[[str], Ended], writing: int) -> None:
    """Within limits, and without a sound."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    bytes_now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (bytes_now + MAX_BYTES, resource.RLIM_INFINITY))
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    for case in cases:
        signal.alarm(MAX_S)
        _more_time()
        os.write(writing, (json.dumps(asdict(run(case))) + "\n").encode())
    os._exit(0)


def _more_time() -> None:
    until = round(time.process_time()) + MAX_CPU_S
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def measured(case: str, work: Callable[[], tuple[str, str]]) -> Ended:
    """What `work` says of a case, and what it took."""
    began, before = time.process_time(), psutil.Process().memory_info().rss
    Path("/proc/self/clear_refs").write_text("5")  # forgets the highest memory so far
    try:
        how, why = work()
    except BaseException:
        how, why = "escaped", traceback.format_exc()[-1500:]
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024
    return Ended(case, how, why[:1500], round(time.process_time() - began, 2), round((peak - before) / 1e6, 1))


def read_case(case: str, whole: Path, scratch: Path) -> Ended:
    """One broken file, by all ways in."""
    broken = make_broken(case, whole, _fresh(scratch))

    def work() -> tuple[str, str]:
        os.chdir(scratch / "cwd")
        tempfile.tempdir = str(scratch / "tmp")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try_file(broken, _more_time)
        except OURS as error:
            return REFUSED, str(error)
        return READ, ""

    return _with_strays(measured(case, work), scratch, {broken.name})


def _fresh(scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)
    for name in ("cwd", "tmp", "out"):
        (scratch / name).mkdir(parents=True)
    return scratch


def _with_strays(ended: Ended, scratch: Path, given: Iterable[str]) -> Ended:
    """The same, or, where files lie where none should, that."""
    strays = {path.name for path in scratch.iterdir()} - {"cwd", "tmp", "out", *given}
    strays |= {path.name for name in ("cwd", "tmp") for path in (scratch / name).iterdir()}
    strays |= {path.name for path in (scratch / "out").rglob(".chromogen-*")}
    strays = {name for name in strays if not name.startswith("torchinductor_")}  # torch's own, once a user
    return Ended(ended.case, "strays", str(sorted(strays)), ended.cpu_s, ended.more_mb) if strays else ended


# --- commands ---


def command_for(path: Path, rng: random.Random) -> list[str]:
    """A command that takes such a file, with results in `out`."""
    quick = ["--preset", "fast", "--steps", "1", "--size", "96", "--precision", "fp32", "-o", "out/x.png"]
    if path.suffix == ".geojson":
        return ["stylize", "he.png", "ihc.png", "--content-mask", str(path), "--style-mask", str(path), *quick]
    if path.suffix in (".safetensors", ".json"):
        return rng.choice((["info", str(path)], ["stain", "he.png", "--stainer", str(path), "-o", "out/x.png"]))
    if path.suffix == ".onnx":
        return rng.choice((["info", str(path)], ["stain", "he.png", "--stainer", str(path), "-o", "out/x.png"]))
    if path.suffix == ".checkpoint":
        path.rename(path.parent / "out" / "x.png.checkpoint")
        return ["stylize", "he.png", "ihc.png", *quick]
    stain = ["stain", str(path), "--stainer", "color-transfer", "--mpp", "0.5", "-o", "out/x.ome.tif"]
    if path.suffix == ".chromogen":
        path.rename(path.parent / "out" / "x.ome.tif.chromogen")
        return [stain[0], "he.png", *stain[2:]]
    if path.suffix in (".zarr", ".svs"):
        return rng.choice((["info", str(path)], stain))
    commands = (
        ["info", str(path)],
        ["unmix", str(path), "-o", "out"],
        ["nuclei", str(path), "--mpp", "0.5", "-o", "out"],
        ["stain", "he.png", "--style", str(path), "--style-mpp", "0.5", "-o", "out/x.png"],
        ["evaluate", str(path), "--content", "he.png", "--real", "ihc.png", "-o", "out"],
        ["stylize", str(path), "ihc.png", *quick],
        ["stylize", "he.png", str(path), *quick],
        [*stain[:-1], "out/x.png"],
        stain,
        ["intake", str(path), "out/x.png"],
    )
    return list(rng.choice(commands))


def run_command(case: str, whole: Path, scratch: Path) -> Ended:
    """One broken file by the command line."""
    broken = make_broken(case, whole, _fresh(scratch))
    for name in ("he.png", "ihc.png"):
        write_image(scratch / name, builtin_ihc()[:96, :116][:: 1 if name == "ihc.png" else -1])
    arguments = command_for(broken, random.Random(case))  # noqa: S311

    def work() -> tuple[str, str]:
        os.chdir(scratch)
        tempfile.tempdir = str(scratch / "tmp")
        jobs.style_cache_folder = lambda: scratch / "tmp" / "styles"  # type: ignore[attr-defined]
        status, said = _answer(arguments)
        shutil.rmtree(scratch / "tmp" / "styles", ignore_errors=True)
        return _judged(status, said, scratch / "out"), f"{' '.join(arguments[:2])}: {said}"

    return _with_strays(measured(case, work), scratch, {broken.name, "he.png", "ihc.png"})


def _answer(arguments: Sequence[str]) -> tuple[int, str]:
    """Exit status and stderr."""
    if arguments[0] == "intake":
        return _take_in(arguments[1:])
    from chromogen.app.cli import main

    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()


def _take_in(arguments: Sequence[str]) -> tuple[int, str]:
    """As the server does with what is uploaded: in a process that was really started, for its own limits' sake."""
    try:
        take_in(*map(Path, arguments))
    except ValueError as error:
        return 2, f"Error: {error}"
    return 0, ""


def _judged(status: int, said: str, out: Path) -> str:
    lines = [line for line in said.splitlines() if not line.startswith("Warning: ")]
    if "Traceback" in said or "Internal error" in said:
        return "internal"
    if status == 0:
        for image in out.glob("x.*"):
            if image.suffix in IMAGE_SUFFIXES:
                open_slide(image).close()
        return READ
    plain = status in (1, 2) and lines and all(line.startswith("Error: ") for line in lines)
    whole = not [path for path in out.glob("x.png") if not read_image(path).size]
    return REFUSED if plain and whole else f"status-{status}"


# --- all of them ---


def go_on(cases: Iterable[str], log: Path, run: Callable[[str], Ended], most: int) -> list[Ended]:
    """Run the cases that are not in the log yet, so many in one process, and say what is there then."""
    ended = [Ended(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []
    known = {one.case for one in ended}
    with log.open("a") as lines:
        for one in in_other_processes([case for case in cases if case not in known], run, most):
            ended.append(one)
            lines.write(json.dumps(asdict(one)) + "\n")
            lines.flush()
            if not one.is_good:
                print(f"{one.case}: {one.how} {one.said}", flush=True)
    return ended


def spread(names: Sequence[str], count: int) -> Iterator[str]:
    """So many of the names, in an order that has all formats and ways early."""
    shuffled = random.Random(0).sample(names, len(names))  # noqa: S311
    return islice(shuffled, count)


def report(what: str, ended: Sequence[Ended]) -> bool:
    """Say what came of the cases; whether all was good."""
    if not ended:
        return True
    print(f"{what}: {len(ended)} cases, {dict(Counter(one.how for one in ended))}")
    for part, index in (("format", 0), ("way", 1)):
        print(f"  by {part}:", dict(sorted(Counter(one.case.split("/")[index] for one in ended).items())))
    slowest, largest = max(ended, key=lambda one: one.cpu_s), max(ended, key=lambda one: one.more_mb)
    print(f"  slowest {slowest.case} {slowest.cpu_s} s; most memory {largest.case} {largest.more_mb} MB")
    bad = [one.case for one in ended if not one.is_good]
    print(f"  bad: {len(bad)} {' '.join(bad)}")
    return not bad


def main() -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("fuzz"))
    parser.add_argument("--each", type=int, default=20, help="cases of every way to break every format")
    parser.add_argument("--commands", type=int, default=200)
    parser.add_argument("--only", nargs="+", default=[], help="cases to run again, with all they say")
    given = parser.parse_args()
    out, began = given.out.absolute(), time.monotonic()
    whole, scratch = out / "whole", out / "scratch"
    make_whole(whole)
    warm(whole)
    if given.only:
        for by in (read_case, run_command):
            print(*in_other_processes(given.only, lambda case: by(case, whole, scratch), 1), sep="\n")  # noqa: B023
        return 0
    names = list(case_names(given.each))
    read = go_on(
        spread(names, len(names)), out / "cases.jsonl", lambda case: read_case(case, whole, scratch), BATCH
    )
    chosen = spread(names[::-1], given.commands)
    run = go_on(chosen, out / "commands.jsonl", lambda case: run_command(case, whole, scratch), 1)
    good = [report("readers", read), report("commands", run)]
    print(f"{len(FORMATS)} formats, {time.monotonic() - began:.0f} s")
    return 0 if all(good) else 1


def warm(whole: Path) -> None:
    """Read everything whole once: forks have all modules then, and nothing is broken but by us."""
    import chromogen.app.jobs
    import chromogen.app.staining
    import chromogen.app.unmix
    import chromogen.evaluation.evaluate  # noqa: F401

    for name, (suffix, _) in FORMATS.items():
        if suffix != ".chromogen":
            try_file(whole / f"{name}{suffix}")


if __name__ == "__main__":
    sys.exit(main())
