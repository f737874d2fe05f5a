"""Writing slides: Mpx/s, bytes and PSNR of each compression, and peak memory over sizes.

The picture is made on the fly: real tissue (scikit-image's IHC), mirrored from copy to copy, and background.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from skimage.data import immunohistochemistry

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.slides.facts import Facts
from chromogen.slides.writer import verify, write_ome_tiff, write_ome_zarr
from measuring import apart, command_line, machine, markdown, pin_threads, positive, publish, seconds

CELL_PX = 512
TISSUE: Image = np.ascontiguousarray(immunohistochemistry())
CELLS = [TISSUE[::down, ::right] for down in (1, -1) for right in (1, -1)]


@dataclass(frozen=True)
class Made:
    """Pixels made when they are read: tissue everywhere, or in nine of sixteen cells with white between."""

    size: tuple[int, int]
    is_tissue: bool = True

    def read(self, window: Window) -> Image:
        image = np.full((*window.size[::-1], 3), 255, np.uint8)
        for row in range(window.top // CELL_PX, -(-window.bottom // CELL_PX)):
            for column in range(window.left // CELL_PX, -(-window.right // CELL_PX)):
                if self.is_tissue or (row % 8 < 6 and column % 8 < 6):
                    _paint(image, window, row, column)
        return image


def _paint(image: Image, window: Window, row: int, column: int) -> None:
    left, top = column * CELL_PX, row * CELL_PX
    x0, y0 = max(left, window.left), max(top, window.top)
    x1, y1 = min(left + CELL_PX, window.right), min(top + CELL_PX, window.bottom)
    cell = CELLS[row % 2 * 2 + column % 2]
    image[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left] = cell[
        y0 - top : y1 - top, x0 - left : x1 - left
    ]


FACTS = Facts(0.5, "identity")


def written(format_name: str, side_px: int, is_tissue: bool, folder: Path) -> dict[str, Any]:
    """One picture written and verified."""
    path, pixels = folder / f"{format_name}-{side_px}", Made((side_px, side_px), is_tissue)
    if format_name == "zarr":
        write_s = seconds(lambda: write_ome_zarr(path, pixels, FACTS))
    else:
        write_s = seconds(lambda: write_ome_tiff(path, pixels, FACTS, compression=format_name))
    found: list[float] = []
    verify_s = seconds(lambda: found.append(verify(path, pixels)))
    size = sum(f.stat().st_size for f in path.rglob("*")) if path.is_dir() else path.stat().st_size
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    mpx = side_px**2 / 1e6
    return {
        "format": format_name,
        "side_px": side_px,
        "tissue": "all" if is_tissue else "9 of 16",
        "write_mpx_per_s": mpx / write_s,
        "verify_mpx_per_s": mpx / verify_s,
        "bits_per_px": size * 8 / mpx / 1e6,
        "lowest_psnr_db": found[0],
    }


def runs(sides: Sequence[int], formats: Sequence[str], scratch: Path) -> list[dict[str, Any]]:
    """Every run in its own process, for its own peak."""
    rows = []
    for side_px in sides:
        for is_tissue in (True, False) if side_px == min(sides) else (False,):
            for format_name in formats:
                row, peak_mb = apart(written, format_name, side_px, is_tissue, scratch)
                rows.append({**row, "peak_rss_mb": peak_mb})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [[f"{value:.3g}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    return markdown(list(rows[0]), cells)


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--sides", type=positive, nargs="+", default=[6000, 30000], metavar="PX")
    parser.add_argument("--formats", nargs="+", default=["jpeg", "jpeg2000", "deflate", "zarr"])
    parser.add_argument("--scratch", type=Path, help="folder to write the pictures into")
    given = parser.parse_args()
    pin_threads(given.threads)
    with TemporaryDirectory(dir=given.scratch) as scratch:
        rows = runs(given.sides, given.formats, Path(scratch))
    publish("slide_output", {"machine": machine(), "runs": rows}, table(rows), given)


if __name__ == "__main__":
    main()
