"""Slides as they are written: seen by other programs, exact where they must be, and whole or not there."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_types import from_xml
from skimage.data import immunohistochemistry

from chromogen.compute.tiles import Window, whole
from chromogen.image import Image
from chromogen.slides import writer
from chromogen.slides.facts import Facts
from chromogen.slides.pyramid import halved
from chromogen.slides.slide import open_slide
from chromogen.slides.writer import write_ome_tiff, write_ome_zarr
from synthetic import ArrayPixels, WherePixels

FACTS = Facts(0.2513, "identity", name="a slide")
LARGE = WherePixels((2300, 1500))  # three blocks wide, five tiles, nothing a multiple of anything


def in_full(pixels: WherePixels) -> Image:
    return pixels.read(whole(pixels.size))


def levels_of(image: Image, smallest_px: int) -> list[Image]:
    levels = [image]
    while max(levels[-1].shape) > smallest_px:
        levels.append(halved(levels[-1]))
    return levels


@pytest.fixture(scope="module")
def deflated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slides") / "out.ome.tif"
    write_ome_tiff(path, LARGE, FACTS, compression="deflate")
    return path


@pytest.fixture(scope="module")
def tissue() -> Image:
    """Tissue with a white square that begins and ends at blocks of JPEG, not at tiles."""
    image = np.tile(immunohistochemistry(), (2, 2, 1))[:700, :900].copy()
    image[80:640, 240:880] = 255
    return image


def test_lossless_levels_are_exact(deflated: Path) -> None:
    with tifffile.TiffFile(deflated) as file:
        found = [level.asarray() for level in file.series[0].levels]
    expected = levels_of(in_full(LARGE), 512)
    assert [image.shape for image in found] == [image.shape for image in expected]
    for image, level in zip(found, expected, strict=True):
        np.testing.assert_array_equal(image, level)


@settings(max_examples=15)
@given(width=st.integers(1, 1100), height=st.integers(1, 40), is_upright=st.booleans())
def test_any_size(tmp_path_factory: pytest.TempPathFactory, width: int, height: int, is_upright: bool) -> None:
    pixels = WherePixels((height, width) if is_upright else (width, height))
    path = tmp_path_factory.mktemp("any") / "out.tif"
    write_ome_tiff(path, pixels, FACTS, compression="deflate")
    with tifffile.TiffFile(path) as file:
        for level, image in zip(file.series[0].levels, levels_of(in_full(pixels), 512), strict=True):
            np.testing.assert_array_equal(level.asarray().reshape(image.shape), image)


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "deflate"])
def test_tifffile_sees_a_pyramid(tmp_path: Path, tissue: Image, compression: str) -> None:
    path = tmp_path / "out.ome.tif"
    write_ome_tiff(path, ArrayPixels(tissue), FACTS, compression=compression)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert not file.is_bigtiff
        assert len(file.pages) == 1
        (series,) = file.series
        assert series.is_pyramidal
        assert [level.shape for level in series.levels] == [(700, 900, 3), (350, 450, 3)]
        (finer, coarser) = (level.keyframe for level in series.levels)
        assert (finer.subfiletype, coarser.subfiletype) == (0, 1)
        assert [page.photometric.name for page in (finer, coarser)] == [
            "YCBCR" if compression == "jpeg" else "RGB"
        ] * 2
        assert finer.tags["Software"].value.startswith("chromogen ")
        assert "DateTime" not in finer.tags
        for page, step in ((finer, 1), (coarser, 2)):
            numerator, denominator = page.tags["XResolution"].value
            assert 1e4 / (numerator / denominator) == pytest.approx(0.2513 * step)
            assert page.tags["ResolutionUnit"].value == 3
        found = series.asarray()
    error = np.square(found.astype(float) - tissue).mean()
    assert error == 0 if compression == "deflate" else 10 * np.log10(255**2 / error) > 39


def test_white_is_white_in_jpeg(tmp_path: Path, tissue: Image) -> None:
    write_ome_tiff(tmp_path / "out.tif", ArrayPixels(tissue), FACTS)
    with open_slide(tmp_path / "out.tif") as slide:
        read = slide.read_region((0, 0), (900, 700))
    for found in (tifffile.imread(tmp_path / "out.tif"), read):
        assert (found[80:640, 241:879] == 255).all()
        assert found[80:640, 240:880].min() > 240, "beside tissue, as its colour is of two pixels"
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert (file.series[0].levels[1].asarray()[40:320, 129:431] == 255).all()


@pytest.mark.parametrize("mpp", [0.1, 0.2513, 0.5, 1 / 3, 8.0])
def test_openslide_sees_level_0_and_mpp(tmp_path: Path, mpp: float) -> None:
    write_ome_tiff(
        tmp_path / "out.ome.tif", WherePixels((600, 520)), Facts(mpp, "identity"), compression="deflate"
    )
    with openslide.OpenSlide(tmp_path / "out.ome.tif") as slide:
        assert slide.dimensions == (600, 520)
        for axis in "xy":
            assert float(slide.properties[f"openslide.mpp-{axis}"]) == pytest.approx(mpp, rel=1e-6)
        assert not slide.associated_images


def test_openslide_sees_no_seam(deflated: Path) -> None:
    for left, top in ((500, 500), (1000, 1000), (1700, 980)):
        with open_slide(deflated) as slide:
            found = slide.read_region((left, top), (60, 60))
        np.testing.assert_array_equal(found, LARGE.read(Window(left, top, left + 60, top + 60)))


def test_the_xml_is_valid_and_says_the_sizes(deflated: Path) -> None:
    with tifffile.TiffFile(deflated) as file:
        ome = from_xml(str(file.ome_metadata), validate=True)
    sizes = next(a for a in ome.structured_annotations if a.namespace == "openmicroscopy.org/PyramidResolution")
    assert dict(sizes.value) == {"1": "1150 750", "2": "575 375", "3": "288 188"}
    assert ome.images[0].name == "a slide"


@pytest.mark.parametrize("most", [0, 2**32])
def test_bigtiff_where_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(writer, "MAX_OF_TIFF", most)
    write_ome_tiff(tmp_path / "out.tif", WherePixels((700, 600)), FACTS, compression="deflate")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert file.is_bigtiff == (most == 0)
        assert len(file.series[0].levels) == 2
    with open_slide(tmp_path / "out.tif") as slide:
        np.testing.assert_array_equal(slide.read_region((0, 0), (700, 600)), in_full(WherePixels((700, 600))))


def test_the_same_picture_is_the_same_file(tmp_path: Path, tissue: Image) -> None:
    for name in ("a.tif", "b.tif"):
        write_ome_tiff(tmp_path / name, ArrayPixels(tissue), FACTS)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize("write", [write_ome_tiff, write_ome_zarr])
def test_progress_rises_to_all(tmp_path: Path, write: Callable[..., None]) -> None:
    told: list[float] = []
    write(tmp_path / "out", LARGE, FACTS, progress=told.append)
    assert told == sorted(told)
    assert (len(told), told[-1]) == (6, 1)


def test_zarr_levels_are_exact(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "out.ome.zarr", LARGE, FACTS)
    group = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    about = json.loads((tmp_path / "out.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert about["version"] == "0.5"
    (multiscale,) = about["multiscales"]
    assert [(axis["name"], axis["type"]) for axis in multiscale["axes"]] == [
        ("c", "channel"),
        ("y", "space"),
        ("x", "space"),
    ]
    expected = levels_of(in_full(LARGE), 1024)
    for number, (dataset, image) in enumerate(zip(multiscale["datasets"], expected, strict=True)):
        array = group[dataset["path"]]
        assert array.metadata.zarr_format == 3
        assert array.metadata.dimension_names == ("c", "y", "x")
        np.testing.assert_array_equal(np.moveaxis(array[:], 0, 2), image)
        scale, translation = (transform[transform["type"]] for transform in dataset["coordinateTransformations"])
        assert scale == [1, 0.2513 * 2**number, 0.2513 * 2**number]
        assert translation == pytest.approx([0, *[0.2513 * (2**number - 1) / 2] * 2])


def test_white_blocks_of_zarr_take_no_space(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "out.zarr", ArrayPixels(np.full((40, 50, 3), 255, np.uint8)), FACTS)
    assert not list(tmp_path.rglob("c/*"))
    assert (zarr.open_array(tmp_path / "out.zarr" / "0", mode="r")[:] == 255).all()


class Breaking:
    """A picture whose reading fails, or takes for ever, after the first blocks."""

    size = LARGE.size

    def __init__(self, failure: BaseException) -> None:
        self._failure = failure

    def read(self, window: Window) -> Image:
        if window.top > 0:
            raise self._failure
        return LARGE.read(window)


@pytest.mark.parametrize("write", [write_ome_tiff, write_ome_zarr])
@pytest.mark.parametrize(
    "failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("block")]
)
def test_what_fails_leaves_nothing(tmp_path: Path, write: Callable[..., None], failure: BaseException) -> None:
    with pytest.raises(type(failure)):
        write(tmp_path / "out", Breaking(failure), FACTS)
    assert not list(tmp_path.iterdir())


def test_what_was_there_stays_until_all_is_written(tmp_path: Path) -> None:
    (tmp_path / "out.tif").write_bytes(b"old")
    with pytest.raises(OSError, match="gone"):
        write_ome_tiff(tmp_path / "out.tif", Breaking(OSError("gone")), FACTS)
    assert (tmp_path / "out.tif").read_bytes() == b"old"
    write_ome_tiff(tmp_path / "out.tif", WherePixels((5, 5)), FACTS)
    assert tifffile.imread(tmp_path / "out.tif").shape == (5, 5, 3)


CHILD = """
import sys, time
import numpy as np
sys.path[:0] = {path!r}
from chromogen.slides.facts import Facts
from chromogen.slides import writer
from synthetic import WherePixels
class Slow(WherePixels):
    def read(self, window):
        print(window, flush=True)
        time.sleep({pause_s})
        return np.random.default_rng(0).integers(0, 256, (*window.size[::-1], 3), np.uint8)
writer.{write}({out!r}, Slow((4000, 3000)), Facts(0.5, "identity"))
"""


def child(out: Path, write: str, pause_s: float, **how: object) -> subprocess.Popen[str]:
    code = CHILD.format(path=[str(Path(__file__).parent)], pause_s=pause_s, write=write, out=str(out))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], **pipes, **how)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("write", ["write_ome_tiff", "write_ome_zarr"])
def test_killed_in_the_middle_there_is_no_output(tmp_path: Path, write: str) -> None:
    with child(tmp_path / "out", write, 0.05) as process:
        assert process.stdout
        for _ in range(6):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "out").exists()
    assert all(path.name.startswith(".chromogen-") for path in tmp_path.iterdir())
    write_ome_tiff(tmp_path / "out", WherePixels((5, 5)), FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # what was left went with the next try


@pytest.mark.parametrize("write", ["write_ome_tiff", "write_ome_zarr"])
def test_a_full_disk_is_an_os_error_and_leaves_nothing(tmp_path: Path, write: str) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # of any file, as if the disk ended there

    with child(tmp_path / "out", write, 0, preexec_fn=limit) as process:
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert errors.rstrip().splitlines()[-1].startswith("OSError: [Errno 27]")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_ome_tiff, write_ome_zarr])
def test_a_place_that_cannot_be_written_to(tmp_path: Path, write: Callable[..., None]) -> None:
    with pytest.raises(FileNotFoundError, match="make that folder first"):
        write(tmp_path / "no" / "out.tif", LARGE, FACTS)
    with pytest.raises(OSError, match="the folder|not taken"):
        write(tmp_path, LARGE, FACTS)
    if Path("/proc/1").is_dir():  # read-only even for those who may write everywhere
        with pytest.raises(OSError, match="/proc"):
            write(Path("/proc/out.tif"), LARGE, FACTS)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        write_ome_tiff(tmp_path / "out.tif", LARGE, FACTS)


@pytest.mark.parametrize("write", [write_ome_tiff, write_ome_zarr])
def test_what_cannot_be_a_picture(tmp_path: Path, write: Callable[..., None]) -> None:
    with pytest.raises(ValueError, match="at least 1 x 1 px, got 0 x 5"):
        write(tmp_path / "out", WherePixels((0, 5)), FACTS)
    assert not list(tmp_path.iterdir())


def test_a_zarr_that_exists_is_not_touched(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "out.zarr", WherePixels((4, 4)), FACTS)
    with pytest.raises(FileExistsError, match="remove what is there"):
        write_ome_zarr(tmp_path / "out.zarr", WherePixels((5, 5)), FACTS)
    assert zarr.open_array(tmp_path / "out.zarr" / "0", mode="r").shape == (3, 4, 4)


PEAK = """
import sys
sys.path[:0] = {path!r}
import numpy as np
from chromogen.provenance import peak_rss_mb
from chromogen.slides.facts import Facts
from chromogen.slides import writer
class Repeated:
    size = ({side_px}, {side_px})
    block = np.random.default_rng(0).integers(180, 256, (1024, 1024, 3), np.uint8)
    def read(self, window):
        return self.block[: window.size[1], : window.size[0]]
writer.{write}({out!r}, Repeated(), Facts(0.5, "identity"))
print(peak_rss_mb())
"""


@pytest.mark.slow
@pytest.mark.parametrize("write", ["write_ome_tiff", "write_ome_zarr"])
def test_memory_does_not_grow_with_the_slide(tmp_path: Path, write: str) -> None:
    def peak_mb(side_px: int) -> float:
        out = str(tmp_path / f"{side_px}")
        code = PEAK.format(path=[str(Path(__file__).parent)], side_px=side_px, write=write, out=out)
        return float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)

    assert peak_mb(16_000) < peak_mb(4000) + 25, "of 720 MB that the larger one has more"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ome_tiff", "ome_zarr"])
def test_bioio_opens_it(tmp_path: Path, kind: str) -> None:
    bioio = pytest.importorskip("bioio")
    reader = pytest.importorskip(f"bioio_{kind}")
    path = tmp_path / f"out.{kind.replace('_', '.')}"
    (write_ome_zarr if kind == "ome_zarr" else write_ome_tiff)(path, LARGE, FACTS)
    image = bioio.BioImage(path, reader=reader.Reader)
    assert LARGE.size == (image.dims.X, image.dims.Y)
    assert pytest.approx(0.2513) == image.physical_pixel_sizes.X
