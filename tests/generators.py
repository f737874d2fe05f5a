"""Small ONNX generators for tests, as others export them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
import hostile_onnx  # noqa: E402 - needs onnx

helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto

MIX = np.array([[0.2, 0.5, 0.3], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2]], np.float32)  # rows make red, green, blue
ANY = [1, 3, "height", "width"]
FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[Any],
    weights: dict[str, Any] | None = None,
    *,
    source: Sequence[Any] = ANY,
    made: Sequence[Any] = ANY,
    dtype: int = FLOAT,
    more_inputs: Sequence[Any] = (),
    more_outputs: Sequence[Any] = (),
) -> Any:
    """A model from `x` to `y`."""
    graph = helper.make_graph(
        list(nodes),
        "generator",
        [helper.make_tensor_value_info("x", dtype, list(source)), *more_inputs],
        [*more_outputs, helper.make_tensor_value_info("y", dtype, list(made))],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="test"
    )


def conv(**more: Any) -> Any:
    """Every pixel's colours mixed by `MIX`."""
    return model([helper.make_node("Conv", ["x", "w"], ["y"])], {"w": MIX[..., None, None]}, **more)


def normed(side: int | None = None, ends_in: str = "Tanh") -> Any:
    """A convolution that looks at its surroundings, instance norm, and a layer at the end: a very small CUT."""
    nodes, weights = hostile_onnx.small_cut(ends_in)
    shape = ANY if side is None else [1, 3, side, side]
    return model(nodes, weights, source=shape, made=shape)


def channels_last() -> Any:
    """`conv` with channels last on both sides."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["a", "w"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"], perm=[0, 2, 3, 1]),
    ]
    shape = [None, "height", "width", 3]
    return model(nodes, {"w": MIX[..., None, None]}, source=shape, made=shape)


def unary(kind: str, dtype: int = FLOAT, **more: Any) -> Any:
    """One operator, pixel by pixel."""
    return model([helper.make_node(kind, ["x"], ["y"])], dtype=dtype, **more)


def saved(path: Path, made: Any, metadata: dict[str, str] | None = None) -> Path:
    """The model in a file."""
    helper.set_model_props(made, metadata or {})
    path.write_bytes(made.SerializeToString())
    return path
