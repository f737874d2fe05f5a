"""What all routes of a server share: slides, jobs as the page shows them, and the threads that read slides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import anyio
import anyio.to_thread
from fastapi import Path as InAddress
from fastapi import Request, Response
from pydantic import BaseModel

from chromogen.app.terminal import duration
from chromogen.app.view.opened import Opened, ShelfPool, virtual_facts
from chromogen.app.view.placement import Alignments
from chromogen.app.view.processes import WorkerProcess
from chromogen.app.view.slide_catalog import SlideCatalog, without_folder
from chromogen.app.view.slide_nuclei import NucleusFinder
from chromogen.app.view.stains import Stain
from chromogen.app.view.trials import Trial
from chromogen.app.view.work_folder import REGION, Progress
from chromogen.app.view.work_queue import Queued, WorkQueue
from chromogen.compute.memory import LruCache
from chromogen.slides.pyramid import processors

# Jobs: stains and trials, by what they are made and how far they are, in words.

Job = Stain | Trial
MIN_UNLIKE = 0.0005  # of the tissue: less rounds to nothing
NAMES = {
    "tissue": "the slide’s own tissue",
    "regions": "regions that a person drew",
    "map": "a heat map",
    "model": "a model trained elsewhere",
    "paired": "a model of real pairs",
}


class JobLine(BaseModel):
    """A piece of work as the page shows it, without folders of this machine.

    `title` says by what it is made, `settings` what was set of that, `status` how far it is or how it ended,
    `part` the same from 0 to 1. `location` and `size` are a part of the slide, in level-0 pixels. `result` is the
    id of what was made as a slide, `region` that of the H&E that went in, if they are there. `is_slide` says that
    no browser shows the result as one picture; `step` changes with the picture. `where` says by which source it
    is stained where it is, `unlike_percent` how much tissue is unlike the exemplar's, if that is worth a word.
    """

    id: str
    kind: Literal["stain", "trial"]
    slide: str
    location: tuple[int, int] | None
    size: tuple[int, int] | None
    state: str
    title: str
    settings: str
    status: str
    part: float | None
    losses: list[float]
    step: int
    result: str | None
    region: str | None
    is_slide: bool
    where: str
    unlike_percent: float
    is_filled: bool
    folder: str
    command: str
    python: str


def job_queue(folder: Path) -> WorkQueue[Job]:
    """The jobs in a folder."""
    return WorkQueue[Job](folder, Stain, Trial)


def job_line(jobs: WorkQueue[Job], slides: SlideCatalog, queued: Queued[Job]) -> JobLine:
    """A job as it is now; `slides` shows its files."""
    job, folder = queued.work, jobs.folder.resolve() / queued.id
    progress = job.progress(folder)
    told = _told(folder / job.output) if queued.state == "done" else {}
    unlike = told.get("unlike_fraction") or 0.0
    return JobLine(
        id=job.id,
        kind=job.kind,
        slide=job.slide,
        location=job.location,
        size=job.size,
        state=queued.state,
        title=job.title,
        settings=job.settings,
        status=_status(queued, progress),
        part=progress.step / progress.of if progress.of else None,
        losses=progress.losses,
        step=progress.preview,
        result=slides.id_of(folder / job.output),
        region=slides.id_of(folder / REGION),
        is_slide=job.is_slide,
        where=_where_words(told.get("where")),
        unlike_percent=100 * unlike if unlike >= MIN_UNLIKE else 0,
        is_filled=job.fill,
        folder=job.made_in,
        command=job.shell_line,
        python=job.python_lines,
    )


def _status(queued: Queued[Job], progress: Progress) -> str:
    """How far it is, or how it ended."""
    job, step = queued.work, progress.step
    many = f"{step} {job.unit}{'s' if step > 1 else ''}"
    if queued.state == "running" and step:
        return f"{job.unit.capitalize()} {step} of {progress.of}, about {duration(progress.left_s or 0)} left"
    return {
        "waiting": "Waiting for its turn",
        "running": f"Starting: {job.begins_by}",
        "done": f"Done: {many} in {duration(progress.seconds)}" if step else "Done",
        "failed": f"Failed: {without_source_folders(queued.error, job)}",
        "cancelled": f"Cancelled; {job.kept}",
        "interrupted": f"Interrupted, as the server ended meanwhile; {job.kept}",
    }[queued.state]


def _told(result: Path) -> dict[str, Any]:
    """What a result's file says: by which source it is stained where it is, and what is unlike the exemplar's."""
    try:
        found = result.stat()
    except OSError:
        return {}
    facts = virtual_facts(result, f"{found.st_mtime_ns:x}-{found.st_size:x}") or {}
    statistics = facts.get("statistics") or {}
    return {"where": facts.get("where"), **(statistics.get("confidence") or {})}


def _where_words(where: dict[str, Any] | None) -> str:
    if not where:
        return ""
    levels = ", ".join(f"{name} {100 * level:.0f} %" for name, level in (where.get("levels") or {}).items())
    source = NAMES.get(where["source"], where["source"])
    return f"Follows {source}{f' ({levels})' if levels else ''}: {where['claim']}. Not a measurement."


@contextmanager
def failing_without_folders(stain: Stain) -> Iterator[None]:
    """What goes wrong with a stain as a ValueError that names no folder."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
        raise ValueError(without_source_folders(str(error), stain)) from error


def without_source_folders(text: str, job: Job) -> str:
    """What is said of a job, without the folders of its files."""
    for file in job.sources:
        text = without_folder(text, Path(file))
    return text


# The state of one server, and the threads in which it reads slides.

KEEP = {"cache-control": "private, max-age=86400, immutable"}  # the address has the file's version
FRESH = {"cache-control": "no-store"}
CLIENT_GONE = 499
MAX_CACHED_BYTES = 96_000_000
Stains = Literal["h-dab", "h-e", "h-dab-ruifrok", "h-e-ruifrok"]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
SLIDE_ID = "^[0-9a-f]{16}$"
SlideId = Annotated[str, InAddress(pattern=SLIDE_ID)]
T = TypeVar("T")


class Renderer:
    """Does work in threads, as many at a time as there are cores; what nobody waits for any more is left out."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(max(2, processors()))
        self._recent: LruCache[bytes] = LruCache(MAX_CACHED_BYTES, len)

    async def answer(
        self, request: Request, key: tuple[object, ...], media_type: str, make: Callable[[], bytes]
    ) -> Response:
        """The bytes that `make` gives, held under the key for the next who asks."""
        held = self._recent.peek(key)
        if held is None:
            async with self._limiter:
                if await request.is_disconnected():
                    return Response(status_code=CLIENT_GONE)
                held = await anyio.to_thread.run_sync(self._recent.get, key, make)
        return Response(held, media_type=media_type, headers=KEEP)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives."""
        async with self._limiter:
            return await anyio.to_thread.run_sync(work)


@dataclass(frozen=True)
class State:
    """The slides of one server, what is made of them, and who works on them.

    `models` has files of stainers and of *where*, which `worker` reads; labels are shown if `shows_labels`.
    """

    slides: SlideCatalog
    models: SlideCatalog
    jobs: WorkQueue[Job]
    alignments: Alignments
    worker: WorkerProcess
    nuclei: NucleusFinder
    shows_labels: bool
    pool: ShelfPool = field(default_factory=ShelfPool)
    renderer: Renderer = field(default_factory=Renderer)

    @contextmanager
    def reading(self, slide_id: str) -> Iterator[Opened]:
        """The slide of an id, open for as long as it is read. Raises: UnknownSlideError, SlideError."""
        with self.pool.reading(self.slides.find(slide_id)) as opened:
            yield opened

    def line(self, queued: Queued[Job]) -> JobLine:
        """A job as it is now."""
        return job_line(self.jobs, self.slides, queued)

    def close(self) -> None:
        """End what runs, and let go of all files."""
        self.jobs.close()
        self.worker.close()
        self.pool.close()
