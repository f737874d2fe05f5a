"""Nuclei of slides as the page shows them: found window by window in a process apart, and kept.

The windows, the stains and the nuclei are those of `chromogen nuclei`, so moving the view changes no nucleus.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from chromogen.app.view.opened import errors_without_folders
from chromogen.app.view.processes import WorkerProcess
from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import GridTile
from chromogen.errors import expected
from chromogen.nuclei import positivity
from chromogen.nuclei.find import built_in, check_visible, nuclei_windows
from chromogen.nuclei.outlines import NETWORK_MPP, Nuclei, joined
from chromogen.nuclei.scores import Score, scores
from chromogen.whole_slide.kept_views import kept_survey
from chromogen.whole_slide.nuclei import StainVectors, at_level_0, has_tissue, in_window, stain_vectors
from chromogen.whole_slide.survey import Survey
from chromogen.whole_slide.view import SlideFile, View, held_slide, view_at

MAX_MM2 = 4.0  # of a view or region; the network takes about a second for each quarter of a mm2
SAMPLED_WINDOWS = 4  # of a slide, from whose nuclei its threshold is found
MAX_KEPT_BYTES = 64_000_000
OUTLINE_DIGITS = 1  # of a level-0 pixel

IsWanted = Callable[[], Awaitable[bool]]
Found = tuple[Nuclei, positivity.Measurements]


class NotWantedError(RuntimeError):
    """Nobody waits for these nuclei any more."""


@dataclass(frozen=True)
class SlideSource:
    """A slide whose nuclei are wanted: its file, the file's version, pixel size in um, and the stains chosen."""

    path: Path
    version: str
    mpp: float
    stains: Literal["h-e", "h-dab"]


@dataclass(frozen=True)
class NucleusNumbers:
    """How many nuclei there are, how many are positive, and by which threshold; None where that is not known.

    The positive share and the H-score come with their interval of 95 %, from `low` to `high`.
    """

    nuclei: int
    positive_nuclei: int | None = None
    positive_nuclei_percent: float | None = None
    positive_nuclei_percent_low: float | None = None
    positive_nuclei_percent_high: float | None = None
    h_score: float | None = None
    h_score_low: float | None = None
    h_score_high: float | None = None
    nuclei_threshold_od10: float | None = None
    nuclei_threshold_source: str = ""
    nuclei_doubt: str = ""


@dataclass(frozen=True, kw_only=True)
class NucleiInView(NucleusNumbers):
    """The same, also in words; each outline as x and y by turns in level-0 pixels, and 1 if it is positive."""

    words: str
    outlines: list[list[float]]
    positive: list[int]


def number_in_words(value: float | None, digits: int) -> str:
    """A number as people read it."""
    return "–" if value is None else f"{value:,.{digits}f}"


def interval_of(line: dict[str, Any], name: str, digits: int) -> str:
    """The interval of 95 % of a number, where it has one."""
    low, high = (line.get(f"{name}_{end}") for end in ("low", "high"))
    return (
        "" if low is None or high is None else f"{number_in_words(low, digits)} to {number_in_words(high, digits)}"
    )


def in_words(numbers: NucleusNumbers) -> str:
    """The numbers of the nuclei in view, for people."""
    counted = f"{numbers.nuclei:,} {'nucleus' if numbers.nuclei == 1 else 'nuclei'} in view"
    if numbers.positive_nuclei_percent is None or numbers.nuclei_threshold_od10 is None:
        return f"{counted}."
    whence = "found from the slide’s nuclei" if numbers.nuclei_threshold_source == "found" else "fixed"
    positive = f"DAB above {numbers.nuclei_threshold_od10:.2f}, {whence}"
    said = [f"{counted}, {numbers.positive_nuclei_percent:.1f} % positive ({positive})."]
    if numbers.h_score is not None:
        ends = interval_of(vars(numbers), "h_score", 0)
        said.append(f"H-score {numbers.h_score:.0f}{f' ({ends})' if ends else ''}.")
        if ends := interval_of(vars(numbers), "positive_nuclei_percent", 1):
            said.append(f"95 % interval of the share: {ends} %.")
    return " ".join([*said, *([f"In doubt: {numbers.nuclei_doubt}."] if numbers.nuclei_doubt else [])])


@dataclass(frozen=True)
class GradedNuclei:
    """Nuclei in level-0 pixels, what is measured of each, and the threshold that grades them."""

    nuclei: Nuclei
    measured: positivity.Measurements
    threshold: positivity.Threshold

    def within(self, region: BaseGeometry) -> GradedNuclei:
        """Those whose centre lies in a region, in level-0 pixels."""
        x, y = self.nuclei.centres_px.astype(np.float64).T
        inside = shapely.contains_xy(region, x, y)
        return GradedNuclei(self.nuclei.take(inside), self.measured.take(inside), self.threshold)

    @property
    def grades(self) -> positivity.Grades:
        """The grade of each nucleus, int8 (N,)."""
        return positivity.grades_of(self.measured, self.threshold)

    @property
    def numbers(self) -> NucleusNumbers:
        """The numbers of these nuclei; no nucleus of an H&E is positive or negative."""
        if self.threshold.source == "none":
            return NucleusNumbers(len(self.nuclei))
        scored = scores(self.nuclei, self.measured, self.threshold)
        return NucleusNumbers(
            len(self.nuclei),
            sum(scored.grades[1:]),
            *_ends(scored.positive_percent),
            *_ends(scored.h_score),
            nuclei_threshold_od10=self.threshold.positive_od10,
            nuclei_threshold_source=self.threshold.source,
            nuclei_doubt="; ".join(scored.doubts),
        )

    def as_json(self) -> bytes:
        """As `NucleiInView`."""
        rounded = self.nuclei.outlines_px.astype(np.float64).round(OUTLINE_DIGITS)
        outlines = rounded.reshape(len(rounded), -1).tolist()
        positive = (self.grades > 0).astype(int).tolist()
        numbers = self.numbers
        found = NucleiInView(**asdict(numbers), words=in_words(numbers), outlines=outlines, positive=positive)
        return json.dumps(vars(found), separators=(",", ":")).encode()


def _ends(score: Score | None) -> tuple[float | None, float | None, float | None]:
    """A score, and both ends of its interval."""
    low, high = (score and score.interval) or (None, None)
    return score and score.value, low, high


@dataclass(frozen=True)
class WindowGrid:
    """The windows of a slide: its size (w, h) at level 0 and at NETWORK_MPP, and which windows show tissue."""

    size: tuple[int, int]
    size_at_network: tuple[int, int]
    with_tissue: tuple[int, ...]

    def over(self, region: BaseGeometry) -> list[int]:
        """The windows with tissue whose core a region, in level-0 pixels, meets."""
        scale = np.divide(self.size, self.size_at_network)
        windows = nuclei_windows(self.size_at_network)
        return [index for index in self.with_tissue if region.intersects(_core(windows[index], scale))]

    def sample(self) -> list[int]:
        """At most SAMPLED_WINDOWS windows, spread over those with tissue."""
        count = min(SAMPLED_WINDOWS, len(self.with_tissue))
        places = (np.arange(count) + 0.5) * len(self.with_tissue) / max(count, 1)
        return [self.with_tissue[int(place)] for place in places]


class NucleusFinder:
    """The nuclei of the shelf's slides: each window is searched once, one at a time, and kept."""

    def __init__(self, apart: WorkerProcess) -> None:
        self._apart = apart
        self._one = anyio.Lock()
        self._kept: LruCache[Any] = LruCache(MAX_KEPT_BYTES, _bytes_of)

    async def within(
        self, source: SlideSource, region: BaseGeometry, is_wanted: IsWanted | None = None
    ) -> GradedNuclei:
        """The nuclei whose centre lies in a region, in level-0 pixels.

        Raises: ValueError for pixels too large to show nuclei, a region too large, or a file that fails;
        NotWantedError once `is_wanted` says no.
        """
        check_visible(source.mpp)
        grid: WindowGrid = await self._known(window_grid_of, source, is_wanted)
        seen = region.intersection(shapely.box(0, 0, *grid.size))
        _check_area(seen, source.mpp)
        sample = [] if source.stains == "h-e" else grid.sample()
        # A threshold for the whole slide, so that no nucleus changes sides where the view moves.
        threshold = positivity.positive_threshold((await self._in(source, sample, is_wanted))[1], source.stains)
        nuclei, measured = await self._in(source, grid.over(seen), is_wanted)
        return GradedNuclei(nuclei, measured, threshold).within(seen)

    async def _in(self, source: SlideSource, windows: Sequence[int], is_wanted: IsWanted | None) -> Found:
        """The nuclei of some windows."""
        found = [await self._known(nuclei_of_window, source, is_wanted, index) for index in windows]
        nuclei = joined((part for part, _ in found), source.mpp)
        return nuclei, positivity.joined_measurements([measured for _, measured in found])

    async def _known(
        self, work: Callable[..., Any], source: SlideSource, is_wanted: IsWanted | None, *more: int
    ) -> Any:
        """What `work` gives for a slide, from the process apart, or kept since it was asked for last."""
        key = (work.__name__, source, *more)
        async with self._one:
            known = self._kept.peek(key)
            if known is None:
                if is_wanted and not await is_wanted():
                    raise NotWantedError("Nobody waits for these nuclei any more.")
                with errors_without_folders(source.path):
                    made = await self._apart.run(work, source, *more)
                known = self._kept.get(key, lambda: made)
        return known


def window_grid_of(source: SlideSource) -> WindowGrid:
    """The windows of a slide. Raises: SlideError or OSError where it cannot be read."""
    with _surveyed(source) as (view, seen, _):
        windows = nuclei_windows(view.size)
        with_tissue = tuple(index for index, window in enumerate(windows) if has_tissue(seen, window))
        return WindowGrid(view.slide.size, view.size, with_tissue)


def nuclei_of_window(source: SlideSource, index: int) -> Found:
    """The nuclei of a window in level-0 pixels, and what is measured of each. Raises: as `window_grid_of`."""
    with _surveyed(source) as (view, seen, stains):
        found = in_window(view, nuclei_windows(view.size)[index], seen, stains, built_in())
        return at_level_0(found.nuclei, view.slide, view.size), found.measured


@contextmanager
def _surveyed(source: SlideSource) -> Iterator[tuple[View, Survey, StainVectors]]:
    file = SlideFile(source.path, source.mpp)
    with held_slide(file) as slide:
        view = view_at(slide, NETWORK_MPP)
        seen = kept_survey(view)
        yield view, seen, stain_vectors(seen, source.stains)


def _core(window: GridTile, scale: NDArray[np.float64]) -> BaseGeometry:
    """The core of a window in level-0 pixels."""
    start, size = np.asarray(window.core.location), np.asarray(window.core.size)
    return shapely.box(*(start * scale), *((start + size) * scale))


def _check_area(region: BaseGeometry, mpp: float) -> None:
    mm2 = shapely.envelope(region).area * mpp**2 / 1e6
    if mm2 > MAX_MM2:
        advice = "take a smaller one, or run `chromogen nuclei` on the slide"
        raise expected("region", f"at most {MAX_MM2:g} mm2 for nuclei", f"{mm2:.3g} mm2", advice)


def _bytes_of(kept: WindowGrid | Found) -> int:
    if isinstance(kept, WindowGrid):
        return 1000
    nuclei, measured = kept
    arrays = (nuclei.centres_px, nuclei.outlines_px, nuclei.confidence, *vars(measured).values())
    return 1000 + int(sum(array.nbytes for array in arrays))
