"""Generators trained elsewhere as stainers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.staining import onnx_generator as generator_module
from chromogen.staining.onnx_file import read_onnx
from chromogen.staining.onnx_generator import Generator, session
from chromogen.staining.stainer import Stainer, stain_image
from generators import (
    ANY,
    MIX,
    TensorProto,
    channels_last,
    conv,
    helper,
    model,
    normed,
    numpy_helper,
    saved,
    unary,
)
from synthetic import tissue_like

HE = tissue_like(150, 170, seed=4)
MIXED = HE @ MIX.T.astype(np.float64)
ROUNDING = 0.5 + 1e-3


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    return saved(tmp_path / "cut.onnx", normed())


@pytest.mark.parametrize("value_range", ["0..1", "-1..1", "0..255"])
@pytest.mark.parametrize("make", [conv, channels_last])
def test_paints_what_its_weights_say(make: Any, value_range: str, tmp_path: Path) -> None:
    """A mix of colours is the same in every range, as its rows sum to one: against numpy."""
    stainer = Stainer.from_pretrained(
        saved(tmp_path / "a.onnx", make()), 0.5, value_range=value_range, blend_px=128
    )
    assert np.abs(stainer(HE) - MIXED).max() <= ROUNDING


def test_half_precision(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    made = model(nodes, {"w": MIX[..., None, None].astype(np.float16)}, dtype=TensorProto.FLOAT16)
    stainer = Stainer.from_pretrained(saved(tmp_path / "a.onnx", made), 0.5, value_range="0..1")
    assert np.abs(stainer(HE) - MIXED).max() <= 1


def test_double_precision(tmp_path: Path) -> None:
    stainer = Stainer.from_pretrained(
        saved(tmp_path / "a.onnx", unary("Identity", TensorProto.DOUBLE)), 0.5, value_range="-1..1"
    )
    np.testing.assert_array_equal(stainer(HE), HE)


def test_bytes_need_no_range(tmp_path: Path) -> None:
    stainer = Stainer.from_pretrained(saved(tmp_path / "a.onnx", unary("Identity", TensorProto.UINT8)), 0.5)
    np.testing.assert_array_equal(stainer(HE), HE)


def test_instance_norm_by_an_independent_reference(tmp_path: Path) -> None:
    """One window: torch's convolution, norm and tanh on the same weights."""
    torch = pytest.importorskip("torch")
    made = normed(64)
    stainer = Stainer.from_pretrained(saved(tmp_path / "a.onnx", made), 0.5)
    weights = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in made.graph.initializer
    }
    x = torch.from_numpy(HE[:64, :64].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    x = torch.nn.functional.conv2d(x, weights["w"], padding=1)
    y = torch.nn.functional.instance_norm(x, weight=weights["gain"], bias=weights["shift"]).tanh()
    wanted = ((y[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.abs(stainer(HE[:64, :64]) - wanted).max() <= 1


@pytest.mark.parametrize("side", [None, 64])
@pytest.mark.parametrize("blend_px", [0, 16, None])
def test_tiled_equals_untiled(side: int | None, blend_px: int | None, tmp_path: Path) -> None:
    made = Stainer.from_pretrained(saved(tmp_path / "a.onnx", normed(side)), 0.5, blend_px=blend_px)
    np.testing.assert_array_equal(stain_image(made, HE, 48), made(HE))


def test_what_is_known_of_it(cut: Path) -> None:
    made = Stainer.from_pretrained(cut, 0.25)
    assert (made.name, made.mpp, made.halo_px, made.stride_px) == ("cut", 0.25, 512, 384)
    assert made.sliding_window is not None
    assert (made.sliding_window.window_px, made.sliding_window.blend_px, made.sliding_window.fixed) == (
        512,
        128,
        False,
    )
    assert made.identity.startswith(read_onnx(cut).sha256)
    assert Stainer.from_pretrained(cut.rename(cut.with_name("other.onnx")), 0.25).identity == made.identity


def test_all_that_decides_pixels_is_in_its_identity(cut: Path, tmp_path: Path) -> None:
    other = saved(tmp_path / "other.onnx", normed(ends_in="Sigmoid"))
    made = [
        Stainer.from_pretrained(cut, 0.5),
        Stainer.from_pretrained(cut, 0.5, blend_px=64),
        Stainer.from_pretrained(cut, 0.5, value_range="0..1"),
        Stainer.from_pretrained(other, 0.5, value_range="-1..1"),
    ]
    assert len({stainer.identity for stainer in made}) == len(made)


def test_can_be_sent(cut: Path) -> None:
    made = Stainer.from_pretrained(cut, 0.5).fit(HE)
    assert len(pickle.dumps(made)) < 2000
    np.testing.assert_array_equal(deepcopy(made)(HE), made(HE))


def test_its_metadata_may_say_the_mpp(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.onnx", normed(), {"mpp": "0.42"})
    assert Stainer.from_pretrained(file).mpp == 0.42
    assert Stainer.from_pretrained(file, 0.5).mpp == 0.5


@pytest.mark.parametrize("said", [None, "", "nan", "-1", "half"])
def test_an_mpp_is_needed(said: str | None, tmp_path: Path) -> None:
    file = saved(tmp_path / "a.onnx", normed(), {} if said is None else {"mpp": said})
    with pytest.raises(ValueError, match="Expected `model_mpp` to be given, in um.*got none; about 0.5 for 20x"):
        Stainer.from_pretrained(file)
    for mpp in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="Expected `model_mpp`"):
            Stainer.from_pretrained(file, mpp)


def test_a_range_is_needed_where_its_end_does_not_tell(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.onnx", conv())
    with pytest.raises(ValueError, match=r"Expected `range` to be given, one of 0..1, -1..1, 0..255.*take -1..1"):
        Stainer.from_pretrained(file, 0.5)
    with pytest.raises(ValueError, match="did you mean -1..1"):
        Stainer.from_pretrained(file, 0.5, value_range="-1,1")


def test_too_much_blend(cut: Path) -> None:
    with pytest.raises(ValueError, match="Expected `blend` to be 0 to 256 px"):
        Stainer.from_pretrained(cut, 0.5, blend_px=300)


# --- what does not run ---


def test_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"no numbers \(NaN or infinite\)"):
        Stainer.from_pretrained(saved(tmp_path / "a.onnx", unary("Log")), 0.5, value_range="-1..1")


def test_a_picture_of_another_size(tmp_path: Path) -> None:
    pool = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    with pytest.raises(
        ValueError, match=r"as large as its input, 512 x 512 px, got an output of \[1, 3, 256, 256\]"
    ):
        Stainer.from_pretrained(saved(tmp_path / "a.onnx", model([pool])), 0.5, value_range="0..1")


def test_another_number_of_channels_than_it_says(tmp_path: Path) -> None:
    made = model([helper.make_node("ReduceMean", ["x"], ["y"], axes=[1])], made=[1, None, "h", "w"])
    with pytest.raises(ValueError, match=r"RGB pictures.*got an output of \[1, 1, 512, 512\]"):
        Stainer.from_pretrained(saved(tmp_path / "a.onnx", made), 0.5, value_range="0..1")


def test_an_operator_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a model that onnxruntime takes.*MadeUp"):
        Stainer.from_pretrained(saved(tmp_path / "a.onnx", unary("MadeUp")), 0.5, value_range="0..1")


def test_what_fails_while_it_runs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    made = model(nodes, {"shape": np.array([1, 3, 7, 7])}, made=ANY)
    with pytest.raises(RuntimeError, match="The generator does not run on 512 x 512 px: "):
        Stainer.from_pretrained(saved(tmp_path / "a.onnx", made), 0.5, value_range="0..1")


def test_a_file_that_changes_under_way(cut: Path) -> None:
    found = Generator(str(cut), read_onnx(cut).sha256, "-1..1")
    saved(cut, normed(ends_in="Sigmoid"))
    with pytest.raises(ValueError, match="do not change it under way"):
        found.paint(HE)


def test_without_the_extra(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="no onnxruntime in this Python; pip install 'chromogen"):
        Stainer.from_pretrained(cut, 0.5)


def test_one_thread_a_session(cut: Path) -> None:
    """What runs side by side are blocks: so it keeps to the processors that the process may use."""
    found = read_onnx(cut)
    options = session(found.path, found.content, "stainer").get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_torch_is_not_loaded(cut: Path) -> None:
    """So its threads get in nobody's way."""
    program = (
        "import sys; from chromogen import Stainer; import chromogen.whole_slide.stain; "
        f"Stainer.from_pretrained({str(cut)!r}, 0.5); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_window_is_made_once(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles beside each other look at the same windows."""
    made = Stainer.from_pretrained(cut, 0.5)
    picture = tissue_like(1000, 1000, seed=9)
    runs = []
    really = generator_module._as_image
    monkeypatch.setattr(generator_module, "_as_image", lambda *given: runs.append(1) or really(*given))
    stain_image(made, picture, 250)
    assert len(runs) == 9
