"""Uploads that are pictures come in; what is none, or would eat the machine, does not."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from chromogen.app.view.upload_decoder import take_in
from chromogen.image import read_image, read_image_and_facts, read_provenance, write_image
from test_densities import IHC


def png_bomb(width: int, height: int) -> bytes:
    """A valid PNG of black, a thousand times larger when it is unpacked."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_picture_comes_in_with_its_pixel_size_alone(tmp_path: Path) -> None:
    write_image(tmp_path / "in.png", IHC, {"patient": "a name"}, 0.25)
    take_in(tmp_path / "in.png", tmp_path / "out.png")
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), IHC)
    assert read_provenance(tmp_path / "out.png") is None
    assert read_image_and_facts(tmp_path / "out.png")[1].mpp == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, b"II*\0" + b"\xff" * 50]
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be used") as error:
        take_in(tmp_path / "in", tmp_path / "out.png")
    assert str(tmp_path) not in str(error.value)
    assert not (tmp_path / "out.png").exists()


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(png_bomb(8_000, 6_000))
    assert (tmp_path / "in").stat().st_size < 200_000
    with pytest.raises(ValueError, match="at most 40,000,000 px"):
        take_in(tmp_path / "in", tmp_path / "out.png")


def test_programs_are_not_run_for_a_picture(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(ValueError, match="cannot be used"):
        take_in(tmp_path / "in", tmp_path / "out.png")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of a process there")
def test_memory_is_bounded(tmp_path: Path) -> None:
    """Whatever a decoder does: the other process may take only so much, and says so, or ends."""
    program = (
        "import sys; from pathlib import Path; from chromogen.app.view import upload_decoder; "
        "upload_decoder.read_image_and_facts = lambda path: bytearray(8_000_000_000); "
        "upload_decoder.decode_upload(Path('in'), Path('out.png'))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode != 0
    assert b"MemoryError" in done.stderr
