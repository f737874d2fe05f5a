"""How many of the nuclei that a person drew keep their contrast in a stained picture.

    python benchmarks/nuclei_kept.py --data DATA [--presets histology ...] [--stainers epithelial ...] --out DIR

One crop of 512 px of DATA/he/hgsc_nest.jpg, whose nuclei are drawn, in the look of
scikit-image's IHC. A nucleus's contrast is the mean haematoxylin in it less that in a ring of 5 px around it,
other nuclei left out; those count that have it in the H&E. Kept: at least half of it. Beside it, half of what is
usual in the picture, since haematoxylin in an IHC is paler as a whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.evaluation.fields import Crop
from chromogen.evaluation.tile import Tile
from chromogen.image import Image, read_image, write_image
from chromogen.provenance import NOTICE
from chromogen.stainer import load_stainer
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS
from chromogen.style.stylize import stylize
from histology import crops

NAME = "hgsc_nest"
RING_PX = 5
LEAST_CONTRAST_OD10 = 0.05
LEAST_AREA_PX = 50


def nuclei_in(he: Image, part: Image, labels: NDArray[np.integer]) -> NDArray[np.integer]:
    """The labels (H, W) of where a part of an image lies in it. Raises ValueError where it does not."""
    height, width = part.shape[:2]
    for y, x in np.argwhere((he == part[0, 0]).all(2)):
        if np.array_equal(he[y : y + height, x : x + width], part):
            return labels[y : y + height, x : x + width]
    raise ValueError("Expected a part of the image, got another picture.")


def contrasts(stain: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.floating]:
    """Of every nucleus of some area, the mean stain in it less that of a ring around it."""
    any_nucleus = labels > 0
    found = []
    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        around = tuple(slice(max(s.start - RING_PX, 0), s.stop + RING_PX) for s in place)
        inside = labels[around] == number
        ring = ndimage.binary_dilation(inside, iterations=RING_PX) & ~any_nucleus[around]
        if inside.sum() >= LEAST_AREA_PX and ring.any():
            found.append(stain[around][inside].mean() - stain[around][ring].mean())
    return np.array(found)


def shares_kept(he: Image, picture: Image, labels: NDArray[np.integer]) -> tuple[int, float, float]:
    """How many nuclei have contrast; the share that keeps half of it, and half of the share that is usual."""
    tile = Tile(picture, he=he)
    before, after = (contrasts(stain[..., 0], labels) for stain in (tile.he_od10, tile.prediction_od10))
    there = before > LEAST_CONTRAST_OD10
    ratio = after[there] / before[there]
    return int(there.sum()), float((ratio >= 0.5).mean()), float((ratio >= 0.5 * np.median(ratio)).mean())


def pictures(crop: Crop, presets: list[str], stainers: list[str]) -> Iterator[tuple[str, Image]]:
    """What each makes of the crop."""
    encoder = Encoder()
    for name in presets:
        yield name, stylize(crop.he, crop.ihc, PRESETS[name], encoder=encoder).image
    for name in stainers:
        yield name, load_stainer(name)(crop.he)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--presets", nargs="*", default=["histology"], choices=list(PRESETS))
    parser.add_argument("--stainers", nargs="*", default=["epithelial"])
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    whole = read_image(asked.data / "he" / f"{NAME}.jpg")
    drawn = np.load(asked.data / "he" / f"{NAME}_inst_mask.npz")["nuc_raster"]
    crop = next(crop for crop in crops(asked.data) if crop.name.startswith(NAME))
    labels = nuclei_in(whole, crop.he, drawn)
    print("| made by | nuclei with contrast | keep half of it | keep half of the usual |")
    print("|---|---|---|---|")
    for name, picture in pictures(crop, asked.presets, asked.stainers):
        write_image(asked.out / f"{name}.png", picture, {"notice": NOTICE})
        count, half, of_paler = shares_kept(crop.he, picture, labels)
        print(f"| {name} | {count} | {half:.0%} | {of_paler:.0%} |", flush=True)


if __name__ == "__main__":
    main()
