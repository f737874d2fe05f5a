"""The time of a slide by many workers, simulated from measured times of its blocks. Nothing here measures.

The policy is that of `whole_slide/blocks.py` and `whole_slide/stain.py` with workers. The main process surveys the
slide. It keeps `1 + GROUPS_AHEAD` groups of blocks under way for each worker, and hands out the next one when the
results of a group come. It writes meanwhile, in the order of the pyramid, and verifies the file at the end. A
worker that is free takes the first group that waits. Windows of a sliding window show in several blocks: a worker
paints a window anew unless it is among those that the worker used last. Every worker has a core of its own, and so
has the main process.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from chromogen.slides.store import Index
from chromogen.whole_slide.blocks import GROUPS_AHEAD, group_of


@dataclass(frozen=True)
class Piece:
    """A block, its seconds without windows, and the windows that show in it, as it asks for them."""

    index: Index
    own_s: float
    windows: Sequence[Hashable] = ()


@dataclass(frozen=True)
class Load:
    """A slide's blocks in the order in which they are handed out, and what takes time.

    `writing` is the order in which blocks are written, `kept` how many windows a process keeps. The main process
    takes `before_s` for the survey, `hand_s` to hand out a block, `write_s` to write it, and `after_s` to verify.
    """

    pieces: Sequence[Piece]
    writing: Sequence[Index]
    window_s: Mapping[Hashable, float] = field(default_factory=dict)
    kept: int = 0
    before_s: float = 0.0
    hand_s: float = 0.0
    write_s: float = 0.0
    after_s: float = 0.0


@dataclass(frozen=True)
class Simulated:
    """Seconds until the file is there, seconds that all workers work, and how many windows they paint."""

    seconds: float
    busy_s: float
    painted: int


class Worker:
    """What a worker keeps: the windows that it used last."""

    def __init__(self, load: Load) -> None:
        self._load, self._kept = load, OrderedDict[Hashable, None]()
        self.busy_s, self.painted = 0.0, 0

    def seconds(self, piece: Piece) -> float:
        """Of a block, which it works on now."""
        taken = piece.own_s + sum(self._window_s(window) for window in piece.windows)
        self.busy_s += taken
        return taken

    def _window_s(self, window: Hashable) -> float:
        if window in self._kept:
            self._kept.move_to_end(window)
            return 0.0
        self._kept[window] = None
        if len(self._kept) > self._load.kept:
            self._kept.popitem(last=False)
        self.painted += 1
        return self._load.window_s[window]


def simulated(load: Load, workers: int) -> Simulated:
    """The job by so many workers."""
    team = [Worker(load) for _ in range(workers)]
    arrived = dict(_arrivals(load, team))
    written_s = load.before_s
    for index in load.writing:
        written_s = max(written_s, arrived[index]) + load.write_s
    return Simulated(
        written_s + load.after_s, sum(worker.busy_s for worker in team), sum(worker.painted for worker in team)
    )


def _arrivals(load: Load, team: Sequence[Worker]) -> Iterator[tuple[Index, float]]:
    """Blocks as the main process takes them down, and when."""
    coming = deque(load.pieces)
    free = [(0.0, number) for number in range(len(team))]
    heapify(free)
    running: list[tuple[float, int, list[Index]]] = []  # ends of groups that are handed out, and their blocks
    main_s, count = load.before_s, itertools.count()

    def hand_out(groups: int) -> None:
        nonlocal main_s
        for _ in range(groups):
            if not coming:
                return
            group = [coming.popleft() for _ in range(group_of(len(coming), len(team)))]
            main_s += load.hand_s
            free_s, at = heappop(free)
            end_s = max(free_s, main_s) + sum(team[at].seconds(piece) for piece in group)
            heappush(free, (end_s, at))
            heappush(running, (end_s, next(count), [piece.index for piece in group]))

    hand_out((1 + GROUPS_AHEAD) * len(team))
    while running:
        end_s, _, indices = heappop(running)
        main_s = max(main_s, end_s)
        yield from ((index, main_s) for index in indices)
        hand_out(1)
