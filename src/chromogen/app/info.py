"""What a person wants to know of a slide or image before working on it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromogen.app.terminal import duration
from chromogen.image import profile_name
from chromogen.models import LOOK_CLAIM, MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import NOTICE
from chromogen.slides.facts import facts_if_virtual
from chromogen.slides.pyramid import processors
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.appearance import doubts
from chromogen.stains.tissue import tissue_mask

if TYPE_CHECKING:
    from chromogen.staining.looks import Look

OVERVIEW_PX = 1024
STAIN_MPP = 0.5  # where stainers work, if nothing else is said
# The default look on the demo's slide: processor time to start, survey, write and check, and for a Mpx of tissue.
STAIN_START_S, STAIN_S_A_MPX, STAIN_MEMORY_MB = 4.0, 3.0, 1000.0
TOLD = ("steps", "batch", "learning_rate", "seed", "validated_on")  # of how a model was trained
SHOWN_OD10 = 0.6
STRENGTHS = ("faintly", "weakly (as 1+)", "moderately (as 2+)", "strongly (as 3+)")


def describe(path: Path, mpp: float | None = None, stain_mpp: float = STAIN_MPP) -> dict[str, Any]:
    """The facts of one slide or image, in about the time that an overview takes; sizes (w, h) in px.

    `mpp_from` is "option" or "file". `associated` has the names of label and macro images, never their pixels.
    `stain` estimates what staining takes: pixels at its `mpp`, time and memory. `virtual` is for virtual stains:
    their stainer, and their source of *where*. Raises: as `open_slide`.
    """
    with open_slide(path, mpp=mpp, icc=True) as slide:
        overview, step = slide.overview(OVERVIEW_PX)
        share = float(tissue_mask(overview, (slide.mpp or ASSUMED_MPP) * step).mean())
        about, stated = slide.about, slide.stated_mpp
        return {
            "path": str(path),
            "format": about.format,
            "vendor": about.vendor,
            "size": slide.size,
            "level_sizes": slide.level_sizes,
            "mpp": slide.mpp,
            "mpp_from": slide.mpp_from,
            "stated_mpp": stated if stated and all(map(math.isfinite, stated)) else None,
            "objective": about.objective,
            "icc": profile_name(about.icc_profile) if about.icc_profile else None,
            "bounds": slide.bounds,
            "associated": about.associated,
            "tissue_percent": round(100 * share, 2),
            "tissue_mm2": round(share * math.prod(slide.size) * slide.mpp**2 / 1e6, 4) if slide.mpp else None,
            "quickhash": slide.quickhash,
            "stain": _estimate(slide, share, stain_mpp) if slide.mpp else None,
            "doubt": doubts(overview, "content", (slide.mpp or ASSUMED_MPP) * step),
            "virtual": facts_if_virtual(path),
        }


def described(path: Path, mpp: float | None = None, stain_mpp: float = STAIN_MPP) -> dict[str, Any]:
    """The facts of a slide or image, or the card of a model of pairs, a look, or an ONNX model.

    Raises: as `describe`, `read_model`, `load_look` and `any_onnx`.
    """
    from chromogen.staining.stainer import is_look, load_look

    suffix = path.suffix.lower()
    if suffix == MODEL_SUFFIX:
        from chromogen.staining.where_network import read_model

        return {"path": str(path), "bytes": path.stat().st_size, **read_model(path).card()}
    if is_look(path):
        return {"path": str(path), **look_card(load_look(path))}
    if suffix == ONNX_SUFFIX:
        from chromogen.staining.onnx_file import any_onnx

        return any_onnx(path, "model").card()
    return describe(path, mpp, stain_mpp)


def look_card(look: Look) -> dict[str, Any]:
    """What a look is: its stains, how much of its exemplar is stained and how strongly, and where it is from."""
    import numpy as np

    from chromogen.staining.looks import FORMAT as LOOK_FORMAT
    from chromogen.staining.tissue import MPP
    from chromogen.stains.deconvolution import nearest_chromogen

    exemplar = look.exemplar
    name, away_deg = nearest_chromogen(np.array(exemplar.matrix[1]))
    return {
        "format": LOOK_FORMAT,
        "name": look.name,
        "target_stain": look.target_stain,
        "chromogen": {"nearest": name, "angle_deg": round(away_deg, 1)},
        "site": exemplar.site,
        "share": exemplar.share,
        "stained_od10": [round(float(np.quantile(exemplar.stained_od10, q)), 3) for q in (0.1, 0.5, 0.9)],
        "unstained_od10": round(float(np.median(exemplar.unstained_od10)), 3),
        "hematoxylin_od10": round(exemplar.around_od10 + float(np.median(exemplar.blue_od10)), 3),
        "mpp": MPP,
        "white": exemplar.white,
        "stain_matrix": exemplar.matrix,
        "source": look.source,
        "licence": look.licence,
        "doubts": list(look.doubts),
        "sha256": look.sha256,
        "claim": LOOK_CLAIM,
        "notice": NOTICE,
    }


def _estimate(slide: Slide, tissue_share: float, mpp: float) -> dict[str, float]:
    mpx = math.prod(slide.size_at(mpp)) / 1e6
    return {
        "mpp": mpp,
        "mpx": round(mpx, 3),
        "tissue_mpx": round(mpx * tissue_share, 3),
        "seconds": round(STAIN_START_S + mpx * tissue_share * STAIN_S_A_MPX / processors(), 1),
        "memory_mb": STAIN_MEMORY_MB,
    }


def text_of(found: dict[str, Any]) -> str:
    """What was found, for people to read: a title, and a line for each thing that is known."""
    if "quickhash" in found:
        return titled_lines(f"{found['path']}: {found['format']}", _slide_lines(found))
    if "site" in found:
        return titled_lines(f"{found['path']}: look", look_lines(found))
    if found["format"] == "ONNX":
        return titled_lines(f"{found['path']}: ONNX model", _onnx_lines(found))
    return titled_lines(f"{found['path']}: model of pairs", _model_lines(found))


def titled_lines(title: str, lines: Mapping[str, str]) -> str:
    """A title, and below it the lines that say something, under their names."""
    return "\n".join([title, *(f"  {name:11}{text}" for name, text in lines.items() if text)])


def look_lines(card: dict[str, Any]) -> dict[str, str]:
    """What the card of a look says, in the words of a person who looks at the picture."""
    what = "nuclei" if card["site"] == "nuclear" else "tissue"
    weak, typical, strong = card["stained_od10"]
    colors = [_hex(card["white"], vector) for vector in ((0.0, 0.0, 0.0), *card["stain_matrix"][:2])]
    return {
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


def _hex(white: Sequence[float], vector: Sequence[float]) -> str:
    """The colour that a stain of density SHOWN_OD10 gives glass, as web pages write it."""
    light = ((level + 1) * 10 ** (-SHOWN_OD10 * part) - 1 for level, part in zip(white, vector, strict=True))
    return "#" + "".join(f"{min(max(round(level), 0), 255):02x}" for level in light)


def _strength(od10: float) -> str:
    """How strongly it is stained, as QuPath's thresholds of 1+, 2+ and 3+ have it."""
    return STRENGTHS[sum(od10 > least for least in (0.2, 0.4, 0.6))]


def _onnx_lines(card: dict[str, Any]) -> dict[str, str]:
    side, said = card["window_px"], card["metadata"]
    as_it_ends = f"{card['range']}, as it ends" if card["range"] else "not told: give --range (mostly -1..1)"
    in_windows = f"{side} x {side} px alone" if card["fixed"] else f"any; in windows of {side} px"
    return {
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


def _model_lines(card: dict[str, Any]) -> dict[str, str]:
    network, training, said = card["architecture"], card["training"], card["software"]
    look = card["look"]
    return {
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


def _slide_lines(slide: dict[str, Any]) -> dict[str, str]:
    area = "" if slide["tissue_mm2"] is None else f"{slide['tissue_mm2']:.2f} mm2, "
    return {
        "size": _size(slide),
        "mpp": _mpp(slide),
        "objective": f"{slide['objective']:g}x" if slide["objective"] else "not said",
        "colours": f"ICC profile {slide['icc']!r}, converted to sRGB"
        if slide["icc"]
        else "no ICC profile, taken as sRGB",
        "tissue": f"{area}{slide['tissue_percent']:.1f} % of the picture",
        "also there": f"{', '.join(slide['associated'])} (never shown or copied)" if slide["associated"] else "",
        "quickhash": slide["quickhash"],
        "staining": _staining(slide["stain"]) if slide["stain"] else "unknown without mpp",
        "note": f"as an H&E to stain, it {slide['doubt']}" if slide["doubt"] and not slide["virtual"] else "",
        "stain it": "" if slide["virtual"] else f"chromogen stain {shlex.quote(slide['path'])} -o stained.ome.tif",
        **(_virtual_lines(slide["virtual"]) if slide["virtual"] else {}),
    }


def _virtual_lines(said: dict[str, Any]) -> dict[str, str]:
    """Of what Chromogen stained: the stainer, and which source said where."""
    where = said.get("where") or {}
    told = (f"{name} {value}" for name, value in where.items() if name not in ("source", "claim"))
    return {
        "virtual": f"{said.get('target_stain')}, by {said['stainer']}",
        "where": "; ".join([f"{where['source']}: {where.get('claim', '')}", *told]) if where else "",
        "notice": said.get("notice", ""),
    }


def _size(slide: dict[str, Any]) -> str:
    width, height = slide["size"]
    extent = (
        f" ({width * slide['mpp'] / 1000:.2f} x {height * slide['mpp'] / 1000:.2f} mm)" if slide["mpp"] else ""
    )
    levels = ", ".join(f"{w} x {h}" for w, h in slide["level_sizes"][1:])
    return f"{width} x {height} px{extent}, {f'levels below: {levels}' if levels else 'one level'}"


def _mpp(slide: dict[str, Any]) -> str:
    if slide["mpp"]:
        return f"{slide['mpp']:.4g} um/px, {'as given' if slide['mpp_from'] == 'option' else 'by the file'}"
    said = (
        f"the file says {slide['stated_mpp'][0]:g} x {slide['stated_mpp'][1]:g}"
        if slide["stated_mpp"]
        else "not in the file"
    )
    return f"unknown ({said}); give it with --mpp"


def _staining(stain: dict[str, float]) -> str:
    return (
        f"at {stain['mpp']:g} um/px {stain['mpx']:.1f} Mpx, {stain['tissue_mpx']:.1f} of them tissue; "
        f"about {duration(stain['seconds'])} by a built-in look on this machine, "
        f"in less than {stain['memory_mb'] / 1000:g} GB"
    )
