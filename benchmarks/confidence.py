"""Does a virtual stain err more where it is less sure? On the registered ER pair, by fifths of confidence.

    python benchmarks/confidence.py --data DATA

The H&E of the MIST ER pair is stained everywhere (`--fill`) by looks that have never seen it: the built-in ones,
and those of other IHCs of the data set. DAB is compared with the real IHC over 10 um, by confidence of places.
Then parts of the H&E are spoilt. Last comes the share of tissue that each look leaves out on all H&E images.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from chromogen.image import Image, read_image
from chromogen.slides.slide import read_picture
from chromogen.staining.confidence import SQUARE_PX, confidence_of, squares_of, unlike_fraction
from chromogen.staining.exemplar import measure_exemplar
from chromogen.staining.looks import Look
from chromogen.staining.maps import coarser, smooth
from chromogen.staining.stainer import load_look, paint_image, stainer_of_look
from chromogen.staining.tissue import MPP
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from chromogen.stains.glass import white_level
from measuring import pin_threads

Array = NDArray[np.float64]
AGREE_UM = 10.0
FIFTHS = 5
SPOILT_PX = 110  # radius
EPS_OD10 = 1e-3


def looks(data: Path) -> Iterator[tuple[str, Look, float | None]]:
    """Names, looks, and the share of positive nuclei where it is not the exemplar's."""
    for name in ("epithelial", "nuclear"):
        yield name, load_look(name), None
    yield "nuclear, half positive", load_look("nuclear"), 0.5
    for marker in ("PR", "Ki67"):
        exemplar = measure_exemplar(read_image(data / f"pairs/mist/{marker}_ihc.png"), "nuclear")
        yield f"of the {marker} IHC", Look(marker, marker, "MIST", "research", exemplar), None


def dab(image: Image) -> Array:
    """DAB over AGREE_UM, of squares."""
    amounts = separate_stains_od10(image, H_DAB, white_level(image, MPP))[..., 1].clip(0)
    return np.asarray(smooth(coarser(amounts, SQUARE_PX), AGREE_UM / MPP / SQUARE_PX), np.float64)


def painted(look: Look, share: float | None, he: Image) -> tuple[Array, Array]:
    """DAB and confidence of squares; NaN on glass."""
    made = paint_image(stainer_of_look(look, share, fill=True), he)
    return dab(np.ascontiguousarray(made[..., :3])), confidence_of(squares_of(made[..., 3])).astype(np.float64)


def misplaced(virtual: Array, real: Array) -> float:
    """Of all DAB of both, the share that the other has not there (Bray & Curtis 1957)."""
    return float(abs(virtual - real).sum() / max((virtual + real).sum(), EPS_OD10))


def ranks(values: Array) -> Array:
    """From 0 to 1."""
    return np.asarray(values.argsort().argsort() / max(len(values) - 1, 1))


def by_fifths(virtual: Array, real: Array, sure: Array) -> Iterator[Sequence[float]]:
    """From the most to the least sure: confidence, real DAB, error, misplaced DAB, ranks apart, correlation."""
    there = np.isfinite(sure)
    virtual, real, sure = virtual[there], real[there], sure[there]
    apart = abs(ranks(virtual) - ranks(real))
    for part in np.array_split(np.argsort(-sure), FIFTHS):
        v, r = virtual[part], real[part]
        together = np.corrcoef(v, r)[0, 1]
        yield np.median(sure[part]), r.mean(), abs(v - r).mean(), misplaced(v, r), apart[part].mean(), together


def disc(he: Image, radius_px: float) -> Array:
    """1 over the border of the tumour."""
    y, x = np.indices(he.shape[:2])
    return np.asarray(np.hypot(y - 90, x - 220) < radius_px, np.float64)


def spoilt(he: Image) -> Iterator[tuple[str, Image]]:
    """The H&E with a disc over the border of the tumour that is as given, out of focus, or under a pen."""
    mask = gaussian_filter(disc(he, SPOILT_PX), 2)[..., None]
    blurred = np.stack([gaussian_filter(he[..., channel].astype(float), 6) for channel in range(3)], axis=2)
    yield "as it is", he
    yield "out of focus", np.rint(he * (1 - mask) + blurred * mask).astype(np.uint8)
    yield "marker pen", np.rint(he * 10 ** (-mask * np.array([1.3, 0.8, 0.25]))).astype(np.uint8)


def fields(data: Path) -> Iterator[tuple[str, Image]]:
    """All H&E images."""
    for file in sorted([*data.glob("pairs/mist/*_he.png"), *data.glob("he/*.png"), *data.glob("he/*.jpg")]):
        yield file.stem, np.ascontiguousarray(read_image(file)[:1000, :1000])
    yield "instanseg_tma_core", np.ascontiguousarray(read_image(data / "he/instanseg_tma_core.tif")[:1000, :1000])
    yield "OS-1-detail", read_picture(data / "exemplars/OS-1-detail.ome.tif", at_mpp=MPP).pixels


def painted_and_real(look: Look, share: float | None, he: Image, real: Image) -> tuple[Array, Array, Array]:
    """Virtual DAB, real DAB, and confidence, of squares."""
    virtual, sure = painted(look, share, he)
    return virtual, dab(real), sure


def print_fifths(data: Path, he: Image, real: Image) -> None:
    head = ("confidence", "real DAB", "error", "misplaced", "ranks apart", "r")
    for name, look, share in looks(data):
        print(f"\n| {name} | {' | '.join(head)} |\n|{'---|' * (len(head) + 1)}")
        for fifth, row in enumerate(by_fifths(*painted_and_real(look, share, he, real)), 1):
            print(f"| {fifth} | {' | '.join(f'{value:.3f}' for value in row)} |", flush=True)


def print_spoilt(data: Path, he: Image, real: Image) -> None:
    print("\n| spoilt | look | confidence | error | misplaced |\n|---|---|---|---|---|")
    inside = coarser(disc(he, SPOILT_PX - 30), SQUARE_PX) > 0.9
    for name, look, share in looks(data):
        for kind, image in spoilt(he):
            virtual, there, sure = (x[inside] for x in painted_and_real(look, share, image, real))
            found = f"{abs(virtual - there).mean():.3f} | {misplaced(virtual, there):.3f}"
            print(f"| {kind} | {name} | {np.nanmedian(sure):.4f} | {found} |", flush=True)


def left_out(name: str, image: Image) -> float:
    """Percent of the tissue."""
    made = paint_image(stainer_of_look(load_look(name)), image)
    return 100 * unlike_fraction(squares_of(made[..., 3]))


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    pin_threads(1)
    he, real = (read_image(data / f"pairs/mist/ER_{stain}.png") for stain in ("he", "ihc"))
    print_fifths(data, he, real)
    print_spoilt(data, he, real)
    print("\n| left out, % of the tissue | epithelial | nuclear |\n|---|---|---|")
    for name, image in fields(data):
        print(f"| {name} | {left_out('epithelial', image):.1f} | {left_out('nuclear', image):.1f} |", flush=True)


if __name__ == "__main__":
    main()
