"""Labels for an H&E from the IHC of its block, in one GeoJSON file: regions of DAB, squares, and nuclei."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chromogen.errors import expected
from chromogen.files import check_apart, check_folder, check_geojson, named_beside
from chromogen.image import PathLike
from chromogen.labels import features
from chromogen.labels.squares import SIDE_UM, Matched, Square, maps_of
from chromogen.nuclei.find import MAX_MPP
from chromogen.nuclei.positivity import thresholds_of
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import versions
from chromogen.registration.pairs import check_one_way, check_pair_files, transform_of
from chromogen.registration.registered_slide import open_registered
from chromogen.registration.transform import Transform
from chromogen.slides.facts import facts_if_virtual
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.appearance import doubts
from chromogen.whole_slide.nuclei import SlideNuclei, named_built_in, slide_nuclei
from chromogen.whole_slide.nuclei_files import write_features

OVERVIEW_PX = 1024
RESEARCH_USE = "research use only, not for diagnosis"
NO_SUCH_NUCLEI = (
    "the sections do not share single nuclei, so Chromogen labelled no nucleus; use the regions and the squares"
)
TOO_COARSE = "nuclei do not show at this pixel size, so Chromogen labelled regions and squares alone"

OnStage: TypeAlias = Callable[[int, int, str], None]  # parts done, of how many, of which stage


@dataclass(frozen=True)
class LabelSettings:
    """What decides the labels.

    `threshold_od10`: DAB of what is positive, None for the one found from the IHC's own nuclei. `distance_um`: how
    far apart the two centres of a nucleus may lie. Gaps in the brown are closed up to a width of `gap_um`, and
    regions below `smallest_um2` get no label. `he_mpp`, `ihc_mpp`: um per pixel, None for the file's.
    """

    threshold_od10: float | None = None
    distance_um: float = 3.0
    gap_um: float = 24.0
    smallest_um2: float = 1000.0
    he_mpp: float | None = None
    ihc_mpp: float | None = None


DEFAULTS = LabelSettings()


@dataclass(frozen=True)
class Labels:
    """What was labelled, and by what evidence.

    `matched_percent` of the H&E's nuclei have a nucleus of the IHC at their place, `by_chance_percent` would; both
    of the squares in which sections share their nuclei, None without such a square. `notes` are for the user.
    """

    output: str
    positive_nuclei: int
    negative_nuclei: int
    unlabelled_nuclei: int
    matched_percent: float | None
    by_chance_percent: float | None
    squares: int
    squares_that_share_nuclei: int
    positive_regions: int
    negative_regions: int
    positive_mm2: float
    negative_mm2: float
    threshold_od10: float
    threshold_from: str
    residual_um: float | None
    confidence: float | None
    doubtful_pieces: int
    he_mpp: float
    he_mpp_from: str
    ihc_mpp: float
    ihc_mpp_from: str
    cell_um: float
    settings: LabelSettings
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Pair:
    """An open H&E, its IHC as it was scanned and in the H&E's frame, and the transform between."""

    he: Slide
    ihc: Slide
    registered: Slide
    transform: Transform


def label(
    he: PathLike,
    ihc: PathLike,
    out: PathLike,
    *,
    transform: PathLike | Transform | None = None,
    register: bool = False,
    settings: LabelSettings = DEFAULTS,
    on_stage: OnStage = lambda _done, _of, _stage: None,
) -> Labels:
    """Label an H&E by the real IHC of its block, and write the labels as GeoJSON in level-0 px (x, y) of the H&E.

    Regions are tissue with DAB and without. Nuclei are the H&E's, labelled by the IHC's nucleus at the same place,
    in squares where both sections show the same nuclei. Squares hold the share of positive nuclei.
    `transform` leads from H&E to IHC, or `register` finds it; with neither both lie on each other.
    Raises: ValueError where the pair does not fit, or a picture is no H&E or no IHC; OSError.
    """
    he, ihc, out = Path(he), Path(ihc), Path(out)
    check_labels(he, ihc, out, settings, transform, register=register)
    check_stains(he, ihc, settings)
    found = transform_of(
        he, ihc, transform, register_now=register, mpps=(settings.he_mpp, settings.ihc_mpp), on_stage=on_stage
    )
    with (
        open_slide(he, mpp=found.source.mpp) as ours,
        open_slide(ihc, mpp=found.target.mpp) as theirs,
        open_registered(ihc, found) as registered,
    ):
        return _labelled(_Pair(ours, theirs, registered, found), out, settings, on_stage)


def check_labels(
    he: Path, ihc: Path, out: Path, settings: LabelSettings, transform: object, *, register: bool
) -> None:
    """Raises: ValueError or FileNotFoundError before anything is computed."""
    check_one_way(transform, register=register)
    check_pair_files(he, ihc)
    check_geojson(out)
    check_apart([out], [he, ihc, *([Path(transform)] if isinstance(transform, str | Path) else [])])
    check_folder(out.parent)
    thresholds_of(settings.threshold_od10, ())
    for name in ("distance_um", "gap_um", "smallest_um2"):
        if not 0 < getattr(settings, name) < np.inf:
            raise expected(name, "above 0", getattr(settings, name))


def check_stains(he: Path, ihc: Path, settings: LabelSettings) -> None:
    """Raises: ValueError where a slide looks like another stain than it was given as, or shows nothing."""
    roles = (he, "content", "he", settings.he_mpp), (ihc, "style", "ihc", settings.ihc_mpp)
    for file, role, name, mpp in roles:
        with open_slide(file, mpp=mpp, assumed_mpp=ASSUMED_MPP) as slide:
            image, step = slide.overview(OVERVIEW_PX)
            doubt = doubts(image, role, slide.need_mpp() * step)
        if doubt:
            got = f"{file.name!r}, which {doubt.split(';')[0]}"
            raise expected(name, "an H&E" if name == "he" else "an IHC with DAB", got, "name the H&E first")


def _labelled(pair: _Pair, out: Path, settings: LabelSettings, on_stage: OnStage) -> Labels:
    """Nuclei of both slides stay in folders beside `out` until it is written, so that the same call resumes."""
    he, ihc, transform = pair.he, pair.ihc, pair.transform
    thresholds = thresholds_of(settings.threshold_od10, ())
    with ExitStack() as until_written:

        def nuclei_of(slide: Slide, name: str, stains: str) -> SlideNuclei | None:
            if max(he.need_mpp(), ihc.need_mpp()) > MAX_MPP:
                return None
            folder, follow = named_beside(out, f".{name}.nuclei"), partial(_follow, on_stage, f"nuclei of {name}")
            return until_written.enter_context(slide_nuclei(slide, folder, named_built_in(), stains, follow))

        known = features.ihc_nuclei(ihc, nuclei_of(ihc, "ihc", "h-dab"), transform, thresholds)
        on_he = nuclei_of(he, "he", "h-e")
        both, classes = features.nuclei_matched(on_he, known, transform, settings.distance_um)
        follow = partial(_follow, on_stage, "regions")
        maps = maps_of(he, pair.registered, transform, known.stains, known.threshold_od10, follow)
        tissue = features.LabelledTissue(*maps.regions(settings.gap_um, settings.smallest_um2), maps)
        nuclei = () if on_he is None else features.nucleus_features(on_he, both, classes, known, transform)
        objects = chain(
            features.region_features(tissue, known, transform),
            features.square_features(both.squares, maps, transform),
            nuclei,
        )
        facts = _facts(out, settings, transform, known, both, classes, tissue)
        facts = replace(facts, notes=(*facts.notes, *_virtual_note(ihc.path)))
        write_features(out, objects, _header(facts, transform, known))
    return facts


def _virtual_note(ihc: Path) -> list[str]:
    """What to say of an IHC that Chromogen made."""
    made = facts_if_virtual(ihc)
    if not made:
        return []
    return [f"the IHC is a virtual stain by {made['stainer']}: these are labels of a model, not of a real IHC"]


def _follow(on_stage: OnStage, stage: str, done: int, of: int) -> None:
    on_stage(done, of, stage)


def _facts(
    out: Path,
    settings: LabelSettings,
    transform: Transform,
    ihc: features.IhcNuclei,
    both: Matched,
    classes: features.Classes,
    tissue: features.LabelledTissue,
) -> Labels:
    sharing = [square for square in both.squares if square.he_nuclei and square.shift_um is not None]
    nuclei = sum(square.he_nuclei for square in sharing)
    quality, source, target = transform.quality, transform.source, transform.target
    of = {value: [r.number for r in tissue.regions if r.positive is value] for value in (True, False)}
    known_um = quality is not None and np.isfinite(quality.residual_um)
    return Labels(
        output=str(out),
        positive_nuclei=classes.count(True),
        negative_nuclei=classes.count(False),
        unlabelled_nuclei=classes.count(None),
        matched_percent=features.percent(sum(square.matched for square in sharing), nuclei),
        by_chance_percent=features.percent(sum(square.by_chance for square in sharing), nuclei),
        squares=sum(square.he_nuclei > 0 for square in both.squares),
        squares_that_share_nuclei=len(sharing),
        positive_regions=len(of[True]),
        negative_regions=len(of[False]),
        positive_mm2=sum(map(tissue.area_um2, of[True])) / 1e6,
        negative_mm2=sum(map(tissue.area_um2, of[False])) / 1e6,
        threshold_od10=ihc.threshold_od10,
        threshold_from=ihc.threshold.source,
        residual_um=float(quality.residual_um) if quality and known_um else None,
        confidence=float(quality.confidence) if quality else None,
        doubtful_pieces=sum(bool(piece.doubt) for piece in transform.pieces),
        he_mpp=source.mpp,
        he_mpp_from=source.mpp_from,
        ihc_mpp=target.mpp,
        ihc_mpp_from=target.mpp_from,
        cell_um=tissue.maps.cell_um,
        settings=settings,
        notes=tuple(_notes(transform, ihc, sharing, both, classes)),
    )


def _notes(
    transform: Transform,
    ihc: features.IhcNuclei,
    sharing: Sequence[Square],
    both: Matched,
    classes: features.Classes,
) -> Iterator[str]:
    """What a user should know before training on the labels."""
    doubtful = sum(bool(piece.doubt) for piece in transform.pieces)
    if doubtful:
        yield f"the registration of {doubtful} of {len(transform.pieces)} pieces is in doubt; they have no labels"
    if not classes and not len(ihc.on_he_um):
        yield TOO_COARSE
    elif not sharing:
        yield NO_SUCH_NUCLEI
    elif sum(square.he_nuclei > 0 for square in both.squares) > len(sharing):
        yield "in some squares the sections do not share single nuclei; their nuclei are not labelled"
    if ihc.threshold.doubt:
        yield ihc.threshold.doubt


def _header(facts: Labels, transform: Transform, ihc: features.IhcNuclei) -> dict[str, Any]:
    """What the file says of itself; the names of files may be patients', so slides are named by their hashes."""
    return {
        "labels": {name: value for name, value in asdict(facts).items() if name != "output"},
        "ihc_white": ihc.stains.white.tolist(),
        "ihc_vectors": np.round(ihc.stains.matrix[:2], 5).tolist(),
        "square_um": SIDE_UM,
        "he_quickhash": transform.source.quickhash,
        "ihc_quickhash": transform.target.quickhash,
        "versions": versions(),
        "notice": RESEARCH_USE,
    }
