"""`examples/export_generator.py`: weights of the public ResNet generators, from their file to a stained slide."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.signal import upfirdn
from torch import Tensor, nn

from chromogen.slides.slide import open_slide
from synthetic_slides import SyntheticSource, write_pyramid
from test_cli import run

SCRIPT = Path(__file__).parents[1] / "examples" / "export_generator.py"
SIZE = (420, 300)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_generator", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def binomial(channels: int, taps: list[int], gain: int = 1) -> Tensor:
    """A blur as CUT keeps it with its weights."""
    line = torch.tensor(taps, dtype=torch.float32)
    square = torch.outer(line, line)
    return (gain * square / square.sum()).repeat(channels, 1, 1, 1)


def weight(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape)


def cut_weights(width: int, blocks: int) -> dict[str, Tensor]:
    """The names and shapes of CUT's resnet_9blocks: instance norm without parameters, biases, anti-aliasing."""
    wide = 4 * width
    convs = {1: (width, 3, 7, 7), 4: (2 * width, width, 3, 3), 8: (wide, 2 * width, 3, 3)}
    last = 12 + blocks
    convs |= {last + 1: (2 * width, wide, 3, 3), last + 5: (width, 2 * width, 3, 3), last + 9: (3, width, 7, 7)}
    state = {f"model.{number}.weight": weight(*shape) for number, shape in convs.items()}
    state |= {f"model.{number}.bias": weight(shape[0]) for number, shape in convs.items()}
    state |= {"model.7.filt": binomial(2 * width, [1, 2, 1]), "model.11.filt": binomial(wide, [1, 2, 1])}
    state |= {f"model.{last}.filt": binomial(wide, [1, 3, 3, 1], 4)}
    state |= {f"model.{last + 4}.filt": binomial(2 * width, [1, 3, 3, 1], 4)}
    for number in range(12, last):
        for conv in (1, 5):
            state[f"model.{number}.conv_block.{conv}.weight"] = weight(wide, wide, 3, 3)
            state[f"model.{number}.conv_block.{conv}.bias"] = weight(wide)
    return state


def batch_norm(name: str, channels: int) -> dict[str, Tensor]:
    return {
        f"{name}.weight": 1 + weight(channels),
        f"{name}.bias": weight(channels),
        f"{name}.running_mean": weight(channels),
        f"{name}.running_var": 1 + weight(channels).abs(),
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def pix2pix_weights(width: int, blocks: int) -> dict[str, Tensor]:
    """The names and shapes of pix2pix's resnet_9blocks: batch norm, dropout, transposed convolutions."""
    wide = 4 * width
    last = 10 + blocks
    convs = {1: (width, 3, 7, 7), 4: (2 * width, width, 3, 3), 7: (wide, 2 * width, 3, 3)}
    convs |= {last: (wide, 2 * width, 3, 3), last + 3: (2 * width, width, 3, 3), last + 7: (3, width, 7, 7)}
    state = {f"model.{number}.weight": weight(*shape) for number, shape in convs.items()}
    state[f"model.{last + 7}.bias"] = weight(3)
    for number, channels in {2: width, 5: 2 * width, 8: wide, last + 1: 2 * width, last + 4: width}.items():
        state |= batch_norm(f"model.{number}", channels)
    for number in range(10, last):
        for conv, norm in ((1, 2), (6, 7)):
            state[f"model.{number}.conv_block.{conv}.weight"] = weight(wide, wide, 3, 3)
            state |= batch_norm(f"model.{number}.conv_block.{norm}", wide)
    return state


PUBLIC = {"CUT": cut_weights, "pix2pix": pix2pix_weights}


def exported(name: str, width: int, blocks: int, folder: Path) -> tuple[Path, Path]:
    """A weights file and the ONNX file that the script makes of it."""
    torch.manual_seed(len(name))
    weights, out = folder / "latest_net_G.pth", folder / "made.onnx"
    torch.save(PUBLIC[name](width, blocks), weights)
    command = [sys.executable, SCRIPT, weights, "-o", out, "--mpp", "0.5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"chromogen stain slide.svs --stainer {out} -o stained.ome.tif" in done.stdout
    return weights, out


@pytest.mark.parametrize("name", PUBLIC)
def test_from_weights_to_a_stained_slide(
    script: ModuleType, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_the_whole_way(script, name, (8, 2), tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLIC)
def test_networks_of_the_published_size(
    script: ModuleType, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_the_whole_way(script, name, (64, 9), tmp_path, capsys)


def check_the_whole_way(
    script: ModuleType, name: str, shape: tuple[int, int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, out = exported(name, *shape, folder)
    network = script.read_generator(weights)
    picture = torch.rand(1, 3, 64, 96) * 2 - 1
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = network(picture)
    assert expected.shape == picture.shape
    assert expected.std() > 0.01  # random weights, but no flat picture
    np.testing.assert_allclose(session.run(None, {"he": picture.numpy()})[0], expected.numpy(), atol=1e-4)

    slide = write_pyramid(folder / "slide.tif", SyntheticSource(SIZE).read(0, (0, 0), SIZE), (2,))
    stained = folder / "stained.ome.tif"
    status, said, complaints = run(capsys, "stain", slide, "--stainer", out, "-o", stained, "--mpp", 0.5)
    assert status == 0, complaints
    assert "Virtual stain, research use only" in said
    with open_slide(stained) as made:
        assert (made.size, made.mpp) == (SIZE, 0.5)
        assert made.read_region((0, 0), SIZE).std() > 1


def filtered(picture: np.ndarray, taps: list[float], mode: str, up: int, down: int) -> np.ndarray:
    """A picture (C, H, W) through a filter along both sides, each padded by a pixel before."""
    for axis in (1, 2):
        padding = [(int(axis == side), int(axis == side)) for side in range(3)]
        picture = upfirdn(taps, np.pad(picture, padding, mode), up, down, axis)
    return picture


def test_blurs_are_those_of_signal_processing(script: ModuleType) -> None:
    picture = torch.rand(1, 2, 12, 16)
    halved, doubled = script.Halved(2), script.Doubled(2)
    halved.filt, doubled.filt = binomial(2, [1, 2, 1]), binomial(2, [1, 3, 3, 1], 4)
    small = filtered(picture[0].numpy(), [0.25, 0.5, 0.25], "reflect", 1, 2)
    np.testing.assert_allclose(halved(picture)[0], small[:, 1:7, 1:9], atol=1e-6)
    large = filtered(picture[0].numpy(), [0.25, 0.75, 0.75, 0.25], "edge", 2, 1)
    np.testing.assert_allclose(doubled(picture)[0], large[:, 3:27, 3:35], atol=1e-6)


@pytest.mark.parametrize("content", ["another network", "no weights", "a pickle"])
def test_other_files_are_one_line(content: str, tmp_path: Path) -> None:
    weights = tmp_path / "other.pth"
    if content == "no weights":
        weights.write_bytes(b"nothing of the kind")
    else:
        torch.save(nn.Linear(2, 2).state_dict() if content == "another network" else print, weights)
    done = subprocess.run(
        [sys.executable, SCRIPT, weights, "-o", tmp_path / "o.onnx"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"Error: Expected {weights} to be the state dict of a ResNet generator")
    assert not (tmp_path / "o.onnx").exists()
