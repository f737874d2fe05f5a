"""A slide or tile in, a stained one out: surveyed, stained in blocks that outlive a crash, written meanwhile."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chromogen.compute.tiles import Window, whole
from chromogen.errors import sentence
from chromogen.image import Image, write_image
from chromogen.provenance import peak_rss_mb
from chromogen.slides import pyramid
from chromogen.slides.facts import Facts, read_facts
from chromogen.slides.pyramid import processors
from chromogen.slides.slide import Slide, open_slide
from chromogen.slides.store import BlockStore, Index, claimed, forget, planned
from chromogen.staining.confidence import Levels, squares_of, unlike_fraction
from chromogen.staining.stainer import Stainer, paint_image
from chromogen.stains.appearance import doubts
from chromogen.whole_slide.blocks import (
    MAX_THREADS,
    Block,
    BlockWork,
    Done,
    Run,
    blocks_of,
    in_threads,
    stain_block,
    threads_given_back,
)
from chromogen.whole_slide.job import Arriving, Output, SlideJob
from chromogen.whole_slide.survey import Survey, seam_score, slide_levels, survey, write_confidence
from chromogen.whole_slide.view import DamageError, View, held_slide, view_at, warn_of_coarse_pixels, warn_of_doubt

# A slide, block by block.

BLOCK_PX = pyramid.BLOCK_PX  # so that a block is read back in one piece
STORED_BYTES, BLOCK_BYTES = 3, 8192  # a pixel of tissue in the store; a block of any kind beside that

OnBlock: TypeAlias = Callable[[int, int], None]  # blocks finished, of how many


def stain_slide(
    job: SlideJob,
    output: Output,
    *,
    run: Run | None = None,
    strict: bool = False,
    restart: bool = False,
    confidence: Path | None = None,
    on_block: OnBlock | None = None,
) -> dict[str, Any]:
    """Stain a slide into a file, and say what came of it.

    Finished blocks lie in the folder OUT.chromogen until the output is there: after a crash the same call goes on,
    to the same pixels. An output of the same job and settings is left as it is. Blocks are worked on by `run`, by
    default in threads of this process, and written as they come. What cannot be read of a slide is left white and
    listed, unless `strict`. `confidence` is an image file to write, of how sure the stainer was.
    Raises: SlideError for a slide that cannot be read; ValueError where an unfinished job had other settings,
    unless `restart`; OSError where the disk is full, the slide is gone, or another job writes the same output.
    """
    began = time.perf_counter()
    job, output = job.absolute(), output.absolute()
    with held_slide(job.file) as slide:
        warn_of_coarse_pixels(slide, job.stainer)
        view = view_at(slide, job.stainer.mpp)
        region, plan = job.window(view), job.plan(view)
        wanted = confidence is not None and not confidence.exists()
        if not (restart or wanted) and _is_done(output, plan):
            return _known(output)
        with claimed(output.store):
            planned(output.store, plan, restart=restart)
            making = _begin(job, output, view, region, strict=strict)
            _make(making, run or in_threads(), on_block)
            found = making.summary()
            if confidence is not None:
                facts = output.told(making.facts())
                write_confidence(confidence, slide_levels(making.work.store), facts.as_json())
            forget(output.store)
    seconds = time.perf_counter() - began
    speed = sum(block.core.area_px for block in making.todo if not block.blank) / 1e6 / seconds
    return {**found, "seconds": seconds, "mpx_per_s": speed, "peak_rss_mb": round(peak_rss_mb(), 1)}


@dataclass(frozen=True)
class _Making:
    """A slide that is being stained: what is asked for, what was seen, what is finished."""

    job: SlideJob
    view: View
    output: Output
    region: Window
    seen: Survey
    work: BlockWork
    blocks: list[Block]
    there: set[Index]
    unreadable: list[list[int]]  # x, y, width, height in pixels of the region; grows
    workers_mb: list[float]  # the most memory that a process of a worker took; grows
    sure: dict[str, float]  # how much of the tissue is unlike an exemplar's, where the stainer says

    @property
    def stained(self) -> list[Block]:
        """Blocks with tissue."""
        return [block for block in self.blocks if not block.blank]

    @property
    def todo(self) -> list[Block]:
        """Blocks that an earlier run has not left."""
        return [block for block in self.blocks if block.index not in self.there]

    def note(self, done: Done) -> None:
        """Take down what a finished block says besides its pixels."""
        self.unreadable.extend(_listed(self.region, done.damaged))
        self.workers_mb.append(done.peak_rss_mb)

    def end(self) -> None:
        """What is known once the last block is there. Raises: DamageError."""
        _check_readable(self)
        levels = slide_levels(self.work.store)
        if levels.any():
            self.sure["unlike_fraction"] = unlike_fraction(levels)

    def facts(self) -> Facts:
        """For the file; what is unreadable and how sure the stainer was is known when the last block is there."""
        stainer, slide = self.work.stainer, self.view.slide
        return Facts(
            mpp=self.view.mpp or slide.need_mpp(),
            stainer=stainer.name,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            stainer_hash=stainer.identity,
            target_stain=stainer.target_stain,
            source_quickhash=slide.quickhash,
            source_mpp=slide.mpp,
            white=self.work.white,
            where=stainer.where,
            settings={**self.job.plan(self.view), **self.output.settings},
            statistics={
                "tissue_fraction": self.seen.tissue_fraction,
                "stainer": stainer.statistics,
                "unreadable": self.unreadable,
                "confidence": self.sure,
            },
        )

    def summary(self) -> dict[str, Any]:
        """What came of it."""
        facts = self.facts()
        return {
            "output": str(self.output.path),
            "size": list(self.region.size),
            **{
                name: getattr(facts, name)
                for name in ("mpp", "stainer", "target_stain", "white", "where", "settings")
            },
            "notice": facts.notice,
            "tiles": len(self.blocks),
            "tiles_stained": len(self.stained),
            "tiles_found": len(self.there),
            "tissue_fraction": self.seen.tissue_fraction,
            "doubt": self.seen.doubt,
            "unreadable": self.unreadable,
            "unlike_fraction": self.sure.get("unlike_fraction"),
            "seam_score": _seams(self),
            "worker_peak_rss_mb": max(self.workers_mb, default=0.0),
        }


def _is_done(output: Output, plan: Mapping[str, Any]) -> bool:
    """Whether the output is there, by the same job, written in the same way, and no other job is under way."""
    if output.store.exists() or not output.path.exists():
        return False
    facts = read_facts(output.path)
    return facts is not None and dict(facts.settings) == {**plan, **output.settings}


def _known(output: Output) -> dict[str, Any]:
    """What an output that is there already says of itself."""
    facts = read_facts(output.path)
    known = facts.as_json() if facts else {}
    names = ("mpp", "stainer", "target_stain", "white", "where", "settings", "notice")
    return {"output": str(output.path), "already_done": True, **{name: known.get(name) for name in names}}


def _begin(job: SlideJob, output: Output, view: View, region: Window, *, strict: bool) -> _Making:
    """Survey the slide, and see what an earlier run has left."""
    with ThreadPoolExecutor(1, "prepare") as pool:
        if job.stainer.prepare:
            pool.submit(job.stainer.prepare)
        seen = survey(view, mask_tissue=job.mask_tissue)
        warn_of_doubt(view.slide, job.stainer, seen.doubt)
        stainer = job.stainer.fit(seen.sample)
    store = BlockStore(output.store, region.size, (BLOCK_PX, BLOCK_PX))
    store.create()
    work = BlockWork(job.file, view.slide.quickhash, view.mpp, stainer, stainer.white or seen.white, store, strict)
    blocks = blocks_of(work, view.size, region, seen.share)
    with ThreadPoolExecutor() as pool:
        found = pool.map(store.check, [block.index for block in blocks])
        there = {block.index for block, whole in zip(blocks, found, strict=True) if whole}
    damaged = _listed(region, store.damage())
    making = _Making(job, view, output, region, seen, work, blocks, there, damaged, [], {})
    _check_space(making)
    return making


def _make(making: _Making, run: Run, on_block: OnBlock | None) -> None:
    """Stain what is not there yet, and write meanwhile."""
    if len(making.there) == len(making.blocks):
        making.end()
    arriving = Arriving(making.work.store, making.there)
    total, begun = len(making.blocks), len(making.there)
    with threads_given_back(), ThreadPoolExecutor(1, "writer") as pool:
        written = pool.submit(making.output.write, arriving, making.facts())
        try:
            for number, done in enumerate(run(partial(stain_block, making.work), making.todo), begun + 1):
                making.note(done)
                if number == total:
                    making.end()
                arriving.arrive(done.index)
                if on_block:
                    on_block(number, total)
                if written.done():
                    break
        except BaseException:
            arriving.fail()
            raise
        written.result()


def _check_space(making: _Making) -> None:
    """OSError where what is still to be made will hardly fit on the disk."""
    need = _most_bytes(making)
    free = shutil.disk_usage(making.output.store).free
    if free < need:
        here = f"on a disk with about {need / 1e9:.1f} GB free while it is made"
        advice = "free some, or write elsewhere"
        raise OSError(sentence("out", here, f"{free / 1e9:.1f} GB", advice))


def _most_bytes(making: _Making) -> float:
    """Of the disk, at most: what the store still lacks, and the output, which is written before the store goes."""
    tissue_px = sum(block.core.area_px for block in making.stained)
    stored = sum(BLOCK_BYTES + STORED_BYTES * (0 if block.blank else block.core.area_px) for block in making.todo)
    return stored + making.output.most_bytes(making.region.size, tissue_px)


def _check_readable(making: _Making) -> None:
    """DamageError where nothing of the tissue could be read: a white slide is no result."""
    tissue = sum(block.core.area_px for block in making.stained)
    lost = sum(width * height for _, _, width, height in making.unreadable)
    if making.unreadable and lost >= tissue:
        raise DamageError(f"Nothing of the tissue in {str(making.job.file.path)!r} can be read; copy it again.")


def _seams(making: _Making) -> float | None:
    """Measured on the file."""
    cores = [block.core for block in making.stained]
    met = [part.seen_from(making.region) for part in _meeting(making.work.stainer, cores)]
    with open_slide(making.output.path) as written:
        return seam_score(View(written, None).read, met, written.size)


def _meeting(stainer: Stainer, cores: Sequence[Window]) -> list[Window]:
    """Windows at whose borders sliding windows meet in cores; without these, the cores."""
    sliding_window = stainer.sliding_window
    return [part for core in cores for part in (sliding_window.cells(core) if sliding_window else [core])]


def _listed(region: Window, damaged: Sequence[Window]) -> list[list[int]]:
    return [[w.left - region.left, w.top - region.top, *w.size] for w in damaged]


# A tile: an image that is stained in one piece, with its provenance.


def stain_tile(
    file: Path, out: Path, stainer: Stainer, *, mpp: float | None, icc: bool, confidence: Path | None = None
) -> dict[str, Any]:
    """Read an image, stain it, write it with its provenance; the facts.

    Its mpp is the stainer's where none is known. `confidence` is as for `stain_slide`. Raises: ValueError or
    OSError.
    """
    began = time.perf_counter()
    with open_slide(file, mpp, icc, assumed_mpp=stainer.mpp) as slide:
        warn_of_coarse_pixels(slide, stainer)
        view = view_at(slide, stainer.mpp)
        everything = whole(view.size)
        image = view.read(everything)
        known = slide.mpp_from != "assumed"
        doubt = doubts(image, "content", view.mpp or slide.need_mpp())
        warn_of_doubt(slide, stainer, doubt)
        facts = tile_facts(slide, view.mpp or slide.need_mpp(), stainer)
    with ThreadPoolExecutor(min(MAX_THREADS, processors())) as pool:
        painted = paint_image(stainer, image, each=pool.map)
    stained, levels = np.ascontiguousarray(painted[..., :3]), _levels(painted)
    sure = {"unlike_fraction": unlike_fraction(levels)} if levels.any() else {}
    told = {**facts.as_json(), "statistics": {"confidence": sure}}
    write_image(out, stained, told, facts.mpp if known else None)
    if confidence is not None:
        write_confidence(confidence, levels, told)
    seconds = time.perf_counter() - began
    return {
        "output": str(out),
        "size": list(view.size),
        "mpp": facts.mpp,
        **({} if known else {"mpp_assumed": stainer.mpp}),
        "stainer": stainer.name,
        "target_stain": stainer.target_stain,
        "where": stainer.where,
        "notice": facts.notice,
        "seconds": seconds,
        "mpx_per_s": view.size[0] * view.size[1] / 1e6 / seconds,
        "tiles": 1,
        "tissue_fraction": None,
        "doubt": doubt,
        "unlike_fraction": sure.get("unlike_fraction"),
        "seam_score": seam_score(
            lambda window: stained[window.at], _meeting(stainer, [everything]), everything.size
        ),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }


def _levels(painted: Image) -> Levels:
    """How sure the stainer was, in squares; 0 where it does not say."""
    return squares_of(painted[..., 3] if painted.shape[2] > 3 else np.zeros(painted.shape[:2], np.uint8))


def tile_facts(slide: Slide, mpp: float, stainer: Stainer) -> Facts:
    """What the file of a tile says."""
    return Facts(
        mpp=mpp,
        stainer=stainer.name,
        stainer_hash=stainer.identity,
        target_stain=stainer.target_stain,
        source_quickhash=slide.quickhash,
        source_mpp=slide.mpp if slide.mpp_from != "assumed" else None,
        where=stainer.where,
    )
