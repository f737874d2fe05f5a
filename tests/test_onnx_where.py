"""`--where FILE.onnx`: a model trained elsewhere says where."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chromogen.app.cli import main
from chromogen.errors import FAILURES
from chromogen.staining.onnx_file import any_onnx
from chromogen.staining.onnx_generator import WhereModel, _predicted, read_where_model
from chromogen.staining.where import values_of_network

pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


class Blueness(nn.Module):
    """How far blue is over red, in squares of 4 px."""

    def forward(self, picture: Tensor) -> Tensor:
        squares = nn.functional.avg_pool2d(picture, 4)
        return torch.sigmoid(20 * (squares[:, 2:] - squares[:, :1]))


class Other(nn.Module):
    """What gives so many channels, in squares of so many px: the brighter the more, from half a value to all."""

    def __init__(self, channels: int = 1, stride: int = 4, value: float = 1.0) -> None:
        super().__init__()
        self.layer, self.value = nn.Conv2d(3, channels, stride, stride), value
        for weights in self.layer.parameters():
            nn.init.constant_(weights, 0.01)

    def forward(self, picture: Tensor) -> Tensor:
        out: Tensor = torch.sigmoid(self.layer(picture)) * self.value
        return out


def exported(path: Path, module: nn.Module, *, free: bool = True, side: int = 64, **said: str) -> Path:
    torch.onnx.export(
        module.eval(),
        (torch.zeros((1, 3, side, side)),),
        str(path),
        dynamo=False,
        input_names=["picture"],
        output_names=["map"],
        dynamic_axes={"picture": {2: "height", 3: "width"}} if free else None,
    )
    if said:
        onnx = pytest.importorskip("onnx")
        made = onnx.load(path)
        onnx.helper.set_model_props(made, said)
        onnx.save(made, path)
    return path


@pytest.mark.parametrize(
    ("module", "free", "said"),
    [
        (Other(channels=3), True, r"one map from 0 to 1, float32 \[1, 1, h, w\].*, got float32 \[1, 3, 32, 48\]"),
        (Other(stride=5), True, r"H a multiple of h.*, got float32 \[1, 1, 25, 38\] for 192 x 128 px"),
        (Other(value=3.0), True, r"got values from .* to .*; end it with a sigmoid"),
        (Other(value=float("nan")), True, "gave what is no number"),
        (Other(), False, r"one RGB picture, .*any H and W, got inputs picture .*; export it with free height"),
        (nn.Sequential(nn.Flatten(1), nn.Linear(3 * 64 * 64, 2)), False, "one RGB picture"),
    ],
)
def test_a_model_that_is_no_where_model(tmp_path: Path, module: nn.Module, free: bool, said: str) -> None:
    with pytest.raises(FAILURES, match=said):
        read_where_model(exported(tmp_path / "a.onnx", module, free=free))


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="Expected `where` to be an ONNX model"):
        read_where_model(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError, match="Expected `where` to be an existing file"):
        read_where_model(tmp_path / "none.onnx")


def test_a_file_says_its_pixel_size_and_range(tmp_path: Path) -> None:
    found = read_where_model(exported(tmp_path / "a.onnx", Blueness(), mpp="1.0", range="-1..1"))
    assert "1 um/px, -1..1" in found.identity
    for said, wrong in (("mpp", "far"), ("range", "0..7")):
        with pytest.raises(ValueError, match=f"Expected `{said}`"):
            read_where_model(exported(tmp_path / "b.onnx", Blueness(), **{said: wrong}))


def test_info_knows_what_a_model_is_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = exported(tmp_path / "a.onnx", Blueness(), mpp="1.0")
    assert any_onnx(file, "model").use == "where"
    with pytest.raises(SystemExit, match="0"):
        main(["info", str(file)])
    said = capsys.readouterr().out
    assert "--where" in said
    assert "--range" not in said


@pytest.mark.parametrize("shape", [(128, 192), (100, 70), (30, 30)])
def test_a_map_lies_where_the_picture_does(tmp_path: Path, shape: tuple[int, int]) -> None:
    """Also of a picture whose sides are no multiples of what the model takes."""
    where = read_where_model(exported(tmp_path / "a.onnx", Blueness()))
    picture = np.full((*shape, 3), 200, np.uint8)
    picture[:, : shape[1] // 2, 0] = 90
    found, _ = values_of_network(partial(_predicted, where.map_of.__self__), picture)
    height, width = shape
    assert found.shape == (-(-height // 4), -(-width // 4))
    assert found[:, : width // 8 - 1].min() > 0.9
    assert found[:, width // 8 + 1 :].max() < 0.6


def test_a_range_is_what_the_model_is_given(tmp_path: Path) -> None:
    file = exported(tmp_path / "a.onnx", Other())
    first = read_where_model(file).map_of.__self__
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    other = WhereModel(first.file, first.sha256, first.mpp, "-1..1")
    assert not np.array_equal(_predicted(first, picture), _predicted(other, picture))
