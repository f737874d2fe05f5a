"""Where the tissue of an H&E lies on its IHC: by a registration in a file, by one made now, or just as it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shapely.geometry import box

from chromogen.errors import expected
from chromogen.files import check_there
from chromogen.image import PathLike
from chromogen.pixel_size import ASSUMED_MPP, is_same_mpp
from chromogen.registration.register import OnStage, register
from chromogen.registration.registered_slide import check_is
from chromogen.registration.transform import (
    DisplacementBlock,
    Piece,
    Quality,
    SlideFrame,
    Transform,
    read_transform,
)
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.appearance import appearance
from chromogen.stains.registration import MIN_CONFIDENCE, displacement

OVERVIEW_PX = 512
OFF_PX = 2  # by which sides may differ after rounding


def check_pair_files(he: Path, ihc: Path) -> None:
    """Raises: FileNotFoundError where one of two slides is missing; ValueError where both are one file."""
    check_there("he and ihc", [he, ihc], "an existing image or slide")
    if he.resolve() == ihc.resolve():
        raise expected("ihc", "another file than the H&E", ihc)


def swapped(he: Path, ihc: Path) -> str | None:
    """A sentence where the H&E looks like an IHC and the IHC like an H&E. Raises: SlideError."""
    kinds = []
    for file in (he, ihc):
        with open_slide(file, assumed_mpp=ASSUMED_MPP) as slide:
            image, step = slide.overview(OVERVIEW_PX)
            kinds.append(appearance(image, slide.need_mpp() * step).kind)
    if kinds != ["H-DAB", "H&E"]:
        return None
    return f"{he.name} looks like an IHC and {ihc.name} like an H&E: name the H&E first."


def check_one_way(transform: object, *, register: bool) -> None:
    """Raises: ValueError where a registration is given and another is asked for."""
    if register and transform:
        raise expected("transform", "given without --register", "both", "leave one out")


def transform_of(
    he: Path,
    ihc: Path,
    transform: PathLike | Transform | None,
    *,
    register_now: bool = False,
    mpps: tuple[float | None, float | None] = (None, None),
    on_stage: OnStage = lambda _done, _of, _next: None,
) -> Transform:
    """The transform from an H&E to its IHC. Without one, and without registration, both lie on each other.

    `mpps`: um per pixel of the H&E and of the IHC, None for what the files state.
    Raises: ValueError where they show different tissue, or the transform is of other slides; FileNotFoundError.
    """
    if register_now:
        return checked(register(he, ihc, he_mpp=mpps[0], ihc_mpp=mpps[1], on_stage=on_stage), ihc)
    with (
        open_slide(he, mpp=mpps[0], assumed_mpp=ASSUMED_MPP) as ours,
        open_slide(ihc, mpp=mpps[1] or mpps[0], assumed_mpp=ASSUMED_MPP) as theirs,
    ):
        if transform is None:
            return as_it_lies(ours, theirs)
        found = transform if isinstance(transform, Transform) else read_transform(transform)
        check_is(ours, found.source.quickhash, "he")
        check_is(theirs, found.target.quickhash, "ihc")
    return checked(found, ihc)


def checked(transform: Transform, ihc: Path) -> Transform:
    """The transform. Raises: ValueError where no piece of it fits better than other tissue would."""
    if all(piece.doubt for piece in transform.pieces):
        got = f"tissue that {transform.pieces[0].doubt}, in {ihc.name!r}"
        raise expected("he and ihc", "two sections of the same tissue", got, "check which slides belong together")
    return transform


def as_it_lies(he: Slide, ihc: Slide) -> Transform:
    """The transform of two pictures of one size that lie on each other, but for one displacement.

    Raises: ValueError for two sizes, and for tissue that fits no better than turned or mirrored.
    """
    advice = "register them: give --register, or --transform"
    apart = max(abs(a - b) for a, b in zip(he.size, ihc.size, strict=True))
    if apart > OFF_PX or not is_same_mpp(he.need_mpp(), ihc.need_mpp()):
        got = " and ".join(f"{s.size[0]} x {s.size[1]} px at {s.need_mpp():g} um/px" for s in (he, ihc))
        raise expected("he and ihc", "of one size where they lie on each other", got, advice)
    (ours, step), (theirs, _) = he.overview(OVERVIEW_PX), ihc.overview(OVERVIEW_PX)
    height, width = np.minimum(ours.shape[:2], theirs.shape[:2])
    mpp = he.need_mpp() * step
    found = displacement(ours[:height, :width], theirs[:height, :width], mpp)
    if found.confidence < MIN_CONFIDENCE:
        got = f"tissue in {ihc.path.name!r} that fits no better than turned or mirrored"
        raise expected("he and ihc", "pictures that lie on each other", got, advice)
    frames = [
        SlideFrame(slide.size, slide.need_mpp(), str(slide.mpp_from), slide.quickhash) for slide in (he, ihc)
    ]
    wide, high = frames[0].size_um
    left_um = found.residual_px * mpp
    affine = np.column_stack([np.eye(2), np.array(found.shift_px) * mpp])
    blocks = (DisplacementBlock((wide / 2, high / 2), left_um, found.confidence),)
    quality = Quality(left_um, found.confidence, found.correlation, found.correlation, blocks)
    return Transform(frames[0], frames[1], (Piece(box(0, 0, wide, high), affine),), quality)
