"""`chromogen register`, `transfer` and `label`: an H&E and the IHC of its block."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.arguments import Debug, Json
from chromogen.app.terminal import duration, note_assumed, one_bar, tell
from chromogen.errors import choose, expected
from chromogen.files import check_apart, check_folder, check_geojson, check_there, write_text
from chromogen.image import WRITE_SUFFIXES, write_image
from chromogen.provenance import facts_since

if TYPE_CHECKING:
    from chromogen.labels.label import Labels
    from chromogen.registration.transform import SlideFrame, Transform

OVERLAY_PX = 1600


def register_command(
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
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find where the tissue of an H&E lies on an IHC of the same block, and write the transform.

    chromogen register he.svs ihc.svs -o pair.json

    chromogen register he.png ihc.png -o pair.json --he-mpp 0.5 --ihc-mpp 0.25 --overlay overlay.png

    chromogen transfer regions.geojson --transform pair.json -o on_ihc.geojson

    Both slides may be turned, mirrored, or show different parts of the tissue. Look at the overlay: tissue must
    continue from one square to the next.
    """
    from chromogen.registration.pairs import checked, swapped
    from chromogen.registration.register import register
    from chromogen.registration.transform import write_transform

    _check_outputs(he, ihc, out, overlay, affine, field)
    began = time.perf_counter()
    with one_bar("register") as follow:
        transform = checked(register(he, ihc, he_mpp=he_mpp, ihc_mpp=ihc_mpp, on_stage=follow), ihc)
    write_transform(out, transform)
    if overlay:
        _draw(he, ihc, transform, overlay)
    exported = _exported(transform, affine, field)
    facts = {"output": str(out), **facts_of(transform), **exported, **facts_since(began)}
    if doubt := swapped(he, ihc):
        facts["warnings"] = [*facts["warnings"], doubt]
    tell(facts, _registered_lines(facts), warnings=facts["warnings"], as_json=as_json)


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
    from chromogen.registration.pairs import check_pair_files
    from chromogen.registration.transfer import check_field

    check_pair_files(he, ihc)
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

    from chromogen.registration.registered_slide import checkerboard, open_registered, residual_map
    from chromogen.slides.slide import open_slide

    with open_slide(he, mpp=transform.source.mpp) as ours, open_registered(ihc, transform) as theirs:
        both = [checkerboard(ours, theirs, OVERLAY_PX), residual_map(ours, transform, OVERLAY_PX)]
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


def _registered_lines(facts: dict[str, Any]) -> list[str]:
    pieces = "1 piece" if facts["pieces"] == 1 else f"{facts['pieces']} pieces"
    residual = "unknown" if facts["residual_um"] is None else f"{facts['residual_um']:.1f} um in the median"
    off_um = facts.get("affine_off_um")
    return [
        f"{facts['output']}: {pieces} of tissue, registered in {duration(facts['seconds'])}; "
        f"residual {residual}, confidence {facts['confidence']:.2f}",
        *([] if off_um is None else [f"The affine alone is {off_um:.1f} um off in the median."]),
        f"Carry regions by it: chromogen transfer REGIONS.geojson --transform {facts['output']} -o OUT.geojson",
    ]


def transfer_command(
    regions: Annotated[Path, typer.Argument(metavar="REGIONS", help="GeoJSON, as QuPath exports it.")],
    transform: Annotated[Path, typer.Option(help="Transform by `chromogen register HE IHC`.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File for the moved GeoJSON, ending in .geojson.")],
    to: Annotated[str, typer.Option(help="Slide that the regions move to: ihc or he.")] = "ihc",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Move regions, detections and points from an H&E to its IHC, or back, by a registration.

    chromogen register he.svs ihc.svs -o pair.json

    chromogen transfer he_regions.geojson --transform pair.json -o ihc_regions.geojson

    chromogen transfer ihc_cells.geojson --transform pair.json --to he -o he_cells.geojson

    Import OUT in QuPath. Chromogen keeps classes, names and measurements, and adds to each object how far the
    tissue still lies apart there, in um.
    """
    from chromogen.registration.transfer import transferred
    from chromogen.registration.transform import read_transform

    choose("to", to, ("ihc", "he"))
    check_there("regions", [regions], "an existing GeoJSON file")
    check_geojson(out)
    check_apart([out], [regions, transform])
    check_folder(out.parent)
    found, by = _parsed(regions), read_transform(transform)
    moved, count = transferred(found, by, back=to == "he")
    origin, name, frame = ("H&E", "IHC", by.source) if to == "ihc" else ("IHC", "H&E", by.target)
    off = _checked_off(found, count, frame, origin)
    write_text(out, json.dumps(moved))
    facts = {"output": str(out), "objects": count, "off_slide": off, "to": to}
    notes = [f"{off} of {count} objects lie beyond the slide that they come from"] if off else []
    moved_to = f"{out}: {count} object{'s' * (count != 1)} moved to the {name}"
    tell(facts, [moved_to, f"Open the {name} in QuPath and drop {out} on it."], notes=notes, as_json=as_json)


def _parsed(regions: Path) -> Any:
    """GeoJSON of a file. Raises: ValueError, which names the file and says what is wrong with it."""
    from chromogen.regions.geojson import GeoJsonError, parsed_geojson

    try:
        return parsed_geojson(regions.read_bytes())
    except GeoJsonError as error:
        raise expected("regions", "GeoJSON as QuPath exports it", f"{str(regions)!r}: {error}") from error


def _checked_off(found: Any, count: int, frame: SlideFrame, slide: str) -> int:
    """How many objects lie beyond the slide they come from. Raises: ValueError where all do."""
    from chromogen.registration.transfer import off_slide

    off = off_slide(found, frame.size_px)
    if off and off == count:
        there = f"on the {slide} of {frame.size_px[0]} x {frame.size_px[1]} px that was registered"
        advice = "check --to, and whether the transform is of these slides"
        raise expected("regions", f"drawn {there}", f"{count} objects, all beyond it", advice)
    return off


def label_command(
    he: Annotated[Path, typer.Argument(metavar="HE", help="H&E image or slide, which gets the labels.")],
    ihc: Annotated[Path, typer.Argument(metavar="IHC", help="Real IHC image or slide of the same block.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File for the labels, ending in .geojson.")],
    transform: Annotated[
        Path | None, typer.Option(help="Registration of both by `chromogen register HE IHC`.")
    ] = None,
    register: Annotated[bool, typer.Option("--register", help="Register both first.")] = False,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="OD", help="DAB density of what is positive. Default: found from the IHC's nuclei."),
    ] = None,
    distance: Annotated[
        float, typer.Option(metavar="UM", help="How far apart the two centres of a nucleus may lie, in um.")
    ] = 3.0,
    gap: Annotated[
        float, typer.Option(metavar="UM", help="Gaps in the brown are closed up to this width, in um.")
    ] = 24.0,
    smallest: Annotated[
        float, typer.Option(metavar="UM2", help="Smaller regions, in um2, get no label.")
    ] = 1000.0,
    he_mpp: Annotated[
        float | None, typer.Option(help="Size of an H&E pixel in um. Default: the file's, else 0.5.")
    ] = None,
    ihc_mpp: Annotated[
        float | None, typer.Option(help="Size of an IHC pixel in um. Default: the file's, else the H&E's.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Label the regions and nuclei of an H&E by the real IHC of its block, as GeoJSON for QuPath.

    chromogen label he.svs ihc.svs --register -o labels.geojson

    chromogen label he.svs ihc.svs --transform pair.json --threshold 0.2 -o labels.geojson

    chromogen label he_tile.png ihc_tile.png --he-mpp 0.5 -o labels.geojson

    Without --transform and --register both pictures must lie on each other already.

    OUT holds annotations (regions, Positive and Negative), detections (the H&E's nuclei, Positive and Negative
    where the IHC has the same nucleus, else Nucleus), and tiles (squares of 250 um with the share of positive
    nuclei). A section that was stained again shows the same nuclei. Serial sections share few or no nuclei:
    Chromogen measures that in each square, and labels no nucleus where chance would pair as many. You may stop
    it at any moment; the same command continues.
    """
    from chromogen.labels.label import LabelSettings, label

    began, settings = time.perf_counter(), LabelSettings(threshold, distance, gap, smallest, he_mpp, ihc_mpp)
    with one_bar("label") as follow:
        found = label(he, ihc, out, transform=transform, register=register, settings=settings, on_stage=follow)
    note_assumed([found.he_mpp if found.he_mpp_from == "assumed" else None], "--he-mpp", "H&E")
    facts = {**asdict(found), **facts_since(began)}
    tell(facts, _label_lines(found, facts["seconds"]), notes=found.notes, as_json=as_json)


def _label_lines(found: Labels, seconds: float) -> list[str]:
    from chromogen.labels.label import RESEARCH_USE

    residual = "unknown" if found.residual_um is None else f"{found.residual_um:.1f} um"
    return [
        f"{found.output}: labels by DAB above {found.threshold_od10:.2f} ({found.threshold_from}), "
        f"in {duration(seconds)}; registration residual {residual}",
        f"  regions: {found.positive_regions} Positive ({found.positive_mm2:.3g} mm2), "
        f"{found.negative_regions} Negative ({found.negative_mm2:.3g} mm2)",
        f"  nuclei: {found.positive_nuclei:,} Positive, {found.negative_nuclei:,} Negative, "
        f"{found.unlabelled_nuclei:,} without label{_matched(found)}",
        f"{RESEARCH_USE.capitalize()}.",
        f"Open the H&E in QuPath and drop {found.output} on it.",
    ]


def _matched(found: Labels) -> str:
    if found.matched_percent is None:
        return ""
    where = f"in {found.squares_that_share_nuclei} of {found.squares} squares that share nuclei"
    return (
        f"; {found.matched_percent:.0f} % have a nucleus of the IHC at their place {where} "
        f"({found.by_chance_percent:.0f} % by chance)"
    )
