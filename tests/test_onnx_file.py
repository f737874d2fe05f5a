"""What ONNX files say, and which are refused before anything of them is run."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chromogen.staining import onnx_file
from chromogen.staining.onnx_file import Port, read_onnx
from generators import ANY, FLOAT, TensorProto, channels_last, conv, helper, model, normed, onnx, saved, unary


def test_what_a_generator_says(tmp_path: Path) -> None:
    file = saved(tmp_path / "cut.onnx", normed(), {"mpp": "0.5"})
    found = read_onnx(file)
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.content == file.read_bytes()
    assert (found.opset, found.producer, found.range) == (17, "test", "-1..1")
    assert (found.window_px, found.fixed) == (512, False)
    assert str(found.source) == "x float32 [1, 3, ?, ?]"
    assert found.metadata == {"mpp": "0.5"}
    card = found.card()
    assert card["input"]["layout"] == "NCHW"
    assert "not for diagnosis" in card["notice"]
    assert "content" not in card


def test_a_fixed_size(tmp_path: Path) -> None:
    found = read_onnx(saved(tmp_path / "fixed.onnx", normed(64)))
    assert (found.window_px, found.fixed) == (64, True)
    one = read_onnx(saved(tmp_path / "one.onnx", conv(source=[1, 3, 96, "w"], made=ANY)))
    assert (one.window_px, one.fixed) == (96, True)


@pytest.mark.parametrize(
    ("kind", "wanted"), [("Tanh", "-1..1"), ("Sigmoid", "0..1"), ("Relu", None), ("Identity", None)]
)
def test_the_range_by_its_end(kind: str, wanted: str | None, tmp_path: Path) -> None:
    assert read_onnx(saved(tmp_path / "a.onnx", unary(kind))).range == wanted


def test_the_range_through_what_moves_pixels_alone(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sigmoid", ["x"], ["a"]), helper.make_node("Identity", ["a"], ["y"])]
    assert read_onnx(saved(tmp_path / "a.onnx", model(nodes))).range == "0..1"
    loop = [helper.make_node("Identity", ["y"], ["a"]), helper.make_node("Identity", ["a"], ["y"])]
    assert read_onnx(saved(tmp_path / "b.onnx", model(loop))).range is None
    assert read_onnx(saved(tmp_path / "c.onnx", unary("Identity", TensorProto.UINT8))).range == "0..255"


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((1, 3, 8, 8), "NCHW"),
        ((None, 3, None, None), "NCHW"),
        ((1, 8, 8, 3), "NHWC"),
        ((None, None, None, None), "NCHW"),
        ((1, None, None, 3), "NHWC"),
        ((1, 1, 8, 8), None),
        ((4, 3, 8, 8), None),
        ((3, 8, 8), None),
        ((), None),
    ],
)
def test_layouts(shape: tuple[int | None, ...], layout: str | None) -> None:
    assert Port("x", "float32", shape).layout == layout
    assert Port("x", "int64", shape).layout is None


def test_channels_last(tmp_path: Path) -> None:
    assert read_onnx(saved(tmp_path / "a.onnx", channels_last())).source.layout == "NHWC"


def test_inputs_that_have_values_need_not_be_given(tmp_path: Path) -> None:
    made = conv(more_inputs=[helper.make_tensor_value_info("w", FLOAT, [3, 3, 1, 1])])
    assert [port.name for port in read_onnx(saved(tmp_path / "a.onnx", made)).optional] == ["w"]


def test_the_first_picture_of_several_outputs(tmp_path: Path) -> None:
    made = conv(more_outputs=[helper.make_tensor_value_info("score", FLOAT, [1, 1])])
    made.graph.node.append(helper.make_node("ReduceMean", ["x"], ["score"], axes=[1, 2, 3], keepdims=0))
    found = read_onnx(saved(tmp_path / "a.onnx", made))
    assert (found.made.name, [port.name for port in found.others]) == ("y", ["score"])


REFUSED = {
    "one channel": (lambda: conv(source=[1, 1, "h", "w"]), r"inputs x float32 \[1, 1, \?, \?\]"),
    "four channels": (lambda: conv(source=[1, 4, 64, 64]), r"\[1, 3, H, W\] or \[1, H, W, 3\]"),
    "whole numbers": (lambda: unary("Identity", TensorProto.INT64), "inputs x int64"),
    "text": (lambda: unary("Identity", TensorProto.STRING), "RGB picture"),
    "a batch": (lambda: conv(source=[8, 3, 64, 64]), "RGB picture"),
    "not square": (lambda: conv(source=[1, 3, 64, 128]), "square pictures"),
    "very large": (lambda: conv(source=[1, 3, 9999, 9999]), "16 to 2048 px"),
    "no side": (lambda: conv(source=[1, 3, 0, 0]), "square pictures"),
    "a class": (lambda: conv(made=[1, 1000]), r"outputs y float32 \[1, 1000\]"),
    "two pictures": (
        lambda: conv(more_inputs=[helper.make_tensor_value_info("other", FLOAT, ANY)]),
        "one RGB picture in, one out, .*other float32",
    ),
    "no graph": (lambda: model([]), "holds no graph"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_generator(what: str, tmp_path: Path) -> None:
    make, why = REFUSED[what]
    with pytest.raises(ValueError, match=f"^Expected `stainer` to be .*{why}"):
        read_onnx(saved(tmp_path / "a.onnx", make()))


def _read_or_refused(file: Path) -> str:
    """The hash, or the refusal."""
    try:
        return read_onnx(file).sha256
    except ValueError as error:
        return str(error)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_or_damaged_files_are_refused_or_read(data: st.DataObject, tmp_path: Path) -> None:
    """Never another exception; where a cut is read, nothing of the graph is lost."""
    content, file = bytearray(normed().SerializeToString()), tmp_path / "cut.onnx"
    cut = bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    file.write_bytes(cut)
    said = _read_or_refused(file)
    if not said.startswith("Expected `stainer`"):
        assert said == hashlib.sha256(cut).hexdigest()
        assert onnx.load_model_from_string(cut).graph == normed().graph
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    said = _read_or_refused(file)
    assert said.startswith("Expected `stainer`") or said == hashlib.sha256(content).hexdigest()


def test_names_are_shown_in_one_short_line(tmp_path: Path) -> None:
    made = conv(more_inputs=[helper.make_tensor_value_info("a\nb\x1b" + "x" * 100_000, FLOAT, ANY)])
    with pytest.raises(ValueError, match="ab" + "x" * 96 + " float32") as refused:
        read_onnx(saved(tmp_path / "a.onnx", made))
    assert len(str(refused.value).splitlines()) == 1
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x00" * 100, b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ValueError, match="Expected `stainer` to be an ONNX model"):
        read_onnx(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError, match="existing file"):
        read_onnx(tmp_path / "b.onnx")


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_BYTES", 1000)
    with (tmp_path / "a.onnx").open("wb") as file:
        file.truncate(1001)
    with pytest.raises(ValueError, match="Expected `stainer` to be at most .* GB, got"):
        read_onnx(tmp_path / "a.onnx")


# --- weights in other files ---


def _external(location: str) -> Any:
    made = conv()
    (tensor,) = made.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return made


WEIGHTS = np.arange(9, dtype=np.float32).tobytes()


@pytest.mark.parametrize("location", ["w.bin", "weights/w.bin"])
def test_weights_in_its_own_folder_are_read_and_hashed(location: str, tmp_path: Path) -> None:
    (tmp_path / location).parent.mkdir(exist_ok=True)
    (tmp_path / location).write_bytes(WEIGHTS)
    first = read_onnx(saved(tmp_path / "a.onnx", _external(location)))
    (tensor,) = onnx.load_model_from_string(first.content).graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor).ravel(), np.arange(9))
    (tmp_path / location).write_bytes(WEIGHTS[::-1])
    assert read_onnx(tmp_path / "a.onnx").sha256 != first.sha256


@pytest.mark.parametrize(
    "location",
    [
        *("../secret.bin", "{outside}/secret.bin", "a/../../secret.bin", "", "link.bin", "in/w.bin"),
        *("x" * 5000, "a\0b"),  # names that no file can have
    ],
)
def test_weights_elsewhere_are_never_opened(location: str, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    for secret in (tmp_path / "secret.bin", outside / "secret.bin", outside / "w.bin"):
        secret.write_bytes(WEIGHTS)
    (inside / "link.bin").symlink_to(outside / "secret.bin")
    (inside / "in").symlink_to(outside)
    file = saved(inside / "a.onnx", _external(location.format(outside=outside)))
    with pytest.raises(ValueError, match="whose weights lie in its own folder"):
        read_onnx(file)


def test_weights_of_nodes_are_looked_for_too(tmp_path: Path) -> None:
    """Also in a branch of a branch."""
    tensor = _external("../secret.bin").graph.initializer[0]
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [])
    outer = helper.make_graph([helper.make_node("If", ["t"], ["c"], then_branch=inner)], "outer", [], [])
    made = conv()
    made.graph.node.append(helper.make_node("If", ["t"], ["z"], then_branch=outer))
    with pytest.raises(ValueError, match="its own folder"):
        read_onnx(saved(tmp_path / "a.onnx", made))


def test_weights_that_are_missing_or_too_short(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.onnx", _external("w.bin"))
    with pytest.raises(ValueError, match="without 'w.bin' beside it; copy both files"):
        read_onnx(file)
    os.mkfifo(tmp_path / "w.bin")
    with pytest.raises(ValueError, match="without 'w.bin' beside it"):
        read_onnx(file)
    (tmp_path / "w.bin").unlink()
    made = _external("w.bin")
    for key, value in (("offset", "4"), ("length", "360000")):
        entry = made.graph.initializer[0].external_data.add()
        entry.key, entry.value = key, value
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    with pytest.raises(ValueError, match="whose weights do not fit it"):
        read_onnx(saved(tmp_path / "a.onnx", made))


def test_weights_beside_it_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS)
    file = saved(tmp_path / "a.onnx", _external("w.bin"))
    monkeypatch.setattr(onnx_file, "MAX_BYTES", file.stat().st_size + 35)
    with pytest.raises(ValueError, match="to be at most"):
        read_onnx(file)


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"with the extra `onnx`, got no onnx in this Python; pip install"):
        read_onnx(tmp_path / "a.onnx")
