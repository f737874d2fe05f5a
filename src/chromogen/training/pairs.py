"""Pairs of H&E and IHC in files: read, checked and brought together; and the record of the model they teach."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chromogen.errors import expected, short
from chromogen.evaluation.agreement import group_of
from chromogen.evaluation.fields import Pair, find_pairs
from chromogen.image import Image
from chromogen.pixel_size import is_same_mpp
from chromogen.provenance import sha256_of
from chromogen.registration.pairs import transform_of
from chromogen.registration.registered_slide import open_registered
from chromogen.registration.transform import Transform
from chromogen.slides.slide import Slide, open_slide
from chromogen.staining.looks import Look
from chromogen.staining.tissue import MPP
from chromogen.staining.where_network import Model, trained_weights
from chromogen.stains.registration import Displacement
from chromogen.training.fields import CheckedPair, TissuePair, alike_names, check_pair, joined_pairs, kept_of
from chromogen.training.train import Trained, Training
from chromogen.whole_slide.measured_looks import UNKNOWN_LICENCE, stain_of

PIECE_PX = 1024  # of a pair: sections bend, so parts of a large one are brought together each by itself


OnPair: TypeAlias = Callable[[int, int, str], None]  # pairs read, of how many, the next one's name
REFUSED = "its H&E and IHC cannot be registered"  # file names may be patients', and this is stored in the model
SOURCE = "the IHC of the pairs"  # whose names may be patients'


@dataclass(frozen=True)
class Registration:
    """How the IHC of pairs come to their H&E: by the transform in a file, or in NAME.json of a folder, or now."""

    transform: Path | None = None

    def of(self, pair: Pair, mpp: float | None) -> Transform:
        """The transform of a pair. Raises: ValueError where it is of other slides, or doubtful."""
        file = self.transform
        named = file / f"{pair.name}.json" if file and file.is_dir() else file
        return transform_of(pair.he, pair.ihc, named, register_now=file is None, mpps=(mpp, mpp))


@dataclass(frozen=True)
class Pairs:
    """What is trained on, a row for each pair, hashes of their files, and what is to be said of them.

    `assumed` says of how many H&E Chromogen assumes the pixel size, as their files do not say it.
    """

    kept: tuple[CheckedPair, ...]
    rows: tuple[dict[str, Any], ...]
    data: dict[str, list[str]]
    warnings: tuple[str, ...]
    assumed: int = 0


def read_pairs(
    folder: Path,
    *,
    mpp: float | None = None,
    group: str | None = None,
    registration: Registration | None = None,
    on_pair: OnPair = lambda _done, _of, _name: None,
) -> Pairs:
    """All pairs below a folder at MPP, checked; `group` finds in a name which slide it is from.

    `mpp` is um per pixel of files that do not say it. Without a registration H&E and IHC lie on each other. A pair
    that registration refuses is left out, and said.

    Raises: ValueError for pairs that are none (no partner, two sizes, two pixel sizes, none that fits);
    FileNotFoundError.
    """
    found = find_pairs(folder)
    read, refused = [], []
    for done, pair in enumerate(found):
        on_pair(done, len(found), pair.name)
        try:
            read.append(_pieces(pair, mpp, group, registration))
        except _RefusedError as error:
            refused.append((pair, str(error)))
    if not read:
        got = f"{refused[0][0].name}: {refused[0][1]}"
        raise expected("pairs", "at least one H&E with an IHC of its tissue", short(got, 300))
    pairs, said = joined_pairs([piece for pieces, _ in read for piece in pieces])
    said += [f"{pair.name}: {why.rstrip('.')}" for pair, why in refused]
    checked = [check_pair(pair, MPP) for pair in pairs]
    kept = tuple(kept_of(checked))
    checked += [_left_out(pair) for pair, _ in refused]
    files = {"paired_he_sha256": [pair.he for pair in found], "paired_ihc_sha256": [pair.ihc for pair in found]}
    return Pairs(
        kept,
        tuple(one.row(MPP) for one in checked),
        {role: [sha256_of(file) for file in dict.fromkeys(of)] for role, of in files.items()},
        (*said, *_cautions(found, pairs, kept, group)),
        sum(assumed for _, assumed in read),
    )


def _cautions(
    files: Sequence[Pair], pairs: Sequence[TissuePair], kept: Sequence[CheckedPair], group: str | None
) -> list[str]:
    said = []
    if len({pair.he for pair in files}) < len(files):
        said.append("some H&E have several IHC: all are taken for the same marker")
    alike = None if group else alike_names(pairs)
    if alike:
        said.append(f"{alike[0]} and {alike[1]} may be of one slide: if so, say so with --group")
    if len({one.pair.slide for one in kept}) == 1:
        said.append("what is used is of one slide: nothing is learnt of how well it does on another")
    return said


class _RefusedError(ValueError):
    """Two slides that registration refuses."""


def _left_out(pair: Pair) -> CheckedPair:
    """A pair that was not read, as the model file stores it."""
    nothing = np.zeros((1, 1, 3), np.uint8)
    return CheckedPair(
        TissuePair(pair.name, pair.slide, nothing, nothing), Displacement((0.0, 0.0), 0.0, 0.0, 0.0), REFUSED
    )


def _pieces(
    pair: Pair, mpp: float | None, group: str | None, registration: Registration | None
) -> tuple[list[TissuePair], bool]:
    """A pair, or squares of it that are small enough; and whether Chromogen assumes its pixel size."""
    slide = pair.slide if group is None else group_of(pair.name, group)
    he, ihc = _opened(pair, mpp) if registration is None else _registered(pair, registration, mpp)
    with he, ihc:
        known = _known_mpp(he)
        if registration is None:
            _check_mpp(pair, known, _known_mpp(ihc))
        images = [section.read_at((0, 0), section.size_at(MPP), MPP) for section in (he, ihc)]
    if images[0].shape != images[1].shape:
        return [TissuePair(pair.name, slide, *images)], known is None  # refused where pairs are checked
    cuts = list(_squares(images[0]))
    names = [pair.name if len(cuts) == 1 else f"{pair.name}, part {number}" for number in range(1, len(cuts) + 1)]
    parts = [TissuePair(name, slide, images[0][at], images[1][at]) for name, at in zip(names, cuts, strict=True)]
    return parts, known is None


def _opened(pair: Pair, mpp: float | None) -> tuple[Slide, Slide]:
    he = open_slide(pair.he, mpp=mpp, assumed_mpp=MPP)
    return he, open_slide(pair.ihc, mpp=mpp, assumed_mpp=MPP)


def _registered(pair: Pair, registration: Registration, mpp: float | None) -> tuple[Slide, Slide]:
    """Both slides of a pair, the IHC in the frame of the H&E.

    Raises: ValueError for a transform of other slides; _RefusedError where registration finds no place.
    """
    try:
        found = registration.of(pair, mpp)
    except ValueError as error:
        if registration.transform:
            raise
        raise _RefusedError(str(error)) from error
    given, assumed = found.source.mpp, found.source.mpp_from == "assumed"
    he = open_slide(pair.he, mpp=None if assumed else given, assumed_mpp=given)
    return he, open_registered(pair.ihc, found)


def _squares(image: Image) -> Iterator[tuple[slice, slice]]:
    """Even parts of an image, none larger than a piece."""
    counts = [-(-side // PIECE_PX) for side in image.shape[:2]]
    rows, columns = (
        [(side * i // count, side * (i + 1) // count) for i in range(count)]
        for side, count in zip(image.shape[:2], counts, strict=True)
    )
    yield from ((slice(*row), slice(*column)) for row in rows for column in columns)


def _check_mpp(pair: Pair, he_mpp: float | None, ihc_mpp: float | None) -> None:
    if he_mpp is None and ihc_mpp is None:
        return
    if he_mpp is None or ihc_mpp is None or not is_same_mpp(he_mpp, ihc_mpp):
        got = " and ".join("unknown" if x is None else f"{x:g} um/px" for x in (he_mpp, ihc_mpp))
        raise expected(
            "pairs", "H&E and IHC of one pixel size", f"{pair.name}, {got}", "resample one, or give --mpp"
        )


def _known_mpp(slide: Slide) -> float | None:
    return None if slide.mpp_from == "assumed" else slide.mpp


def pairs_record(pairs: Pairs) -> list[dict[str, Any]]:
    """The rows for a model's file: names may be patients', so pairs and slides are numbers."""
    numbers = {slide: number for number, slide in enumerate(dict.fromkeys(row["slide"] for row in pairs.rows), 1)}
    return [{**row, "pair": at, "slide": numbers[row["slide"]]} for at, row in enumerate(pairs.rows, 1)]


def evidence_of(pairs: Pairs, validated_on: str, validation: Mapping[str, float]) -> str:
    """What the claim of a model rests on, in a sentence."""
    used = [row for row in pairs.rows if row["left_out"] is None]
    slides = len({row["slide"] for row in used})
    apart = statistics.median(row["displacement_um"] for row in used)
    left = statistics.median(row["residual_um"] for row in used)
    found = {name.removeprefix("dab_r_"): r for name, r in validation.items() if name.startswith("dab_r_")}
    said = ", ".join(f"{r:.2f} over {blur.replace('um', ' um')}" for blur, r in found.items())
    agrees = f"DAB correlation {said}," if found else "DAB agreement unknown"
    return (
        f"taught by {len(used)} of {len(pairs.rows)} pairs of {slides} slide{'s' if slides > 1 else ''}, "
        f"{apart:g} um apart in the median and {left:g} um after they were brought together; "
        f"{agrees} on {validated_on}"
    )


def model_of(name: str, training: Training, trained: Trained, data: dict[str, Any], pairs: Pairs) -> Model:
    """The model of a trained network, with the look of the pairs' IHC and what its claim rests on."""
    record = {
        "evidence": evidence_of(pairs, trained.validated_on, trained.validation),
        "pairs": pairs_record(pairs),
        **asdict(training),
        "steps": trained.steps,
        "validated_on": trained.validated_on,
        "validation": dict(trained.validation),
    }
    look = Look(name, stain_of(trained.exemplar), SOURCE, UNKNOWN_LICENCE, trained.exemplar)
    network = trained.network
    return Model(name, network.architecture, trained_weights(network), look, record, data)
