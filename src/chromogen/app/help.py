"""Which options `--help` shows: those that most people use. `--help-all` shows every option."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typer.core import TyperOption

ALL = "--help-all"
# By the names of parameters. Commands that are not here show all of their options.
SHOWN = {
    "stylize": "out preset settings steps share mpp style_mpp content_mask style_mask restart dry_run as_json",
    "stain": "out stainer style style_mpp site share where level intensity counterstain mpp region as_json",
    "train": "out style paired site register transform group mpp style_mpp steps restart as_json",
    "evaluate": "out content real transform register mpp group blind answers key as_json",
    "study": "out pairs painting size crops steps init mpp grid preset_name as_json",
}


def hide_rare_options(commands: Mapping[str, Any]) -> None:
    """Leave out of each command's help what `SHOWN` does not name, and say how to see it."""
    for name, shown in SHOWN.items():
        command = commands[name]
        options = [option for option in command.params if isinstance(option, TyperOption)]
        rare = [option for option in options if option.name not in shown.split()]
        for option in rare:
            option.hidden = True
        command.epilog = f"{len(rare)} more options: chromogen {name} {ALL}\n\n{command.epilog}"
