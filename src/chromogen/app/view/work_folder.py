"""What lies in the folder of a piece of work: the region that went in, the result, the trace to follow it by."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chromogen.errors import expected
from chromogen.files import write_whole
from chromogen.image import Image, encode_image

REGION, RESULT, TRACE = "region.png", "result.png", "trace.jsonl"
MIN_SIDE_PX, MAX_SIDE_PX = 64, 2048  # of a region


@dataclass(frozen=True)
class Progress:
    """How far work is: steps or blocks done, of how many; seconds since it began, and about how many are left.

    Of a trial also the losses so far, and the newest preview's step.
    """

    step: int = 0
    of: int = 0
    seconds: float = 0.0
    left_s: float | None = None
    losses: list[float] = field(default_factory=list)
    preview: int = 0


def check_region(argument: str, size: tuple[int, int], advice: str) -> None:
    """ValueError for a region (w, h) that is too small or too large."""
    if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in size):
        wanted = f"{MIN_SIDE_PX} to {MAX_SIDE_PX} px on each side"
        raise expected(argument, wanted, f"{size[0]} x {size[1]} px", advice)


def cut_around(
    location: tuple[int, int], size: tuple[int, int], whole: tuple[int, int], least: int, most: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """A box about the middle of another, with sides of `least` to `most` px inside a slide of size `whole`.

    Raises: ValueError where the other does not lie inside the slide.
    """
    if any(at < 0 or side < 1 or at + side > all_ for at, side, all_ in zip(location, size, whole, strict=True)):
        raise expected("region", f"inside the slide of {whole[0]} x {whole[1]} px", f"{size} at {location}")
    sides = [min(max(side, least), most, all_) for side, all_ in zip(size, whole, strict=True)]
    starts = [at + (side - cut) // 2 for at, side, cut in zip(location, size, sides, strict=True)]
    inside = [min(max(at, 0), all_ - cut) for at, cut, all_ in zip(starts, sides, whole, strict=True)]
    return (inside[0], inside[1]), (sides[0], sides[1])


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder for a piece of work, which goes again where that does not come about."""
    folder.mkdir(parents=True)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def keep_region(folder: Path, file: bytes) -> None:
    """Write the file of a region into the folder. Raises: OSError."""
    write_whole(folder / REGION, file)


def region_file(region: Image, mpp: float | None, location: tuple[int, int]) -> bytes:
    """The file of a region, uint8 (H, W, 3), with its mpp and where it lay, (x, y) in level-0 pixels."""
    return encode_image(region, Path(REGION).suffix, {"mpp": mpp, "region_of_slide": list(location)}, mpp)


def lines_of(trace: Path, count: str) -> Sequence[dict[str, Any]]:
    """The whole lines of a trace; the last one may be half written. Of each `count` the newest, in order."""
    try:
        text = trace.read_text(errors="replace")
    except OSError:
        return []
    steps: dict[int, dict[str, Any]] = {}
    for line in text.split("\n")[:-1]:
        try:
            step = json.loads(line)
            steps[step[count]] = step
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return [steps[index] for index in sorted(steps)]
