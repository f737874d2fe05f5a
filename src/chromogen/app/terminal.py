"""What commands share: their common options, bars on the terminal, one file after the other, and what is said."""

from __future__ import annotations

import errno
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from chromogen.errors import FAILURES, short
from chromogen.provenance import NOTICE, peak_rss_mb

if TYPE_CHECKING:
    from chromogen.image import Image
    from chromogen.style.run import Step

R = TypeVar("R")

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout, last.", rich_help_panel="Output")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel="Output")]

Search = partial(typer.Option, rich_help_panel="Optimization")
Scale = partial(typer.Option, rich_help_panel="Size and styles")
Region = partial(typer.Option, rich_help_panel="Where the brown goes")
Machine = partial(typer.Option, rich_help_panel="Network and machine")
Output = partial(typer.Option, rich_help_panel="Output")


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


def progress_bars() -> Progress:
    """Bars on stderr while there is someone to see them; they leave no trace."""
    console = Console(stderr=True)
    return Progress(
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


def move_bar(progress: Progress, task: TaskID, step: Step, _picture: Callable[[], Image]) -> None:
    """A listener to steps: moves a bar, with rate and loss."""
    rate = f"{step.index / max(step.seconds, 1e-9):.2f} steps/s"
    progress.update(task, total=step.of, completed=step.index, rate=rate, loss=f"loss {step.losses.total:.4g}")


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
    """What `work(index, file)` gives of each file, and by file what went wrong.

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


def tell(results: Sequence[dict[str, Any]], errors: Mapping[str, str], seconds: float) -> None:
    """Print what came of all files as one JSON object: the facts of a single one, or a list with its errors."""
    several = {"results": results, "errors": errors, "seconds": seconds, "peak_rss_mb": peak_rss_mb()}
    print(json.dumps(results[0] if len(results) == 1 and not errors else several))


def end_with(errors: Mapping[str, str]) -> None:
    """Print an error a line; typer.Exit with status 1 where there is one."""
    for file, message in errors.items():
        print(f"Error: {file}: {message}", file=sys.stderr)
    if errors:
        raise typer.Exit(1)


def note_assumed(mpps: Iterable[float | None], option: str, role: str = "image") -> None:
    """Print the pixel size in um that Chromogen assumed of images that state none, and the option that sets it."""
    for mpp, count in Counter(mpp for mpp in mpps if mpp).items():
        said = f"1 {role} states" if count == 1 else f"{count} {role}s state"
        print(f"Note: {said} no pixel size; Chromogen took {mpp:g} um/px (set it with {option}).", file=sys.stderr)


def summary_of(files: Mapping[str, Path]) -> str:
    """What a report's JSON file says, and where its files are, as the one JSON object of `--json`."""
    outputs = {kind: str(file) for kind, file in files.items()}
    return json.dumps({**json.loads(files["json"].read_text()), "output": outputs})


def tell_report(
    files: Mapping[str, Path], warnings: Iterable[str], lines: Iterable[str], *, as_json: bool
) -> None:
    """Print what a report says: a JSON object, or warnings, lines, and where its page is."""
    if as_json:
        print(summary_of(files))
        return
    for warning in warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    print("\n".join([*lines, f"{NOTICE.capitalize()}.", f"Open {files['page']} in a browser."]))


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
