"""The command line: its commands, and how it ends."""

from __future__ import annotations

import inspect
import io
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Annotated, Any

import typer
from typer.core import TyperOption

from chromogen.app.begin_commands import demo_command, info_command, view_command
from chromogen.app.count_commands import nuclei_command, unmix_command
from chromogen.app.evaluate_commands import evaluate_command, study_command
from chromogen.app.pair_commands import label_command, register_command, transfer_command
from chromogen.app.stain_command import stain_command
from chromogen.app.stylize_command import stylize_command
from chromogen.app.terminal import verdict
from chromogen.app.train_command import export_command, train_command
from chromogen.compute.memory import collect_garbage_rarely, keep_freed_memory
from chromogen.pixel_size import check_mpp
from chromogen.provenance import NOTICE, __version__

EPILOG = (
    "Start with `chromogen demo`; `chromogen COMMAND --help` has examples, `--help-all` every option. "
    "Exit status: 0 done, 1 failed while running, 2 the request was wrong."
)
INTERRUPTED = "Stopped by Ctrl-C. Finished work is kept; the same command continues."
TYPER_INTERRUPTED = 130  # what Typer makes of a KeyboardInterrupt
ALL = "--help-all"
# By the names of parameters. Commands that are not here show all of their options.
SHOWN = {
    "stylize": "out preset settings steps share mpp style_mpp content_mask style_mask restart dry_run as_json",
    "stain": "out stainer style style_mpp site share where level intensity counterstain mpp region as_json",
    "train": "out style paired site register transform group mpp style_mpp steps restart as_json",
    "evaluate": "out content real transform register mpp group blind answers key as_json",
    "study": "out pairs painting size crops steps init mpp grid preset_name as_json",
}

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
        _hide_rare_options(group.commands)
    status: int | None = group.main(arguments, prog_name="chromogen", standalone_mode=False)
    return status


def _hide_rare_options(commands: Mapping[str, Any]) -> None:
    """Leave out of each command's help what `SHOWN` does not name, and say how to see it."""
    for name, shown in SHOWN.items():
        command = commands[name]
        options = [option for option in command.params if isinstance(option, TyperOption)]
        rare = [option for option in options if option.name not in shown.split()]
        for option in rare:
            option.hidden = True
        command.epilog = f"{len(rare)} more options: chromogen {name} {ALL}\n\n{command.epilog}"


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


PANELS = {
    "Begin, and look": (demo_command, info_command, view_command),
    "Make a virtual stain": (stylize_command, stain_command, train_command, export_command),
    "Measure": (
        evaluate_command,
        nuclei_command,
        register_command,
        transfer_command,
        label_command,
        unmix_command,
        study_command,
    ),
}


def _add(command: Callable[..., None], panel: str) -> None:
    """Add a command under its name; in its docstring, help ends where the first example begins."""
    said, first, examples = (inspect.getdoc(command) or "").partition("\n\nchromogen ")
    epilog = _flowing(f"Examples:{first}{examples}")
    name = command.__name__.removesuffix("_command")
    app.command(name, help=said, epilog=epilog, rich_help_panel=panel)(_with_mpp_checked(command))


for _panel, _commands in PANELS.items():
    for _command in _commands:
        _add(_command, _panel)
