"""A slide, and its virtual stain, as dask arrays: a block is read or stained when somebody asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from chromogen.compute.tiles import Window
from chromogen.errors import expected
from chromogen.image import Image, PathLike
from chromogen.provenance import NOTICE
from chromogen.slides.facts import read_facts
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide.blocks import block_at, painted_block, shared_view
from chromogen.whole_slide.job import BLOCK_PX, SlideJob
from chromogen.whole_slide.survey import Survey, survey
from chromogen.whole_slide.view import (
    SlideFile,
    held_slide,
    shared_slide,
    view_at,
    warn_of_coarse_pixels,
    warn_of_doubt,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array as da

    Array: TypeAlias = da.Array

READ_PX = 1024  # sides of the blocks in which slides are read


@dataclass(frozen=True)
class LazyPicture:
    """Levels of one picture, the finest first: dask arrays uint8 (H, W, 3), and the size of their pixels in um.

    Of a virtual stain, `origin_um` (x, y) is the place of its corner on the H&E, and `notice` is what it must be
    shown with; of other pictures the notice is empty.
    """

    levels: tuple[Array, ...]
    mpps: tuple[float | None, ...]
    origin_um: tuple[float, float] = (0.0, 0.0)
    notice: str = ""


def lazy_slide(path: PathLike, mpp: float | None = None) -> LazyPicture:
    """The levels of a slide's file as dask arrays, in sRGB: a block is read when it is computed.

    A virtual stain that Chromogen wrote is known by its file. `mpp` is the pixel size of level 0 in um, by default
    the file's. Raises: ValueError without the extra `arrays`; SlideError or OSError where it cannot be read.
    """
    file = SlideFile(Path(path), mpp).absolute()
    with shared_slide(file) as slide:
        sizes, own_mpp, quickhash = slide.level_sizes, slide.mpp, slide.quickhash
    reads = [partial(_level, file, quickhash, level) for level in range(len(sizes))]
    levels = [_array(read, size, READ_PX) for read, size in zip(reads, sizes, strict=True)]
    mpps = tuple(own_mpp and own_mpp * sizes[0][0] / size[0] for size in sizes)
    return LazyPicture(tuple(levels), mpps, *_of_virtual(file.path))


def _of_virtual(path: Path) -> tuple[tuple[float, float], str]:
    """Where a virtual stain lies on its H&E, in um, and its notice; of other files the origin, and none."""
    facts = read_facts(path)
    if not facts:
        return (0.0, 0.0), ""
    x_px, y_px = (facts.settings.get("region") or (0, 0))[:2]
    mpp = facts.source_mpp or 0.0
    return (x_px * mpp, y_px * mpp), facts.notice


def lazy_stain(
    path: PathLike,
    stainer: Stainer | PathLike = "epithelial",
    mpp: float | None = None,
    region: tuple[int, int, int, int] | None = None,
) -> LazyPicture:
    """The virtual stain of a slide as a dask array of one level: a block is stained when it is computed.

    The slide is looked at once, now. Every block is bit-identical to what `chromogen stain` writes there, at the
    stainer's pixel size. `stainer` is a stainer, or its name or file; `mpp` as for `lazy_slide`; `region` is a
    part of the slide, x, y, width and height in level-0 pixels. Where the file is damaged, the picture is white.
    Raises: ValueError as `stain_slide`, or without the extra `arrays`; SlideError or OSError.
    """
    made = stainer if isinstance(stainer, Stainer) else Stainer.from_pretrained(stainer)
    job = SlideJob(SlideFile(Path(path), mpp).absolute(), made, region)
    with held_slide(job.file) as slide:
        warn_of_coarse_pixels(slide, made)
        view = view_at(slide, made.mpp)
        window, made_mpp = job.window(view), view.mpp or slide.need_mpp()
        if made.prepare:
            made.prepare()
        seen = survey(view)
        warn_of_doubt(slide, made, seen.doubt)
        fitted = made.fit(seen.sample)
        painting = _Painting(job.file, slide.quickhash, view.mpp, view.size, fitted, seen, window)
    array = _array(painting, window.size, BLOCK_PX)
    return LazyPicture((array,), (made_mpp,), (window.left * made_mpp, window.top * made_mpp), NOTICE)


@dataclass(frozen=True)
class _Painting:
    """Stains any window of the region of a slide, whose corner is the region's."""

    file: SlideFile
    quickhash: str
    mpp: float | None
    size: tuple[int, int]
    fitted: Stainer
    seen: Survey
    region: Window

    def __call__(self, window: Window) -> Image:
        core = window.seen_from(Window(-self.region.left, -self.region.top, 0, 0))
        block = block_at((0, 0), core, self.size, self.fitted, self.seen.share)
        view = shared_view(self.file, self.quickhash, self.mpp)
        return painted_block(view, self.fitted, self.fitted.white or self.seen.white, block).pixels


def _level(file: SlideFile, quickhash: str, level: int, window: Window) -> Image:
    """A window of a level, as this process reads the slide."""
    with shared_slide(file, quickhash) as slide:
        return slide.read_level(level, (window.left, window.top), window.size)


def _array(pixels_of: Callable[[Window], Image], size: tuple[int, int], block_px: int) -> Array:
    """A dask array uint8 (H, W, 3) of a picture of `size` (w, h), by a function that gives a window's pixels."""
    try:
        import dask.array as da
    except ImportError as error:
        advice = "pip install 'chromogen[arrays]'"
        raise expected("dask", "installed, for arrays that are read when needed", "no dask", advice) from error

    width, height = size
    chunks = (*(_chunks(side, block_px) for side in (height, width)), (3,))
    blocks = partial(_block, pixels_of)
    array: Array = da.map_blocks(blocks, dtype=np.uint8, chunks=chunks, meta=np.empty((0, 0, 0), np.uint8))
    return array


def _chunks(side: int, block_px: int) -> tuple[int, ...]:
    return tuple(min(block_px, side - at) for at in range(0, side, block_px))


def _block(pixels_of: Callable[[Window], Image], *, block_info: Any = None) -> Image:
    """What dask asks for a block by."""
    (top, bottom), (left, right), _ = block_info[None]["array-location"]
    return pixels_of(Window(left, top, right, bottom))
