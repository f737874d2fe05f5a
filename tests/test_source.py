"""What readers share: hashes, and windows that stand for a whole."""

from pathlib import Path

import numpy as np
import pytest

from chromogen.slides import source as module
from chromogen.slides.source import sampled_hash, sampled_windows


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


@pytest.mark.parametrize("size", [(1, 1), (512, 513), (9000, 40)])
def test_windows_reach_from_corner_to_corner(size: tuple[int, int]) -> None:
    windows = sampled_windows(size)
    assert windows[0][0] == (0, 0)
    assert tuple(start + side for start, side in zip(*windows[-1], strict=True)) == size
    assert len(windows) <= 16
    assert len(set(windows)) == len(windows)
