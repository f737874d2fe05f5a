"""`chromogen transfer`: regions, detections and points from one slide to the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.terminal import DebugOption, JsonOption

if TYPE_CHECKING:
    from chromogen.registration.transform import SlideFrame

EPILOG = """Examples:

chromogen register he.svs ihc.svs -o pair.json

chromogen transfer he_regions.geojson --transform pair.json -o ihc_regions.geojson

chromogen transfer ihc_cells.geojson --transform pair.json --to he -o he_cells.geojson

Import OUT in QuPath. Chromogen keeps classes, names and measurements, and adds to each object how far the tissue
still lies apart there, in um."""


def transfer(
    regions: Annotated[Path, typer.Argument(metavar="REGIONS", help="GeoJSON, as QuPath exports it.")],
    transform: Annotated[Path, typer.Option(help="Transform by `chromogen register HE IHC`.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File for the moved GeoJSON, ending in .geojson.")],
    to: Annotated[str, typer.Option(help="Slide that the regions move to: ihc or he.")] = "ihc",
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Move regions, detections and points from an H&E to its IHC, or back, by a registration."""
    from chromogen.app.paths import check_apart, check_folder, check_there
    from chromogen.errors import choose, expected
    from chromogen.files import write_text
    from chromogen.registration.transfer import transferred
    from chromogen.registration.transform import read_transform

    choose("to", to, ("ihc", "he"))
    check_there("regions", [regions], "an existing GeoJSON file")
    if out.suffix.lower() not in (".geojson", ".json"):
        raise expected("out", "a file ending in .geojson", out)
    check_apart([out], [regions, transform])
    check_folder(out.parent)
    found, by = _parsed(regions), read_transform(transform)
    moved, count = transferred(found, by, back=to == "he")
    off = _checked_off(found, count, by.source if to == "ihc" else by.target, "H&E" if to == "ihc" else "IHC")
    write_text(out, json.dumps(moved))
    name = "IHC" if to == "ihc" else "H&E"
    facts = {"output": str(out), "objects": count, "off_slide": off, "to": to}
    if off:
        print(f"Note: {off} of {count} objects lie beyond the slide that they come from.", file=sys.stderr)
    print(json.dumps(facts) if as_json else f"{out}: {count} object{'s' * (count != 1)} moved to the {name}")


def _parsed(regions: Path) -> Any:
    """GeoJSON of a file. Raises: ValueError, which names the file and says what is wrong with it."""
    from chromogen.errors import expected
    from chromogen.regions.geojson import GeoJsonError, parsed_geojson

    try:
        return parsed_geojson(regions.read_bytes())
    except GeoJsonError as error:
        raise expected("regions", "GeoJSON as QuPath exports it", f"{str(regions)!r}: {error}") from error


def _checked_off(found: Any, count: int, frame: SlideFrame, slide: str) -> int:
    """How many objects lie beyond the slide they come from. Raises: ValueError where all do."""
    from chromogen.errors import expected
    from chromogen.registration.transfer import off_slide

    off = off_slide(found, frame.size_px)
    if off and off == count:
        there = f"on the {slide} of {frame.size_px[0]} x {frame.size_px[1]} px that was registered"
        advice = "check --to, and whether the transform is of these slides"
        raise expected("regions", f"drawn {there}", f"{count} objects, all beyond it", advice)
    return off
