"""Trials: `chromogen stylize` on a region of a slide, as work in a queue."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chromogen.app.view.work_folder import (
    REGION,
    RESULT,
    TRACE,
    check_region,
    keep_region,
    lines_of,
    new_folder,
    region_file,
)
from chromogen.app.view.work_queue import Queued, WorkQueue, new_id
from chromogen.image import Image, read_provenance, scaled, write_image
from chromogen.provenance import sha256_of
from chromogen.slides.slide import Picture

PREVIEW_EVERY = 5
EXEMPLAR, PREVIEWS, RECORD = "exemplar.png", ".previews", "trial.json"


@dataclass(frozen=True)
class Trial:
    """What was asked.

    `slide`, `location` and `size` say where the region was, in level-0 pixels; `options` are the command's.
    """

    id: str
    slide: str
    location: tuple[int, int]
    size: tuple[int, int]
    mpp: float | None
    options: tuple[str, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """What lies in its folder."""
        return (REGION, EXEMPLAR, RESULT, f"{RESULT}.checkpoint", TRACE, PREVIEWS)

    @property
    def leftovers(self) -> tuple[str, ...]:
        """What the command had kept to go on from."""
        return (f"{RESULT}.checkpoint",)

    def is_finished(self, folder: Path) -> bool:
        """Whether the result is there, and says that it was made of this region and exemplar."""
        try:
            said = read_provenance(folder / RESULT) or {}
            region, exemplar = (sha256_of(folder / name) for name in (REGION, EXEMPLAR))
        except (OSError, ValueError):
            return False
        return said.get("content_sha256") == region and said.get("style_sha256") == [exemplar]

    @property
    def arguments(self) -> list[str]:
        """What follows `chromogen` to make the same picture from the trial's folder."""
        return ["stylize", REGION, EXEMPLAR, "-o", RESULT, *self.options]

    @property
    def command(self) -> list[str]:
        """The whole command, with what lets others follow it."""
        follow = ["--trace", TRACE, "--preview", PREVIEWS, "--preview-every", str(PREVIEW_EVERY)]
        return [sys.executable, "-m", "chromogen", *self.arguments, *follow, "--json"]

    @property
    def shell_line(self) -> str:
        """The command line that makes the same picture, in the trial's folder."""
        return shlex.join(["chromogen", *self.arguments])

    @property
    def python_lines(self) -> str:
        """The same in Python."""
        options = dict(zip(self.options[::2], self.options[1::2], strict=True))
        changes = {
            "dab_amount": options.get("--dab-amount"),
            "seed": options.get("--seed"),
        }
        changed = ", ".join(f"{name}={value}" for name, value in changes.items() if value is not None)
        recipe = f'PRESETS["{options["--preset"]}"]'
        if steps := options.get("--steps"):
            recipe = f"with_total_steps({recipe}, {steps})"
        if changed:
            recipe = f"replace({recipe}, {changed})"
        mpp = f", mpp={options['--mpp']}" if "--mpp" in options else ""
        return "\n".join(
            [
                "from dataclasses import replace",
                "from chromogen import Encoder, PRESETS, measure_style, read_image, write_image",
                "from chromogen.style.stylize import stylize",
                "from chromogen.style.recipes import with_total_steps",
                "",
                f"recipe = {recipe}",
                "encoder = Encoder()",
                f'style = measure_style([read_image("{EXEMPLAR}")], recipe, encoder{mpp})',
                f'result = stylize(read_image("{REGION}"), style, recipe, encoder=encoder)',
                'write_image("result.png", result.image)',
            ]
        )


@dataclass(frozen=True)
class Progress:
    """How far a trial is: steps done, of how many at most, the losses so far, and the newest preview's step."""

    step: int = 0
    of: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    preview: int = 0


def trial_queue(folder: Path) -> WorkQueue[Trial]:
    """The trials in a folder."""
    return WorkQueue(folder, Trial, RECORD)


def start_trial(trials: WorkQueue[Trial], trial: Trial, region: Image, exemplar: Picture) -> Queued[Trial]:
    """Put a trial of a region, uint8 (H, W, 3), and an exemplar into the queue.

    The exemplar is resampled to the region's pixel size, where both are known.
    Raises: ValueError where too many wait, OSError where it cannot be written.
    """
    trials.check_room()
    with new_folder(trials.folder / trial.id) as folder:
        (folder / PREVIEWS).mkdir()
        keep_region(folder, region_file(region, trial.mpp, trial.location))
        write_image(folder / EXEMPLAR, *_at(exemplar, trial.mpp))
        return trials.start(trial)


def _at(exemplar: Picture, mpp: float | None) -> tuple[Image, None, float | None]:
    """Pixels of the region's size in um, where both are known, without provenance, and what they measure."""
    if exemplar.mpp is None or mpp is None:
        return exemplar.pixels, None, exemplar.mpp
    return scaled(exemplar.pixels, exemplar.mpp / mpp), None, mpp


def trial_progress(folder: Path) -> Progress:
    """How far a trial is, from what its process has written into its folder."""
    steps = lines_of(folder / TRACE, "index")
    previews = [int(file.stem.rpartition("_")[2]) for file in (folder / PREVIEWS).glob("region_step_*.png")]
    if not steps:
        return Progress(preview=max(previews, default=0))
    losses = [step["losses"]["total"] for step in steps]
    last = steps[-1]
    return Progress(last["index"], last["of"], last["seconds"], losses, max(previews, default=0))


def newest_picture(folder: Path) -> Path:
    """The newest picture of a trial: its result, else its last preview, else the region it began with."""
    preview = folder / PREVIEWS / f"region_step_{trial_progress(folder).preview:04d}.png"
    return next((file for file in (folder / RESULT, preview) if file.is_file()), folder / REGION)


def new_trial(
    slide: str, location: tuple[int, int], size: tuple[int, int], mpp: float | None, options: Any
) -> Trial:
    """A trial with an id that begins with the time; ValueError for a region that is too small or too large."""
    check_region("region", size, "draw another one")
    return Trial(new_id(), slide, location, size, mpp, tuple(options))


def options_of(preset: str, mpp: float | None, given: Mapping[str, float | int | str | None]) -> list[str]:
    """The command line's options: preset, pixel size, and of the others those that are given."""
    options = ["--preset", preset] + (["--mpp", f"{mpp:.6g}"] if mpp else [])
    for name, value in given.items():
        if value is not None:
            options += [f"--{name.replace('_', '-')}", f"{value}"]
    return options
