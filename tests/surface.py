"""What others build on, as text: the names and signatures of the API, and the command line with its defaults.

`make snapshots` (this file, run) writes both into tests/snapshots, where test_snapshots compares them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import typer
from typer.models import ArgumentInfo

import chromogen
from chromogen.app.cli import app

FOLDER = Path(__file__).with_name("snapshots")


def api() -> str:
    """Every public name with its signature; classes with their public methods and properties."""
    lines = [line for name in chromogen.__all__ for line in _described(name, getattr(chromogen, name))]
    return "\n".join(lines) + "\n"


def _described(name: str, found: Any) -> Iterator[str]:
    if inspect.isclass(found):
        yield f"class {name}{_signature(found)}"
        yield from (f"    {line}" for line in _members(found))
    elif inspect.isfunction(found):
        yield f"def {name}{_signature(found)}"
    elif isinstance(found, dict):
        yield f"{name}: {', '.join(found)}"
    else:
        yield name


def _members(found: type) -> Iterator[str]:
    for name, member in inspect.getmembers_static(found):
        if name.startswith("_") and name != "__call__":
            continue
        if isinstance(member, property) or type(member).__name__ == "cached_property":
            yield f"{name} (property)"
        elif inspect.isfunction(member):
            yield f"{name}{_signature(member)}"


def _signature(found: Callable[..., Any]) -> str:
    """As it is written: what is not given is told by its name where it has no short form."""
    text = str(inspect.signature(found))
    text = re.sub(r"ForwardRef\('([^']*)'\)", r"\1", text)
    text = re.sub(r"<factory>|mappingproxy\(\{\}\)|<(?:function|class) ['\w.<>]+(?: at 0x\w+)?>", "...", text)
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def command_line() -> str:
    """Every command with its arguments and options: names, what they take, and what holds if they are left out."""
    lines = []
    for name, command in sorted((str(found.name), found.callback) for found in app.registered_commands):
        lines.append(f"chromogen {name}")
        assert command
        hints = get_type_hints(command, include_extras=True)
        for option, parameter in inspect.signature(command).parameters.items():
            if hints[option] is typer.Context:
                continue
            takes, described = get_args(hints[option])
            lines.append(f"    {_named(option, takes, described)}{_default(parameter.default, described)}")
    return "\n".join(lines) + "\n"


def _named(name: str, takes: Any, described: Any) -> str:
    kind = takes.__name__ if isinstance(takes, type) and not get_args(takes) else str(takes)
    kind = kind.replace("pathlib.", "")
    declared = [said for said in (described.default, *(described.param_decls or ())) if isinstance(said, str)]
    dashed = name.replace("_", "-")
    usual = f"--{dashed}/--no-{dashed}" if takes is bool else f"--{dashed}"
    said = name if isinstance(described, ArgumentInfo) else ", ".join(declared) or usual
    return f"{said} {described.metavar}: {kind}" if described.metavar else f"{said}: {kind}"


def _default(default: Any, described: Any) -> str:
    """Where it is None, what the help says of it."""
    if default is inspect.Parameter.empty:
        return ", required"
    said = re.search(r"Default.*", described.help or "")
    return f" = {default if default is not None or not said else said.group()}"


SNAPSHOTS: dict[str, Callable[[], str]] = {"api.txt": api, "command_line.txt": command_line}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, made in SNAPSHOTS.items():
        (FOLDER / file).write_text(made(), encoding="utf-8")
