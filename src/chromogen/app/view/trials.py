"""Trials: `chromogen stylize` on a region of a slide, as work in a queue."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from chromogen.app.view.work_folder import (
    REGION,
    RESULT,
    TRACE,
    Progress,
    check_region,
    keep_region,
    lines_of,
    new_folder,
    region_file,
)
from chromogen.app.view.work_queue import Queued, WorkQueue, new_id
from chromogen.image import Image, read_provenance, scaled, write_image
from chromogen.page import script
from chromogen.provenance import sha256_of
from chromogen.slides.slide import Picture

PREVIEW_EVERY = 5
EXEMPLAR, PREVIEWS = "exemplar.png", ".previews"


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
    record: ClassVar[str] = "trial.json"
    kind: ClassVar[Literal["trial"]] = "trial"
    unit: ClassVar[str] = "step"
    begins_by: ClassVar[str] = "loading the network and measuring the exemplar"
    kept: ClassVar[str] = "it goes on where it was, if it ran for more than a minute"
    title: ClassVar[str] = "style transfer"
    output: ClassVar[str] = RESULT
    is_slide: ClassVar[bool] = False
    fill: ClassVar[bool] = False
    sources: ClassVar[tuple[str, ...]] = ()

    @property
    def settings(self) -> str:
        """Its preset."""
        return self.options[1]

    @property
    def made_in(self) -> str:
        """Where its command line is run."""
        return f"In the folder {self.id} of the results."

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

    def progress(self, folder: Path) -> Progress:
        """How far it is, from what its process has written into its folder."""
        steps = lines_of(folder / TRACE, "index")
        previews = [int(file.stem.rpartition("_")[2]) for file in (folder / PREVIEWS).glob("region_step_*.png")]
        preview = max(previews, default=0)
        if not steps:
            return Progress(preview=preview)
        last, losses = steps[-1], [step["losses"]["total"] for step in steps]
        left = (last["of"] - last["index"]) * last["seconds"] / last["index"] if last["index"] else None
        return Progress(last["index"], last["of"], last["seconds"], left, losses, preview)

    def newest_picture(self, folder: Path) -> Path:
        """Its result, else its last preview, else the region it began with."""
        preview = folder / PREVIEWS / f"region_step_{self.progress(folder).preview:04d}.png"
        return next((file for file in (folder / RESULT, preview) if file.is_file()), folder / REGION)

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
        return script("trial.py.txt", options=options, exemplar=EXEMPLAR, region=REGION)


def start_trial(jobs: WorkQueue[Any], trial: Trial, region: Image, exemplar: Picture) -> Queued[Any]:
    """Put a trial of a region, uint8 (H, W, 3), and an exemplar into the queue.

    The exemplar is resampled to the region's pixel size, where both are known.
    Raises: ValueError where too many wait, OSError where it cannot be written.
    """
    jobs.check_room()
    with new_folder(jobs.folder / trial.id) as folder:
        (folder / PREVIEWS).mkdir()
        keep_region(folder, region_file(region, trial.mpp, trial.location))
        write_image(folder / EXEMPLAR, *_at(exemplar, trial.mpp))
        return jobs.start(trial)


def _at(exemplar: Picture, mpp: float | None) -> tuple[Image, None, float | None]:
    """Pixels of the region's size in um, where both are known, without provenance, and what they measure."""
    if exemplar.mpp is None or mpp is None:
        return exemplar.pixels, None, exemplar.mpp
    return scaled(exemplar.pixels, exemplar.mpp / mpp), None, mpp


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
