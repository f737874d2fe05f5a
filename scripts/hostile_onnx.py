"""ONNX models whose graph lies: sizes, types, names, weights said to lie elsewhere, operators that bomb."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from chromogen.staining.onnx_file import CARD

Rng = random.Random

SIDES = (0, 1, 2, 3, 15, 64, 2048, 2049, 65_536, 10**9, 2**31, 2**63 - 1, -1, -(2**63))
TEXTS = ("", "x", "y", "a\nb", "\0", "é" * 300, "x" * 100_000, "../x", "\x1b[31m", "w")
PLACES = (
    "../x",
    "/etc/passwd",
    "a/../../x",
    "",
    ".",
    "broken.onnx",
    "missing.bin",
    "/dev/zero",
    "a\0b",
    "x" * 5000,
)
COUNTS = ("0", "-1", "4", str(10**12), str(2**64), "x", "", "9" * 5000)
OPERATORS = (
    "Conv",
    "Resize",
    "Expand",
    "Tile",
    "Reshape",
    "ConstantOfShape",
    "Gather",
    "NoSuch",
    "",
    "Softmax",
    "If",
)
ANY: list[str | int | None] = [1, 3, "height", "width"]


def small_cut(ends_in: str = "Tanh") -> tuple[list[Any], dict[str, Any]]:
    """Nodes from x to y and their weights: a convolution, instance norm, and a layer at the end."""
    weights = {
        "w": np.random.default_rng(0).normal(0, 0.4, (3, 3, 3, 3)).astype(np.float32),
        "gain": np.full(3, 0.5, np.float32),
        "shift": np.array([0.2, 0.0, -0.2], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("InstanceNormalization", ["a", "gain", "shift"], ["b"]),
        helper.make_node(ends_in, ["b"], ["y"]),
    ]
    return nodes, weights


def generator(path: Path) -> None:
    """A very small CUT, as others export it."""
    nodes, weights = small_cut()
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ANY)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ANY)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    _save(graph, path, {"mpp": "0.5"})


def as_ours(path: Path) -> None:
    """What says of itself that Chromogen exported it: uint8, channels last, with the look of a slide."""
    look = {"white": [255.0] * 3, "strength": [1.0, 1.0], "residue": [0.0]}
    shape: list[str | int | None] = ["batch", "height", "width", 3]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["stained"])],
        "stainer",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, shape),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [len(look[name])]) for name in look),
        ],
        [helper.make_tensor_value_info("stained", TensorProto.UINT8, shape)],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in look.items()],
    )
    _save(graph, path, {CARD: "1", "mpp": "0.5", "name": "x", "target_stain": "y"})


def _save(graph: Any, path: Path, said: dict[str, str]) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, said)
    path.write_bytes(model.SerializeToString())


def graph_lies(data: bytearray, rng: Rng) -> None:
    """A model, which protobuf reads, with one to three lies in it."""
    model = onnx.load_model_from_string(bytes(data))
    for _ in range(rng.randint(1, 3)):
        rng.choice(LIES)(model, rng)
    data[:] = model.SerializeToString()


def _weights_lie(model: Any, rng: Rng) -> None:
    """About their size or type, or in their bytes."""
    tensor = rng.choice(model.graph.initializer)
    match rng.randrange(4):
        case 0:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(SIDES)
        case 1:
            tensor.data_type = rng.randrange(40)
        case 2:
            tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) or 1)]
        case _:
            tensor.raw_data = np.full(max(1, len(tensor.raw_data) // 4), np.nan, np.float32).tobytes()


def _weights_elsewhere(model: Any, rng: Rng) -> None:
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    given = {"location": rng.choice(PLACES), "offset": rng.choice(COUNTS), "length": rng.choice(COUNTS)}
    for key in rng.sample(sorted(given), rng.randint(1, 3)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, given[key]


def _ports_lie(model: Any, rng: Rng) -> None:
    """Inputs or outputs of other sizes, types or names."""
    port = rng.choice([*model.graph.input, *model.graph.output])
    match rng.randrange(4):
        case 0 if port.type.tensor_type.shape.dim:
            rng.choice(port.type.tensor_type.shape.dim).dim_value = rng.choice(SIDES)
        case 1:
            port.type.tensor_type.elem_type = rng.randrange(40)
        case 2:
            port.name = rng.choice(TEXTS)
        case _:
            port.type.Clear()


def _nodes_lie(model: Any, rng: Rng) -> None:
    """Other operators, names, settings, or a circle."""
    node = rng.choice(model.graph.node)
    match rng.randrange(5):
        case 0:
            node.op_type = rng.choice(OPERATORS)
        case 1:
            node.domain = rng.choice(TEXTS)
        case 2 if node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice((*TEXTS, *node.output))
        case 3 if node.attribute:
            node.attribute[0].ints[:] = [rng.choice(SIDES) for _ in range(rng.randint(0, 5))]
        case _:
            node.output[0] = rng.choice(TEXTS)


def _bomb(model: Any, rng: Rng) -> None:
    """A node that asks for as many numbers as there are atoms, or almost; or ten thousand nodes."""
    if rng.random() < 0.3:
        count, last = rng.choice((300, 10_000)), model.graph.output[0].name
        names = [last, *(f"n{number}" for number in range(count))]
        chain = [helper.make_node("Identity", [a], [b]) for a, b in pairwise(names)]
        model.graph.node.extend(chain)
        model.graph.output[0].name = names[-1]
        return
    shape = [rng.choice((1, 3, 10**5, 10**9, 2**40)) for _ in range(4)]
    model.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), "huge"))
    model.graph.node.append(helper.make_node("ConstantOfShape", ["huge"], ["bomb"]))
    if rng.random() < 0.7:
        model.graph.output[0].name = "bomb"


def _says_otherwise(model: Any, rng: Rng) -> None:
    """Versions, and what it says of itself."""
    match rng.randrange(3):
        case 0:
            model.opset_import[0].version = rng.choice((0, 1, 7, 99, 2**62, -1))
        case 1:
            model.ir_version = rng.choice((0, 1, 99, 2**62))
        case _:
            said = rng.choice(model.metadata_props)
            said.value = rng.choice((*TEXTS, "nan", "1e999", "-1", "0", "1e-300"))


def _deep(model: Any, rng: Rng) -> None:
    """Branches in branches."""
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["deepest"])], "g", [], [])
    for _ in range(rng.choice((3, 20, 30))):
        branches = {"then_branch": graph} | ({"else_branch": graph} if rng.random() < 0.1 else {})
        node = helper.make_node("If", ["t"], ["deep"], **branches)
        graph = helper.make_graph([node], "g", [], [])
    model.graph.node.extend(graph.node)


LIES: tuple[Callable[[Any, Rng], None], ...] = (
    _weights_lie,
    _weights_elsewhere,
    _ports_lie,
    _nodes_lie,
    _bomb,
    _says_otherwise,
    _deep,
)
