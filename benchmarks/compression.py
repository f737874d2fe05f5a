"""What compression takes from tissue: PSNR and bits a pixel by quality, of an IHC and of sharp H&E.

    python benchmarks/compression.py [IMAGE...]

Without images: scikit-image's IHC, and the field of the demo slide that is richest in nuclei. At most 512 px
of each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np

from chromogen.data import demo_field, demo_slide
from chromogen.image import Image, read_image
from chromogen.slides.pyramid import COMPRESSIONS
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import builtin_ihc

DECODE: dict[str, Callable[[bytes], Image]] = {
    "jpeg": imagecodecs.jpeg8_decode,
    "jpeg2000": imagecodecs.jpeg2k_decode,
}
TRIED = (("jpeg", 80), ("jpeg", 90), ("jpeg", 95), ("jpeg2000", 40))
SIDE_PX = 512


def measured(image: Image, name: str, quality: int) -> str:
    """PSNR in dB, and bits a pixel in brackets."""
    encoded = COMPRESSIONS[name].encode(image, quality)
    error = np.square(DECODE[name](encoded).astype(float) - image).mean()
    bits = 8 * len(encoded) / (image.shape[0] * image.shape[1])
    return f"{10 * np.log10(255**2 / error):.1f} ({bits:.1f})"


def builtin_images() -> dict[str, Image]:
    with open_slide(demo_slide()) as slide:
        he = slide.read_region(*demo_field(slide, SIDE_PX))
    return {"IHC (scikit-image's)": builtin_ihc(), "H&E (the demo's)": he}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="*")
    paths = parser.parse_args().images
    images = {path.stem: read_image(path) for path in paths} if paths else builtin_images()
    print("| | " + " | ".join(f"{name} {quality}" for name, quality in TRIED) + " |")
    print("|---" * (1 + len(TRIED)) + "|")
    for title, image in images.items():
        cut = np.ascontiguousarray(image[:SIDE_PX, :SIDE_PX])
        print(f"| {title} | " + " | ".join(measured(cut, *tried) for tried in TRIED) + " |")


if __name__ == "__main__":
    main()
