"""The command line: its commands, and how it ends."""

from __future__ import annotations

import io
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Annotated, Any

import typer

from chromogen.app import (
    demo_command,
    evaluate_command,
    export_command,
    info_command,
    label_command,
    nuclei_command,
    register_command,
    stain_command,
    study_command,
    stylize_command,
    train_command,
    transfer_command,
    unmix_command,
    view_command,
)
from chromogen.app.help import ALL, hide_rare_options
from chromogen.app.terminal import verdict
from chromogen.compute.allocator import collect_garbage_rarely, keep_freed_memory
from chromogen.pixel_size import check_mpp
from chromogen.provenance import NOTICE, __version__

EPILOG = (
    "Start with `chromogen demo`; `chromogen COMMAND --help` has examples, `--help-all` every option. "
    "Exit status: 0 done, 1 failed while running, 2 the request was wrong."
)
INTERRUPTED = "Stopped by Ctrl-C. Finished work is kept; the same command continues."
TYPER_INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt

app = typer.Typer(
    name="chromogen",
    epilog=EPILOG,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 failed while running, 2 the request was wrong."""
    arguments = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    keep_freed_memory()
    collect_garbage_rarely()
    _print_any_name()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            status = _run(arguments)
        if status == TYPER_INTERRUPTED:
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _complain(INTERRUPTED, arguments)
        status = 1
    except Exception as error:
        if "--debug" in arguments:
            raise
        message, status = verdict(error)
        _complain(message, arguments)
    sys.exit(status or 0)


def _run(arguments: Sequence[str]) -> int | None:
    """Run a command; returns a status where the command ended early."""
    group: Any = typer.main.get_command(app)
    if ALL in arguments:
        arguments = ["--help" if argument == ALL else argument for argument in arguments]
    else:
        hide_rare_options(group.commands)
    status: int | None = group.main(arguments, prog_name="chromogen", standalone_mode=False)
    return status


def _print_any_name() -> None:
    """Names of files need not be text that the terminal can show."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _complain(message: str, arguments: Sequence[str]) -> None:
    print(f"Error: {message}", file=sys.stderr)
    if "--json" in arguments:
        print(json.dumps({"error": message}))


def _show_warning(message: Warning | str, *_where: object, **_more: object) -> None:
    print(f"Warning: {message}", file=sys.stderr)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"chromogen {__version__}")
        raise typer.Exit


@app.callback(help=f"Virtual immunohistochemistry: H&E in, an IHC look out ({NOTICE}).")
def _chromogen(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None: ...


def _flowing(text: str) -> str:
    """Paragraphs without line breaks in them: the terminal's width decides where lines end."""
    return "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in text.split("\n\n"))


def _with_mpp_checked(command: Callable[..., None]) -> Callable[..., None]:
    """The command, which refuses a pixel size that cannot be before it begins, whichever option gives it."""

    @wraps(command)
    def checked(**given: Any) -> None:
        for option, value in given.items():
            if option.endswith("mpp"):
                check_mpp(option, value)
        command(**given)

    return checked


BEGIN, MAKE, MEASURE = "Begin, and look", "Make a virtual stain", "Measure"
for _command, _epilog, _panel in (
    (demo_command.demo, demo_command.EPILOG, BEGIN),
    (info_command.info, info_command.EPILOG, BEGIN),
    (view_command.view, view_command.EPILOG, BEGIN),
    (stylize_command.stylize, stylize_command.EPILOG, MAKE),
    (stain_command.stain, stain_command.EPILOG, MAKE),
    (train_command.train, train_command.EPILOG, MAKE),
    (export_command.export, export_command.EPILOG, MAKE),
    (evaluate_command.evaluate, evaluate_command.EPILOG, MEASURE),
    (nuclei_command.nuclei, nuclei_command.EPILOG, MEASURE),
    (register_command.register, register_command.EPILOG, MEASURE),
    (transfer_command.transfer, transfer_command.EPILOG, MEASURE),
    (label_command.label, label_command.EPILOG, MEASURE),
    (unmix_command.unmix, unmix_command.EPILOG, MEASURE),
    (study_command.study, study_command.EPILOG, MEASURE),
):
    app.command(epilog=_flowing(_epilog), rich_help_panel=_panel)(_with_mpp_checked(_command))
