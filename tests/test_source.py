"""What readers share: hashes of samples, and which channels are no colours."""

from pathlib import Path

import numpy as np
import pytest

from chromogen.slides import source as module
from chromogen.slides.source import SlideError, check_channels, sampled_hash

PATH = Path("slide.tif")


@pytest.mark.parametrize("size", [0, 10, 100, 5000])
def test_the_hash_names_the_samples(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_BYTES", 16)
    content = np.random.default_rng(0).integers(0, 256, size, np.uint8).tobytes()
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
    assert sampled_hash(tmp_path / "a") == sampled_hash(tmp_path / "b")
    (tmp_path / "b").write_bytes(content + b"x")
    assert sampled_hash(tmp_path / "a") != sampled_hash(tmp_path / "b")
    for at in (0, size // 2, size - 1) if size in (10, 100) else (0, size - 1) if size else ():
        (tmp_path / "b").write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert sampled_hash(tmp_path / "a") != sampled_hash(tmp_path / "b")


@pytest.mark.parametrize(
    "names", [[], ["", "", ""], ["Red", "Green", "Blue"], ["b", "g", "r"], ["Channel:0", "C 1"]]
)
def test_channels_of_a_camera(names: list[str]) -> None:
    check_channels(PATH, names, np.dtype(np.uint8))


@pytest.mark.parametrize("names", [["DAPI"], ["Red", "Green", "Cy5"], ["Ch 405", "Alexa 488", "Ch 594"]])
def test_channels_of_stains(names: list[str]) -> None:
    with pytest.raises(
        SlideError, match=f"brightfield slide, got 'slide.tif' with the channels {', '.join(names)}"
    ):
        check_channels(PATH, names, np.dtype(np.uint8))


def test_deep_channels_need_the_names_of_colours() -> None:
    check_channels(PATH, ["red", "green", "blue"], np.dtype(np.uint16))
    with pytest.raises(SlideError, match="uint16 channels that nothing calls RGB"):
        check_channels(PATH, [], np.dtype(np.uint16))
