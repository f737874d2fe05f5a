"""Pictures and networks that many tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from chromogen.compute.devices import can_bf16
from chromogen.image import Image, write_image
from chromogen.style.encoder import Encoder, Weights, load_weights
from synthetic import drawn_pair, tissue_like

ROOT = Path(__file__).resolve().parents[1]

# The same examples everywhere: a change is judged by itself. `--hypothesis-profile=searching` tries new ones.
settings.register_profile("the same", derandomize=True, deadline=None, database=None)
settings.register_profile("searching", max_examples=1000, deadline=None)
settings.load_profile("the same")

# Two test processes on two cores: more threads than cores would only get in each other's way.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def style_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of measured styles for each test: empty, and never the user's."""
    folder = tmp_path_factory.mktemp("cache") / "styles"
    monkeypatch.setattr("chromogen.app.jobs.style_cache_folder", lambda: folder)
    return folder


@pytest.fixture(autouse=True)
def look_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of measured looks for each test: empty, and never the user's."""
    folder = tmp_path_factory.mktemp("cache") / "looks"
    monkeypatch.setattr("chromogen.whole_slide.measured_looks.cache_folder", lambda: folder)
    return folder


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real images, which is not part of the repository."""
    folder = Path(os.environ.get("CHROMOGEN_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real images are not here: {folder}")
    return folder


@pytest.fixture
def bf16() -> str:
    """The precision of that name, for tests that run only where the processor can compute in it."""
    if not can_bf16(torch.device("cpu")):
        pytest.skip("this processor has no instructions for bf16")
    return "bf16"


@pytest.fixture(scope="session")
def weights() -> Weights:
    return load_weights()


@pytest.fixture(scope="session")
def encoder(weights: Weights) -> Encoder:
    return Encoder(weights, precision="fp32")


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of pairs in a file, as `chromogen train` writes it, for tests that need any."""
    from chromogen.staining.where_network import write_model
    from test_where_file import model

    file = tmp_path_factory.mktemp("model") / "my_stain.safetensors"
    write_model(file, model(file.stem))
    return file


@pytest.fixture
def content() -> Image:
    return tissue_like(40, 48, seed=1)


@pytest.fixture
def style() -> Image:
    return tissue_like(36, 32, seed=2)[..., ::-1].copy()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A content and a style file: an H&E of 48 x 40 px and an IHC that shows nuclei, stained tissue and pale."""
    he, ihc = drawn_pair(64)
    write_image(tmp_path / "content.png", he[:40, :48])
    write_image(tmp_path / "style.png", ihc)
    return tmp_path / "content.png", tmp_path / "style.png"
