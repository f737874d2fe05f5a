"""`chromogen transfer`: regions, detections and points from one slide to the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption

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
    from chromogen.regions.geojson import parsed_geojson
    from chromogen.registration.transfer import transferred
    from chromogen.registration.transform_file import read_transform

    choose("to", to, ("ihc", "he"))
    check_there("regions", [regions], "an existing GeoJSON file")
    if out.suffix.lower() not in (".geojson", ".json"):
        raise expected("out", "a file ending in .geojson", out)
    check_apart([out], [regions, transform])
    check_folder(out.parent)
    moved, count = transferred(parsed_geojson(regions.read_bytes()), read_transform(transform), back=to == "he")
    write_text(out, json.dumps(moved))
    name = "IHC" if to == "ihc" else "H&E"
    facts = {"output": str(out), "objects": count, "to": to}
    print(json.dumps(facts) if as_json else f"{out}: {count} object{'s' * (count != 1)} moved to the {name}")
