"""Where the tissue of an H&E lies on its IHC: by a registration in a file, by one made now, or just as it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from shapely.geometry import box

from chromogen.app.paths import check_there, make_folder
from chromogen.errors import expected, missing
from chromogen.evaluation.agreement import Case, match_cases
from chromogen.formats.decoders import MAX_PIXELS
from chromogen.image import PathLike, write_image
from chromogen.pixel_size import ASSUMED_MPP, is_same_mpp
from chromogen.registration.register import OnStage, register
from chromogen.registration.registered_slide import check_is, open_registered
from chromogen.registration.transform import (
    DisplacementBlock,
    Piece,
    Quality,
    SlideFrame,
    Transform,
    read_transform,
    write_transform,
)
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.appearance import appearance
from chromogen.stains.registration import displacement
from chromogen.training.fields import MIN_CONFIDENCE

OVERVIEW_PX = 512
OFF_PX = 2  # by which sides may differ after rounding
FOLDER = "registered"


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


def registered_reals(
    prediction: Path, he: Path | None, real: Path, transform: Path | None, out: Path, mpp: float | None = None
) -> Path:
    """Write each real IHC as a picture of the prediction's size and place, NAME.png; the folder that holds them.

    `transform`: a registration of H&E to IHC, or a folder with NAME.json for each prediction; without it, each
    H&E is registered to its IHC first, and the transform is written beside the picture.
    Raises: ValueError where a slide is another than was registered, or registration fails; FileNotFoundError.
    """
    folder = out / FOLDER
    make_folder(folder)
    for case in match_cases(prediction, he, real)[0]:
        if case.real is not None:
            found = _transform_of(case, transform, mpp)
            if transform is None:
                write_transform(folder / f"{case.name}.json", found)
            _write_registered(case, found, folder / f"{case.name}.png")
    return folder


def _transform_of(case: Case, transform: Path | None, mpp: float | None) -> Transform:
    if transform is None:
        return _registered(case, mpp)
    if not transform.exists():
        raise missing("transform", "an existing file or folder", transform)
    found = read_transform(transform / f"{case.name}.json" if transform.is_dir() else transform)
    if case.he is not None:
        with open_slide(case.he, mpp=mpp) as slide:
            check_is(slide, found.source.quickhash, "he")
    return found


def _registered(case: Case, mpp: float | None) -> Transform:
    if case.he is None or case.real is None:
        advice = "name the H&E of each prediction with --content"
        raise expected("register", "used with an H&E and a real IHC", f"none for {case.name}", advice)
    return register(case.he, case.real, he_mpp=mpp, ihc_mpp=mpp)


def _write_registered(case: Case, transform: Transform, file: Path) -> None:
    """Raises: ValueError for a prediction of another frame than the H&E's, or too large to be read whole."""
    assert case.real is not None  # noqa: S101 - its callers see to it
    with open_slide(case.prediction) as predicted:
        width, height = predicted.size
    source = transform.source
    if abs(height - source.size_px[1] * width / source.size_px[0]) > OFF_PX:
        there = f"{source.size_px[0]} x {source.size_px[1]} px"
        got = f"{case.prediction.name!r} of {width} x {height} px for an H&E of {there}"
        raise expected("prediction", "of the whole H&E that was registered", got)
    if width * height > MAX_PIXELS:
        got = f"{width:,} x {height:,} px"
        raise expected("prediction", f"an image of at most {MAX_PIXELS:,} px", got, "cut out a region")
    at_mpp = source.size_um[0] / width
    with open_registered(case.real, transform) as slide:
        full = slide.size_at(at_mpp)
        pixels = slide.read_at((0, 0), (min(width, full[0]), min(height, full[1])), at_mpp)
    write_image(file, pixels, mpp=None if source.mpp_from == "assumed" else at_mpp)
