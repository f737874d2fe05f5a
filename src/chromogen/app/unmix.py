"""Stain separation of files: what each stain leaves alone, density maps, vectors, positive pixels and nuclei."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chromogen.errors import choose, expected
from chromogen.evaluation.tile import Tile
from chromogen.files import stem_of, write_json, write_table, write_text
from chromogen.image import Image, read_image, shrunk, write_image
from chromogen.nuclei.find import MAX_MPP, nuclei_of_image
from chromogen.nuclei.positivity import Threshold, fixed_threshold, grades_of, measure, positive_threshold
from chromogen.page import Figure, Section, as_cell, render
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.slides.slide import open_slide, read_picture
from chromogen.stains.appearance import appearance
from chromogen.stains.deconvolution import (
    VECTORS,
    Array,
    estimate_stains,
    separate_stains,
    stain_alone,
    stain_matrix,
)
from chromogen.stains.glass import white_level
from chromogen.whole_slide.nuclei_files import write_numbers

UnmixedFacts: TypeAlias = dict[str, Any]  # of what was found in one image, as in JSON

SHOWN_PX = 360
# By what a picture looks like, the vectors that are not its own.
OTHERS = {"H&E": ("h-dab", "h-dab-ruifrok"), "H-DAB": ("h-e", "h-e-ruifrok")}
SENTENCES = ("why", "nuclei_doubt")  # of an image's row, which stand below its pictures
PARTS = ("first", "second", "residual")
WORDS = {"first": "the first stain alone", "second": "the second stain alone", "residual": "what is neither"}


def parse_vectors(text: str) -> Array:
    """A stain matrix from the name of known vectors, or from two vectors of red, green and blue, the first first.

    Rows are unit vectors: (3, 3), the third for what is neither. Raises: ValueError for a text that is none.

    >>> parse_vectors("0.65,0.70,0.29;0.27,0.57,0.78").round(2).tolist()[1]
    [0.27, 0.57, 0.78]
    """
    if text in VECTORS:
        return VECTORS[text]
    if ";" not in text:
        choose("stains", text, VECTORS)
    try:
        first, second = (_vector(part) for part in text.split(";"))
    except ValueError:
        raise expected("stains", f"one of {', '.join(VECTORS)}, or two vectors r,g,b;r,g,b", text) from None
    return stain_matrix(first, second)


def _vector(text: str) -> tuple[float, float, float]:
    red, green, blue = (float(part) for part in text.split(","))
    if not (math.isfinite(red + green + blue) and any((red, green, blue))):
        raise ValueError(text)
    return red, green, blue


def unmix_file(
    file: Path,
    folder: Path,
    matrix: Array,
    thresholds_od10: Sequence[float],
    *,
    estimate: bool,
    find_white: bool,
    mpp: float | None,
) -> UnmixedFacts:
    """Read an image, write NAME_first.png, _second.png, _residual.png and _od10.tif into the folder; the facts.

    With `estimate` the vectors are the image's own, `matrix` where it cannot tell. Raises: ValueError or OSError.

    The facts are vectors and white level used, share of tissue, and per threshold % positive.
    `positive_percent` is the share of tissue where the second stain's density is above a threshold (base 10); it
    and `mean_od10` are None where there is no tissue. `why` says why the known vectors had to do for an estimate.
    `mpp` is um per pixel, None where it is not known.

    `nuclei` is None where pixels are too large to show nuclei. `positive_nuclei_percent` has the thresholds of
    `positive_percent`; a nucleus counts by its mean density of DAB. `nuclei_threshold_od10` comes from the image's
    own nuclei, `own_positive_nuclei_percent` is the share above it, and `nuclei_doubt` says why it may be wrong.
    These are None where the second stain is no DAB. `nuclei_per_mm2` is of tissue, None without a pixel size.
    """
    image, own_mpp = read_picture(file, mpp)
    look = appearance(image, own_mpp or ASSUMED_MPP)
    if any(np.array_equal(matrix, VECTORS[name]) for name in OTHERS.get(look.kind, ())):
        warnings.warn(f"{file.name} looks like {look.kind}; give --stains {look.stains}.", stacklevel=2)
    white = white_level(image, own_mpp or ASSUMED_MPP) if find_white else np.full(3, 255.0)
    own = estimate_stains(image, matrix, white) if estimate else None
    used = own.matrix if own else matrix
    concentrations = separate_stains(image, used, white)
    od10 = concentrations / np.log(10)
    stained = od10[Tile(image, mpp=own_mpp).tissue]
    tissue_mm2 = len(stained) * own_mpp**2 / 1e6 if own_mpp else None
    counted = nuclei_by(image, own_mpp, white, used, thresholds_od10)
    shares = {f"{t:g}": 100 * float((stained[:, 1] > t).mean()) for t in thresholds_od10} if len(stained) else None
    found = {
        "name": file.name,
        "vectors": np.round(used[:2], 5).tolist(),
        "white": white.tolist(),
        "why": own.why if own else "",
        "mpp": own_mpp,
        "tissue_percent": 100 * len(stained) / od10[..., 0].size,
        "mean_od10": np.round(stained.mean(axis=0), 4).tolist() if len(stained) else None,
        "positive_percent": shares,
        "nuclei_per_mm2": counted.nuclei / tissue_mm2 if counted.nuclei is not None and tissue_mm2 else None,
        **asdict(counted),
    }
    for index, part in enumerate(PARTS):
        alone = stain_alone(concentrations, index, used)
        write_image(folder / f"{stem_of(file)}_{part}.png", alone, found, own_mpp)
    planes = np.moveaxis(od10, 2, 0).astype(np.float32)
    write_numbers(folder / f"{stem_of(file)}_od10.tif", planes, own_mpp, PARTS)
    return found


@dataclass(frozen=True)
class Counted:
    """How many nuclei an image shows, and which share of them is positive; fields as in the facts."""

    nuclei: int | None
    positive_nuclei_percent: dict[str, float] | None = None
    nuclei_threshold_od10: float | None = None
    own_positive_nuclei_percent: float | None = None
    nuclei_doubt: str = ""


def nuclei_by(
    image: Image, mpp: float | None, white: Array, matrix: Array, thresholds_od10: Sequence[float]
) -> Counted:
    """Count the nuclei of an image, uint8 (H, W, 3) at `mpp` um/px, and judge them by the densities of `matrix`.

    Without an mpp, ASSUMED_MPP is taken.
    """
    mpp = mpp or ASSUMED_MPP
    if mpp > MAX_MPP:
        return Counted(None, nuclei_doubt=f"pixels of {mpp:.3g} um are too large to show nuclei")
    found = nuclei_of_image(image, mpp)
    if not has_dab(matrix):
        return Counted(len(found))
    measured = measure(found, image, mpp, white, matrix)
    own = positive_threshold(measured)
    judged = int(np.isfinite(measured.second_od10).sum())
    if not judged:
        return Counted(len(found), None, own.positive_od10, None, own.doubt)

    def share(threshold: Threshold) -> float:
        return 100 * float((grades_of(measured, threshold) > 0).sum() / judged)

    shares = {f"{t:g}": share(fixed_threshold(t)) for t in thresholds_od10}
    return Counted(len(found), shares, own.positive_od10, share(own), own.doubt)


def has_dab(matrix: Array) -> bool:
    """Whether the second stain of a matrix has the colour of DAB rather than of eosin.

    >>> has_dab(VECTORS["h-dab-ruifrok"]), has_dab(VECTORS["h-e-ruifrok"])
    (True, False)
    """
    return bool(matrix[1] @ VECTORS["h-dab"][1] > matrix[1] @ VECTORS["h-e"][1])


def write_unmixed(folder: Path, done: Sequence[tuple[Path, UnmixedFacts]], facts: Mapping[str, Any]) -> None:
    """Write unmix.json (the facts), and of what is done unmix.csv and index.html."""
    write_json(folder / "unmix.json", facts)
    if done:
        files, rows = [file for file, _ in done], [_row(result) for _, result in done]
        write_table(folder / "unmix.csv", rows)
        write_text(folder / "index.html", unmix_page(files, folder, rows))


def _row(result: UnmixedFacts) -> dict[str, Any]:
    vectors = {f"vector_{n}": " ".join(map(str, v)) for n, v in zip(PARTS, result["vectors"], strict=False)}
    means = zip(PARTS, result["mean_od10"] or ("no tissue",) * len(PARTS), strict=True)
    positive = {f"positive_percent_{t}": share for t, share in (result["positive_percent"] or {}).items()}
    return {
        "image": result["name"],
        "tissue_percent": result["tissue_percent"],
        **positive,
        "nuclei": result["nuclei"],
        "nuclei_per_mm2": result["nuclei_per_mm2"],
        **{f"positive_nuclei_percent_{t}": of for t, of in (result["positive_nuclei_percent"] or {}).items()},
        "nuclei_threshold_od10": result["nuclei_threshold_od10"],
        "own_positive_nuclei_percent": result["own_positive_nuclei_percent"],
        "nuclei_doubt": result["nuclei_doubt"],
        **{f"mean_od10_{part}": mean for part, mean in means},
        **vectors,
        "white": " ".join(f"{level:g}" for level in result["white"]),
        "why": result["why"],
        "mpp": result["mpp"] or f"not known, taken as {ASSUMED_MPP:g}",
    }


def unmix_page(files: Sequence[Path], folder: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Every image beside what its stains leave, with the numbers."""
    header = [name for name in rows[0] if name not in SENTENCES]
    numbers = [[as_cell(row.get(name)) for name in header] for row in rows]
    notes = [[row[name] for name in SENTENCES if row[name]] for row in rows]
    shown = [
        Section(file.name, pictures=list(_pictures(file, folder)), notes=of_file)
        for file, of_file in zip(files, notes, strict=True)
    ]
    sections = [*shown, Section("Numbers", header=header, rows=numbers)]
    return render("sections.html", "Stains taken apart", sections=sections)


def _pictures(file: Path, folder: Path) -> Iterator[Figure]:
    with open_slide(file) as slide:
        yield slide.overview(SHOWN_PX)[0], "as read"
    for part, words in WORDS.items():
        yield shrunk(read_image(folder / f"{stem_of(file)}_{part}.png"), SHOWN_PX), words


def unmixed_line(result: UnmixedFacts, stains: str) -> str:
    """What came of one image."""
    second = {"h-dab": "DAB", "h-e": "eosin"}.get(stains.removesuffix("-ruifrok"), "second stain")
    shares = [
        f"{second} above {level} in {share:.1f} %" for level, share in (result["positive_percent"] or {}).items()
    ]
    positive = ", ".join(shares) or "no tissue"
    fallback = f"; the image does not tell its own vectors: {result['why']}" if result["why"] else ""
    tissue = f"of tissue, {result['tissue_percent']:.0f} % of the image"
    return f"{result['name']}: {positive} ({tissue}); {_nuclei_line(result)}{fallback}"


def _nuclei_line(result: UnmixedFacts) -> str:
    if result["nuclei"] is None:
        return str(result["nuclei_doubt"])
    per_mm2 = f" ({result['nuclei_per_mm2']:,.0f} per mm2 of tissue)" if result["nuclei_per_mm2"] else ""
    counted = f"{result['nuclei']:,} {'nucleus' if result['nuclei'] == 1 else 'nuclei'}{per_mm2}"
    shares = [f"{share:.1f} % above {level}" for level, share in (result["positive_nuclei_percent"] or {}).items()]
    own, threshold = result["own_positive_nuclei_percent"], result["nuclei_threshold_od10"]
    if own is not None and threshold is not None:
        whence = f"in doubt: {result['nuclei_doubt']}" if result["nuclei_doubt"] else "found from its nuclei"
        shares.insert(0, f"{own:.1f} % positive (DAB above {threshold:.2f}, {whence})")
    return ", ".join([counted, *shares])
