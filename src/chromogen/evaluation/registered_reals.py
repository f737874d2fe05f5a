"""Real IHC registered to the H&E of predictions, as pictures of a prediction's size and place."""

from __future__ import annotations

from pathlib import Path

from chromogen.errors import expected, missing
from chromogen.evaluation.agreement import Case, match_cases
from chromogen.files import make_folder
from chromogen.formats.decoders import MAX_PIXELS
from chromogen.image import write_image
from chromogen.registration.pairs import OFF_PX
from chromogen.registration.register import register
from chromogen.registration.registered_slide import check_is, open_registered
from chromogen.registration.transform import Transform, read_transform, write_transform
from chromogen.slides.slide import open_slide

FOLDER = "registered"


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
