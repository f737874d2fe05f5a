"""`chromogen label`: labels for an H&E from the real IHC of its block."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.terminal import DebugOption, JsonOption, duration, note_assumed, progress_bars

if TYPE_CHECKING:
    from chromogen.app.labels import Labels

EPILOG = """Examples:

chromogen label he.svs ihc.svs --register -o labels.geojson

chromogen label he.svs ihc.svs --transform pair.json --threshold 0.2 -o labels.geojson

chromogen label he_tile.png ihc_tile.png --he-mpp 0.5 -o labels.geojson

Without --transform and --register both pictures must lie on each other already.

OUT holds annotations (regions, Positive and Negative), detections (the H&E's nuclei, Positive and Negative where
the IHC has the same nucleus, else Nucleus), and tiles (squares of 250 um with the share of positive nuclei). A
section that was stained again shows the same nuclei. Serial sections share few or no nuclei: Chromogen measures
that in each square, and labels no nucleus where chance would pair as many. Stopped at any moment, the same command
resumes."""


def label(
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
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Label the regions and nuclei of an H&E by the real IHC of its block, as GeoJSON for QuPath."""
    from chromogen.app.labels import LabelSettings
    from chromogen.app.labels import label as labelled
    from chromogen.provenance import facts_since

    began = time.perf_counter()
    with progress_bars() as progress:
        bar = progress.add_task("label", total=None, loss="", rate="")

        def follow(done: int, of: int, stage: str) -> None:
            progress.update(bar, completed=done, total=of, rate=stage)

        found = labelled(
            he,
            ihc,
            out,
            transform=transform,
            register=register,
            settings=LabelSettings(threshold, distance, gap, smallest, he_mpp, ihc_mpp),
            on_stage=follow,
        )
    note_assumed([found.he_mpp if found.he_mpp_from == "assumed" else None], "--he-mpp", "H&E")
    for note in found.notes:
        print(f"Note: {note}.", file=sys.stderr)
    facts = {**asdict(found), **facts_since(began)}
    print(json.dumps(facts) if as_json else "\n".join(_lines(found, facts)))


def _lines(found: Labels, facts: dict[str, Any]) -> list[str]:
    from chromogen.app.labels import RESEARCH_USE

    residual = "unknown" if found.residual_um is None else f"{found.residual_um:.1f} um"
    return [
        f"{found.output}: labels by DAB above {found.threshold_od10:.2f} ({found.threshold_from}), "
        f"in {duration(facts['seconds'])}; registration residual {residual}",
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
