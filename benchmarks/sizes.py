"""Seconds, memory and losses of the command line, size by size.

    python benchmarks/sizes.py [--sizes 256 512 1024] [--rounds 3] [--out DIR] [--json]

Every run is `chromogen stylize` as users start it, in a process of its own and with nothing cached, with preset
`balanced` on the pair that comes with pip; precisions take turns. Seconds are those the command gives: from
reading the image to the written result. The losses are judged in fp32, the final one on the rounded picture.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chromogen.image import write_image
from chromogen.style.encoder import Encoder
from measuring import command_line, machine, markdown, pin_threads, positive, publish, python, spread
from pair import pictures


def stylized(pair: tuple[Path, Path], precision: str, cache: Path) -> dict[str, Any]:
    """What one run of the command line says of itself."""
    content, style = pair
    output = content.with_name(f"chromogen_{precision}_{content.name}")
    arguments = [str(content), str(style), "-o", str(output), "--preset", "balanced"]
    arguments += ["--precision", precision, "--restart", "--json"]
    found: dict[str, Any] = json.loads(python(["-m", "chromogen", "stylize", *arguments], cache))
    return found


def one_size(size_px: int, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """Figures of both precisions, in turn."""
    pair = folder / f"he_{size_px}.png", folder / f"ihc_{size_px}.png"
    for path, image in zip(pair, pictures(size_px), strict=True):
        write_image(path, image)
    runs: dict[str, list[dict[str, Any]]] = {Encoder().precision: [], "fp32": []}
    for _ in range(rounds):
        for precision, found in runs.items():
            with tempfile.TemporaryDirectory() as cache:
                found.append(stylized(pair, precision, Path(cache)))
    return [_figures(size_px, precision, found) for precision, found in runs.items()]


def _figures(size_px: int, precision: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "size_px": size_px,
        "precision": precision,
        "seconds": spread([run["seconds"] for run in runs]),
        "steps": runs[0]["steps"],
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
        "initial": runs[0]["initial"]["total"],
        "final": runs[0]["final"]["total"],
    }


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row for each size and precision."""
    columns = ["size", "precision", "s, median (quartiles)", "steps", "peak memory", "loss before", "loss after"]
    return markdown(columns, [_row(f) for f in found])


def _row(f: Mapping[str, Any]) -> list[str]:
    s = f["seconds"]
    return [
        f"{f['size_px']} px",
        f["precision"],
        f"{s['median']:.1f} ({s['quartile_1']:.1f}-{s['quartile_3']:.1f})",
        str(f["steps"]),
        f"{f['peak_rss_mb'] / 1000:.2f} GB",
        f"{f['initial']:.4f}",
        f"{f['final']:.4f}",
    ]


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[256, 512, 1024], metavar="PX")
    parser.add_argument("--rounds", type=positive, default=3)
    given = parser.parse_args()
    pin_threads(given.threads)
    folder = given.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    found = [figures for size in given.sizes for figures in one_size(size, given.rounds, folder)]
    publish("sizes", {"machine": machine(), "results": found}, table(found), given)


if __name__ == "__main__":
    main()
