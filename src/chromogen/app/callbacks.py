"""What listens to the steps of a run: the trace file, the previews."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path

from chromogen.app.paths import SideOutputs
from chromogen.files import stem_of, write_whole
from chromogen.image import Image, write_image
from chromogen.provenance import NOTICE
from chromogen.style.run import OnStep, Step


def listeners_of(side: SideOutputs, content: Path, index: int) -> list[OnStep]:
    """What writes down the steps of one content, the `index`-th from 0."""
    traces = [trace_to(side.trace, index)] if side.trace else []
    return traces + ([previews_to(side.preview, stem_of(content), side.preview_every)] if side.preview else [])


def trace_to(path: Path, content_index: int) -> OnStep:
    """Append every step as one line of JSON; `content` counts the run's contents from 0.

    A resumed run does some steps anew: their lines go first, as does half a line, which a full disk leaves.
    """
    steps = count()

    def write(step: Step, _picture: Callable[[], Image]) -> None:
        if next(steps) == 0 and path.exists():
            write_whole(path, b"".join(_earlier(path.read_bytes(), content_index, step.index)))
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"content": content_index, **asdict(step)}) + "\n")

    return write


def _earlier(trace: bytes, content_index: int, step_index: int) -> Iterator[bytes]:
    """The whole lines of a trace, without those of this content from this step on."""
    for line in trace.splitlines(keepends=True):
        with suppress(ValueError, KeyError, TypeError):
            step = json.loads(line)
            if line.endswith(b"\n") and (step["content"] != content_index or step["index"] < step_index):
                yield line


def previews_to(folder: Path, stem: str, every: int) -> OnStep:
    """Write the picture as STEM_step_0010.png after every so many steps."""

    def write(step: Step, picture: Callable[[], Image]) -> None:
        if step.index % every == 0:
            write_image(folder / f"{stem}_step_{step.index:04d}.png", picture(), {"notice": NOTICE})

    return write


def together(*listeners: OnStep) -> OnStep:
    """One listener that passes every step on to several."""

    def tell(step: Step, picture: Callable[[], Image]) -> None:
        for listener in listeners:
            listener(step, picture)

    return tell
