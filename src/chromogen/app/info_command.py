"""`chromogen info`: what is this slide?"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption, duration, verdict

if TYPE_CHECKING:
    from chromogen.app.info import SlideInfo, StainEstimate

EPILOG = """Examples:

chromogen info slide.svs

chromogen info slides/ --json

chromogen info scan.tif --mpp 0.25

Label and macro images are named, for they may show who a slide is from, and are never opened."""


def info(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Slides, images, OME-Zarr folders, or folders of them.")
    ],
    mpp: Annotated[
        float | None, typer.Option(help="Size of a level-0 pixel in um, instead of what the files say.")
    ] = None,
    stain_mpp: Annotated[float, typer.Option(help="Size of a pixel in um at which staining is reckoned.")] = 0.5,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What a slide or image is: format, size, levels, mpp, colours, tissue, and what staining it would take."""
    from chromogen.app.info import describe, expanded
    from chromogen.provenance import peak_rss_mb, versions

    began = time.perf_counter()
    files = expanded(paths)
    found: list[SlideInfo] = []
    errors: dict[str, str] = {}
    for file in files:
        try:
            found.append(describe(file, mpp, stain_mpp))
        except (ValueError, OSError, MemoryError) as error:
            if len(files) == 1:
                raise
            errors[str(file)] = verdict(error)[0]
            print(f"Error: {file}: {errors[str(file)]}", file=sys.stderr)
        else:
            if not as_json:
                print(_text(found[-1]))
    if as_json:
        print(_json(found, errors, time.perf_counter() - began, peak_rss_mb(), versions()))
    if errors:
        raise typer.Exit(1)


def _json(
    found: list[SlideInfo], errors: dict[str, str], seconds: float, peak_rss_mb: float, versions: dict[str, str]
) -> str:
    from dataclasses import asdict

    facts = {"seconds": round(seconds, 3), "peak_rss_mb": round(peak_rss_mb, 1), "versions": versions}
    return json.dumps({"results": [asdict(slide) for slide in found], "errors": errors, **facts}, allow_nan=False)


def _text(slide: SlideInfo) -> str:
    lines = {
        "size": _size(slide),
        "mpp": _mpp(slide),
        "objective": f"{slide.objective:g}x" if slide.objective else "not said",
        "colours": f"ICC profile {slide.icc!r}, converted to sRGB"
        if slide.icc
        else "no ICC profile, taken as sRGB",
        "tissue": f"{_area(slide.tissue_mm2)}{slide.tissue_percent:.1f} % of the picture",
        "also there": f"{', '.join(slide.associated)} (never shown or copied)" if slide.associated else "",
        "quickhash": slide.quickhash,
        "staining": _staining(slide.stain) if slide.stain else "unknown without mpp",
        "note": slide.doubt or "",
    }
    return "\n".join(
        [f"{slide.path}: {slide.format}", *(f"  {name:11}{text}" for name, text in lines.items() if text)]
    )


def _size(slide: SlideInfo) -> str:
    width, height = slide.size
    extent = f" ({width * slide.mpp / 1000:.2f} x {height * slide.mpp / 1000:.2f} mm)" if slide.mpp else ""
    levels = ", ".join(f"{w} x {h}" for w, h in slide.level_sizes[1:])
    return f"{width} x {height} px{extent}, {f'levels below: {levels}' if levels else 'one level'}"


def _mpp(slide: SlideInfo) -> str:
    if slide.mpp:
        return f"{slide.mpp:.4g} um/px, {'as given' if slide.mpp_from == 'option' else 'by the file'}"
    said = (
        f"the file says {slide.stated_mpp[0]:g} x {slide.stated_mpp[1]:g}"
        if slide.stated_mpp
        else "not in the file"
    )
    return f"unknown ({said}); give it with --mpp"


def _area(tissue_mm2: float | None) -> str:
    return "" if tissue_mm2 is None else f"{tissue_mm2:.2f} mm2, "


def _staining(stain: StainEstimate) -> str:
    return (
        f"at {stain.mpp:g} um/px {stain.mpx:.1f} Mpx, {stain.tissue_mpx:.1f} of them tissue; "
        f"{duration(stain.seconds)} if the stainer does {stain.assumed_mpx_per_s:g} Mpx/s (assumed), "
        f"in less than {stain.memory_mb / 1000:g} GB"
    )
