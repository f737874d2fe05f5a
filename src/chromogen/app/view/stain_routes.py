"""The web app's answers about staining: exemplars, looks, style transfer; stainers, and what they make where."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from chromogen.app.view.choices import DRAWN, TISSUE, StainerLine, WhereLine, stainer_lines, where_lines
from chromogen.app.view.drawn_regions import MAX_REGIONS, ImportedRegion
from chromogen.app.view.guard import IMAGE_TYPES
from chromogen.app.view.slide_catalog import Entry, SlideCatalog, UnknownSlideError
from chromogen.app.view.stains import REGIONS, Stain, show_where, stain_view, stainer_mpp, with_regions
from chromogen.app.view.state import FRESH, PNG, SLIDE_ID, Job, JobLine, State, failing_without_folders
from chromogen.app.view.trials import new_trial, options_of, start_trial
from chromogen.app.view.upload_decoder import take_in
from chromogen.app.view.work_folder import MAX_SIDE_PX, MIN_SIDE_PX, cut_around, new_folder
from chromogen.app.view.work_queue import Queued, new_id
from chromogen.errors import choose, expected
from chromogen.files import canonical_name, scratch_folder
from chromogen.image import Image, encode_image, write_image
from chromogen.models import LOOK_SUFFIX
from chromogen.pixel_size import ASSUMED_MPP, MPP_RANGE
from chromogen.slides.slide import Picture, Slide, read_picture
from chromogen.staining.looks import write_look
from chromogen.staining.stainer import STAINERS, builtin_ihc, is_look
from chromogen.stains.appearance import doubts
from chromogen.style.recipes import DEFAULT_PRESET, PRESETS, preset

# Exemplars: taking them in, measuring their look, style transfer after them.

BUILT_IN = "built-in"
EXEMPLAR_PX = 2048  # of the longer side, at most
EXEMPLARS, LOOKS = ".exemplars", ".looks"
EXEMPLAR_ID = "^(built-in|upload-[0-9a-f]{16}|[0-9a-f]{16})$"
LONGEST_NAME = 60
PRESET_NAMES = tuple(PRESETS)
_AN_IMAGE = {"requestBody": {"required": True, "content": {kind: {} for kind in IMAGE_TYPES}}}


class NewTrial(BaseModel):
    """A region of a slide, an exemplar (built-in, uploaded, or a slide's id) and how to go about it.

    A region with sides longer than `most_px` is cut to its middle, one that is too small is taken larger.
    """

    slide: str = Field(pattern=SLIDE_ID)
    location: tuple[int, int]
    size: tuple[int, int]
    most_px: int = Field(MAX_SIDE_PX, ge=MIN_SIDE_PX, le=MAX_SIDE_PX)
    exemplar: str = Field(BUILT_IN, pattern=EXEMPLAR_ID)
    preset: str = Field(DEFAULT_PRESET, max_length=50, json_schema_extra={"enum": list(PRESETS)})
    steps: int | None = Field(None, ge=1, le=2000)
    dab_amount: float | None = Field(None, ge=0, le=10)
    seed: int | None = Field(None, ge=0, le=2**31)


class Uploaded(BaseModel):
    """The name under which an uploaded exemplar can be asked for, and why it may be no IHC."""

    exemplar: str
    exemplar_doubt: str | None


class NewLook(BaseModel):
    """An exemplar (built-in, uploaded, or a slide's id), and the name to keep its look under."""

    exemplar: str = Field(BUILT_IN, pattern=EXEMPLAR_ID)
    name: str = Field("exemplar", min_length=1, max_length=500)


@dataclass(frozen=True)
class MeasuredLook:
    """The stainer that was made of an exemplar, and what warns of it."""

    stainer: StainerLine
    doubts: tuple[str, ...]


def exemplar_routes(state: State) -> APIRouter:
    """The routes /api/exemplars, /api/looks and /api/trials."""
    routes = APIRouter(prefix="/api", tags=["exemplars"])
    looks = state.jobs.folder / LOOKS
    state.models.add(looks)
    run = state.renderer.run

    @routes.post("/exemplars", openapi_extra=_AN_IMAGE)
    async def upload(request: Request) -> Uploaded:
        """Take an image, as the body, for a style exemplar; it is decoded in a process with bounded memory."""
        body = await request.body()
        name = f"upload-{secrets.token_hex(8)}"
        doubt = await run(lambda: _taken_in(body, _uploaded(state, name)))
        return Uploaded(exemplar=name, exemplar_doubt=doubt)

    @routes.get("/exemplars/built-in.png", response_class=Response, responses=PNG)
    async def built_in() -> Response:
        """The exemplar that comes with scikit-image."""
        return Response(encode_image(builtin_ihc(), ".png"), media_type="image/png")

    @routes.post("/looks", status_code=201)
    async def measure(asked: NewLook) -> MeasuredLook:
        """Measure the look of an exemplar, and keep it as a stainer; seconds."""
        picture = await run(lambda: _exemplar(state, asked.exemplar))
        file = _free_name(looks, asked.name)
        found = await state.worker.run(keep_look, picture.pixels, picture.mpp, file, Path(asked.name).name)
        entry = next(entry for entry in await run(state.models.entries) if entry.path.name == file.name)
        (line,) = [one for one in await state.worker.run(stainer_lines, [entry]) if one.id == entry.id]
        return MeasuredLook(line, found)

    @routes.post("/trials", status_code=201)
    async def start(asked: NewTrial) -> JobLine:
        """Put `stylize` of a region into the queue."""
        preset(asked.preset)
        return await run(lambda: state.line(_start(state, asked)))

    return routes


def _start(state: State, asked: NewTrial) -> Queued[Job]:
    with state.reading(asked.slide) as opened:
        given = {"steps": asked.steps, "dab_amount": asked.dab_amount, "seed": asked.seed}
        options = options_of(asked.preset, opened.mpp, given)
        location, size = cut_around(asked.location, asked.size, opened.size, MIN_SIDE_PX, asked.most_px)
        trial = new_trial(asked.slide, location, size, opened.mpp, options)
        region = opened.slide.read_region(location, size)
    return start_trial(state.jobs, trial, region, _exemplar(state, asked.exemplar))


def _uploaded(state: State, name: str) -> Path:
    return state.jobs.folder / EXEMPLARS / f"{name}.png"


def _exemplar(state: State, name: str) -> Picture:
    """The exemplar of a name: built-in, uploaded, or a slide's middle. Raises: ValueError where there is none."""
    if name == BUILT_IN:
        return Picture(builtin_ihc(), None)
    if name.startswith("upload-"):
        uploaded = _uploaded(state, name)
        if not uploaded.is_file():
            raise expected("exemplar", "one that was uploaded", name, "upload it again")
        return read_picture(uploaded)
    with state.reading(name) as opened:
        return Picture(_middle(opened.slide), opened.mpp)


def _middle(slide: Slide) -> Image:
    """A slide at full resolution, or its middle where it is larger than an exemplar may be."""
    return slide.read_region(*cut_around((0, 0), slide.size, slide.size, 1, EXEMPLAR_PX))


def _taken_in(body: bytes, decoded: Path) -> str | None:
    """Write an uploaded image; why it may not be the IHC it is given as. Raises: as `take_in`."""
    decoded.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder() as scratch:
        uploaded = scratch / "uploaded.img"
        uploaded.write_bytes(body)
        take_in(uploaded, decoded)
    picture = read_picture(decoded)
    return doubts(picture.pixels, "style", picture.mpp or ASSUMED_MPP)


def keep_look(pixels: Image, mpp: float | None, file: Path, name: str) -> tuple[str, ...]:
    """Write the look of an IHC, uint8 (H, W, 3), to a file; what is doubtful of it.

    Raises: ValueError for an exemplar that shows no look; OSError.
    """
    from chromogen.whole_slide.measured_looks import measure_look

    with scratch_folder() as scratch:
        style = scratch / f"{file.stem}.png"
        write_image(style, pixels, mpp=mpp)
        look = measure_look(style)
    found = tuple(doubt.replace(style.name, name) for doubt in look.doubts)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_look(file, replace(look, source=name, doubts=found))
    return found


def _free_name(folder: Path, name: str) -> Path:
    """A file in the folder, called by what an exemplar is called, that is not there yet."""
    stem = re.sub(r"[^\w.-]+", "-", Path(name).stem).strip(".-")[:LONGEST_NAME] or "exemplar"
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    return next(file for file in (folder / f"{one}{LOOK_SUFFIX}" for one in names) if not file.exists())


# Stainers: which there are, where they stain, what they make.

STAINER = "^[a-z0-9-]{1,50}$"  # a name, or an id from the list: never a path
ROUNDING_PX = 2  # by which a view may be smaller or larger at the stainer's pixel size
Mpp = Annotated[float, Field(ge=MPP_RANGE[0], le=MPP_RANGE[1])]


class NewWhere(BaseModel):
    """What says where a look stains: tissue, regions with a level for each class, or a file by its id."""

    source: str = Field(default=TISSUE, pattern=f"^({TISSUE}|{DRAWN}|[0-9a-f]{{16}})$")
    regions: list[ImportedRegion] = Field(default_factory=list, max_length=MAX_REGIONS)
    levels: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=dict, max_length=MAX_REGIONS + 1
    )


class NewStain(BaseModel):
    """A slide and a stainer, and what of both their files do not say.

    `location` and `size` are a part of the slide in its level-0 pixels; without them all of it is stained.
    `mpp` is the slide's pixel size in um; a generator trained elsewhere may need its `trained_mpp` and
    `value_range`.
    `dials`, `where` and `fill`, which stains tissue unlike the exemplar's too, are those of a measured look.
    """

    slide: str = Field(pattern=SLIDE_ID)
    stainer: str = Field(pattern=STAINER)
    location: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    mpp: Mpp | None = None
    trained_mpp: Mpp | None = None
    value_range: Literal["0..1", "-1..1", "0..255"] | None = None
    dials: dict[str, float] = Field(default_factory=dict, max_length=20)
    where: NewWhere = NewWhere()
    fill: bool = False


def stain_routes(state: State) -> APIRouter:
    """The routes /api/stainers, /api/stains, /api/wheres and /api/where-maps."""
    routes = APIRouter(prefix="/api", tags=["stains"])
    run = state.renderer.run

    @routes.get("/stainers")
    async def stainers() -> list[StainerLine]:
        """The stainers that can be applied, and why others cannot."""
        return await state.worker.run(stainer_lines, await run(state.models.entries))

    @routes.post("/stains", status_code=201)
    async def stain(asked: NewStain) -> JobLine:
        """Stain a slide, or a part of it: at once what fits into a view, else in the queue.

        A view has at most 2048 px a side at the stainer's pixel size; a smaller part is taken larger. It becomes
        what the whole slide would be there. Without a pixel size the stainer's is assumed of a view.
        """
        wanted = await _wanted(state, asked)
        made = await (_view if wanted.fits_view else _queued)(state, asked, wanted)
        return await run(lambda: state.line(made))

    @routes.get("/wheres")
    async def wheres(slide: Annotated[str, Query(pattern=SLIDE_ID)]) -> list[WhereLine]:
        """What can say where a slide is stained: tissue, regions, and files that may."""

        def found() -> tuple[list[Entry], list[Entry], tuple[int, int]]:
            with state.reading(slide) as opened:
                return state.slides.entries(), state.models.entries(), opened.size

        return await state.worker.run(where_lines, *await run(found))

    @routes.post("/where-maps", response_class=Response, responses=PNG)
    async def where_map(asked: NewStain) -> Response:
        """*Where* a look would stain a part of a slide, as large as a view may be: a picture to lay on it.

        The header `chromogen-box` says which part that is: x, y, width and height in level-0 pixels.
        """
        wanted = await _wanted(state, asked)
        if not is_look(wanted.stain.model):
            raise expected("stainer", "a measured look: only looks take a source of where", wanted.stain.stainer)
        if not wanted.fits_view:
            raise ValueError("Zoom in to see where the stain would lie.")
        with scratch_folder() as scratch:
            ready = with_regions(wanted.stain, asked.where.regions, scratch)
            with failing_without_folders(ready):
                picture = await state.worker.run(show_where, ready)
        box = {"chromogen-box": ",".join(map(str, ready.region or ()))}
        return Response(picture, media_type="image/png", headers=FRESH | box)

    return routes


@dataclass(frozen=True)
class _Wanted:
    """What is to be stained, and whether that is no larger than a view; `mpp` is None where nobody says it."""

    stain: Stain
    fits_view: bool
    mpp: float | None


async def _wanted(state: State, asked: NewStain) -> _Wanted:
    """What is to be stained; a view of a slide that says no pixel size has the stainer's."""
    stain, own, whole = await state.renderer.run(lambda: _asked(state, asked))
    with failing_without_folders(stain):  # what is wrong with the stainer shows here
        wanted_mpp = await state.worker.run(stainer_mpp, stain)
    mpp = own or asked.mpp
    if asked.location is None or asked.size is None:
        return _Wanted(stain, False, mpp)
    step = wanted_mpp / (mpp or wanted_mpp)
    least, most = round((MIN_SIDE_PX + ROUNDING_PX) * step), int((MAX_SIDE_PX - ROUNDING_PX) * step) + 1
    location, size = cut_around(asked.location, asked.size, whole, least, max(whole))
    fits = max(size) <= most
    return _Wanted(
        replace(stain, location=location, size=size, mpp=stain.mpp or (None if mpp else wanted_mpp)), fits, mpp
    )


async def _view(state: State, asked: NewStain, wanted: _Wanted) -> Queued[Job]:
    """The stain of a view, done; where it fails, nothing is left of it."""
    with new_folder(state.jobs.folder / wanted.stain.id) as folder:
        ready = with_regions(wanted.stain, asked.where.regions, folder)
        with failing_without_folders(ready):
            await state.worker.run(stain_view, ready, folder)
        return state.jobs.keep(ready)


async def _queued(state: State, asked: NewStain, wanted: _Wanted) -> Queued[Job]:
    """The stain of a slide, or of a part that is too large for a view, in the queue."""
    if wanted.mpp is None:
        raise expected("mpp", "given for a slide that does not say its pixel size", "none", "type it in")
    stain = replace(wanted.stain, queued=wanted.stain.location is not None)

    def start() -> Queued[Job]:
        state.jobs.check_room()
        with new_folder(state.jobs.folder / stain.id) as folder:
            return state.jobs.start(with_regions(stain, asked.where.regions, folder))

    return await state.renderer.run(start)


def _asked(state: State, asked: NewStain) -> tuple[Stain, float | None, tuple[int, int]]:
    """What is to be stained, with the slide's own pixel size, and its size; ValueError for no such stainer."""
    entry, (name, model) = state.slides.find(asked.slide), _chosen(state.models, asked.stainer)
    if (asked.dials or asked.fill or asked.where.source != TISSUE) and not is_look(model):
        raise expected("stainer", "a measured look, with dials, fill or where", name, "leave these out")
    where, where_file = _where(state, asked.where.source)
    with state.pool.reading(entry) as opened:
        own, doubt, size = opened.mpp, opened.look.doubt_as("content"), opened.size
    return (
        Stain(
            id=new_id(),
            slide=entry.id,
            name=entry.name,
            source=str(entry.path),
            stainer=name,
            model=model,
            mpp=None if own else asked.mpp,
            trained_mpp=asked.trained_mpp,
            value_range=asked.value_range,
            doubt=doubt,
            dials=asked.dials,
            where=where,
            where_file=where_file,
            levels={canonical_name(label): level for label, level in asked.where.levels.items()},
            fill=asked.fill,
        ),
        own,
        size,
    )


def _where(state: State, source: str) -> tuple[str, str]:
    """What people call a source of *where*, and its file; regions have theirs once there is a folder for them."""
    if source in (TISSUE, DRAWN):
        return (TISSUE, "") if source == TISSUE else (REGIONS, REGIONS)
    try:
        entry = state.models.find(source)
    except UnknownSlideError:
        entry = state.slides.find(source)
    return entry.name, str(entry.path)


def _chosen(models: SlideCatalog, asked: str) -> tuple[str, str]:
    """A stainer's name, and what loads it; ValueError where there is none."""
    try:
        entry = models.find(asked)
    except UnknownSlideError:
        return (choose("stainer", asked, STAINERS),) * 2
    return entry.name, str(entry.path)
