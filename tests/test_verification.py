import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.image import Image
from chromogen.slides.facts import Facts
from chromogen.slides.writer import VerificationError, verify, write_ome_tiff, write_ome_zarr
from synthetic import ArrayPixels, WherePixels

FACTS = Facts(0.5, "identity")
LOSSLESS = ["deflate", "zarr"]


def written(folder: Path, image: Image, kind: str) -> Path:
    path = folder / f"out.{kind}"
    if kind == "zarr":
        write_ome_zarr(path, ArrayPixels(image), FACTS)
    else:
        write_ome_tiff(path, ArrayPixels(image), FACTS, compression=kind)
    return path


@pytest.fixture(scope="module")
def tissue() -> Image:
    return np.tile(immunohistochemistry(), (3, 2, 1))[:1030, :530].copy()


@pytest.mark.parametrize("kind", [*LOSSLESS, "jpeg", "jpeg2000"])
def test_what_was_written_agrees(tmp_path: Path, tissue: Image, kind: str) -> None:
    lowest = verify(written(tmp_path, tissue, kind), ArrayPixels(tissue))
    assert lowest == math.inf if kind in LOSSLESS else 38 < lowest < 50


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("place", [(0, 0), (1029, 529), (512, 511)])
def test_one_sample_of_one_is_noticed_where_it_must_be_exact(
    tmp_path: Path, tissue: Image, kind: str, place: tuple[int, int]
) -> None:
    path = written(tmp_path, tissue, kind)
    other = tissue.copy()
    other[place][1] ^= 1
    with pytest.raises(VerificationError, match="other pixels at Window"):
        verify(path, ArrayPixels(other))


@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000"])
def test_a_tile_out_of_place_is_noticed(tmp_path: Path, tissue: Image, kind: str) -> None:
    path = written(tmp_path, tissue, kind)
    other = tissue.copy()
    other[512:1024, :512] = tissue[500:1012, :512]
    with pytest.raises(VerificationError, match="left=0, top=512"):
        verify(path, ArrayPixels(other))


@pytest.mark.parametrize("kind", ["jpeg", "jpeg2000"])
@pytest.mark.parametrize("size", [(512, 512), (70, 545)])
def test_noise_of_many_colours_agrees_with_itself_alone(tmp_path: Path, kind: str, size: tuple[int, int]) -> None:
    """JPEG keeps little of such noise (14 dB), since colour has half the width."""
    noise, other = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    path = written(tmp_path, noise, kind)
    verify(path, ArrayPixels(noise))
    with pytest.raises(VerificationError, match="other pixels at Window"):
        verify(path, ArrayPixels(other))


@pytest.mark.parametrize("kind", ["deflate", "jpeg"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_off_is_noticed(tmp_path: Path, tissue: Image, kind: str, share: float) -> None:
    path = written(tmp_path, tissue, kind)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(VerificationError):
        verify(path, ArrayPixels(tissue))


@pytest.mark.parametrize("kind", ["deflate", "jpeg", "jpeg2000"])
def test_overwritten_bytes_are_noticed(tmp_path: Path, tissue: Image, kind: str) -> None:
    path = written(tmp_path, tissue, kind)
    data = bytearray(path.read_bytes())
    data[8_000:28_000] = bytes(20_000)
    path.write_bytes(data)
    with pytest.raises(VerificationError):
        verify(path, ArrayPixels(tissue))


@pytest.mark.parametrize("kind", ["deflate", "zarr"])
def test_another_size_is_noticed(tmp_path: Path, tissue: Image, kind: str) -> None:
    path = written(tmp_path, tissue, kind)
    with pytest.raises(VerificationError, match="levels of"):
        verify(path, ArrayPixels(tissue[:-1]))


def test_a_chunk_that_is_gone_or_broken_is_noticed(tmp_path: Path, tissue: Image) -> None:
    for name in ("gone", "broken", "level"):
        path = written(tmp_path, tissue, "zarr").rename(tmp_path / name)
        chunk = path / "0" / "c" / "0" / "0" / "0"
        if name == "level":
            shutil.rmtree(path / "1")
        elif name == "gone":
            chunk.unlink()
        else:
            chunk.write_bytes(chunk.read_bytes()[:-9])
        with pytest.raises(VerificationError):
            verify(path, ArrayPixels(tissue))


def test_no_file_is_no_failed_verification(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        verify(tmp_path / "missing.tif", WherePixels((4, 4)))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_a_picture_of_one_pixel(tmp_path: Path, kind: str) -> None:
    image = np.full((1, 1, 3), 7, np.uint8)
    assert verify(written(tmp_path, image, kind), ArrayPixels(image)) == math.inf
