"""The web app's answers about how slides lie on one another: asked, set by hand, by landmarks, by registration."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field, FiniteFloat

from chromogen.app.view.opened import Opened
from chromogen.app.view.placement import MADE_THERE, Alignments, Placement, bends, placement_between
from chromogen.app.view.state import SlideId, State
from chromogen.errors import expected
from chromogen.files import scratch_folder, write_text
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.registration.align import by_affine, refined_by
from chromogen.registration.register import register
from chromogen.registration.transform import SlideFrame, Transform, inverse, transform_json
from chromogen.stains.deconvolution import Array

MAX_LANDMARKS = 200
MIN_SCALE, MAX_SCALE = 1e-3, 1e3
Row = tuple[FiniteFloat, FiniteFloat, FiniteFloat]
Pair = tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]
Place = Annotated[float | None, Query(ge=-(10**8), le=10**8)]
T = TypeVar("T")


class Beside(BaseModel):
    """How a slide lies on the first: around a place, `affine` gives its level-0 pixels for the first slide's.

    `by` says how that is known, `is_guess` that no file says it. `bends`: another affine holds elsewhere.
    `is_kept`: the page keeps a transform between both, which can be had as a file, or forgotten.
    """

    affine: tuple[Row, Row]
    by: str
    is_guess: bool
    bends: bool
    is_kept: bool


class Laid(BaseModel):
    """Where the second slide is to lie: an affine from the first's level-0 pixels to its own."""

    affine: tuple[Row, Row]


class Landmarks(BaseModel):
    """Places that are the same on both slides: x, y on the first and x, y on the second, in level-0 pixels."""

    pairs: list[Pair] = Field(min_length=2, max_length=MAX_LANDMARKS)
    kind: Literal["similarity", "affine"] = "similarity"


class Fitted(BaseModel):
    """How far each landmark is off, and which of them the others speak against, if any."""

    residuals_um: list[float]
    rms_um: float
    doubtful: int | None
    beside: Beside


class Stage(BaseModel):
    """How far a registration is, from 0 to 1, and what it does now; nothing while there is none."""

    part: float | None = None
    words: str = ""


@dataclass(frozen=True)
class _Both:
    """Two slides that are looked at, the first and the second, and what is known of how they lie."""

    one: Opened
    other: Opened
    alignments: Alignments

    @property
    def placed(self) -> Placement:
        return placement_between(self.one, self.other, self.alignments)

    @property
    def contents(self) -> tuple[str, str]:
        return self.one.slide.quickhash, self.other.slide.quickhash

    @property
    def frames(self) -> tuple[SlideFrame, SlideFrame]:
        return _frame(self.one, self.other), _frame(self.other, self.one)

    def beside(self, place: tuple[float | None, float | None] = (None, None)) -> Beside:
        """How the second lies on the first around a place; around the first's middle where none is given."""
        x, y = (side / 2 if at is None else at for at, side in zip(place, self.one.size, strict=True))
        placed, kept = self.placed, self.alignments.is_kept(*self.contents)
        rows = placed.affine_at((x, y)).tolist()
        return Beside(affine=rows, by=placed.by, is_guess=placed.is_guess, bends=placed.bends, is_kept=kept)

    def keep(self, transform: Transform) -> Beside:
        """Keep a transform from the first slide; the file leads from an H&E to an IHC, as `register` writes it."""
        if self.placed.by == MADE_THERE:
            made = "a virtual stain and what it was made of"
            raise expected("slides", "sections that may lie otherwise", made, "move another slide")
        he_is_second = self.one.look.stains == "h-dab" and self.other.look.stains == "h-e"
        self.alignments.keep(inverse(transform) if he_is_second else transform)
        return self.beside()

    def bending(self) -> Transform | None:
        """A transform that bends: one that landmarks correct rather than replace."""
        found = self.alignments.between(*self.contents)
        return found if found and bends(found) else None

    def by_affine(self, affine_px: Array) -> Transform:
        """A transform that is the same as an affine in level-0 pixels."""
        source, target = self.frames
        linear = affine_px[:, :2] * (target.mpp / source.mpp)
        if not MIN_SCALE**2 < abs(np.linalg.det(linear)) < MAX_SCALE**2:
            raise expected("affine", "one that can be undone", affine_px.tolist(), "place the slide anew")
        return by_affine(source, target, np.column_stack([linear, affine_px[:, 2] * target.mpp]))

    def forget(self) -> Beside:
        """Forget what the page keeps."""
        self.alignments.forget(*self.contents)
        return self.beside()

    def fit(self, asked: Landmarks) -> Fitted:
        """Place the second slide by landmarks: a registration that bends is corrected, anything else replaced."""
        source, target = self.frames
        pairs = np.array(asked.pairs)
        start = self.bending() or self.by_affine(similarity_of(self.placed.affine_at()))
        transform, found = refined_by(start, pairs[:, :2] * source.mpp, pairs[:, 2:] * target.mpp, asked.kind)
        beside, residuals = self.keep(transform), found.residuals_um.tolist()
        return Fitted(residuals_um=residuals, rms_um=found.rms_um, doubtful=found.doubtful, beside=beside)

    def transform(self) -> dict[str, Any]:
        """The transform between both as its file has it. Raises: ValueError where there is none."""
        found = self.alignments.direct(*self.contents) or self.alignments.between(*self.contents)
        if found is None:
            raise expected("slides", "placed by a transform", "two that are not", "place them first")
        return transform_json(found)


def similarity_of(affine: Array) -> Array:
    """The affine (2, 3) of the nearest map that only turns, mirrors, scales and shifts."""
    u, sizes, vt = np.linalg.svd(affine[:, :2])
    return np.column_stack([sizes.mean() * u @ vt, affine[:, 2]])


def _frame(one: Opened, other: Opened) -> SlideFrame:
    mpp = one.mpp or other.mpp or ASSUMED_MPP
    whence = "file" if one.mpp else "estimated" if other.mpp else "assumed"
    return SlideFrame(one.size, mpp, whence, one.slide.quickhash)


def alignment_routes(state: State) -> APIRouter:
    """The routes /api/slides/ID/beside/ID, and what is below it."""
    routes = APIRouter(prefix="/api/slides/{slide_id}/beside/{other_id}", tags=["alignment"])

    stages: dict[tuple[str, str], Path] = {}  # files of what is under way, by both slides

    async def answer(work: Callable[[_Both], T], slide_id: str, other_id: str) -> T:
        def with_both() -> T:
            with state.reading(slide_id) as one, state.reading(other_id) as other:
                return work(_Both(one, other, state.alignments))

        return await state.renderer.run(with_both)

    @routes.get("")
    async def beside(slide_id: SlideId, other_id: SlideId, x: Place = None, y: Place = None) -> Beside:
        """Where the other slide shows what the first shows, around a place of the first (see `Placement`)."""
        return await answer(lambda both: both.beside((x, y)), slide_id, other_id)

    @routes.put("")
    async def lay(slide_id: SlideId, other_id: SlideId, laid: Laid) -> Beside:
        """Let the other slide lie where it was moved to by hand, and keep that as a transform."""
        return await answer(lambda both: both.keep(both.by_affine(np.array(laid.affine))), slide_id, other_id)

    @routes.delete("")
    async def forget(slide_id: SlideId, other_id: SlideId) -> Beside:
        """Forget what the page keeps; a transform in a folder holds again, or else pixel sizes."""
        return await answer(_Both.forget, slide_id, other_id)

    @routes.post("/landmarks")
    async def landmarks(slide_id: SlideId, other_id: SlideId, asked: Landmarks) -> Fitted:
        """Let landmarks lie on each other by least squares, and keep that (see `fitted_landmarks`)."""
        return await answer(lambda both: both.fit(asked), slide_id, other_id)

    @routes.post("/registration")
    async def registration(slide_id: SlideId, other_id: SlideId) -> Beside:
        """Find where the tissue of the first lies on the other, as `chromogen register` does, and keep that."""
        sizes = await answer(lambda both: (both.one.mpp, both.other.mpp), slide_id, other_id)
        paths = [state.slides.find(one).path for one in (slide_id, other_id)]
        with scratch_folder() as scratch:
            stages[slide_id, other_id] = scratch / "stage.json"
            try:
                found = await state.worker.run(_registered, *paths, *sizes, stages[slide_id, other_id])
            finally:
                stages.pop((slide_id, other_id), None)
        return await answer(lambda both: both.keep(found), slide_id, other_id)

    @routes.get("/registration")
    async def stage(slide_id: SlideId, other_id: SlideId) -> Stage:
        """How far the registration of both is that is under way."""
        file = stages.get((slide_id, other_id))
        return Stage.model_validate_json(file.read_bytes()) if file and file.is_file() else Stage()

    @routes.get("/transform.json", response_class=Response)
    async def transform(slide_id: SlideId, other_id: SlideId) -> Response:
        """The transform between both as a file, as `chromogen register` writes it: from the H&E to the IHC."""
        found = await answer(_Both.transform, slide_id, other_id)
        named = {"content-disposition": 'attachment; filename="transform.json"'}
        return Response(json.dumps(found), media_type="application/json", headers=named)

    return routes


def _registered(he: Path, ihc: Path, he_mpp: float | None, ihc_mpp: float | None, stage_file: Path) -> Transform:
    def on_stage(done: int, of: int, words: str) -> None:
        write_text(stage_file, Stage(part=done / of, words=words).model_dump_json())

    return register(he, ihc, he_mpp=he_mpp, ihc_mpp=ihc_mpp, on_stage=on_stage)
