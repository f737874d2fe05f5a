"""What a person wants to know of a slide or image before working on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromogen.image import is_image, profile_name, read_provenance
from chromogen.models import LOOK_CLAIM, MODEL_SUFFIX
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import NOTICE
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.appearance import doubts
from chromogen.stains.tissue import tissue_mask

if TYPE_CHECKING:
    from chromogen.staining.looks import Look

OVERVIEW_PX = 1024
VIRTUAL = ("stainer", "target_stain", "stainer_hash", "where", "notice")
STAIN_MPP = 0.5  # where stainers work, if nothing else is said
# What a slide of any size is reckoned to take on two cores: 0.8 s of a processor a Mpx, busy with other work.
STAIN_MPX_PER_S, STAIN_MEMORY_MB = 1.5, 1000.0


@dataclass(frozen=True)
class SlideStains:
    """What staining the slide would take: pixels at `mpp`, and time and memory as assumed of a stainer."""

    mpp: float
    mpx: float
    tissue_mpx: float
    assumed_mpx_per_s: float
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class SlideInfo:
    """The facts of a slide; sizes (w, h) in px. Names of associated images are told, never what they show."""

    path: str
    format: str
    vendor: str | None
    size: tuple[int, int]
    level_sizes: tuple[tuple[int, int], ...]
    mpp: float | None
    mpp_from: str | None  # "option" or "file"
    stated_mpp: tuple[float, float] | None
    objective: float | None
    icc: str | None
    bounds: tuple[tuple[int, int], tuple[int, int]]
    associated: tuple[str, ...]
    tissue_percent: float
    tissue_mm2: float | None
    quickhash: str
    stain: SlideStains | None
    doubt: str | None
    virtual: dict[str, Any] | None  # of what Chromogen stained: by what, and by which source of *where*


def describe(path: Path, mpp: float | None = None, stain_mpp: float = STAIN_MPP) -> SlideInfo:
    """The facts of one slide or image, in about the time that an overview takes. Raises: as `open_slide`."""
    with open_slide(path, mpp=mpp, icc=True) as slide:
        overview, step = slide.overview(OVERVIEW_PX)
        share = float(tissue_mask(overview, (slide.mpp or ASSUMED_MPP) * step).mean())
        profile = slide.about.icc_profile
        return SlideInfo(
            path=str(path),
            format=slide.about.format,
            vendor=slide.about.vendor,
            size=slide.size,
            level_sizes=slide.level_sizes,
            mpp=slide.mpp,
            mpp_from=slide.mpp_from,
            stated_mpp=_finite(slide.stated_mpp),
            objective=slide.about.objective,
            icc=profile_name(profile) if profile else None,
            bounds=slide.bounds,
            associated=slide.about.associated,
            tissue_percent=round(100 * share, 2),
            tissue_mm2=round(share * math.prod(slide.size) * slide.mpp**2 / 1e6, 4) if slide.mpp else None,
            quickhash=slide.quickhash,
            stain=_estimate(slide, share, stain_mpp) if slide.mpp else None,
            doubt=doubts(overview, "content", (slide.mpp or ASSUMED_MPP) * step),
            virtual=virtual_facts(path),
        )


def virtual_facts(path: Path) -> dict[str, Any] | None:
    """What a slide or image that Chromogen stained says of that; None for others."""
    facts = read_facts(path)
    said = facts.as_json() if facts else (read_provenance(path) if is_image(path) else None) or {}
    return {name: said[name] for name in VIRTUAL if name in said} if "stainer" in said else None


def describe_model(path: Path) -> dict[str, Any]:
    """The card of a model of pairs. Raises: as `read_model`."""
    from chromogen.staining.where_network import read_model

    return {"path": str(path), "bytes": path.stat().st_size, **read_model(path).card()}


def describe_look(path: Path) -> dict[str, Any]:
    """The card of a measured look. Raises: as `read_look`."""
    from chromogen.staining.stainer import load_look

    return {"path": str(path), **look_card(load_look(path))}


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


def describe_onnx(path: Path) -> dict[str, Any]:
    """What a model in an ONNX file takes and makes, and for which option. Raises: as `whole_model`."""
    from chromogen.staining.onnx_file import any_onnx

    return any_onnx(path, "model").card()


def is_onnx(path: Path) -> bool:
    """Whether a path is that of an ONNX model."""
    return path.suffix.lower() == ".onnx"


def is_model(path: Path) -> bool:
    """Whether a path is that of a model."""
    return path.suffix.lower() == MODEL_SUFFIX


def _finite(mpp: tuple[float, float] | None) -> tuple[float, float] | None:
    return mpp if mpp and all(map(math.isfinite, mpp)) else None


def _estimate(slide: Slide, tissue_share: float, mpp: float) -> SlideStains:
    mpx = math.prod(slide.size_at(mpp)) / 1e6
    return SlideStains(
        mpp=mpp,
        mpx=round(mpx, 3),
        tissue_mpx=round(mpx * tissue_share, 3),
        assumed_mpx_per_s=STAIN_MPX_PER_S,
        seconds=round(mpx * tissue_share / STAIN_MPX_PER_S, 1),
        memory_mb=STAIN_MEMORY_MB,
    )
