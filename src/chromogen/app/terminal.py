"""What commands share: bars on the terminal, one file after the other, and printing of results and errors."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chromogen.errors import FAILURES, expected, short
from chromogen.provenance import NOTICE, peak_rss_mb

if TYPE_CHECKING:
    from chromogen.style.stylize import OnStep, Step

R = TypeVar("R")
Follow: TypeAlias = Callable[[int, int, str], None]  # done, of how many, what comes next
USE = f"{NOTICE.capitalize()}."
MAX_VIEWED = 4  # files in the command to look at them
PROGRESS_S = "CHROMOGEN_PROGRESS_S"  # seconds between lines of progress in a log; 0: none


def verdict(error: Exception) -> tuple[str, int]:
    """One line for an exception, and the exit status it means."""
    message = short(error, 600)
    match error:
        case typer.TyperException():
            command = getattr(getattr(error, "ctx", None), "command_path", "chromogen")
            return f"{error.format_message().rstrip('.')}; see `{command} --help`.", 2
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return f"The disk is full ({message}); free some space, then give the same command again.", 1
        case ValueError() | FileNotFoundError() | PermissionError() | IsADirectoryError():
            return message, 2
        case MemoryError() | RuntimeError() if isinstance(error, MemoryError) or "alloc" in message:
            return f"Out of memory ({message[:120]}); use smaller pictures or tiles, or fewer workers.", 1
        case OSError() | ArithmeticError() | RuntimeError():
            return message, 1
    return f"Internal error, {type(error).__name__}: {message}; --debug shows where.", 1


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr while it is a terminal, which leave no trace; in a log, a line now and then."""
    console = Console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress if console.is_terminal else _progress_lines(progress):
        yield progress


@contextmanager
def _progress_lines(progress: Progress) -> Iterator[None]:
    """Print on stderr how far each task is, now and then, until the `with` statement ends."""
    ended, every_s = threading.Event(), _seconds_between_lines()

    def report() -> None:
        while not ended.wait(every_s):
            for task in progress.tasks:
                done = f"{task.completed:g}/{task.total:g}" if task.total else f"{task.completed:g}"
                notes = f"{task.fields['rate']} {task.fields['loss']}".strip()
                print(f"Progress: {task.description}: {done} {notes}", file=sys.stderr, flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    if every_s > 0:
        reporter.start()
    try:
        yield
    finally:
        ended.set()


def _seconds_between_lines() -> float:
    """Seconds between lines of progress. Raises: ValueError for text that is no number."""
    text = os.environ.get(PROGRESS_S, "30")
    try:
        return float(text)
    except ValueError:
        raise expected(PROGRESS_S, "a number of seconds", text, "set it to 30, or to 0 for no lines") from None


def add_bar(progress: Progress, name: str, rate: str = "") -> Follow:
    """Add a bar, and return the function that moves it."""
    task = progress.add_task(name, total=None, loss="", rate=rate)

    def move(done: int, of: int, rate: str) -> None:
        progress.update(task, completed=done, total=of, rate=rate)

    return move


@contextmanager
def one_bar(name: str) -> Iterator[Follow]:
    """A bar alone on the terminal, until the `with` statement ends."""
    with progress_bars() as progress:
        yield add_bar(progress, name)


@contextmanager
def add_step_bar(progress: Progress, name: str, steps: int | None = None) -> Iterator[OnStep]:
    """Add a bar, which the listener to steps that is returned moves, until the `with` statement ends."""
    task = progress.add_task(name, total=steps, loss="", rate="measuring")

    def move(step: Step, _picture: object) -> None:
        rate, loss = steps_per_s(step.index, step.seconds), f"loss {step.losses.total:.4g}"
        progress.update(task, total=step.of, completed=step.index, rate=rate, loss=loss)

    try:
        yield move
    finally:
        progress.remove_task(task)


@contextmanager
def block_bar(progress: Progress, name: str) -> Iterator[Callable[[int, int], None]]:
    """Shows how far a slide is, until it is finished."""
    bar = progress.add_task(name, total=None, loss="", rate="looking")
    try:
        yield lambda done, of: progress.update(bar, completed=done, total=of, rate="blocks")
    finally:
        progress.remove_task(bar)


def steps_per_s(steps: int, seconds: float) -> str:
    """How fast steps are done, as bars show it.

    >>> steps_per_s(6, 4.0)
    '1.50 steps/s'
    """
    return f"{steps / max(seconds, 1e-9):.2f} steps/s"


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(42.3), duration(312), duration(9000)
    ('42 s', '5 min', '2 h 30 min')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def one_by_one(files: Sequence[Path], work: Callable[[int, Path], R]) -> tuple[list[R], dict[str, str]]:
    """What `work(index, file)` returns for each file, and by file what went wrong.

    Where there are several, one that fails does not stop the rest; a single file's error is raised.
    """
    done: list[R] = []
    errors: dict[str, str] = {}
    for index, file in enumerate(files):
        try:
            done.append(work(index, file))
        except FAILURES as error:
            if len(files) == 1:
                raise
            errors[str(file)] = verdict(error)[0]
    return done, errors


def numbered(index: int, files: Sequence[Path]) -> str:
    """What a bar calls one of several files.

    >>> numbered(1, [Path("a.png"), Path("b.png")]), numbered(0, [Path("a.png")])
    ('2/2 b.png', 'a.png')
    """
    name = files[index].name
    return name if len(files) == 1 else f"{index + 1}/{len(files)} {name}"


def facts_of_all(results: Sequence[dict[str, Any]], errors: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """The facts of a single file, or those of several with their errors."""
    if len(results) == 1 and not errors:
        return results[0]
    return {"results": results, "errors": errors, "seconds": seconds, "peak_rss_mb": peak_rss_mb()}


def tell(
    facts: Mapping[str, Any],
    lines: Iterable[str],
    *,
    as_json: bool,
    notes: Iterable[str] = (),
    warnings: Iterable[str] = (),
    errors: Mapping[str, str] | None = None,
) -> None:
    """Print the facts as one JSON object, or warnings and lines; notes and errors go to stderr in any case.

    Raises: typer.Exit with status 1 where there is an error.
    """
    _complain("Note", (f"{note}." for note in notes))
    if as_json:
        print(json.dumps(facts), flush=True)
    else:
        _complain("Warning", warnings)
        for line in lines:
            print(line, flush=True)
    _complain("Error", (f"{file}: {message}" for file, message in (errors or {}).items()))
    if errors:
        raise typer.Exit(1)


def look_closely(*files: Path) -> str:
    """The next command, after pictures were made."""
    return f"Look closely: chromogen view {shlex.join(map(str, files[-MAX_VIEWED:]))}"


def tell_report(
    files: Mapping[str, Path], warnings: Iterable[str], lines: Iterable[str], *, as_json: bool
) -> None:
    """Print what a report's JSON file says, and where its files are; or lines, and where its page is."""
    outputs = {kind: str(file) for kind, file in files.items()}
    facts = {**json.loads(files["json"].read_text()), "output": outputs} if as_json else {}
    said = [*lines, USE, f"Open {files['page']} in a browser."]
    tell(facts, said, as_json=as_json, warnings=warnings)


def note_assumed(mpps: Iterable[float | None], option: str, role: str = "image") -> None:
    """Print the pixel size in um that Chromogen assumed of images that state none, and the option that sets it."""
    for mpp, count in Counter(mpp for mpp in mpps if mpp).items():
        said = f"1 {role} states" if count == 1 else f"{count} {role}s state"
        _complain("Note", [f"{said} no pixel size; Chromogen took {mpp:g} um/px (set it with {option})."])


def _complain(kind: str, messages: Iterable[str]) -> None:
    for message in messages:
        print(f"{kind}: {message}", file=sys.stderr)


def result_line(facts: dict[str, Any]) -> str:
    """What became of one content, from the facts about it."""
    if facts.get("already_done"):
        return f"{facts['output']}: already up to date; skipped"
    before, after = facts["initial"]["terms"], facts["final"]["terms"]
    losses = ", ".join(f"{name} {before[name]:.3g} -> {after[name]:.3g}" for name in after)
    width, height = facts["size"]
    return (
        f"{facts['output']}: {width} x {height} px, {facts['steps']} steps in {facts['seconds']:.1f} s "
        f"({facts['precision']}); {losses}"
    )
