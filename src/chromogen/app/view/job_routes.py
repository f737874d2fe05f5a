"""The web app's answers about jobs: which there are, how far they are, stopping and resuming, their pictures."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Response
from fastapi.responses import FileResponse

from chromogen.app.view.pictures import adjusted, labelled, unlike_picture
from chromogen.app.view.stains import CONFIDENCE, REGIONS
from chromogen.app.view.state import FRESH, PNG, JobLine, State
from chromogen.app.view.trials import EXEMPLAR, Trial
from chromogen.app.view.work_folder import REGION, RESULT
from chromogen.app.view.work_queue import UNDER_WAY
from chromogen.image import Image, encode_image, read_image, read_provenance
from chromogen.slides.slide import open_slide
from chromogen.staining.confidence import levels_in
from chromogen.staining.tissue import MPP

JobId = Annotated[str, Path(pattern="^[0-9]{8}-[0-9]{6}-[0-9a-f]{6}$")]
Strength = Annotated[float, Query(ge=0, le=1)]
DabAmount = Annotated[float, Query(ge=0, le=5)]
PNG_OR_TIFF: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}, "image/tiff": {}}}}
IN_FOLDER = {"region.png": REGION, "exemplar.png": EXEMPLAR, "regions.geojson": REGIONS}


def job_routes(state: State) -> APIRouter:
    """The routes below /api/jobs."""
    routes = APIRouter(prefix="/api/jobs", tags=["jobs"])
    jobs, run, line = state.jobs, state.renderer.run, state.line

    @routes.get("")
    async def list_all() -> list[JobLine]:
        """All that was asked, the newest first."""
        return await run(lambda: [line(queued) for queued in jobs.all()])

    @routes.get("/{job_id}")
    async def follow(job_id: JobId) -> JobLine:
        """How far it is."""
        return await run(lambda: line(jobs.find(job_id)))

    @routes.delete("/{job_id}")
    async def cancel(job_id: JobId) -> JobLine:
        """Stop what waits or runs; what is finished of it is kept."""
        return await run(lambda: line(jobs.cancel(job_id)))

    @routes.post("/{job_id}/remove", status_code=204)
    async def remove(job_id: JobId) -> None:
        """Remove what has ended, with its result or its finished blocks."""
        await run(lambda: jobs.remove(job_id))

    @routes.post("/{job_id}/resume")
    async def resume(job_id: JobId) -> JobLine:
        """Go on with what was stopped."""
        return await run(lambda: line(jobs.resume(job_id)))

    _picture_routes(routes, state)
    return routes


def _picture_routes(routes: APIRouter, state: State) -> None:
    jobs, run = state.jobs, state.renderer.run

    @routes.get("/{job_id}/result", response_class=FileResponse, responses=PNG_OR_TIFF)
    async def result(job_id: JobId) -> FileResponse:
        """The result with its provenance, to be kept: an image or a slide."""
        name = jobs.find(job_id).work.output
        named = f"virtual-stain-{job_id}.png" if name == RESULT else f"virtual-{name}"
        return FileResponse(_result(state, job_id), filename=named)

    @routes.get("/{job_id}/picture.png", response_class=Response, responses=PNG)
    async def picture(job_id: JobId, strength: Strength = 1, dab_amount: DabAmount = 1) -> Response:
        """The newest picture; the result with less of the style, or more or less DAB, without a new run."""
        data = await run(lambda: _picture(state, job_id, strength, dab_amount))
        return _png(data, f"virtual-stain-{job_id}.png")

    @routes.get("/{job_id}/labelled.png", response_class=Response, responses=PNG)
    async def label(job_id: JobId, strength: Strength = 1, dab_amount: DabAmount = 1) -> Response:
        """The same of what is done, with a label in the picture that it is a virtual stain."""

        def data() -> bytes:
            image, facts = _adjusted(state, job_id, strength, dab_amount)
            return encode_image(labelled(image), ".png", {**facts, "labelled": True})

        return _png(await run(data), f"virtual-stain-{job_id}-labelled.png")

    @routes.get("/{job_id}/unlike.png", response_class=Response, responses=PNG)
    async def unlike(job_id: JobId) -> Response:
        """Which tissue is unlike the exemplar's, hatched: a picture to lay on the result."""

        def data() -> bytes:
            levels = levels_in(read_image(_file(state, job_id, CONFIDENCE)))
            with open_slide(_result(state, job_id), assumed_mpp=MPP) as stained:
                return unlike_picture(levels, stained.size)

        return _png(await run(data), "unlike.png")

    @routes.get("/{job_id}/{name}", response_class=FileResponse, responses=PNG)
    async def file(job_id: JobId, name: str) -> FileResponse:
        """What went in: region.png, exemplar.png, regions.geojson."""
        if name not in IN_FOLDER:
            raise HTTPException(404, "A job has no such file.")
        return FileResponse(_file(state, job_id, IN_FOLDER[name]), headers=FRESH)


def _png(data: bytes, name: str) -> Response:
    named = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(data, media_type="image/png", headers=FRESH | named)


def _file(state: State, job_id: str, name: str) -> FilePath:
    """A file in the folder of a job; 404 where it has none."""
    file = state.jobs.folder_of(job_id) / name
    if not file.is_file():
        raise HTTPException(404, "The job has no such file (yet).")
    return file


def _result(state: State, job_id: str) -> FilePath:
    """The file of a result; 404 where there is none yet."""
    found = state.jobs.find(job_id)
    if found.state in UNDER_WAY:
        raise HTTPException(404, "The job has no result yet.")
    return _file(state, job_id, found.work.output)


def _picture(state: State, job_id: str, strength: float, dab_amount: float) -> bytes:
    job = state.jobs.find(job_id).work
    if strength == dab_amount == 1 and not job.is_slide:
        folder = state.jobs.folder_of(job_id)
        file = job.newest_picture(folder) if isinstance(job, Trial) else _result(state, job_id)
        return file.read_bytes()
    image, facts = _adjusted(state, job_id, strength, dab_amount)
    return encode_image(image, ".png", facts)


def _adjusted(state: State, job_id: str, strength: float, dab_amount: float) -> tuple[Image, dict[str, Any]]:
    """The result so changed, uint8 (H, W, 3), and its provenance; 404 where there is none yet."""
    if state.jobs.find(job_id).work.is_slide:
        raise HTTPException(404, "A whole slide was stained.")
    result = _result(state, job_id)
    facts = read_provenance(result) or {}
    if strength == dab_amount == 1:
        return read_image(result), facts
    he = read_image(_file(state, job_id, REGION))
    said = {**facts, "adjusted": {"strength": strength, "dab_amount": dab_amount}}
    return adjusted(he, read_image(result), strength, dab_amount), said
