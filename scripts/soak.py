"""A server and slide jobs for as long as you like: do memory, file handles or threads grow?

    python scripts/soak.py [--minutes 60] [--pause 0.5] [--out FOLDER]

A server is asked for tiles, densities, numbers, stained views, uploads, and again and again for a trial and a
stained slide, which its child processes make; this process stains a slide itself meanwhile, again and again. Both
are looked at every few seconds (FOLDER/samples.jsonl). The verdict is by the second half: exit status 1 where
memory rises by more than 20 MB in 10 minutes, or handles or threads by more than 5, along a straight line.
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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from PIL import Image as Pillow

from chromogen.stainer import builtin_ihc, load_stainer
from chromogen.whole_slide import stain
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.output import Output
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from kills import make_inputs
from serving import Serving

SAMPLE_S = 5.0
SIDES = ("width", "height")
MOST_RISE = {"rss_mb": 20.0, "handles": 5.0, "threads": 5.0}  # in 10 minutes
JOBS_EVERY = 40  # rounds of small requests
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
    serving.ask("numbers", {"on": slide, "slides": {slide: "h-e"}, "regions": [region]})


def ask_for_more(serving: Serving, slide: str, number: int) -> None:
    """A stained view, an upload, and a trial and a stained slide in the background."""
    view = {"slide": slide, "stainer": "dab-cytoplasm", "location": [100, 100], "size": [256, 256]}
    serving.ask("stains/view", view)
    data = io.BytesIO()
    Pillow.fromarray(builtin_ihc()[:128, :128]).save(data, "PNG")
    upload = urllib.request.Request(  # noqa: S310 - our own address
        f"{serving.address}api/exemplars", data.getvalue(), {"content-type": "image/png"}
    )
    with urllib.request.urlopen(upload, timeout=120) as answer:  # noqa: S310
        answer.read()
    serving.wait_for(serving.ask_for_both(number), 300)


def stain_here(slide: Path, folder: Path) -> None:
    """A slide job in this process."""
    job = SlideJob(SlideFile(slide), load_stainer("color-transfer"))
    stain_slide(job, Output(folder / "out.ome.tif"), restart=True)


def rise_in_10_min(samples: Sequence[Sample], name: str) -> float:
    """By a straight line through the second half."""
    half = samples[len(samples) // 2 :]
    seconds, values = (np.array([one[key] for one in half]) for key in ("s", name))
    return float(np.polyfit(seconds, values, 1)[0] * 600)


def verdict(name: str, samples: Sequence[Sample]) -> bool:
    """Say start, middle and end; whether nothing grows."""
    good = True
    for key, most in MOST_RISE.items():
        start, middle, end = (samples[at][key] for at in (0, len(samples) // 2, -1))
        rise = rise_in_10_min(samples, key)
        good &= rise <= most
        print(f"{name} {key}: start {start:g}, middle {middle:g}, end {end:g}; {rise:+.2f} in 10 min")
    return good


def main() -> int:
    """Ask and look until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between rounds of requests")
    parser.add_argument("--out", type=Path, default=Path("soak"))
    given = parser.parse_args()
    out = given.out.absolute()
    shutil.rmtree(out / "results", ignore_errors=True)
    for name in ("tmp", "results", "stained"):
        (out / name).mkdir(parents=True, exist_ok=True)
    make_inputs(out / "in")
    stain.BLOCK_PX = 256
    serving, rng, began = Serving([out / "in"], out / "results", out / "tmp"), random.Random(0), time.monotonic()  # noqa: S311
    slide, rounds, jobs = serving.slide("slide.tif"), 0, 0
    looked: dict[str, list[Sample]] = {"server": [], "jobs": []}
    stain_here(out / "in" / "slide.tif", out / "stained")
    with (out / "samples.jsonl").open("w") as log:
        while (now := time.monotonic() - began) < given.minutes * 60:
            ask_for_little(serving, slide, rng)
            if rounds % JOBS_EVERY == 0:
                ask_for_more(serving, slide, jobs)
                stain_here(out / "in" / "slide.tif", out / "stained")
                jobs += 1
            rounds += 1
            if not looked["server"] or now - looked["server"][-1]["s"] > SAMPLE_S:
                for name, process in (("server", serving.process), ("jobs", psutil.Process())):
                    looked[name].append(sample(process, began))
                    log.write(json.dumps({"of": name, **looked[name][-1]}) + "\n")
                log.flush()
            time.sleep(given.pause)
    good = [verdict(name, samples) for name, samples in looked.items()]
    serving.stop()
    left = [path.name for path in (out / "tmp").iterdir() if path.name.startswith(".chromogen-")]
    print(f"{rounds} rounds of 5 requests, {jobs} times all jobs, {given.minutes:g} min; left in TMPDIR: {left}")
    print("flat" if all(good) else "it grows")
    return 0 if all(good) and not left else 1


if __name__ == "__main__":
    sys.exit(main())
