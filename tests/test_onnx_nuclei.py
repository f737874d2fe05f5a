"""`--network FILE.onnx`: a user's own network sees nuclei."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.data import immunohistochemistry
from torch import Tensor, nn

from chromogen.errors import FAILURES
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.network import NucleusNetwork
from chromogen.nuclei.outlines import WEIGHTS, Prediction, prediction_of
from chromogen.staining.onnx_generator import nucleus_network

pytest.importorskip("onnxruntime")
IHC = np.asarray(immunohistochemistry())[:160, 100:340]


class Fixed(nn.Module):
    """What gives so many channels at so much of the size."""

    def __init__(self, channels: int = 33, stride: int = 2, value: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, channels, stride, stride)
        self.value = value

    def forward(self, densities: Tensor) -> Tensor:
        out: Tensor = self.layer(densities) * self.value
        return out


def exported(path: Path, module: nn.Module, shape: tuple[int, ...] = (1, 3, 64, 96), *, free: bool = True) -> Path:
    torch.onnx.export(
        module.eval(),
        (torch.zeros(shape),),
        str(path),
        dynamo=False,
        input_names=["densities"],
        output_names=["made"],
        dynamic_axes={"densities": {2: "height", 3: "width"}} if free else None,
    )
    return path


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def test_our_own_network_as_onnx_finds_the_same_nuclei(tmp_path: Path) -> None:
    """As the same network by torch, looking once."""
    network = NucleusNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()}, strict=False)
    theirs = nucleus_network(exported(tmp_path / "ours.onnx", network))

    def once(densities: np.ndarray) -> Prediction:
        with torch.inference_mode():
            return prediction_of(network.eval()(torch.from_numpy(densities)).numpy())

    found, ours = nuclei_of_image(IHC, 0.5, theirs), nuclei_of_image(IHC, 0.5, once)
    assert len(found) == len(ours) > 20
    np.testing.assert_allclose(found.centres_px, ours.centres_px, atol=1e-3)
    np.testing.assert_allclose(found.outlines_px, ours.outlines_px, atol=0.05)


def test_models_of_other_shapes_are_refused(tmp_path: Path) -> None:
    cases = {
        "channels": (Fixed(channels=5), {}, r"to be a network that gives float32 \[1, 33, H / 2, W / 2\], got"),
        "stride": (Fixed(stride=4), {}, r"gives float32 \[1, 33, H / 2, W / 2\], got float32 \[1, 33, 20, 28\]"),
        "fixed": (
            Fixed(),
            {"free": False},
            r"takes densities, float32 \[1, 3, H, W\], of any H and W, got inputs",
        ),
        "nan": (Fixed(value=float("nan")), {}, r"gave what is no number"),
    }
    for name, (module, options, said) in cases.items():
        with pytest.raises(FAILURES, match=said):
            nucleus_network(exported(tmp_path / f"{name}.onnx", module, **options))


def test_files_that_are_no_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected `network` to be an existing file"):
        nucleus_network(tmp_path / "no.onnx")
    for content in (b"", b"not a model", WEIGHTS.read_bytes()[:1000]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(ValueError, match="Expected `network` to be an ONNX model"):
            nucleus_network(tmp_path / "bad.onnx")
