"""A part of a slide, stained at once and held in memory: in every pixel what the whole slide becomes there."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np

from chromogen.grid import TileGrid, Window
from chromogen.image import Image
from chromogen.slides import pyramid
from chromogen.stainer import Stainer
from chromogen.whole_slide.blocks import Block, block_at, painted, threads_given_back
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.runners import in_threads
from chromogen.whole_slide.survey import Survey
from chromogen.whole_slide.view import View

BLOCK_PX = pyramid.BLOCK_PX


def stain_part(job: SlideJob, view: View, seen: Survey, fitted: Stainer) -> Image:
    """The job's region, uint8 (H, W, 3) at the view's mpp; what cannot be read is white.

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

    def make(block: Block) -> None:
        made[cores[block.index[1]].at] = painted(nullcontext(view), fitted, fitted.white or seen.white, block)[0]

    with threads_given_back():
        for _ in in_threads()(make, blocks):
            pass
    return made
