"""A part of a slide, stained at once and held in memory: in every pixel what the whole slide becomes there."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from chromogen.grid import TileGrid, Window
from chromogen.slides import pyramid
from chromogen.stainer import Stainer
from chromogen.staining.confidence import SQUARE_PX
from chromogen.whole_slide.blocks import Block, Painted, block_at, painted, threads_given_back
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.runners import in_threads
from chromogen.whole_slide.survey import Survey
from chromogen.whole_slide.view import View

BLOCK_PX = pyramid.BLOCK_PX


def stain_part(job: SlideJob, view: View, seen: Survey, fitted: Stainer) -> Painted:
    """The job's region, uint8 (H, W, 3) at the view's mpp; what cannot be read is white.

    How sure the stainer was comes in squares of SQUARE_PX that begin in the region's corner.
    `seen` is the survey of the whole slide, and `fitted` the stainer with the statistics of its sample.
    Raises: ValueError where the region is not inside the slide; DamageError where the slide is gone.
    """
    region = job.window(view)
    corner = Window(-region.left, -region.top, 0, 0)
    cores = [tile.core for tile in TileGrid(region.size, BLOCK_PX, 0)]
    blocks = [
        block_at((0, number), core.seen_from(corner), view.size, fitted, seen.share)
        for number, core in enumerate(cores)
    ]
    made = np.empty((*region.size[::-1], 3), np.uint8)
    levels = np.zeros([-(-side // SQUARE_PX) for side in region.size[::-1]], np.uint8)

    def make(block: Block) -> list[Window]:
        core = cores[block.index[1]]
        done = painted(nullcontext(view), fitted, fitted.white or seen.white, block)
        made[core.at] = done.pixels
        if done.levels is not None:
            top, left = core.top // SQUARE_PX, core.left // SQUARE_PX
            levels[top : top + done.levels.shape[0], left : left + done.levels.shape[1]] = done.levels
        return done.damaged

    with threads_given_back():
        damaged = [window for found in in_threads()(make, blocks) for window in found]
    return Painted(made, damaged, levels if levels.any() else None)
