"""Fields to study: where pairs of H&E and IHC lie in folders, and which crops of them are taken."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

from chromogen.errors import expected, missing, repeated
from chromogen.evaluation.tile import Tile
from chromogen.files import by_stem, canonical_name, stem_of
from chromogen.image import Image
from chromogen.pixel_size import check_mpp
from chromogen.slides.slide import list_slides, read_picture
from chromogen.slides.source import SlideError
from chromogen.slides.zarr_reader import is_zarr

MIN_PX = 64
ALIGNED = "_aligned"


@dataclass(frozen=True)
class Pair:
    """An H&E and an IHC of the same tissue; pairs that share an H&E are of one `slide`."""

    name: str
    slide: str
    he: Path
    ihc: Path


@dataclass(frozen=True)
class Crop:
    """An H&E and an IHC to take the style from, uint8 (H, W, 3) of one size.

    `paired`: the IHC shows the tissue of the H&E, or its neighbouring section's, place by place. A crop whose
    experiments are run again from another `seed` has another name and the same `place`.
    """

    name: str
    place: str
    slide: str
    he: Image
    ihc: Image
    paired: bool
    mpp: float | None = None
    seed: int = 0


def find_pairs(folder: Path) -> list[Pair]:
    """Pairs anywhere below a folder: NAME_he with NAME_ihc; he/NAME with ihc/NAME; he with NAME_aligned beside it.

    Raises: ValueError where there are none, or an H&E has no IHC; FileNotFoundError where there is no folder.
    """
    if not folder.is_dir():
        raise missing("pairs", "an existing folder", folder)
    found = [
        pair
        for place in _folders(folder)
        for pair in (*_by_ending(place), *_by_folder(place), *_by_alignment(place))
    ]
    if not found:
        advice = "name them NAME_he.png and NAME_ihc.png, or put them into he/ and ihc/"
        raise expected("pairs", "a folder with pairs of H&E and IHC", f"none in {folder}", advice)
    return found


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and those below it, but not what an OME-Zarr is made of."""
    for here, inside, _ in os.walk(folder):
        inside[:] = sorted(name for name in inside if not is_zarr(Path(here, name)))
        yield Path(here)


def _images(folder: Path, named: str = ".*") -> dict[str, Path]:
    """Images and slides by those names that a regular expression fits; none where there is no folder.

    Raises: ValueError for two of one name.
    """
    try:
        files = list_slides(folder) if folder.is_dir() else []
    except SlideError:  # where there is no image in it
        files = []
    return by_stem("pairs", [file for file in files if re.fullmatch(named, stem_of(file))])


def _by_ending(folder: Path) -> Iterator[Pair]:
    images = _images(folder, ".*_(he|ihc)")
    for stem, he in images.items():
        name = stem.removesuffix("_he")
        if stem.endswith("_he"):
            if f"{name}_ihc" not in images:
                raise expected("pairs", f"complete: {he.name} has a {name}_ihc", "none", "rename or remove one")
            yield Pair(name, name, he, images[f"{name}_ihc"])


def _by_folder(folder: Path) -> Iterator[Pair]:
    he, ihc = _images(folder / "he"), _images(folder / "ihc")
    if not (he and ihc):
        return
    if he.keys() != ihc.keys():
        alone = sorted(he.keys() ^ ihc.keys())
        raise expected("pairs", "the same names in he/ and ihc/", f"{alone[0]} in one", "rename or remove it")
    yield from (Pair(name, name, he[name], ihc[name]) for name in he)


def _by_alignment(folder: Path) -> Iterator[Pair]:
    images = _images(folder, f"he|.*{ALIGNED}")
    place = canonical_name(folder.name)
    for stem, ihc in images.items():
        if "he" in images and stem.endswith(ALIGNED):
            yield Pair(f"{place}_{stem.removesuffix(ALIGNED)}", place, images["he"], ihc)


def crops_of_pairs(pairs: Sequence[Pair], size_px: int, count: int, mpp: float | None) -> list[Crop]:
    """At most `count` crops of every pair, whose pixels measure `mpp` um, or what their files state.

    Raises: ValueError or OSError for what cannot be read.
    """
    check_mpp("mpp", mpp)
    names = [_file_name(pair.name) for pair in pairs]
    if twice := repeated(names):
        raise expected("pairs", "of different names", f"two called {twice}", "rename one")
    return [
        crop
        for name, pair in zip(names, pairs, strict=True)
        for crop in _crops_of_pair(name, pair, size_px, count, mpp)
    ]


def _crops_of_pair(name: str, pair: Pair, size_px: int, count: int, mpp: float | None) -> list[Crop]:
    """At the H&E's pixel size, as given or as its file states."""
    he = read_picture(pair.he, mpp)
    ihc = read_picture(pair.ihc, mpp, at_mpp=he.mpp)
    return crops_of(name, pair.slide, he.pixels, ihc.pixels, size_px, count, he.mpp)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "pair"


def crops_of(
    name: str,
    slide: str,
    he: Image,
    ihc: Image,
    size_px: int,
    count: int,
    mpp: float | None = None,
    *,
    paired: bool = True,
) -> list[Crop]:
    """The squares with the most tissue in both images, uint8 (H, W, 3), evenly spread.

    Where the sizes of the two differ, they are not paired. Raises: ValueError for an image below 64 px.
    """
    sides = (*he.shape[:2], *ihc.shape[:2])
    if min(sides) < MIN_PX:
        raise expected("pairs", f"at least {MIN_PX} px wide and high", f"{name}, {min(sides)} px")
    size_px = min(size_px, *sides)
    same = he.shape == ihc.shape
    if same:
        tissue = [Tile(image, mpp=mpp).tissue for image in (he, ihc)]
        places = sorted(_squares(he, size_px), key=lambda s: -min(float(mask[s].mean()) for mask in tissue))
        windows = [(place, place) for place in places]
    else:
        windows = list(zip(_richest(he, size_px, mpp), _richest(ihc, size_px, mpp), strict=False))
    return [
        Crop(
            f"{name}-{number}", f"{name}-{number}", slide, he[here].copy(), ihc[there].copy(), paired and same, mpp
        )
        for number, (here, there) in enumerate(windows[:count], 1)
    ]


def with_seeds(crops: Sequence[Crop], seeds: int) -> list[Crop]:
    """Every crop as often as there are seeds."""
    later = [
        replace(crop, name=f"{crop.name}-seed{seed}", seed=seed) for seed in range(1, seeds) for crop in crops
    ]
    return [*crops, *later]


Square: TypeAlias = tuple[slice, slice]


def _squares(image: Image, size_px: int) -> list[Square]:
    """Evenly spread over the image, row by row; neighbours may overlap by less than half."""
    rows, columns = (_begins(side, size_px) for side in image.shape[:2])
    return [(slice(y, y + size_px), slice(x, x + size_px)) for y, x in product(rows, columns)]


def _begins(side_px: int, size_px: int) -> list[int]:
    count = max(1, round(side_px / size_px))
    return [(side_px - size_px) * i // max(1, count - 1) for i in range(count)]


def _richest(image: Image, size_px: int, mpp: float | None) -> list[Square]:
    tissue = Tile(image, mpp=mpp).tissue
    return sorted(_squares(image, size_px), key=lambda square: -float(tissue[square].mean()))
