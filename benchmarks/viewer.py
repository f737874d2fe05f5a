"""Tiles of the web app beside openslide-python's Deep Zoom generator behind the same server; load; dials.

    python benchmarks/viewer.py [--tiles 60] [--viewers 20] [--seconds 15] [--turns 3] [--out DIR] [--json]

The slide is 60,000 px wide, a tiled pyramid as scanners write it (levels 1, 4 and 16 times coarser), of real
tissue repeated. Both make tiles of 512 px and the same JPEG; each has a slide of its own open, in one process that
serves both. Cold is a tile that nobody asked for before, warm the same one again; kinds take turns, and ratios
are of their processor times. Then many viewers pan at once, and two for longer: tiles a second, latency, and the
memory of the server at the beginning and after each quarter of the time. Last a view of VIEW_PX at 0.5 um/px is
stained, and each dial is turned: processor time of the server and its processes, the median of some turns.
"""

from __future__ import annotations

import io
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import imagecodecs
import numpy as np
import psutil
import tifffile

from chromogen.app.view.pictures import JPEG_QUALITY, TILE_PX, tile_levels
from chromogen.image import Image, resize
from chromogen.staining.stainer import builtin_ihc
from measuring import command_line, machine, markdown, positive, publish

WIDTH, HEIGHT, MPP = 60_000, 20_000, 0.25
LEVELS = (1, 4, 16)
STORED_PX = 256
KINDS = ("chromogen", "deepzoom")
VIEW_PX = 1200, 800
PLACE = 20_000, 6_000  # of the view, in level-0 pixels
DIALS = {"nuclear": ("share", "seed", "intensity", "counterstain"), "epithelial": ("seed", "intensity")}


def write_slide(path: Path) -> None:
    """The slide: one tile of tissue over and over, and its coarser levels."""
    tissue = builtin_ihc()[:STORED_PX, :STORED_PX]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for level in LEVELS:
            small = np.tile(resize(tissue, (STORED_PX // level, STORED_PX // level)), (level, level, 1))
            _write_level(tiff, small, (HEIGHT // level, WIDTH // level), level)


def _write_level(tiff: tifffile.TiffWriter, tile: Image, shape: tuple[int, int], level: int) -> None:
    encode: Any = imagecodecs.jpeg8_encode
    jpeg: bytes = encode(tile, 80, colorspace="rgb", outcolorspace="ycbcr", subsampling="444")
    count = -(-shape[0] // STORED_PX) * -(-shape[1] // STORED_PX)
    tiff.write(
        (jpeg for _ in range(count)),
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(STORED_PX, STORED_PX),
        photometric="ycbcr",
        subsampling=(1, 1),
        compression="jpeg",
        subfiletype=int(level > 1),
        resolution=(1e4 / (MPP * level),) * 2,
        resolutionunit="centimeter",
        metadata=None,
    )


def serve(slide: Path, port: int) -> None:
    """The web app, with one more route: the other generator's tiles."""
    import openslide
    import PIL.Image
    import uvicorn
    from openslide.deepzoom import DeepZoomGenerator

    from chromogen.app.server import create_app

    app = create_app([slide], slide.parent / "results", page=slide.parent)
    generator = DeepZoomGenerator(openslide.OpenSlide(slide), tile_size=TILE_PX, overlap=0)
    coarsest = generator.level_count - tile_levels((WIDTH, HEIGHT))

    def deepzoom(level: int, x: int, y: int) -> Any:
        from fastapi import Response

        data = io.BytesIO()
        tile: PIL.Image.Image = generator.get_tile(coarsest + level, (x, y))
        tile.save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return Response(data.getvalue(), media_type="image/jpeg")

    async def processor() -> float:
        return time.process_time()

    app._app.add_api_route("/api/processor", processor)  # type: ignore[attr-defined]
    app._app.add_api_route("/api/deepzoom/{level}/{x}/{y}.jpg", deepzoom)  # type: ignore[attr-defined]
    uvicorn.run(app, port=port, log_level="warning", access_log=False)


@contextmanager
def server(slide: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A server's address and process, for as long as it is needed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    child = subprocess.Popen([sys.executable, __file__, "--serve", str(slide), str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(1200):
            try:
                httpx2.get(f"{address}/api/app")
                break
            except httpx2.TransportError:
                time.sleep(0.1)
        yield address, psutil.Process(child.pid)
    finally:
        child.terminate()
        child.wait(10)


def places(count: int, seed: int) -> list[tuple[int, int, int]]:
    """Level, column and row of tiles all over the slide, of its five finest levels, none twice."""
    rng, levels = random.Random(seed), tile_levels((WIDTH, HEIGHT))  # noqa: S311
    found: dict[tuple[int, int, int], None] = {}
    while len(found) < count:
        level = levels - 1 - rng.randrange(5)
        side = TILE_PX << (levels - 1 - level)
        found[level, rng.randrange(WIDTH // side), rng.randrange(HEIGHT // side)] = None
    return list(found)


def latency(address: str, slide_id: str, tiles: int) -> dict[str, dict[str, float]]:
    """Milliseconds of cold and warm tiles of both kinds, in turn: on the clock, and on the server's processor."""
    client = httpx2.Client(base_url=address, timeout=60)
    roots = {"chromogen": f"/api/slides/{slide_id}/tiles", "deepzoom": "/api/deepzoom"}
    found: dict[str, list[tuple[float, float]]] = {f"{k}, {s}": [] for s in ("cold", "warm") for k in KINDS}
    for warm_up in places(10, seed=0):
        for root in roots.values():
            client.get(f"{root}/{'/'.join(map(str, warm_up))}.jpg").raise_for_status()
    for state in ("cold", "warm"):
        for number, place in enumerate(places(tiles, seed=1)):
            for kind in KINDS if number % 2 else KINDS[::-1]:
                path = f"{roots[kind]}/{'/'.join(map(str, place))}.jpg"
                found[f"{kind}, {state}"].append(_cost(client, path))
    return {
        name: {
            **percentiles([wall for wall, _ in costs]),
            "processor_mean": statistics.mean(busy for _, busy in costs),
        }
        for name, costs in found.items()
    }


def _cost(client: httpx2.Client, path: str) -> tuple[float, float]:
    """Milliseconds on the clock and on the server's processor, of which being asked for the time is a part."""
    before = client.get("/api/processor").json()
    began = time.perf_counter()
    client.get(path).raise_for_status()
    wall = time.perf_counter() - began
    return 1000 * wall, 1000 * (client.get("/api/processor").json() - before)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {"median": statistics.median(values), "p95": statistics.quantiles(values, n=20)[-1], "n": len(values)}


def load(address: str, slide_id: str, process: psutil.Process, viewers: int, seconds: float) -> dict[str, Any]:
    """So many viewers at once, each panning to places of its own: latency, rate, errors, memory."""
    times: list[float] = []
    errors: list[str] = []
    until = time.monotonic() + seconds

    def pan(number: int) -> None:
        client = httpx2.Client(base_url=address, timeout=60)
        for level, x, y in places(2000, seed=100 + number):
            if time.monotonic() > until:
                return
            began = time.perf_counter()
            answer = client.get(f"/api/slides/{slide_id}/tiles/{level}/{x}/{y}.jpg")
            times.append(1000 * (time.perf_counter() - began))
            if answer.status_code != 200:
                errors.append(answer.text)

    threads = [threading.Thread(target=pan, args=(number,)) for number in range(viewers)]
    rss_mb = [process.memory_info().rss / 1e6]
    for thread in threads:
        thread.start()
    for _ in range(4):
        time.sleep(seconds / 4)
        rss_mb.append(process.memory_info().rss / 1e6)
    for thread in threads:
        thread.join()
    return {
        **percentiles(times),
        "tiles_per_s": len(times) / seconds,
        "errors": len(errors),
        "rss_mb": rss_mb,
    }


def dials(address: str, slide_id: str, process: psutil.Process, turns: int) -> dict[str, dict[str, float]]:
    """Seconds of the processor and on the clock of a stained view, and of each dial of it; memory after it."""
    client = httpx2.Client(base_url=address, timeout=600)
    found: dict[str, dict[str, float]] = {}
    for stainer, names in DIALS.items():
        asked: dict[str, Any] = {"slide": slide_id, "stainer": stainer, "location": PLACE}
        asked["size"] = tuple(round(side * 0.5 / MPP) for side in VIEW_PX)

        def stained(set_to: Mapping[str, float], asked: Mapping[str, Any] = asked) -> tuple[float, float]:
            busy, began = processor_s(process), time.perf_counter()
            client.post("/api/stains", json={**asked, "dials": set_to}).raise_for_status()
            return processor_s(process) - busy, time.perf_counter() - began

        found[f"{stainer}, first view"] = _medians([stained({})], process)
        for name in names:
            values = [number if name == "seed" else 0.4 + number / 100 for number in range(1, turns + 1)]
            found[f"{stainer}, {name}"] = _medians([stained({name: value}) for value in values], process)
    return found


def processor_s(process: psutil.Process) -> float:
    """Processor time of a process and those that it has begun."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(one.user + one.system for one in times))


def _medians(costs: Sequence[tuple[float, float]], process: psutil.Process) -> dict[str, float]:
    processor, clock = (statistics.median(values) for values in zip(*costs, strict=True))
    rss = sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    return {"processor_s": processor, "clock_s": clock, "rss_mb": rss / 1e6, "n": len(costs)}


def main() -> None:
    """Everything, as tables."""
    if "--serve" in sys.argv:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
        return
    parser = command_line(__doc__)
    parser.add_argument("--tiles", type=positive, default=60)
    parser.add_argument("--viewers", type=positive, default=20)
    parser.add_argument("--seconds", type=positive, default=15)
    parser.add_argument("--turns", type=positive, default=3, help="of each dial")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        slide = Path(scratch) / "slide.tif"
        write_slide(slide)
        with server(slide) as (address, process):
            slide_id = httpx2.get(f"{address}/api/slides").json()[0]["id"]
            found = latency(address, slide_id, arguments.tiles)
            crowd = load(address, slide_id, process, arguments.viewers, arguments.seconds)
            soak = load(address, slide_id, process, 2, 2 * arguments.seconds)
            stained = dials(address, slide_id, process, arguments.turns)
    results = {"latency_ms": found, "load": crowd, "soak": soak, "dials": stained, "machine": machine()}
    loads = {f"{arguments.viewers} viewers": crowd, "2 viewers, twice as long": soak}
    publish("viewer", results, tables(found, loads, stained), arguments)


def tables(
    found: Mapping[str, Mapping[str, float]], loads: Mapping[str, Any], stained: Mapping[str, Mapping[str, float]]
) -> str:
    """All figures; ratios are of processor time, over the other generator's."""
    busy_ms = {name: kind["processor_mean"] for name, kind in found.items()}
    other = {name: busy_ms[f"{KINDS[1]}, {name.partition(', ')[2]}"] for name in found}
    latencies = [
        [name, *(f"{kind[column]:.1f}" for column in ("median", "p95", "processor_mean")),
         f"{busy_ms[name] / other[name]:.2f}"]
        for name, kind in found.items()
    ]  # fmt: skip
    crowds = [
        [name, f"{v['tiles_per_s']:.0f}", f"{v['median']:.0f}", f"{v['p95']:.0f}", f"{v['errors']:.0f}",
         ", ".join(f"{mb:.0f}" for mb in v["rss_mb"])]
        for name, v in loads.items()
    ]  # fmt: skip
    turned = [
        [name, f"{v['processor_s']:.2f}", f"{v['clock_s']:.2f}", f"{v['rss_mb']:.0f}"]
        for name, v in stained.items()
    ]
    heads = (
        ["tile of 512 px", "median ms", "95 % ms", "processor ms", "ratio"],
        ["", "tiles/s", "median ms", "95 % ms", "errors", "MB"],
        ["a view is stained", "processor s", "clock s", "MB after"],
    )
    return "\n\n".join(markdown(head, rows) for head, rows in zip(heads, (latencies, crowds, turned), strict=True))


if __name__ == "__main__":
    main()
