"""`chromogen register`: where the tissue of an H&E lies on an IHC."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.terminal import DebugOption, JsonOption, duration, progress_bars

if TYPE_CHECKING:
    from chromogen.registration.transform import Transform

EPILOG = """Examples:

chromogen register he.svs ihc.svs -o pair.json

chromogen register he.png ihc.png -o pair.json --he-mpp 0.5 --ihc-mpp 0.25 --overlay overlay.png

chromogen transfer regions.geojson --transform pair.json -o on_ihc.geojson

Both slides may be turned, mirrored, or show different parts of the tissue. Look at the overlay: tissue must go on
from one square to the next."""


def register(
    he: Annotated[Path, typer.Argument(metavar="HE", help="H&E image or slide.")],
    ihc: Annotated[Path, typer.Argument(metavar="IHC", help="IHC image or slide of the same block.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File for the transform, ending in .json.")],
    overlay: Annotated[
        Path | None,
        typer.Option(
            help="Also write this picture: squares of the H&E and of the registered IHC in turn; residuals."
        ),
    ] = None,
    affine: Annotated[
        Path | None, typer.Option(help="Also write the nearest affine, in pixels, as text for QuPath's scripts.")
    ] = None,
    field: Annotated[
        Path | None,
        typer.Option(help="Also write the displacements, in um: .mha for ITK and SimpleITK, or .zarr (OME-Zarr)."),
    ] = None,
    he_mpp: Annotated[
        float | None, typer.Option(help="Size of an H&E pixel in um. Default: the file's, else estimated.")
    ] = None,
    ihc_mpp: Annotated[
        float | None, typer.Option(help="Size of an IHC pixel in um. Default: the file's, else estimated.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Find where the tissue of an H&E lies on an IHC of the same block, and write the transform."""
    from chromogen.app.pair_transform import checked
    from chromogen.provenance import facts_since
    from chromogen.registration.register import register as found_by
    from chromogen.registration.transform import write_transform

    _check_outputs(he, ihc, out, overlay, affine, field)
    began = time.perf_counter()
    with progress_bars() as progress:
        task = progress.add_task("register", total=None, loss="", rate="")

        def follow(done: int, of: int, stage: str) -> None:
            progress.update(task, completed=done, total=of, rate=stage)

        transform = checked(found_by(he, ihc, he_mpp=he_mpp, ihc_mpp=ihc_mpp, on_stage=follow), ihc)
    write_transform(out, transform)
    if overlay:
        _draw(he, ihc, transform, overlay)
    facts = {
        "output": str(out),
        **facts_of(transform),
        **_exported(transform, affine, field),
        **facts_since(began),
    }
    print(json.dumps(facts) if as_json else "\n".join(_lines(facts)))
    for warning in () if as_json else facts["warnings"]:
        print(f"Warning: {warning}", file=sys.stderr)


def _exported(transform: Transform, affine: Path | None, field: Path | None) -> dict[str, Any]:
    """Write what other programs read; how far the affine is off, in um."""
    from chromogen.registration.transfer import write_affine, write_displacement_field

    if field:
        write_displacement_field(field, transform)
    return {"affine_off_um": round(write_affine(affine, transform), 2)} if affine else {}


def _check_outputs(
    he: Path, ihc: Path, out: Path, overlay: Path | None, affine: Path | None, field: Path | None
) -> None:
    """Raises: ValueError or FileNotFoundError before anything is computed."""
    from chromogen.app.paths import check_apart, check_folder, check_there
    from chromogen.errors import expected
    from chromogen.image import WRITE_SUFFIXES
    from chromogen.registration.transfer import check_field

    check_there("he and ihc", [he, ihc], "an existing image or slide")
    if he.resolve() == ihc.resolve():
        raise expected("ihc", "another file than the H&E", ihc)
    if out.suffix.lower() != ".json":
        raise expected("out", "a file ending in .json", out)
    if overlay and overlay.suffix.lower() not in WRITE_SUFFIXES:
        raise expected("overlay", f"a file ending in {', '.join(WRITE_SUFFIXES)}", overlay)
    if affine and affine.suffix.lower() != ".txt":
        raise expected("affine", "a file ending in .txt", affine)
    if field:
        check_field(field)
    outputs = [path for path in (out, overlay, affine, field) if path]
    check_apart(outputs, [he, ihc])
    for path in outputs:
        check_folder(path.parent)


def _draw(he: Path, ihc: Path, transform: Transform, file: Path) -> None:
    import numpy as np

    from chromogen.image import write_image
    from chromogen.registration.registered_slide import checkerboard, open_registered, residual_map
    from chromogen.slides.slide import open_slide

    longest_px = 1600
    with open_slide(he, mpp=transform.source.mpp) as ours, open_registered(ihc, transform) as theirs:
        both = [checkerboard(ours, theirs, longest_px), residual_map(ours, transform, longest_px)]
        write_image(file, np.concatenate(both, axis=1))


def facts_of(transform: Transform) -> dict[str, Any]:
    """What is said of a transform: pieces, pixel sizes, residual, confidence, and warnings."""
    quality = transform.quality
    doubtful = sum(bool(piece.doubt) for piece in transform.pieces)
    warnings = [
        f"The {name} states no pixel size; Chromogen {frame.mpp_from} {frame.mpp:.3g} um/px (set it by {option})."
        for name, option, frame in (
            ("H&E", "--he-mpp", transform.source),
            ("IHC", "--ihc-mpp", transform.target),
        )
        if frame.mpp_from in ("assumed", "estimated")
    ]
    if transform.source.quickhash == transform.target.quickhash:
        warnings.append("Both files hold the same image.")
    if doubtful:
        warnings.append(f"{doubtful} of {len(transform.pieces)} pieces fit no better than other tissue would.")
    return {
        "pieces": len(transform.pieces),
        "doubtful_pieces": doubtful,
        "he_mpp": transform.source.mpp,
        "ihc_mpp": transform.target.mpp,
        "residual_um": quality.residual_um if quality and math.isfinite(quality.residual_um) else None,
        "confidence": quality.confidence if quality else None,
        "fit_before": quality.fit_before if quality else None,
        "fit_after": quality.fit_after if quality else None,
        "warnings": warnings,
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    pieces = "1 piece" if facts["pieces"] == 1 else f"{facts['pieces']} pieces"
    residual = "unknown" if facts["residual_um"] is None else f"{facts['residual_um']:.1f} um in the median"
    return [
        f"{facts['output']}: {pieces} of tissue, registered in {duration(facts['seconds'])}; "
        f"residual {residual}, confidence {facts['confidence']:.2f}",
        *_affine_line(facts),
        f"Carry regions by it: chromogen transfer REGIONS.geojson --transform {facts['output']} -o OUT.geojson",
    ]


def _affine_line(facts: dict[str, Any]) -> list[str]:
    off_um = facts.get("affine_off_um")
    return [] if off_um is None else [f"The affine alone is {off_um:.1f} um off in the median."]
