"""A server and slide jobs for as long as you like: do memory, file handles or threads grow?

    python scripts/soak.py [--minutes 60] [--every 2] [--jobs-every 150] [--out FOLDER]

A server is asked for tiles, densities and numbers, five requests every two seconds; and every few minutes for a
stained view, an upload, a trial and a stained slide, which its child processes make. This process stains a slide
itself as often. At this pace a busy machine has as much to do as an idle one, and little. Both are looked at
every few seconds (FOLDER/samples.jsonl). The verdict is by the second half: exit status 1 where memory rises by
more than 20 MB in 10 minutes, or handles or threads by more than 5, along a straight line; or where a job was not
done.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import shutil
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as Pillow

from chromogen.staining.stainer import Stainer, builtin_ihc
from chromogen.whole_slide import stain
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from kills import make_inputs
from serving import Serving

SAMPLE_S = 5.0
JOBS_S = 900.0  # in which a machine that others use has done both jobs
SIDES = ("width", "height")
MAX_RISE = {"rss_mb": 20.0, "handles": 5.0, "threads": 5.0}  # in 10 minutes
Sample = dict[str, float]


def sample(process: psutil.Process, began: float) -> Sample:
    """What a process has now."""
    with process.oneshot():
        return {
            "s": round(time.monotonic() - began, 1),
            "rss_mb": round(process.memory_info().rss / 1e6, 1),
            "handles": process.num_fds(),
            "threads": process.num_threads(),
        }


def ask_for_little(serving: Serving, slide: str, rng: random.Random) -> None:
    """One of each kind of answer."""
    serving.ask("slides")
    facts = serving.ask(f"slides/{slide}")
    level, (x, y) = facts["levels"] - 1, (rng.randrange(-(-facts[side] // facts["tile_px"])) for side in SIDES)
    serving.ask(f"slides/{slide}/tiles/{level}/{x}/{y}.jpg")
    serving.ask(f"slides/{slide}/densities/{level}/{x}/{y}.png")
    left, top = rng.randrange(300), rng.randrange(200)
    corners = [[left, top], [left + 200, top], [left + 200, top + 150], [left, top + 150], [left, top]]
    region = {"name": "r", "geometry": {"type": "Polygon", "coordinates": [corners]}}
    serving.ask("numbers", {"on": slide, "slides": [{"id": slide, "stains": "h-e"}], "regions": [region]})


def ask_for_more(serving: Serving, slide: str, number: int) -> None:
    """A stained view, an upload, a trial and a stained slide; RuntimeError where these are not done in time."""
    view = {"slide": slide, "stainer": "epithelial", "location": [100, 100], "size": [256, 256]}
    serving.ask("stains", view)
    data = io.BytesIO()
    Pillow.fromarray(builtin_ihc()[:128, :128]).save(data, "PNG")
    upload = urllib.request.Request(  # noqa: S310 - our own address
        f"{serving.address}api/exemplars", data.getvalue(), {"content-type": "image/png"}
    )
    with urllib.request.urlopen(upload, timeout=120) as answer:  # noqa: S310
        answer.read()
    states = serving.wait_for(serving.ask_for_both(number), JOBS_S)
    if set(states.values()) != {"done"}:
        raise RuntimeError(f"jobs {number} ended so: {states}")


def stain_here(slide: Path, folder: Path) -> None:
    """A slide job in this process."""
    job = SlideJob(SlideFile(slide), Stainer.from_pretrained("color-transfer"))
    stain_slide(job, Output(folder / "out.ome.tif"), restart=True)


def rise_in_10_min(samples: Sequence[Sample], name: str) -> float:
    """By a straight line through the second half."""
    half = samples[len(samples) // 2 :]
    seconds, values = (np.array([one[key] for one in half]) for key in ("s", name))
    return float(np.polyfit(seconds, values, 1)[0] * 600)


def verdict(name: str, samples: Sequence[Sample]) -> bool:
    """Say start, middle and end; whether nothing grows."""
    good = True
    for key, most in MAX_RISE.items():
        start, middle, end = (samples[at][key] for at in (0, len(samples) // 2, -1))
        rise = rise_in_10_min(samples, key)
        good &= rise <= most
        print(f"{name} {key}: start {start:g}, middle {middle:g}, end {end:g}; {rise:+.2f} in 10 min")
    return good


def go_on(serving: Serving, slide: Path, folder: Path, given: argparse.Namespace) -> Iterator[tuple[str, Sample]]:
    """Ask and stain until the time is over, and say now and then what the server and this process have."""
    name, rng, began = serving.slide(slide.name), random.Random(0), time.monotonic()  # noqa: S311
    rounds, looked, jobs = 0, -SAMPLE_S, list[Future[None]]()

    def all_jobs(number: int) -> None:
        ask_for_more(serving, name, number)
        stain_here(slide, folder)

    with ThreadPoolExecutor(1) as beside:
        while (now := time.monotonic() - began) < given.minutes * 60:
            if now >= len(jobs) * given.jobs_every and all(job.done() for job in jobs):
                jobs.append(beside.submit(all_jobs, len(jobs)))
            ask_for_little(serving, name, rng)
            rounds += 1
            if now - looked >= SAMPLE_S:
                looked = now
                yield "server", sample(serving.process, began)
                yield "jobs", sample(psutil.Process(), began)
            time.sleep(max(0.0, now + given.every - (time.monotonic() - began)))
    for job in jobs:
        job.result()
    print(f"{rounds} rounds of 5 requests, {len(jobs)} times all jobs, {given.minutes:g} min")


def main() -> int:
    """Ask and look until the time is over; then judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--every", type=float, default=2.0, help="seconds from one round of requests to the next")
    parser.add_argument("--jobs-every", type=float, default=150.0, help="seconds from all jobs to the next time")
    parser.add_argument("--out", type=Path, default=Path("soak"))
    given = parser.parse_args()
    out = given.out.absolute()
    for name in ("tmp", "results", "stained"):
        shutil.rmtree(out / name, ignore_errors=True)
        (out / name).mkdir(parents=True)
    make_inputs(out / "in")
    stain.BLOCK_PX = 256
    looked: dict[str, list[Sample]] = {"server": [], "jobs": []}
    serving = Serving([out / "in"], out / "results", out / "tmp")
    try:
        with (out / "samples.jsonl").open("w") as log:
            for name, seen in go_on(serving, out / "in" / "slide.tif", out / "stained", given):
                looked[name].append(seen)
                log.write(json.dumps({"of": name, **seen}) + "\n")
                log.flush()
        good = [verdict(name, samples) for name, samples in looked.items()]
    finally:
        serving.stop()
    left = [path.name for path in (out / "tmp").iterdir() if path.name.startswith(".chromogen-")]
    print(f"{'flat' if all(good) else 'it grows'}; left in TMPDIR: {left}")
    return 0 if all(good) and not left else 1


if __name__ == "__main__":
    sys.exit(main())
