"""Whole slides: speed and memory over sizes, what handling a slide costs above its stainer, one and two workers.

    python benchmarks/slides.py [--sizes 6000 30000] [--stainer color-transfer] [--no-net] [--out DIR]

Slides of tissue that comes with pip, side by side in an ellipse, are made while they are read: they take neither
memory nor a disk. Every size is a process of its own. Overhead: a small network (`small_net.py`) on the tiles of a
slide, all of it tissue, already in memory, in turn with the whole way from slide to verified file, on the same
threads. Workers: the same from a slide on disk, by one and by two processes of one thread, each pinned to a core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.compute.tiles import Window, windows_of
from chromogen.image import Image
from chromogen.slides.facts import Facts
from chromogen.slides.slide import Slide
from chromogen.slides.source import About
from chromogen.slides.writer import write_ome_tiff
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide import view
from chromogen.whole_slide.blocks import Run, in_threads, local_cluster, on_cluster
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import BLOCK_PX, stain_slide
from chromogen.whole_slide.view import SlideFile
from measuring import (
    apart,
    as_the_command_line,
    command_line,
    in_turn,
    machine,
    markdown,
    pin_threads,
    publish,
    spread,
)
from pair import pictures
from small_net import HALO_PX, small_net

MPP, GLASS = 0.5, 245
TEXTURE_PX = 445  # blocks do not end where it begins anew
NET_PX, NET_ROUNDS = 4096, 2


@cache
def texture() -> Image:
    """The demo's H&E."""
    return pictures(TEXTURE_PX)[0]


class Mosaic:
    """A slide without a file. Satisfies `slides.source.Source`, and `slides.pyramid.Pixels`."""

    about = About(format="mosaic")
    mpp: tuple[float, float] | None = (MPP, MPP)
    factors = (1, 4, 16, 64)

    def __init__(self, side_px: int) -> None:
        self.size = (side_px, side_px)
        self.sizes: Sequence[tuple[int, int]] = [(side_px // factor, side_px // factor) for factor in self.factors]

    def read(self, level: int, location: tuple[int, int], size: tuple[int, int]) -> Image:
        """Tissue in an ellipse on glass."""
        factor = self.factors[level]
        middle = self.sizes[level][0] / 2
        x, y = (np.arange(start, start + side) for start, side in zip(location, size, strict=True))
        pixels = texture().take(y * factor % TEXTURE_PX, 0).take(x * factor % TEXTURE_PX, 1)
        half = np.sqrt(np.maximum(0, (0.9 * middle) ** 2 - (y - middle) ** 2))[:, None]
        if np.abs(x - middle).max() > half.min():
            pixels[np.abs(x - middle) > half] = GLASS
        return pixels

    def quickhash(self) -> str:
        """Its size says all."""
        return f"mosaic {self.size}"

    def close(self) -> None: ...


class Written:
    """A mosaic as the writer wants it."""

    def __init__(self, side_px: int) -> None:
        self.size, self._mosaic = (side_px, side_px), Mosaic(side_px)

    def read(self, window: Window, /) -> Image:
        """At level 0."""
        return self._mosaic.read(0, (window.left, window.top), window.size)


def slide_of(side_px: int) -> SlideFile:
    """A mosaic, opened whenever a slide is."""
    vars(view)["open_slide"] = lambda path, **_options: Slide(path, Mosaic(side_px))
    return SlideFile(Path("mosaic"))


def one_size(side_px: int, stainer: str, threads: int) -> dict[str, Any]:
    """The facts of one slide."""
    as_the_command_line()
    texture()  # making the mosaic's stones is no part of the job
    with tempfile.TemporaryDirectory() as folder:
        output = Output(Path(folder) / "out.ome.tif")
        job, busy_s = SlideJob(slide_of(side_px), Stainer.from_pretrained(stainer)), time.process_time()
        facts = stain_slide(job, output, run=in_threads(threads))
        facts["cpu_s_a_mpx"] = (time.process_time() - busy_s) / (facts["mpx_per_s"] * facts["seconds"])
        facts["file_mb"] = output.path.stat().st_size / 1e6
    return facts


def overhead(threads: int) -> dict[str, Any]:
    """Seconds of the network alone on the tiles of a slide, and of the whole way."""
    as_the_command_line()
    stainer, run = small_net(), in_threads(threads)
    file = slide_of(NET_PX)
    with file.open() as slide:
        cores = windows_of(slide.size, BLOCK_PX)
        outers = [core.grown(HALO_PX, slide.size) for core in cores]
        tiles = [slide.read_region((outer.left, outer.top), outer.size) for outer in outers]

    def alone() -> None:
        pin_threads(1)
        for _ in run(stainer, tiles):
            pass

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder:
            stain_slide(SlideJob(file, stainer, mask_tissue=False), Output(Path(folder) / "out.ome.tif"), run=run)

    works = {"alone": alone, "whole": whole}
    taken = in_turn(works, NET_ROUNDS)
    busy = in_turn(works, 1, warm_up=0, clock=time.process_time)
    found = {name: spread(values) | {"cpu_s": busy[name][0]} for name, values in taken.items()}
    return {
        **found,
        "overhead": found["whole"]["median"] / found["alone"]["median"] - 1,
        "cpu_overhead": found["whole"]["cpu_s"] / found["alone"]["cpu_s"] - 1,
    }


def pinned_to(core: int) -> None:
    """A process on one core."""
    os.sched_setaffinity(0, {core})


def by_workers(slide: Path, workers: int, stainer: Stainer) -> tuple[float, float]:
    """Seconds of a job by so many workers, started before, and the processor time that they took."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, local_cluster(workers, threads=1) as client:
        for core, worker in zip(cores, client.scheduler_info(n_workers=-1)["workers"], strict=False):
            client.run(pinned_to, core, workers=[worker])
        warm_up(on_cluster(client), stainer, workers)
        began, busy_s = time.perf_counter(), sum(client.run(time.process_time).values())
        job = SlideJob(SlideFile(slide), stainer, mask_tissue=False)
        stain_slide(job, Output(Path(folder) / "out.ome.tif"), run=on_cluster(client))
        seconds = time.perf_counter() - began
        return seconds, sum(client.run(time.process_time).values()) - busy_s


def warm_up(run: Run, stainer: Callable[[Image], Image], workers: int) -> None:
    """Every worker has loaded what it needs."""
    for _ in run(stainer, [texture()] * 4 * workers):
        pass


def efficiency() -> dict[str, Any]:
    """Seconds of one and two workers, and how near two are to twice as fast."""
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.ome.tif"
        write_ome_tiff(slide, Written(NET_PX), Facts(MPP, "none"))
        (one_s, one_cpu_s), (two_s, two_cpu_s) = (by_workers(slide, workers, small_net()) for workers in (1, 2))
    return {
        "one_s": one_s,
        "two_s": two_s,
        "efficiency": one_s / two_s / 2,
        "cpu_efficiency": one_cpu_s / two_cpu_s,
    }


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row a size."""
    columns = ["size", "seconds", "Mpx/s", "processor s a Mpx", "peak memory", "file", "tissue", "seam score"]
    rows = [
        [
            f"{f['size'][0]}^2",
            f"{f['seconds']:.1f}",
            f"{f['mpx_per_s']:.1f}",
            f"{f['cpu_s_a_mpx']:.2f}",
            f"{f['peak_rss_mb']:.0f} MB",
            f"{f['file_mb']:.0f} MB",
            f"{f['tissue_fraction']:.0%}",
            f"{f['seam_score']:.3f}",
        ]
        for f in found
    ]
    return markdown(columns, rows)


def words(network: Mapping[str, Any]) -> str:
    """What the network's figures say."""
    over, workers = network["overhead"], network["workers"]
    return (
        f"{NET_PX}^2 px by the small network: alone {over['alone']['median']:.1f} s, the whole way "
        f"{over['whole']['median']:.1f} s, overhead {over['overhead']:.1%}; of processor time "
        f"{over['cpu_overhead']:.1%}. One worker {workers['one_s']:.1f} s, two {workers['two_s']:.1f} s: "
        f"efficiency {workers['efficiency']:.0%}; by processor time {workers['cpu_efficiency']:.0%}."
    )


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", nargs="*", type=int, default=[6000, 30000])
    parser.add_argument("--stainer", default="color-transfer")
    parser.add_argument("--no-net", action="store_true", help="sizes alone")
    given: argparse.Namespace = parser.parse_args()
    threads = pin_threads(given.threads)
    found = []
    for side_px in given.sizes:
        facts, peak_rss_mb = apart(one_size, side_px, given.stainer, threads)
        found.append({**facts, "peak_rss_mb": peak_rss_mb})
        print(table(found[-1:]).splitlines()[-1], flush=True)
    report: dict[str, Any] = {"stainer": given.stainer, "cases": found}
    text = table(found)
    if not given.no_net:
        report["network"] = {"overhead": apart(overhead, threads)[0], "workers": efficiency()}
        text += f"\n\n{words(report['network'])}"
    publish("slides", {"machine": machine(), **report}, text, given)


if __name__ == "__main__":
    main()
