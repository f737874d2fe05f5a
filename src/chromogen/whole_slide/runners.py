"""Where blocks are worked on: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from chromogen.errors import expected, short
from chromogen.files import scratch_folder
from chromogen.slides.threads import processors

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
R = TypeVar("R")

MAX_THREADS = 16  # each takes memory for a block
AHEAD = 2  # pieces that wait for every one that is worked on
ALLOWED_FAILURES = 20  # workers that may die over a piece before it is given up
CONNECT_S = 30


class Run(Protocol):
    """Apply a function to pieces, many at once, few ahead; results come as they are ready."""

    def __call__(self, function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        """Results, in any order."""


def in_threads(threads: int | None = None) -> Run:
    """Run on so many threads of this process, by default one a processor it may use."""
    count = threads or min(MAX_THREADS, processors())

    def run(function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        coming = iter(pieces)
        with ThreadPoolExecutor(count, "block") as pool:
            try:
                running: set[Future[R]] = {pool.submit(function, p) for p in islice(coming, AHEAD * count)}
                while running:
                    ready, running = wait(running, return_when=FIRST_COMPLETED)
                    running |= {pool.submit(function, piece) for piece in islice(coming, len(ready))}
                    yield from (future.result() for future in ready)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    return run


def on_cluster(client: Client) -> Run:
    """Run on a cluster's workers. A piece whose worker dies goes to another; without any it waits for one."""

    def run(function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        from distributed import as_completed

        coming = iter(pieces)

        def send(count: int) -> list[Any]:
            return [client.submit(function, piece, pure=False) for piece in islice(coming, count)]

        ready = as_completed(send(_wanted(client)), loop=client.loop)
        for done in ready:
            yield done.result()
            for future in send(max(0, _wanted(client) - ready.count())):
                ready.add(future)

    return run


def _wanted(client: Client) -> int:
    """How many pieces are to be under way: enough for all workers there are now, or for the first to come."""
    known = client.scheduler_info(n_workers=-1)["workers"].values()
    return (1 + AHEAD) * max(1, sum(int(worker["nthreads"]) for worker in known))


@contextmanager
def local_cluster(workers: int, threads: int | None = None) -> Iterator[Client]:
    """A cluster of processes on this machine, reachable from it alone, that share its processors."""
    dask, distributed = _distributed()
    with (
        scratch_folder() as folder,
        dask.config.set(_settings(folder)),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=threads or max(1, processors() // workers),
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            local_directory=str(folder),
            memory_limit=0,
            silence_logs="CRITICAL",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@contextmanager
def cluster_at(address: str) -> Iterator[Client]:
    """A cluster whose scheduler listens at an address, as tcp://10.0.0.5:8786, or in a scheduler file (.json).

    Raises: ValueError where none answers, or the extra `cluster` is missing.
    """
    _, distributed = _distributed()
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        client = distributed.Client(**where, set_as_default=False, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        got = f"{address} ({short(error)})"
        raise expected(
            "scheduler", "the address of a Dask scheduler", got, "start one with `dask scheduler`"
        ) from error
    with client:
        yield client


def _settings(folder: Path) -> dict[str, Any]:
    """The scheduler has a folder too, which it would leave in the system's."""
    return {"distributed.scheduler.allowed-failures": ALLOWED_FAILURES, "temporary-directory": str(folder)}


def _distributed() -> tuple[Any, Any]:
    try:
        import dask
        import distributed
    except ImportError as error:
        raise expected(
            "workers", "used with the extra `cluster`", "none", "pip install 'chromogen[cluster]'"
        ) from error
    return dask, distributed
