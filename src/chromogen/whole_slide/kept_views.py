"""What a process keeps of slides from view to view: another place, or a moved dial, costs what it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.slides.slide import Slide
from chromogen.staining.stainer import Stainer
from chromogen.staining.where import Where
from chromogen.staining.window import Keep, MeasuredSample, look_by_chance, measured_sample
from chromogen.whole_slide.survey import Survey, survey
from chromogen.whole_slide.view import View, view_at

_SURVEYS: LruCache[Survey] = LruCache(100_000_000, lambda seen: seen.sample.nbytes)
_STATISTICS: LruCache[Any] = LruCache(100, lambda _: 1)
_WINDOWS: LruCache[Image] = LruCache(60_000_000, lambda window: window.nbytes)
_MEASURED: LruCache[MeasuredSample] = LruCache(60_000_000, lambda found: found.nbytes)  # of samples of slides
_PAINTED = Keep(  # of windows, as far as they are seen
    LruCache(250_000_000, lambda ready: ready.nbytes),
    LruCache(100_000_000, lambda amounts: sum(part.nbytes for part in amounts)),
)


def kept_view(slide: Slide, mpp: float) -> View:
    """As `view_at`; windows that were read stay in memory."""
    return replace(view_at(slide, mpp), kept=_WINDOWS)


def kept_survey(view: View) -> Survey:
    """What a slide shows from afar, surveyed once."""
    return _SURVEYS.get(view.identity, lambda: survey(view))


def fitted_to(stainer: Stainer, view: View, seen: Survey) -> Stainer:
    """The stainer with the statistics of a slide, measured once."""
    key = (*view.identity, stainer.identity)
    return replace(stainer, statistics=_STATISTICS.get(key, lambda: stainer.fit(seen.sample).statistics))


def look_fitted_to(stainer: Stainer, view: View, seen: Survey, seed: int, where: Where) -> Stainer:
    """The same of a look's stainer: all looks share the statistics of a slide, but for chance and *where*."""
    slide = view.identity
    found = _MEASURED.get(slide, lambda: measured_sample(seen.sample))
    look = _STATISTICS.get((*slide, seed), lambda: look_by_chance(found, seed))
    measured = _STATISTICS.get((*slide, where.identity), lambda: where.measure(seen.sample))
    return replace(stainer, statistics=replace(look, where=measured))


def showing(stainer: Stainer, shown: Window) -> Stainer:
    """A fitted look's stainer that paints of its windows only what is `shown`, and keeps what no dial changes."""
    painting: Callable[..., Image] = stainer.paint
    paint = partial(painting, shown=shown, keep=_PAINTED)
    return replace(stainer, paint=paint, identity=f"{stainer.identity}, shown {shown}")
