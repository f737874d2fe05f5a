"""`chromogen info`: what is this slide?"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chromogen.app.terminal import DebugOption, JsonOption, duration, end_with, one_by_one

if TYPE_CHECKING:
    from chromogen.app.info import SlideInfo, SlideStains

TOLD = ("steps", "batch", "learning_rate", "seed", "validated_on")  # of how a model was trained
SHOWN_OD10 = 0.6
STRENGTHS = ("faintly", "weakly (as 1+)", "moderately (as 2+)", "strongly (as 3+)")

EPILOG = """Examples:

chromogen info slide.svs

chromogen info slides/ --json

chromogen info scan.tif --mpp 0.25

chromogen info my_stain.safetensors

chromogen info epithelial

chromogen info generator.onnx

Where the pixel size is unknown, `stain` needs it by --mpp. Label and macro images are
named, for they may show who a slide is from, and are never opened."""


def info(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Slides, images, OME-Zarr folders, folders, or stainers."),
    ],
    mpp: Annotated[
        float | None, typer.Option(help="Size of a level-0 pixel in um, instead of what the files say.")
    ] = None,
    stain_mpp: Annotated[float, typer.Option(help="Size of a pixel in um at which staining is reckoned.")] = 0.5,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """What a slide or image is: format, size, levels, mpp, tissue, time it takes to stain; or a stainer's card."""
    from chromogen.provenance import peak_rss_mb, versions
    from chromogen.slides.slide import slide_files

    began = time.perf_counter()

    def work(_index: int, file: Path) -> SlideInfo | dict[str, Any]:
        found = _described(file, mpp, stain_mpp)
        if not as_json:
            print(_text(found))
        return found

    results, errors = one_by_one(slide_files(paths), work)
    if as_json:
        print(_json(results, errors, time.perf_counter() - began, peak_rss_mb(), versions()))
    end_with(errors)


def _described(file: Path, mpp: float | None, stain_mpp: float) -> SlideInfo | dict[str, Any]:
    from chromogen.app.info import describe, describe_look, describe_model, describe_onnx, is_model, is_onnx
    from chromogen.staining.stainer import is_look

    if is_model(file):
        return describe_model(file)
    if is_look(file):
        return describe_look(file)
    return describe_onnx(file) if is_onnx(file) else describe(file, mpp, stain_mpp)


def _json(
    found: list[SlideInfo | dict[str, Any]],
    errors: dict[str, str],
    seconds: float,
    peak_rss_mb: float,
    versions: dict[str, str],
) -> str:
    from dataclasses import asdict

    facts = {"seconds": round(seconds, 3), "peak_rss_mb": round(peak_rss_mb, 1), "versions": versions}
    results = [one if isinstance(one, dict) else asdict(one) for one in found]
    return json.dumps({"results": results, "errors": errors, **facts}, allow_nan=False)


def _text(found: SlideInfo | dict[str, Any]) -> str:
    if not isinstance(found, dict):
        return _slide_text(found)
    if "site" in found:
        return _look_text(found)
    return _onnx_text(found) if found["format"] == "ONNX" else _model_text(found)


def _look_text(card: dict[str, Any]) -> str:
    return "\n".join([f"{card['path']}: look", *(f"  {name:11}{text}" for name, text in look_lines(card).items())])


def look_lines(card: dict[str, Any]) -> dict[str, str]:
    """What the card of a look says, in the words of a person who looks at the picture."""
    what = "nuclei" if card["site"] == "nuclear" else "tissue"
    weak, typical, strong = card["stained_od10"]
    colors = [_hex(card["white"], vector) for vector in ((0.0, 0.0, 0.0), *card["stain_matrix"][:2])]
    lines = {
        "name": card["name"],
        "stain": f"{card['target_stain']}, at {card['mpp']:g} um/px",
        "colours": "glass {}, haematoxylin {}, second stain {}".format(*colors)
        + f", {card['chromogen']['angle_deg']:.0f} degrees from {card['chromogen']['nearest']}",
        "stained": f"{card['share']:.0%} of its {what}, {_strength(typical)}: density {typical:.2f} "
        f"({weak:.2f} to {strong:.2f}); the rest {card['unstained_od10']:.2f}",
        "blue": f"nuclei with haematoxylin of density {card['hematoxylin_od10']:.2f}",
        "claim": card["claim"],
        "exemplar": f"{card['source']} ({card['licence']})",
        "doubt": "; ".join(card["doubts"]),
        "sha256": card["sha256"],
        "note": card["notice"],
    }
    return {name: text for name, text in lines.items() if text}


def _hex(white: Sequence[float], vector: Sequence[float]) -> str:
    """The colour that a stain of density SHOWN_OD10 gives glass, as web pages write it."""
    light = ((level + 1) * 10 ** (-SHOWN_OD10 * part) - 1 for level, part in zip(white, vector, strict=True))
    return "#" + "".join(f"{min(max(round(level), 0), 255):02x}" for level in light)


def _strength(od10: float) -> str:
    """How strongly it is stained, as QuPath's thresholds of 1+, 2+ and 3+ have it."""
    return STRENGTHS[sum(od10 > least for least in (0.2, 0.4, 0.6))]


def _onnx_text(card: dict[str, Any]) -> str:
    side, said = card["window_px"], card["metadata"]
    as_it_ends = f"{card['range']}, as it ends" if card["range"] else "not told: give --range (mostly -1..1)"
    in_windows = f"{side} x {side} px alone" if card["fixed"] else f"any; in windows of {side} px"
    lines = {
        "use": f"--{card['use']}" if card["use"] else "none that Chromogen knows",
        "input": card["input"]["says"],
        "output": card["output"]["says"],
        "also there": ", ".join(port["name"] for port in [*card["optional_inputs"], *card["other_outputs"]]),
        "size": in_windows if card["use"] == "stainer" else "",
        "range": as_it_ends if card["use"] == "stainer" else "",
        "mpp": f"{said['mpp']} um/px, as it says"
        if "mpp" in said
        else "not told: give --mpp, as it was trained at",
        "opset": f"{card['opset']}, made with {card['producer'] or 'unknown'}, {card['bytes'] / 1e6:.1f} MB",
        "claim": said.get("claim", ""),
        "sha256": card["sha256"],
        "note": card["notice"],
    }
    return "\n".join([f"{card['path']}: ONNX model", *(f"  {n:11}{text}" for n, text in lines.items() if text)])


def _model_text(card: dict[str, Any]) -> str:
    network, training, said = card["architecture"], card["training"], card["software"]
    look = card["look"]
    lines = {
        "name": card["name"],
        "stain": f"{card['target_stain']}, at {card['mpp']:g} um/px",
        "claim": card["claim"],
        "look": f"{look['source']} ({look['licence']}), {look['sha256'][:12]}",
        "network": f"{', '.join(f'{k} {v}' for k, v in network.items())}; "
        f"{card['parameters']} weights, {card['bytes'] / 1000:.0f} kB",
        "training": ", ".join(f"{k} {v}" for k, v in training.items() if k in TOLD),
        "held out": ", ".join(f"{k} {v:.3g}" for k, v in training.get("validation", {}).items()),
        "data": "; ".join(f"{k}: {v if isinstance(v, str) else len(v)}" for k, v in card["data"].items()),
        "made with": ", ".join(f"{k} {v}" for k, v in said.items()),
        "sha256": card["sha256"],
        "note": card["notice"],
    }
    return "\n".join(
        [f"{card['path']}: model of pairs", *(f"  {n:11}{text}" for n, text in lines.items() if text)]
    )


def _slide_text(slide: SlideInfo) -> str:
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
        "note": f"as an H&E to stain, it {slide.doubt}" if slide.doubt and not slide.virtual else "",
        **(_virtual_lines(slide.virtual) if slide.virtual else {}),
    }
    return "\n".join(
        [f"{slide.path}: {slide.format}", *(f"  {name:11}{text}" for name, text in lines.items() if text)]
    )


def _virtual_lines(said: dict[str, Any]) -> dict[str, str]:
    """Of what Chromogen stained: the stainer, and which source said where."""
    where = said.get("where") or {}
    told = (f"{name} {value}" for name, value in where.items() if name not in ("source", "claim"))
    return {
        "virtual": f"{said.get('target_stain')}, by {said['stainer']}",
        "where": "; ".join([f"{where['source']}: {where.get('claim', '')}", *told]) if where else "",
        "notice": said.get("notice", ""),
    }


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


def _staining(stain: SlideStains) -> str:
    return (
        f"at {stain.mpp:g} um/px {stain.mpx:.1f} Mpx, {stain.tissue_mpx:.1f} of them tissue; "
        f"{duration(stain.seconds)} if the stainer does {stain.assumed_mpx_per_s:g} Mpx/s (assumed), "
        f"in less than {stain.memory_mb / 1000:g} GB"
    )
