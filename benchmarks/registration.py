"""How far apart is what `register` brings together? Errors against known truth, in um of the IHC, and CPU seconds.

    python benchmarks/registration.py --data DATA [--only NAME ...] [--against simpleitk]

`he-CD31` and its like are the serial sections of the lung lesion, with a person's landmarks; `CD31-Ki67` and its
like compare two IHC of it. `rotated`, `mirrored`, `half` and `beside` change the IHC: turned by 37 degrees, half
the size, or with other tissue on the same slide. `warped-*` are real H&E stained by Chromogen and bent by a known
displacement. `other-*` show different tissue, and must be refused. A pixel counts as 1 um. `--against simpleitk`
measures SimpleITK in place of Chromogen, where it is installed: it has no search, and refuses nothing.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.image import Image, read_image, write_image
from chromogen.provenance import peak_rss_mb
from chromogen.registration.register import register
from chromogen.staining.stainer import Stainer
from measuring import pin_threads

Array = NDArray[np.float64]
MARKERS = ("CD31", "CC10", "Ki67", "proSPC")
GLASS = (240, 238, 240)


@dataclass(frozen=True, eq=False)
class Case:
    """Two images and points (N, 2) in px that belong together; no points where the tissue differs."""

    name: str
    he: Image
    ihc: Image
    on_he: Array
    on_ihc: Array


def landmarks(folder: Path, name: str) -> Array:
    with (folder / f"{name}_landmarks.csv").open(newline="") as lines:
        return np.array([(float(row["x"]), float(row["y"])) for row in csv.DictReader(lines)])


def lung(data: Path, names: tuple[str, str]) -> Case:
    folder = data / "pairs/lung-lesion"
    images = [read_image(folder / f"{name}.jpg") for name in names]
    points = [landmarks(folder, name) for name in names]
    return Case("-".join(names), images[0], images[1], points[0], points[1])


def rotated(case: Case) -> Case:
    height, width = case.ihc.shape[:2]
    turned = np.asarray(
        PIL.Image.fromarray(case.ihc).rotate(37, PIL.Image.Resampling.BICUBIC, True, None, None, GLASS)
    )
    cos, sin = np.cos(np.deg2rad(37)), np.sin(np.deg2rad(37))
    middle = np.array([turned.shape[1], turned.shape[0]]) / 2
    points = (case.on_ihc - [width / 2, height / 2]) @ np.array([[cos, -sin], [sin, cos]]) + middle
    return replace(case, name=f"{case.name} rotated", ihc=turned, on_ihc=points)


def mirrored(case: Case) -> Case:
    points = case.on_ihc * [-1, 1] + [case.ihc.shape[1], 0]
    return replace(case, name=f"{case.name} mirrored", ihc=case.ihc[:, ::-1].copy(), on_ihc=points)


def half(case: Case) -> Case:
    height, width = (side // 2 for side in case.ihc.shape[:2])
    small = np.asarray(PIL.Image.fromarray(case.ihc).resize((width, height), PIL.Image.Resampling.LANCZOS))
    scale = np.array([width / case.ihc.shape[1], height / case.ihc.shape[0]])
    return replace(case, name=f"{case.name} half", ihc=small, on_ihc=case.on_ihc * scale)


def beside(case: Case, other: Image) -> Case:
    """With another tissue to the left of the IHC, as control tissue lies."""
    height, width = max(case.ihc.shape[0], other.shape[0]), other.shape[1] + 60
    slide = np.full((height, width + case.ihc.shape[1], 3), GLASS, np.uint8)
    slide[: other.shape[0], : other.shape[1]] = other
    slide[: case.ihc.shape[0], width:] = case.ihc
    return replace(case, name=f"{case.name} beside", ihc=slide, on_ihc=case.on_ihc + np.array([width, 0]))


def smooth(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Array:
    field = ndimage.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return np.asarray(field / field.std())


def warped(
    name: str, he: Image, ihc: Image, seed: int, angle: float, amplitude: float, grain: float = 0.12
) -> Case:
    """An image of the same tissue bent: `amplitude` px in the standard deviation, `grain` of the longest side."""
    rng = np.random.default_rng(seed)
    shape, sigma = ihc.shape[:2], grain * max(ihc.shape)
    height, width = shape
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    linear = np.array([[cos, -sin], [sin, cos]])
    shift = amplitude * np.stack([smooth(rng, shape, sigma) for _ in range(2)], 2)
    middle = np.array([width, height]) / 2
    y, x = np.indices(shape) + 0.5
    back = (np.stack([x, y], 2) - middle) @ linear.T + middle + shift  # where each new pixel comes from
    planes = [
        ndimage.map_coordinates(
            ihc[..., c].astype(np.float32), back[..., ::-1].transpose(2, 0, 1) - 0.5, order=1, cval=GLASS[c]
        )
        for c in range(3)
    ]
    at = rng.integers(0, [height, width], (4000, 2))
    points = back[at[:, 0], at[:, 1]]
    tissue = ndimage.gaussian_filter(255.0 - he.mean(2), 6) > 25
    inside = (points > 4).all(1) & (points < np.array([width, height]) - 4).all(1)
    kept = [p for p in np.flatnonzero(inside) if tissue[int(points[p, 1]), int(points[p, 0])]][:600]
    return Case(
        name,
        he,
        np.stack(planes, 2).clip(0, 255).astype(np.uint8),
        points[kept],
        np.asarray(at[kept][:, ::-1] + 0.5, np.float64),
    )


def recoloured(data: Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Real H&E in the look of an IHC, bent."""
    he = {marker: data / f"pairs/mist/{marker}_he.png" for marker in ("ER", "Ki67", "HER2")}
    for seed, (marker, look, angle, amplitude, grain) in enumerate(
        (("ER", "nuclear", 8, 12, 0.12), ("Ki67", "epithelial", -60, 9, 0.12), ("HER2", "nuclear", 170, 6, 0.08))
    ):
        name = f"warped-{marker}"
        yield name, partial(_stained_and_warped, he[marker], look, name, seed, angle, amplitude, grain)


def _stained_and_warped(
    file: Path, look: str, name: str, seed: int, angle: float, amplitude: float, grain: float
) -> Case:
    image = read_image(file)
    return warped(name, image, Stainer.from_pretrained(look)(image), seed, angle, amplitude, grain)


def cases(data: Path) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Names of cases, and what makes them."""
    other = data / "pairs/mist/PR_ihc.png"
    for marker in MARKERS:
        yield f"he-{marker}", partial(lung, data, ("he", marker))
    for pair in combinations(MARKERS, 2):
        yield "-".join(pair), partial(lung, data, pair)
    for marker in MARKERS:
        for change in (rotated, mirrored, half):
            yield f"he-{marker} {change.__name__}", partial(_changed, data, marker, change)
        yield f"he-{marker} beside", partial(_changed, data, marker, partial(beside, other=read_image(other)))
    yield from recoloured(data)
    for marker in ("ER", "Ki67", "HER2"):
        for ihc in ("PR_ihc", "Ki67_he"):
            yield f"other-{marker}-{ihc}", partial(_other, data, marker, ihc)


def _changed(data: Path, marker: str, change: Callable[[Case], Case]) -> Case:
    return change(lung(data, ("he", marker)))


def _other(data: Path, marker: str, ihc: str) -> Case:
    ours = read_image(data / f"pairs/mist/{marker}_he.png")
    theirs = read_image(data / ("pairs/lung-lesion/Ki67.jpg" if ihc == "Ki67_he" else f"pairs/mist/{ihc}.png"))
    return Case(f"other-{marker}-{ihc}", ours, theirs, np.empty((0, 2)), np.empty((0, 2)))


def measured(case: Case) -> str:
    """Error of `register`, or its refusal."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{role}.png" for role in ("he", "ihc")]
        for file, image in zip(files, (case.he, case.ihc), strict=True):
            write_image(file, image)
        ihc_mpp = None if case.name.endswith("half") else 1.0
        began = time.process_time()
        try:
            found = register(files[0], files[1], he_mpp=1.0, ihc_mpp=ihc_mpp)
        except ValueError as error:
            return f"refused: {str(error)[:60]} {time.process_time() - began:.1f} s"
    spent = time.process_time() - began
    sure = found.quality.confidence if found.quality else 0.0
    if not len(case.on_he):
        return f"NOT REFUSED, confidence {sure:.2f} {spent:.1f} s"
    scale = found.target.mpp  # um of the IHC at the H&E's size
    alone = replace(found, pieces=tuple(replace(piece, spline=None) for piece in found.pieces))
    affine, end = (_error(one.forward_px(case.on_he) - case.on_ihc) * scale for one in (alone, found))
    return f"affine {affine[0]:5.1f} end {end[0]:5.1f} (p90 {end[1]:5.1f}) confidence {sure:.2f} {spent:.1f} s"


def measured_simpleitk(case: Case) -> str:
    """Errors of SimpleITK, by density and way; peak memory is that of the process so far."""
    import simpleitk_peer  # needs SimpleITK, which Chromogen does not

    lines = []
    for name, registered in simpleitk_peer.ways(case.he, case.ihc):
        began = time.process_time()
        try:
            end = _error(registered()(case.on_he) - case.on_ihc)
            found = f"end {end[0]:5.1f} (p90 {end[1]:5.1f})"
        except RuntimeError as error:  # ITK's own
            found = f"failed: {str(error).strip().splitlines()[-1][:60]}"
        spent = time.process_time() - began
        lines.append(f"\n    {name:14} {found} {spent:.1f} s {peak_rss_mb():.0f} MB")
    return "".join(lines)


def _error(off: Array) -> Array:
    lengths = np.hypot(off[:, 0], off[:, 1])
    return np.array([np.median(lengths), np.percentile(lengths, 90)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="cases whose name begins so")
    parser.add_argument("--against", choices=("simpleitk",), help="measure this in place of Chromogen")
    args = parser.parse_args()
    pin_threads(1)
    measure = measured_simpleitk if args.against else measured
    for name, made in cases(args.data):
        if args.only and not name.startswith(tuple(args.only)):
            continue
        case = made()
        if measure is measured or len(case.on_he):
            print(f"{name:22} {measure(case)}", flush=True)


if __name__ == "__main__":
    main()
