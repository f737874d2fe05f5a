"""ONNX files: what is refused before anything runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from chromogen.errors import expected, missing, short
from chromogen.nuclei.outlines import RAYS
from chromogen.provenance import NOTICE

# The libraries of the extra `onnx`, loaded when first used.


def library(name: str) -> Any:
    """One of onnx, onnxscript, onnxruntime. Raises: ValueError where the extra is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        advice = "pip install 'chromogen[onnx]'"
        raise expected("ONNX models", "used with the extra `onnx`", f"no {name} in this Python", advice) from error


# What an ONNX file says of a generator, and what is refused, before anything of it is run.

SUFFIX = ".onnx"
CARD = "chromogen-where"  # in the metadata of what we exported
MAX_BYTES = 2_000_000_000  # what ONNX itself holds in one piece
MIN_SIDE_PX, MAX_SIDE_PX = 16, 2048
WINDOW_PX = 512  # of what takes any size
RANGES = {"0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0), "0..255": (0.0, 255.0)}
RANGE_OF = {"Tanh": "-1..1", "Sigmoid": "0..1"}  # by how a network ends
SAME_PIXELS = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze")
PIXELS = ("float32", "float16", "float64", "uint8")
MAX_LETTERS = 100  # of a name that is shown
GENERATOR = "a generator: one RGB picture in, one out"


@dataclass(frozen=True)
class Port:
    """An input or output: its name, numpy's name for its type, and its sides, None where any will do."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def layout(self) -> str | None:
        """NCHW or NHWC, of three channels; None for what is no picture."""
        if len(self.shape) != 4 or self.shape[0] not in (1, None) or self.dtype not in PIXELS:
            return None
        if self.shape[1] == 3:
            return "NCHW"
        if self.shape[3] == 3:
            return "NHWC"
        return "NCHW" if self.shape[1] is None else None

    @property
    def sides_px(self) -> tuple[int | None, int | None]:
        """Height and width."""
        sides = self.shape[2:] if self.layout == "NCHW" else self.shape[1:3]
        return sides[0], sides[1]

    def card(self) -> dict[str, Any]:
        """The same as plain data."""
        return {**asdict(self), "layout": self.layout, "says": str(self)}

    def __str__(self) -> str:
        """As errors and cards show it, in one line."""
        name = "".join(letter for letter in self.name[:MAX_LETTERS] if letter.isprintable())
        return f"{name} {self.dtype} [{', '.join('?' if side is None else str(side) for side in self.shape)}]"


@dataclass(frozen=True)
class OnnxFile:
    """A model's file. `content` is all of it, also weights kept beside it; `range` is what its end tells."""

    path: Path
    sha256: str
    content: bytes = field(repr=False)
    opset: int
    producer: str
    needed: tuple[Port, ...]  # inputs that have no value
    made: Port
    others: tuple[Port, ...]  # outputs that are not looked at
    optional: tuple[Port, ...]  # inputs that have a value
    range: str | None
    metadata: dict[str, str]

    @property
    def source(self) -> Port:
        """The picture that it is given."""
        return self.needed[0]

    @property
    def use(self) -> str:
        """The option that takes such a model: `stainer`, `where`, or `network` of nuclei; "" for none of them."""
        if self.source.layout and self.made.layout:
            return "stainer"
        channels = self.made.shape[1] if len(self.made.shape) == 4 else None
        return {1: "where", 1 + RAYS: "network"}.get(channels or 0, "")

    @property
    def window_px(self) -> int:
        """The side of the pictures it is given."""
        return next((side for side in self.source.sides_px if side is not None), WINDOW_PX)

    @property
    def fixed(self) -> bool:
        """Whether it takes no other size."""
        return any(side is not None for side in self.source.sides_px)

    def card(self) -> dict[str, Any]:
        """What `chromogen info` says."""
        named = ("sha256", "opset", "producer", "fixed", "window_px", "range", "metadata")
        return {
            "path": str(self.path),
            "format": "ONNX",
            "use": self.use,
            "bytes": len(self.content),
            "input": self.source.card(),
            "output": self.made.card(),
            "other_outputs": [port.card() for port in self.others],
            "optional_inputs": [port.card() for port in self.optional],
            **{name: getattr(self, name) for name in named},
            "notice": NOTICE,
        }


def read_onnx(path: Path) -> OnnxFile:
    """Read a generator's file and check what it says; nothing of it is run.

    Raises: FileNotFoundError; ValueError for a file that is damaged, too large, no generator of RGB pictures, or
    has weights elsewhere than in files of its own folder, which are then not opened.
    """
    found = any_onnx(path, "stainer")
    _check_picture_in(path, found.needed)
    _check_picture_out(path, (found.made, *found.others))
    return found


def any_onnx(path: Path, argument: str) -> OnnxFile:
    """What the file of any model says, given as `argument`. Raises: as `whole_model`; ValueError without ports."""
    model, content, sha256 = whole_model(path, argument)
    needed = needed_ports(model)
    outputs = [port_of(value) for value in model.graph.output]
    if not (needed and outputs):
        raise expected(argument, "a model with an input and an output", repr(str(path)))
    source, made = needed[0], next((port for port in outputs if port.layout), outputs[0])
    return OnnxFile(
        path=path,
        sha256=sha256,
        content=content,
        opset=max((used.version for used in model.opset_import if used.domain in ("", "ai.onnx")), default=0),
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        needed=tuple(needed),
        made=made,
        others=tuple(port for port in outputs if port != made),
        optional=tuple(port for value in model.graph.input if (port := port_of(value)) not in needed),
        range="0..255" if source.dtype == "uint8" else RANGE_OF.get(_ends_in(model.graph, made.name)),
        metadata={prop.key: prop.value for prop in model.metadata_props},
    )


def whole_model(path: Path, argument: str) -> tuple[Any, bytes, str]:
    """The model with all its weights in it, as bytes, and its hash: the file's own where it has them all in it.

    Errors name the `argument` that the file was given by. Raises: as `read_onnx`.
    """
    onnx = library("onnx")
    if not path.is_file():
        raise missing(argument, "an existing file", path)
    _check_size(argument, path, path.stat().st_size)
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # whatever protobuf finds
        raise expected(argument, "an ONNX model", f"{str(path)!r}, which is none, or truncated") from error
    if not model.graph.node or not model.graph.output:
        raise expected(argument, "an ONNX model", f"{str(path)!r}, which holds no graph, or is truncated")
    elsewhere = [tensor for tensor in _tensors(model) if onnx.external_data_helper.uses_external_data(tensor)]
    if not elsewhere:
        return model, content, digest.hexdigest()
    files = sorted({_beside(argument, path, tensor) for tensor in elsewhere})
    _check_size(argument, path, len(content) + sum(file.stat().st_size for file in files))
    for file in files:
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    try:
        for tensor in elsewhere:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
        return model, model.SerializeToString(), digest.hexdigest()
    except Exception as error:
        got = f"{str(path)!r}, whose weights do not fit it ({short(error)})"
        raise expected(argument, "an ONNX model with its weights", got, "export it anew") from error


def _check_size(argument: str, path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise expected(argument, f"at most {MAX_BYTES / 1e9:g} GB", f"{size / 1e9:.1f} GB of {str(path)!r}")


def _beside(argument: str, path: Path, tensor: Any) -> Path:
    """The file of a tensor's values. Raises: ValueError where it is not in the model's own folder."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if not _is_inside(path.parent, location):
        advice = "export it with its weights inside"
        got = f"{str(path)!r}, which asks for {location[:MAX_LETTERS]!r}"
        raise expected(argument, "an ONNX model whose weights lie in its own folder", got, advice)
    if not (path.parent / location).is_file():
        got = f"{str(path)!r} without {location[:MAX_LETTERS]!r} beside it"
        raise expected(argument, "an ONNX model with its weights", got, "copy both files")
    return path.parent / location


def _is_inside(folder: Path, location: str) -> bool:
    """Whether a place is named that lies in a folder, or would."""
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        return False
    try:
        file = folder / location
        return not file.is_symlink() and file.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):  # no name that any file could have
        return False


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors anywhere in a model."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for described, value in message.ListFields():
        if described.message_type is None:
            continue
        for part in value if hasattr(value, "__len__") else [value]:
            yield from _tensors(part)


def needed_ports(model: Any) -> list[Port]:
    """The inputs of a model that have no value of their own."""
    valued = {tensor.name for tensor in model.graph.initializer}
    return [port_of(value) for value in model.graph.input if value.name not in valued]


def port_of(value: Any) -> Port:
    """What a model says of an input or output."""
    tensor = value.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else None for side in tensor.shape.dim)
    try:
        dtype = str(library("onnx").helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "nothing"
    return Port(value.name, dtype, sides)


def _check_picture_in(path: Path, needed: Sequence[Port]) -> None:
    if len(needed) != 1 or needed[0].layout is None:
        got = f"inputs {'; '.join(map(str, needed)) or 'none'} in {str(path)!r}"
        raise expected("stainer", f"{GENERATOR}, [1, 3, H, W] or [1, H, W, 3]", got)
    sides = [side for side in needed[0].sides_px if side is not None]
    if len(set(sides)) > 1 or any(not MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in sides):
        got = f"{needed[0]} in {str(path)!r}"
        wanted = f"a generator of square pictures of {MIN_SIDE_PX} to {MAX_SIDE_PX} px"
        raise expected("stainer", wanted, got)


def _check_picture_out(path: Path, outputs: Sequence[Port]) -> None:
    if not any(port.layout for port in outputs):
        got = f"outputs {'; '.join(map(str, outputs))} in {str(path)!r}"
        raise expected("stainer", f"{GENERATOR}, [1, 3, H, W] or [1, H, W, 3]", got)


def _ends_in(graph: Any, name: str) -> str:
    """The operator that decides an output's values, "" where there is none."""
    makers = {output: node for node in graph.node for output in node.output}
    node = makers.get(name)
    seen = 0
    while node is not None and node.op_type in SAME_PIXELS and node.input and seen < len(makers):
        node, seen = makers.get(node.input[0]), seen + 1
    return str(node.op_type) if node is not None else ""
