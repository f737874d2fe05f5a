"""How well nuclei are found and judged on pictures whose nuclei others have drawn or counted; how fast.

    python benchmarks/nuclei.py DATA [--json] [--out DIR]

DATA holds `nuclei/` (drawn fields), `nuclei_ihc/` (drawn and judged), `he/hgsc_nest.jpg` with its masks, and
`exemplars/`. Of `nuclei/` every fifth field was held back from training; its magnification is estimated from the
drawn nuclei, as in training. Outlines are drawn into PNG files in DIR.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw

from chromogen.compute.memory import keep_freed_memory
from chromogen.image import Image, read_image, write_image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.outlines import NETWORK_MPP, Agreement, Nuclei, agreement, labels_of
from chromogen.slides.slide import read_picture
from measuring import machine

TYPICAL_UM = 8.0  # the median diameter of the nuclei of a field whose magnification nobody states
HELD_BACK = 5


def held_back(folder: Path) -> Iterator[tuple[str, Image, NDArray[Any], float]]:
    """Name, picture, drawn labels and estimated um/px of every field that training has not seen."""
    for number, path in enumerate(sorted(folder.glob("*_rgb.png"))):
        if number % HELD_BACK == HELD_BACK - 1:
            with np.load(path.with_name(path.name.replace("_rgb.png", "_lab.npz"))) as file:
                drawn = file["lab"].astype(int)
            areas = np.bincount(drawn.ravel())[1:]
            diameter_px = 2 * np.sqrt(np.median(areas[areas > 20]) / np.pi)
            yield path.name[:3], read_image(path), drawn, TYPICAL_UM / diameter_px


def outlined(image: Image, nuclei: Nuclei, zoom: int = 2) -> Image:
    """The image, enlarged, with the outlines of its nuclei."""
    height, width = image.shape[:2]
    picture = Pillow.fromarray(image).resize((width * zoom, height * zoom), Pillow.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for outline in nuclei.outlines_px * zoom:
        pen.polygon([(float(x), float(y)) for x, y in outline], outline=(255, 230, 0))
    return np.asarray(picture)


def drawn_by_others(data: Path) -> Iterator[tuple[str, Image, NDArray[Any], float]]:
    """Pictures with drawn nuclei: name, pixels, labels, um/px."""
    with np.load(data / "he" / "hgsc_nest_inst_mask.npz") as file:
        yield "hgsc_nest", read_image(data / "he" / "hgsc_nest.jpg"), file["nuc_raster"], NETWORK_MPP
    for name in ("22_2", "34_3"):
        with np.load(data / "nuclei_ihc" / f"{name}_lab.npz") as file:
            yield name, read_image(data / "nuclei_ihc" / f"{name}.png"), file["lab"].astype(int), 0.25
    for name, image, drawn, mpp in held_back(data / "nuclei"):
        yield f"nuclei/{name}", image, drawn, mpp


def agreements(data: Path, out: Path | None) -> dict[str, Agreement]:
    """Found against drawn, by picture, and over all fields that were held back."""
    found_in: dict[str, Agreement] = {}
    for name, image, drawn, mpp in drawn_by_others(data):
        nuclei = nuclei_of_image(image, mpp)
        found_in[name] = agreement(labels_of(nuclei, drawn.shape), drawn)
        if out:
            write_image(out / f"{name.replace('/', '_')}.png", outlined(image, nuclei))
    fields = [seen for name, seen in found_in.items() if name.startswith("nuclei/")]
    return {**found_in, "nuclei, held back": sum(fields, Agreement(0, 0, 0))}


def counts(data: Path, out: Path | None) -> dict[str, int]:
    """Nuclei of the exemplars, which others have counted."""
    found_in = {}
    for name in ("OS-1-detail", "OS-2-ndpi", "OS-2-vsi"):
        picture = read_picture(data / "exemplars" / f"{name}.ome.tif", at_mpp=NETWORK_MPP).pixels
        nuclei = nuclei_of_image(picture, NETWORK_MPP)
        found_in[name] = len(nuclei)
        if out:
            write_image(out / f"{name}.png", outlined(picture, nuclei))
    return found_in


def mpx_per_s(data: Path, rounds: int = 3) -> float:
    """The speed of finding, in 10^6 px of NETWORK_MPP a second: the best of some rounds on a picture of 9 Mpx."""
    picture = np.tile(read_image(data / "he" / "hgsc_nest.jpg"), (2, 2, 1))
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        nuclei_of_image(picture, NETWORK_MPP)
        times.append(time.perf_counter() - began)
    return float(picture.shape[0] * picture.shape[1] / 1e6 / min(times))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, help="folder for pictures with outlines")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    keep_freed_memory()
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
    found_in = agreements(given.data, given.out)
    counted, speed = counts(given.data, given.out), mpx_per_s(given.data)
    if given.json:
        f1 = {name: seen.f1 for name, seen in found_in.items()}
        print(json.dumps({"f1": f1, "counts": counted, "mpx_per_s": speed, "machine": machine()}))
        return
    for name, seen in found_in.items():
        said = f"F1 {seen.f1:.3f}, precision {seen.precision:.3f}, recall {seen.recall:.3f}"
        print(f"{name}: {said} ({seen.found} found, {seen.drawn} drawn)")
    print("\n".join(f"{name}: {count} nuclei" for name, count in counted.items()))
    print(f"{speed:.2f} Mpx/s at {NETWORK_MPP} um/px")


if __name__ == "__main__":
    main()
