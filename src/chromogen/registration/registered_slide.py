"""An IHC in the frame of its H&E, as a slide like any other: only what is read is warped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from chromogen.compute.tiles import windows_of
from chromogen.errors import expected
from chromogen.image import Image, PathLike
from chromogen.registration.transform import Transform
from chromogen.slides.slide import Slide, open_slide
from chromogen.slides.source import About
from chromogen.stains.deconvolution import Array
from chromogen.stains.glass import white_level

LATTICE_PX = 16  # places are computed so far apart, and linear between: a displacement is far smoother
BLOCK_PX = 1024  # what is warped at a time
BORDER_PX = 2
WHITE_PX = 1024  # longest side of what the colour of glass is measured of
SMALLEST_PX = 512  # of a level's longer side
TINT_UM = (5.0, 15.0, 30.0)  # residuals at which the tint changes
TINTS = ((60, 170, 60), (235, 215, 40), (245, 150, 30), (215, 40, 40))
TINT = 0.45


class RegisteredSource:
    """What the reader of a registered slide offers: levels of the H&E's sizes, with pixels of the IHC.

    A pixel is the IHC's at the place to which the transform brings its middle: bilinear between the IHC's pixels
    at the same um per pixel; glass where the IHC was not scanned.
    """

    def __init__(self, ihc: Slide, transform: Transform) -> None:
        self._ihc, self._transform = ihc, transform
        self.sizes = _level_sizes(transform.source.size_px)
        self.mpp: tuple[float, float] | None = (transform.source.mpp, transform.source.mpp)
        self.about = About(f"{ihc.about.format}, registered", vendor=ihc.about.vendor)
        view, step = ihc.overview(WHITE_PX)
        self._glass = np.rint(white_level(view, transform.target.mpp * step)).astype(np.uint8)

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """A rectangle of a level, in pixels of that level; block by block."""
        found = np.empty((size[1], size[0], 3), np.uint8)
        for window in windows_of(size, BLOCK_PX):
            begins = location[0] + window.left, location[1] + window.top
            found[window.at] = self._block(level, begins, window.size)
        return found

    def quickhash(self) -> str:
        """The IHC's, and the H&E's that it is brought to."""
        return f"{self._ihc.quickhash} on {self._transform.source.quickhash}"

    def close(self) -> None:
        """Let go of the IHC."""
        self._ihc.close()

    def _block(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        step = self._transform.source.size_px[0] / self.sizes[level][0]
        mpp = self._transform.target.mpp * step
        whole = np.array(self._ihc.size_at(mpp))
        shares = self._places_um(location, size, step) / np.array(self._transform.target.size_um)
        at = shares * whole - 0.5
        low = np.floor(at.min((0, 1))).astype(int) - BORDER_PX
        high = np.ceil(at.max((0, 1))).astype(int) + BORDER_PX
        first, last = low.clip(0, whole - 1), high.clip(1, whole)
        if (low >= whole).any() or (high <= 0).any() or (first >= last).any():
            return np.broadcast_to(self._glass, (size[1], size[0], 3)).copy()
        sides = last - first
        seen = self._ihc.read_at((int(first[0]), int(first[1])), (int(sides[0]), int(sides[1])), mpp)
        return _warped(seen, at - first, self._glass)

    def _places_um(self, location: tuple[int, int], size: tuple[int, int], step: float) -> Array:
        """Where the middles of pixels lie on the IHC: (H, W, 2) in um, at the whole level's positions."""
        first = [start // LATTICE_PX for start in location]
        counts = [
            (start + side - 1) // LATTICE_PX + 2 - at
            for start, side, at in zip(location, size, first, strict=True)
        ]
        columns, rows = (
            (at + np.arange(count)) * LATTICE_PX + 0.5 for at, count in zip(first, counts, strict=True)
        )
        nodes = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2) * step * self._transform.source.mpp
        known = self._transform.forward_um(nodes).reshape(counts[1], counts[0], 2)
        across = _between(known, location[0] - first[0] * LATTICE_PX, size[0], axis=1)
        return _between(across, location[1] - first[1] * LATTICE_PX, size[1], axis=0)


def _between(known: Array, start: int, count: int, axis: int) -> Array:
    """Values at `count` pixels from `start` on, linear between nodes along an axis."""
    at = (start + np.arange(count)) / LATTICE_PX
    low = at.astype(int)
    share = np.expand_dims(at - low, tuple(other for other in range(known.ndim) if other != axis))
    return np.asarray(np.take(known, low, axis) * (1 - share) + np.take(known, low + 1, axis) * share)


def _warped(seen: Image, at: Array, glass: Image) -> Image:
    rows_columns = np.moveaxis(at[..., ::-1], 2, 0)
    planes = [
        ndimage.map_coordinates(
            seen[..., channel].astype(np.float32), rows_columns, order=1, mode="constant", cval=level
        )
        for channel, level in enumerate(glass)
    ]
    return np.asarray(np.rint(np.stack(planes, 2)).clip(0, 255), np.uint8)


def _level_sizes(size: tuple[int, int]) -> Sequence[tuple[int, int]]:
    def halves() -> Iterator[tuple[int, int]]:
        step = 1
        while step == 1 or max(size) / step >= SMALLEST_PX:
            yield max(1, round(size[0] / step)), max(1, round(size[1] / step))
            step *= 2

    return list(halves())


def open_registered(ihc: PathLike, transform: Transform) -> Slide:
    """Open an IHC as a slide in the frame of its H&E: of the H&E's size and pixel size, warped as it is read.

    `transform`: from the H&E to the IHC. Raises: ValueError for another IHC than was registered; SlideError and
    OSError as `open_slide`.
    """
    slide = open_slide(ihc, mpp=transform.target.mpp)
    try:
        check_is(slide, transform.target.quickhash, "ihc")
        return Slide(Path(ihc), RegisteredSource(slide, transform))
    except BaseException:
        slide.close()
        raise


def check_is(slide: Slide, quickhash: str, role: str) -> None:
    """Raises: ValueError where a slide is not the one that was registered."""
    if slide.quickhash != quickhash:
        advice = "register this slide, or name the one that was; the H&E comes first"
        raise expected(role, "the slide that the transform was made of", f"another, {str(slide.path)!r}", advice)


def residual_map(he: Slide, transform: Transform, longest_px: int) -> Image:
    """The H&E with every block that was compared tinted by how far its tissue still lies apart, uint8 (H, W, 3).

    Green up to 5 um, yellow up to 15, orange up to 30, red beyond; untinted where nothing was compared.
    """
    image, step = he.overview(longest_px)
    blocks = transform.quality.blocks if transform.quality else ()
    if not blocks:
        return image
    centers = np.array([block.center_um for block in blocks])
    residuals = np.array([block.residual_um for block in blocks])
    mpp = transform.source.mpp * step
    tree = cKDTree(centers)
    side = max(float(np.median(tree.query(centers, 2)[0][:, 1])), mpp) if len(blocks) > 1 else np.inf
    rows, columns = np.indices(image.shape[:2])
    away, nearest = tree.query((np.stack([columns, rows], -1) + 0.5) * mpp, p=np.inf)
    tints = np.array(TINTS, float)[np.searchsorted(TINT_UM, residuals)][nearest]
    tinted = np.rint(image * (1 - TINT) + tints * TINT).astype(np.uint8)
    return np.where((away <= side / 2)[..., None], tinted, image)


def checkerboard(he: Slide, registered: Slide, longest_px: int, squares: int = 10) -> Image:
    """Squares of an H&E and of its registered IHC in turn, uint8 (H, W, 3).

    Tissue must go on across their borders. `squares`: along the longer side.
    """
    ours, theirs = (slide.overview(longest_px)[0] for slide in (he, registered))
    side = max(1, max(ours.shape[:2]) // squares)
    rows, columns = np.indices(ours.shape[:2]) // side
    return np.where(((rows + columns) % 2 == 0)[..., None], ours, theirs)
