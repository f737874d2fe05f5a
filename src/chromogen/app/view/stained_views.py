"""Views of slides, stained as the whole slide would be there: by its own statistics, kept from view to view."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from chromogen.app.staining import any_stainer, tile_facts
from chromogen.app.view.dials import dialled
from chromogen.app.view.stains import Stain
from chromogen.app.view.work_folder import RESULT, check_region, keep_region
from chromogen.image import write_image
from chromogen.recent import Recent
from chromogen.stainer import Stainer, load_look, where_of
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.part import stain_part
from chromogen.whole_slide.survey import Survey, survey
from chromogen.whole_slide.view import SlideFile, View, held_slide, read_around_damage, view_at

_SURVEYS: Recent[Survey] = Recent(100_000_000, lambda seen: seen.sample.nbytes)
_FITTED: Recent[Stainer] = Recent(100, lambda _: 1)


def loaded(stain: Stain) -> Stainer:
    """The stainer that was asked for. Raises: as `any_stainer`, `load_look` and `dialled`."""
    if stain.dials:
        return dialled(load_look(stain.model), stain.dials, where_of(stain.model))
    return any_stainer(stain.model, stain.trained_mpp, stain.value_range, None)


def stainer_mpp(stain: Stain) -> float:
    """Its pixel size, um. Raises: as `loaded`."""
    return loaded(stain).mpp


def stain_view(stain: Stain, folder: Path) -> None:
    """Stain the region of a stain, and write it, with the H&E that it was, into the folder.

    Raises: ValueError where the region is too small or large at the stainer's mpp, or leads out; OSError.
    """
    stainer = loaded(stain)
    file = SlideFile(Path(stain.source), stain.mpp)
    with held_slide(file) as slide:
        view = view_at(slide, stainer.mpp)
        job = SlideJob(file, stainer, stain.region)
        region = job.window(view)
        check_region("view at the stainer's pixel size", region.size, "zoom in, or stain the whole slide")
        seen = kept_survey(file, view)
        measured = _measured_by(stain, stainer)
        known = _FITTED.get((*_identity(file, view), measured.identity), lambda: measured.fit(seen.sample))
        fitted = replace(stainer, statistics=known.statistics)
        mpp = view.mpp or slide.need_mpp()
        made = stain_part(job, view, seen, fitted)
        keep_region(folder, read_around_damage(view, region)[0], mpp, stain.location or (0, 0))
        facts = replace(tile_facts(slide, mpp, fitted), settings=job.plan(view))
        write_image(folder / RESULT, made, facts.as_json(), facts.mpp if facts.source_mpp else None)


def _measured_by(stain: Stain, stainer: Stainer) -> Stainer:
    """The stainer whose statistics of a slide hold for this one: of a look's dials only chance changes them."""
    chance = {name: value for name, value in stain.dials.items() if name == "seed"}
    if not stain.dials:
        return stainer
    return dialled(load_look(stain.model), chance, where_of(stain.model))


def kept_survey(file: SlideFile, view: View) -> Survey:
    """What a slide shows from afar, surveyed once in this process."""
    return _SURVEYS.get(_identity(file, view), lambda: survey(view))


def _identity(file: SlideFile, view: View) -> tuple[object, ...]:
    return str(file.path), view.slide.quickhash, view.slide.mpp, view.mpp
