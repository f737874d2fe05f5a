"""How time and memory grow with size: of a tile, a slide, a batch of tiles, and with the number of workers.

    python benchmarks/growth.py [--panels tile slide batch workers] [--quick] [--out DIR] [--figure FILE.jpg]

Half an hour on two free cores. Tiles and batches are `chromogen stain` as users start it, each a process of its
own, start included. Slides are made while they are read (`slides.py`), in an ellipse that fills 64 % of them. For
workers, the blocks of one slide are timed one by one, and `scheduler.py` simulates the rest; one and two workers
are measured too, to see how far the simulation is off. Slopes are those of a straight line through the logarithms:
1 is in proportion. Time is processor time, which hardly depends on what else the machine does. With `--out`,
panels that an earlier run measured are kept. `growth_figure.py` draws them.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from chromogen.compute.tiles import Window, whole
from chromogen.image import Image, write_image
from chromogen.slides.facts import Facts
from chromogen.slides.writer import write_ome_tiff
from chromogen.staining.stainer import LOOK_WINDOW_PX, Stainer
from chromogen.whole_slide import blocks
from chromogen.whole_slide.blocks import Block, BlockWork, Done, R, T, blocks_of, local_cluster, on_cluster
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import BLOCK_PX, stain_slide
from chromogen.whole_slide.view import SlideFile
from growth_figure import draw, table
from measuring import apart, as_the_command_line, command_line, machine, pin_threads, positive, publish, python
from painting import window
from scheduler import Load, Piece, simulated
from slides import MPP, Written, by_workers, one_size

PANELS = ("tile", "slide", "batch", "workers")
WORKERS = (1, 2, 4, 8, 16, 32, 64)
MEASURED_WORKERS = (1, 2)
BATCH_PX = 256
MAX_OF_LOOKS_PX = 10**8  # of slides by the default stainer
HANDED = 200  # blocks that do nothing

Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """How large everything is; sizes of slides are powers of ten."""

    tiles: Sequence[int] = (256, 512, 1024, 2048, 4096, 8192)
    slides: Sequence[float] = (7, 7.5, 8, 9, 9.5)
    batches: Sequence[int] = (1, 10, 100, 1000)
    timed_px: int = 4096
    simulated_px: int = 31 * BLOCK_PX


QUICK = Sizes((128, 256), (5.5, 6), (1, 2), 1536, 4 * BLOCK_PX)


def commanded(inputs: Path, out: Path, stainer: str) -> Row:
    """Seconds of `chromogen stain` from its start to its end, by the clock and of the processor; its memory."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = ["stain", str(inputs), "-o", str(out), "--stainer", stainer, "--json"]
    said = json.loads(python(["-m", "chromogen", *words], out.parent))
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu_s": cpu_s, "peak_mb": said["peak_rss_mb"]}


def tiles(sizes: Sizes, stainer: str) -> Iterator[Row]:
    """One image after the other, without glass."""
    for side_px in sizes.tiles:
        with tempfile.TemporaryDirectory() as folder:
            he = Path(folder) / "he.png"
            write_image(he, window(side_px), mpp=MPP)
            yield {"side_px": side_px, "px": side_px**2, **commanded(he, Path(folder) / "out.png", stainer)}


def batches(sizes: Sizes, stainer: str) -> Iterator[Row]:
    """Folders of so many images, all of other places."""
    field_px = window(8 * BATCH_PX)
    for count in sizes.batches:
        with tempfile.TemporaryDirectory() as folder:
            (he := Path(folder) / "he").mkdir()
            for n in range(count):
                x, y = 37 * n % (7 * BATCH_PX), 61 * n % (7 * BATCH_PX)
                write_image(he / f"{n:04}.png", field_px[y : y + BATCH_PX, x : x + BATCH_PX].copy(), mpp=MPP)
            yield {"tiles": count, **commanded(he, Path(folder) / "out", stainer)}


def slides(sizes: Sizes, stainer: str, cheap: str) -> Iterator[Row]:
    """Slides by a stainer that costs next to nothing, and the smaller ones by the other."""
    for power in sizes.slides:
        side_px = round(10 ** (power / 2))
        for name in dict.fromkeys((cheap, stainer) if side_px**2 <= 1.01 * MAX_OF_LOOKS_PX else (cheap,)):
            facts, peak_mb = apart(one_size, side_px, name, torch.get_num_threads())
            stained_mpx = facts["mpx_per_s"] * facts["seconds"]
            times = {"seconds": facts["seconds"], "cpu_s": facts["cpu_s_a_mpx"] * stained_mpx}
            sides = {"side_px": side_px, "px": side_px**2, "stained_mpx": stained_mpx}
            yield {"stainer": name, **sides, **times, "peak_mb": peak_mb, "file_mb": facts["file_mb"]}


# Workers: times of one slide's blocks, from which any number of workers is simulated.


@dataclass(frozen=True)
class Noted:
    """What paints a stainer's windows, and a file that grows by a byte with each window of full size."""

    paint: Callable[..., Image]
    file: Path

    def __call__(self, image: Image, statistics: Any, location: tuple[int, int]) -> Image:
        """The window, painted."""
        if image.shape[0] == LOOK_WINDOW_PX:
            with self.file.open("ab") as file:
                file.write(b".")
        return self.paint(image, statistics, location)


@dataclass
class Times:
    """Processor seconds of a slide: of blocks without their windows, of windows, and before, beside and after."""

    own_s: dict[tuple[int, int], float] = field(default_factory=dict)
    window_s: dict[tuple[int, int], float] = field(default_factory=dict)
    before_s: float = 0.0
    beside_s: float = 0.0
    after_s: float = 0.0
    hand_s: float = 0.0
    work: BlockWork | None = None

    def run(self, function: Callable[[T], R], pieces: Iterable[T]) -> Iterator[R]:
        """Satisfies `whole_slide.blocks.Run`: here, one block after the other, each timed."""
        assert isinstance(function, partial)
        self.work = function.args[0]
        self.before_s, here_s = time.process_time() - self.before_s, 0.0
        began_s = time.process_time()
        for piece in pieces:
            block_s, windows_s = time.thread_time(), sum(self.window_s.values())
            done = function(piece)
            block_s = time.thread_time() - block_s
            here_s += block_s
            assert isinstance(piece, Block)
            self.own_s[piece.index] = block_s - (sum(self.window_s.values()) - windows_s)
            yield done
        self.after_s = time.process_time()
        self.beside_s = self.after_s - began_s - here_s


def timed(slide: Path, stainer: str) -> Row:
    """Times of every block, one after the other in this process, and of what the main process does."""
    as_the_command_line()  # workers keep freed memory too
    times, plain = Times(), blocks._window

    def timed_window(view: Any, stainer: Stainer, window: Window) -> Any:
        began_s = time.thread_time()
        made = plain(view, stainer, window)
        times.window_s[window.location] = time.thread_time() - began_s
        return made

    vars(blocks)["_window"] = timed_window
    made_by = Stainer.from_pretrained(stainer)
    if made_by.prepare:
        made_by.prepare()  # workers load it while they start
    with tempfile.TemporaryDirectory() as folder:
        times.before_s = time.process_time()
        job = SlideJob(SlideFile(slide), made_by, mask_tissue=False)
        stain_slide(job, Output(Path(folder) / "out.ome.tif"), run=times.run)
        times.after_s = time.process_time() - times.after_s
    return vars(times)


def listed(times: Row) -> Row:
    """The seconds alone, as JSON may hold them."""
    seconds = {name: value for name, value in times.items() if name.endswith("_s")}
    return {name: list(value.values()) if isinstance(value, dict) else value for name, value in seconds.items()}


def handing_s(work: BlockWork) -> float:
    """Processor seconds that the main process takes to hand out a block and to take it down."""
    some = Block((0, 0), whole((BLOCK_PX, BLOCK_PX)), whole((BLOCK_PX, BLOCK_PX)), None)
    with local_cluster(1, threads=1) as client:
        run = on_cluster(client)
        list(run(partial(nothing, work), [some]))
        began_s = time.process_time()
        list(run(partial(nothing, work), [some] * HANDED))
        return (time.process_time() - began_s) / HANDED


def nothing(_work: BlockWork, block: Block) -> Done:
    """A block that takes no time."""
    return Done(block.index, True, (), 0.0)


def load_of(times: Row, side_px: int) -> Load:
    """The job on a slide of that size: its blocks and windows take the measured times in turn."""
    work: BlockWork = times["work"]
    size = (side_px, side_px)
    work = replace(work, store=replace(work.store, size=size))
    there = blocks_of(work, size, whole(size), None)
    sliding_window, own_s = work.stainer.sliding_window, cycle(times["own_s"].values())
    per_window_s: dict[Hashable, float] = {}
    pieces, known = [], cycle(times["window_s"].values())
    for block in there:
        shown = sliding_window.windows(size, block.core)[::-1] if sliding_window else []
        for each in shown:
            if each not in per_window_s:
                per_window_s[each] = next(known)
        pieces.append(Piece(block.index, next(own_s), shown))
    in_one_piece = replace(work, stainer=replace(work.stainer, sliding_window=None))
    writing = [block.index for block in blocks_of(in_one_piece, size, whole(size), None)]
    blocks_timed = len(times["own_s"])
    return Load(
        pieces,
        writing,
        per_window_s,
        kept=blocks.MAX_KEPT_BYTES // (sliding_window.window_px**2 * 4) if sliding_window else 0,
        before_s=times["before_s"],
        hand_s=times["hand_s"],
        write_s=times["beside_s"] / blocks_timed,
        after_s=times["after_s"] * len(there) / blocks_timed,
    )


def workers(sizes: Sizes, stainer: str) -> Iterator[Row]:
    """The timed slide by one and two workers, measured and simulated; both slides by any number, simulated."""
    with tempfile.TemporaryDirectory() as folder:
        slide = Path(folder) / "slide.ome.tif"
        write_ome_tiff(slide, Written(sizes.timed_px), Facts(MPP, "none"))
        times, _ = apart(timed, slide, stainer)
        times["hand_s"] = handing_s(times["work"])
        yield {"kind": "times", **listed(times)}
        for side_px in (sizes.timed_px, sizes.simulated_px):
            load = load_of(times, side_px)
            about = {"kind": "simulated", "blocks": len(load.pieces), "px": side_px**2}
            yield from ({**about, "workers": count, **asdict(simulated(load, count))} for count in WORKERS)
        load = load_of(times, sizes.timed_px)
        yield from (compared(slide, stainer, load, count) for count in MEASURED_WORKERS)


def compared(slide: Path, name: str, load: Load, count: int) -> Row:
    """A job by so many workers, and what the simulation says of it."""
    with tempfile.TemporaryDirectory() as folder:
        noted, stainer = Path(folder) / "painted", Stainer.from_pretrained(name)
        noted.touch()
        seconds, cpu_s = by_workers(slide, count, replace(stainer, paint=Noted(stainer.paint, noted)))
        painted = noted.stat().st_size
    return {
        "kind": "measured",
        "workers": count,
        "seconds": seconds,
        "busy_s": cpu_s,
        "painted": painted,
        "simulated": asdict(simulated(load, count)),
    }


# All together.


def measured(panel: str, given: argparse.Namespace) -> list[Row]:
    """The rows of a panel, each printed on stderr as soon as it is there."""
    sizes = QUICK if given.quick else Sizes()
    sizes = replace(
        sizes, **{name: value for name in ("tiles", "slides", "batches") if (value := vars(given)[name])}
    )
    ways: dict[str, Callable[[], Iterator[Row]]] = {
        "tile": partial(tiles, sizes, given.stainer),
        "slide": partial(slides, sizes, given.stainer, given.cheap),
        "batch": partial(batches, sizes, given.stainer),
        "workers": partial(workers, sizes, given.stainer),
    }
    found = []
    for row in ways[panel]():
        print(panel, json.dumps(row), file=sys.stderr, flush=True)
        found.append(row)
    return found


def known(out: Path | None) -> Mapping[str, list[Row]]:
    """The panels that an earlier run has left in the folder."""
    file = out / "growth.json" if out else None
    return json.loads(file.read_text())["panels"] if file and file.exists() else {}


def main() -> None:
    """Parse, measure, print, write, draw."""
    parser = command_line(__doc__)
    parser.add_argument("--panels", nargs="*", choices=PANELS, default=PANELS, help="none: those that are known")
    parser.add_argument("--stainer", default="epithelial")
    parser.add_argument("--cheap", default="identity", metavar="STAINER", help="of large slides")
    parser.add_argument("--tiles", type=positive, nargs="+", metavar="PX")
    parser.add_argument("--slides", type=float, nargs="+", metavar="POWER", help="of ten, in px")
    parser.add_argument("--batches", type=positive, nargs="+", metavar="N")
    parser.add_argument("--quick", action="store_true", help="sizes that take a minute, and say little")
    parser.add_argument("--figure", type=Path, metavar="FILE.jpg")
    given = parser.parse_args()
    pin_threads(given.threads)
    panels = {**known(given.out), **{panel: measured(panel, given) for panel in given.panels}}
    publish("growth", {"machine": machine(), "panels": panels}, table(panels), given)
    if given.figure:
        draw(panels, given.figure)


if __name__ == "__main__":
    main()
