"""Views of slides, stained as the whole slide would be there: by its own statistics, kept from view to view."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from chromogen.app.staining import any_stainer, tile_facts
from chromogen.app.view.dials import dialled
from chromogen.app.view.map_pictures import where_picture
from chromogen.app.view.stains import CONFIDENCE, Stain
from chromogen.app.view.work_folder import RESULT, check_region, keep_region
from chromogen.app.where import WhereOption
from chromogen.image import Image, write_image
from chromogen.recent import Recent
from chromogen.stainer import Location, Stainer, is_look, load_look
from chromogen.stainer import where_of as own_where
from chromogen.staining.confidence_map import unlike_fraction
from chromogen.staining.exemplar import Exemplar
from chromogen.staining.how import SlideLook
from chromogen.staining.where import Where
from chromogen.staining.where_tissue import ByTissue
from chromogen.staining.window import Amounts, Dials, amounts_of, where_map
from chromogen.whole_slide.confidence import write_confidence
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.part import stain_part
from chromogen.whole_slide.survey import Survey, survey
from chromogen.whole_slide.view import SlideFile, View, held_slide, read_around_damage, view_at

_SURVEYS: Recent[Survey] = Recent(100_000_000, lambda seen: seen.sample.nbytes)
_STATISTICS: Recent[Any] = Recent(100, lambda _: 1)
_WHERES: Recent[Where] = Recent(20, lambda _: 1)
_AMOUNTS: Recent[Amounts] = Recent(250_000_000, lambda kept: sum(part.nbytes for part in kept))  # of windows
BLACK = (0, 0, 0)


class Ready(NamedTuple):
    """What a region of a slide is stained with: the job, the slide as it is seen, its survey, a fitted stainer."""

    job: SlideJob
    view: View
    seen: Survey
    fitted: Stainer


def loaded(stain: Stain) -> Stainer:
    """The stainer that was asked for. Raises: as `any_stainer`, `load_look`, `dialled` and `where_of`."""
    if stain.is_set:
        made = dialled(load_look(stain.model), stain.dials, where_of(stain), fill=stain.fill)
    else:
        made = any_stainer(stain.model, stain.trained_mpp, stain.value_range, None)
    painting: Callable[..., Image] = made.paint
    return replace(made, paint=partial(painting, amounts_by=kept_amounts)) if is_look(stain.model) else made


def kept_amounts(exemplar: Exemplar, dials: Dials, image: Image, look: SlideLook, location: Location) -> Amounts:
    """What `amounts_of` gives, kept for the strengths that a user tries next."""
    plain = replace(dials, intensity=1.0, counterstain=1.0)
    key = (exemplar, plain, look, location, image.shape, blake2b(image.tobytes()).digest())
    return _AMOUNTS.get(key, lambda: amounts_of(exemplar, plain, image, look, location))


def where_of(stain: Stain) -> Where:
    """The source of *where* that was asked for, read once as long as its file does not change.

    Without any it is the model's own, or the slide's tissue. Raises: as `WhereOption.of`.
    """
    if not stain.where_file:
        return own_where(stain.model) or ByTissue()
    file = Path(stain.where_file)
    found = file.stat()
    key = (file, found.st_mtime_ns, found.st_size, tuple(stain.levels.items()), stain.source, stain.mpp)
    option = WhereOption(stain.where_file, stain.levels or None)
    return _WHERES.get(key, lambda: option.of(Path(stain.source), stain.mpp))


def stainer_mpp(stain: Stain) -> float:
    """Its pixel size, um, whatever says where it stains. Raises: as `loaded`."""
    return loaded(replace(stain, where_file="", levels={})).mpp


def stain_view(stain: Stain, folder: Path) -> None:
    """Stain the region of a stain, and write it, with the H&E that it was, into the folder.

    Where the stainer says how sure it is, that is written too. Raises: as `_ready`.
    """
    with _ready(stain) as ready:
        job, view, fitted = ready.job, ready.view, ready.fitted
        made = stain_part(*ready)
        mpp = view.mpp or view.slide.need_mpp()
        keep_region(folder, read_around_damage(view, job.window(view))[0], mpp, stain.location or (0, 0))
        sure = {} if made.levels is None else {"unlike_fraction": unlike_fraction(made.levels)}
        facts = replace(
            tile_facts(view.slide, mpp, fitted), settings=job.plan(view), statistics={"confidence": sure}
        )
        write_image(folder / RESULT, made.pixels, facts.as_json(), facts.mpp if facts.source_mpp else None)
        if made.levels is not None:
            write_confidence(folder / CONFIDENCE, made.levels, facts.as_json())


def show_where(stain: Stain) -> bytes:
    """*Where* in the region of a stain by a look, as a picture to lay on the slide. Raises: as `_ready`."""
    with _ready(stain) as (job, view, seen, fitted):
        where = where_of(stain)
        painting = partial(where_map, load_look(stain.model).exemplar.site, where)
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
        view = view_at(slide, stainer.mpp)
        job = SlideJob(file, stainer, stain.region)
        advice = "zoom in, or stain the whole slide"
        check_region("view at the stainer's pixel size", job.window(view).size, advice)
        seen = kept_survey(file, view)
        statistics = _statistics(stain, stainer, _identity(file, view), seen)
        yield Ready(job, view, seen, replace(stainer, statistics=statistics))


def _statistics(stain: Stain, stainer: Stainer, slide: tuple[object, ...], seen: Survey) -> Any:
    """The stainer's statistics of a slide: of what is set of a look, only chance and *where* change them."""
    if not stain.is_set:
        return _STATISTICS.get((*slide, stainer.identity), lambda: stainer.fit(seen.sample).statistics)
    chance = {name: value for name, value in stain.dials.items() if name == "seed"}
    plain, where = dialled(load_look(stain.model), chance), where_of(stain)
    found = _STATISTICS.get((*slide, plain.identity), lambda: plain.fit(seen.sample).statistics)
    measured = _STATISTICS.get((*slide, where.identity), lambda: where.measure(seen.sample))
    return replace(found, where=measured)


def kept_survey(file: SlideFile, view: View) -> Survey:
    """What a slide shows from afar, surveyed once in this process."""
    return _SURVEYS.get(_identity(file, view), lambda: survey(view))


def _identity(file: SlideFile, view: View) -> tuple[object, ...]:
    return str(file.path), view.slide.quickhash, view.slide.mpp, view.mpp
