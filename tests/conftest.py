"""Pictures and networks that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.image import Image, write_image
from chromogen.style.encoder import Encoder, Weights, load_weights

ROOT = Path(__file__).resolve().parents[1]

# Two test processes on two cores: more threads than cores would only get in each other's way.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images, which is not part of the repository."""
    folder = Path(os.environ.get("CHROMOGEN_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real images are not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def weights() -> Weights:
    return load_weights()


@pytest.fixture(scope="session")
def encoder(weights: Weights) -> Encoder:
    return Encoder(weights, precision="fp32")


def tissue_like(height: int, width: int, seed: int) -> Image:
    """Smooth random colours, between pink and blue, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 4 + 2, width // 4 + 2, 1))
    mix = np.kron(coarse, np.ones((4, 4, 1)))[:height, :width]
    colors = np.array([230, 160, 190]) * mix + np.array([90, 60, 140]) * (1 - mix)
    return np.clip(colors + rng.normal(0, 8, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.fixture
def content() -> Image:
    return tissue_like(40, 48, seed=1)


@pytest.fixture
def style() -> Image:
    return tissue_like(36, 32, seed=2)[..., ::-1].copy()


@pytest.fixture
def files(tmp_path: Path, content: Image, style: Image) -> tuple[Path, Path]:
    """A content and a style file."""
    write_image(tmp_path / "content.png", content)
    write_image(tmp_path / "style.png", style)
    return tmp_path / "content.png", tmp_path / "style.png"
