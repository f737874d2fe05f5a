"""Views of slides, stained as the whole slide would be there: by its own statistics, kept from view to view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from chromogen.app.staining import WhereOption
from chromogen.app.view.dials import dialled
from chromogen.app.view.map_pictures import where_picture
from chromogen.app.view.stains import CONFIDENCE, Stain
from chromogen.app.view.work_folder import RESULT, check_region, keep_region, region_file
from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window
from chromogen.image import Image, write_image
from chromogen.staining.confidence import unlike_fraction
from chromogen.staining.looks import Look
from chromogen.staining.stainer import Stainer, is_look, load_look
from chromogen.staining.stainer import look_where as own_where
from chromogen.staining.where import BY_TISSUE, Where
from chromogen.staining.window import Keep, MeasuredSample, look_by_chance, measured_sample, where_map
from chromogen.whole_slide.job import SlideJob, stain_part
from chromogen.whole_slide.stain import tile_facts
from chromogen.whole_slide.survey import Survey, survey, write_confidence
from chromogen.whole_slide.view import SlideFile, View, held_slide, read_around_damage, view_at

_SURVEYS: LruCache[Survey] = LruCache(100_000_000, lambda seen: seen.sample.nbytes)
_STATISTICS: LruCache[Any] = LruCache(100, lambda _: 1)
_WHERES: LruCache[Where] = LruCache(20, lambda _: 1)
_WINDOWS: LruCache[Image] = LruCache(60_000_000, lambda window: window.nbytes)
_REGIONS: LruCache[bytes] = LruCache(30_000_000, len)  # as files
_LOOKS: LruCache[Look] = LruCache(20, lambda _: 1)
_MEASURED: LruCache[MeasuredSample] = LruCache(60_000_000, lambda found: found.nbytes)  # of samples of slides
_KEEP = Keep(  # of windows, as far as they are seen
    LruCache(250_000_000, lambda ready: ready.nbytes),
    LruCache(100_000_000, lambda amounts: sum(part.nbytes for part in amounts)),
)
BLACK = (0, 0, 0)


class Ready(NamedTuple):
    """What a region of a slide is stained with: the job, the slide as it is seen, its survey, a fitted stainer."""

    job: SlideJob
    view: View
    seen: Survey
    fitted: Stainer


def loaded(stain: Stain) -> Stainer:
    """The stainer that was asked for. Raises: as `Stainer.from_pretrained`, `dialled` and `where_of`."""
    if stain.is_set:
        return dialled(_look(stain), stain.dials, where_of(stain), fill=stain.fill)
    return Stainer.from_pretrained(stain.model, stain.trained_mpp, value_range=stain.value_range)


def _of_region(stain: Stain, ready: Ready) -> Stainer:
    """The fitted stainer; a look paints what the region shows of a window, and keeps what no dial changes."""
    fitted, region = ready.fitted, ready.job.window(ready.view)
    if not is_look(stain.model):
        return fitted
    painting: Callable[..., Image] = fitted.paint
    paint = partial(painting, shown=region, keep=_KEEP)
    return replace(fitted, paint=paint, identity=f"{fitted.identity}, shown {region}")


def where_of(stain: Stain) -> Where:
    """The source of *where* that was asked for, read once as long as its file does not change.

    Without any it is the model's own, or the slide's tissue. Raises: as `WhereOption.of`.
    """
    if not stain.where_file:
        return own_where(stain.model) or BY_TISSUE
    file = Path(stain.where_file)
    key = (*_version(file), tuple(stain.levels.items()), stain.source, stain.mpp)
    option = WhereOption(stain.where_file, stain.levels or None)
    return _WHERES.get(key, lambda: option.of(Path(stain.source), stain.mpp))


def _look(stain: Stain) -> Look:
    """The look that was asked for, read once as long as its file does not change. Raises: as `load_look`."""
    file = Path(stain.model)
    key = _version(file) if file.suffix and file.is_file() else (stain.model,)
    return _LOOKS.get(key, lambda: load_look(stain.model))


def _version(file: Path) -> tuple[object, ...]:
    """A file as it is now. Raises: OSError."""
    found = file.stat()
    return file, found.st_mtime_ns, found.st_size


def stainer_mpp(stain: Stain) -> float:
    """Its pixel size, um, whatever says where it stains. Raises: as `loaded`."""
    return loaded(replace(stain, where_file="", levels={})).mpp


def stain_view(stain: Stain, folder: Path) -> None:
    """Stain the region of a stain, and write it, with the H&E that it was, into the folder.

    Where the stainer says how sure it is, that is written too. Raises: as `_ready`.
    """
    with _ready(stain) as ready:
        job, view, fitted = ready.job, ready.view, ready.fitted
        made = stain_part(job, view, ready.seen, _of_region(stain, ready))
        mpp = view.mpp or view.slide.need_mpp()
        keep_region(folder, _region_file(stain, view, job.window(view), mpp))
        sure = {} if made.levels is None else {"unlike_fraction": unlike_fraction(made.levels)}
        facts = replace(
            tile_facts(view.slide, mpp, fitted), settings=job.plan(view), statistics={"confidence": sure}
        )
        write_image(folder / RESULT, made.pixels, facts.as_json(), facts.mpp if facts.source_mpp else None)
        if made.levels is not None:
            write_confidence(folder / CONFIDENCE, made.levels, facts.as_json())


def _region_file(stain: Stain, view: View, window: Window, mpp: float) -> bytes:
    """The H&E of a region, as a file, made once."""

    def make() -> bytes:
        return region_file(read_around_damage(view, window)[0], mpp, stain.location or (0, 0))

    return _REGIONS.get((*view.identity, window, stain.location), make)


def show_where(stain: Stain) -> bytes:
    """*Where* in the region of a stain by a look, as a picture to lay on the slide. Raises: as `_ready`."""
    with _ready(stain) as (job, view, seen, fitted):
        where = where_of(stain)
        painting = partial(where_map, _look(stain).exemplar.site, where)
        shows = replace(fitted, paint=painting, identity=f"where {where.identity}", white=BLACK)
        return where_picture(stain_part(job, view, seen, shows).pixels[..., 0])


@contextmanager
def _ready(stain: Stain) -> Iterator[Ready]:
    """What the region of a stain is stained with.

    Raises: ValueError where the region is too small or large at the stainer's mpp, or leads out; OSError.
    """
    stainer = loaded(stain)
    file = SlideFile(Path(stain.source), stain.mpp)
    with held_slide(file) as slide:
        view = replace(view_at(slide, stainer.mpp), kept=_WINDOWS)
        job = SlideJob(file, stainer, stain.region)
        advice = "zoom in, or stain the whole slide"
        check_region("view at the stainer's pixel size", job.window(view).size, advice)
        seen = kept_survey(view)
        statistics = _statistics(stain, stainer, view.identity, seen)
        yield Ready(job, view, seen, replace(stainer, statistics=statistics))


def _statistics(stain: Stain, stainer: Stainer, slide: tuple[object, ...], seen: Survey) -> Any:
    """The stainer's statistics of a slide: of all looks the same, but for chance and *where*."""
    if not is_look(stain.model):
        return _STATISTICS.get((*slide, stainer.identity), lambda: stainer.fit(seen.sample).statistics)
    seed, where = int(stain.dials.get("seed", 0)), where_of(stain)
    found = _MEASURED.get(slide, lambda: measured_sample(seen.sample))
    look = _STATISTICS.get((*slide, seed), lambda: look_by_chance(found, seed))
    return replace(look, where=_STATISTICS.get((*slide, where.identity), lambda: where.measure(seen.sample)))


def kept_survey(view: View) -> Survey:
    """What a slide shows from afar, surveyed once in this process."""
    return _SURVEYS.get(view.identity, lambda: survey(view))
