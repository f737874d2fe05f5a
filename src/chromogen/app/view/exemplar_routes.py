"""The web app's answers about exemplars: taking them in, measuring their look, style transfer after them."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from chromogen.app.view.guard import IMAGE_TYPES
from chromogen.app.view.jobs import Job, JobLine
from chromogen.app.view.stainer_list import StainerLine, stainer_lines
from chromogen.app.view.state import PNG, SLIDE_ID, State
from chromogen.app.view.trials import new_trial, options_of, start_trial
from chromogen.app.view.upload_decoder import take_in
from chromogen.app.view.work_folder import MAX_SIDE_PX, MIN_SIDE_PX, cut_around
from chromogen.app.view.work_queue import Queued
from chromogen.errors import expected
from chromogen.files import scratch_folder
from chromogen.image import Image, encode_image, write_image
from chromogen.models import LOOK_SUFFIX
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.slides.slide import Picture, Slide, read_picture
from chromogen.staining.looks import write_look
from chromogen.staining.stainer import builtin_ihc
from chromogen.stains.appearance import doubts
from chromogen.style.recipes import DEFAULT_PRESET, PRESETS, preset

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
