"""What all routes of one server share, and the threads in which they read slides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import anyio
import anyio.to_thread
from fastapi import Path, Request, Response

from chromogen.app.view.alignments import Alignments
from chromogen.app.view.jobs import Job, JobLine, job_line
from chromogen.app.view.pool import Opened, ShelfPool
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.app.view.slide_nuclei import NucleusFinder
from chromogen.app.view.work_queue import Queued, WorkQueue
from chromogen.app.view.worker_process import WorkerProcess
from chromogen.compute.memory import LruCache
from chromogen.slides.pyramid import processors

KEEP = {"cache-control": "private, max-age=86400, immutable"}  # the address has the file's version
FRESH = {"cache-control": "no-store"}
CLIENT_GONE = 499
MAX_CACHED_BYTES = 96_000_000
Stains = Literal["h-dab", "h-e", "h-dab-ruifrok", "h-e-ruifrok"]
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}}}
SLIDE_ID = "^[0-9a-f]{16}$"
SlideId = Annotated[str, Path(pattern=SLIDE_ID)]
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
