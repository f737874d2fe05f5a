"""A model of pairs as an ONNX model, which gives the same map without Chromogen and without torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chromogen.errors import expected
from chromogen.files import write_whole
from chromogen.provenance import __version__
from chromogen.staining.onnx_file import CARD, SUFFIX, library
from chromogen.staining.tissue import MPP
from chromogen.staining.where_network import STRIDE_PX, USUAL_STRENGTH, Model, WhereNetwork, features_of

OPSET = 18
LOOK = {"white": torch.full((3,), 255.0), "strength": torch.tensor(USUAL_STRENGTH)}
HOW = (
    "image: H&E, sRGB uint8 [1, 3, H, W] at mpp um/px, H and W multiples of stride_px; level: the level of DAB, "
    "0 to 1, [1, 1, H / stride_px, W / stride_px]. white [3] and strength [2], float32, are the colour of the "
    "slide's glass, and the strengths of its haematoxylin and eosin in natural density; what is left out has a "
    "usual value."
)


def export_onnx(model: Model, path: Path) -> dict[str, Any]:
    """Write a model as an ONNX model, with all it says of itself in the metadata; the facts.

    The only needed input is the image; a slide's stains are in others, which have a usual value.
    Raises: ValueError for another suffix, or without the extra `onnx`; OSError where it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise expected("out", f"a name ending in {SUFFIX}", path)
    made = _traced(_OfImages(model.network()))
    _stripped(made)
    _say(made, model)
    library("onnx").checker.check_model(made)
    content = made.SerializeToString()
    write_whole(path, content)
    return {"onnx": str(path), "onnx_bytes": len(content), "opset": OPSET}


class _OfImages(nn.Module):
    """Levels of sRGB uint8 (1, 3, H, W), as `level_map` finds them, by the fields of `SlideStains`."""

    def __init__(self, network: WhereNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, white: Tensor, strength: Tensor) -> Tensor:
        level: Tensor = self.network(features_of(_densities(image, white), strength))
        return level


def _densities(image: Tensor, white: Tensor) -> Tensor:
    """Natural densities (1, 3, H, W) over white, by a table made in double precision."""
    levels = torch.arange(1, 257, dtype=torch.float64)[:, None]
    table = -(levels / (white.double() + 1)).log().float()
    channels = [nn.functional.embedding(image[:, c].int(), table[:, c : c + 1])[..., 0] for c in range(3)]
    return torch.stack(channels, 1)


def _traced(module: nn.Module) -> Any:
    """The model for an image of any size."""
    library("onnxscript")
    image = torch.zeros(1, 3, 5 * STRIDE_PX, 7 * STRIDE_PX, dtype=torch.uint8)
    free = {2: STRIDE_PX * torch.export.Dim("rows", min=2), 3: STRIDE_PX * torch.export.Dim("columns", min=2)}
    with _quietly():
        program = torch.onnx.export(
            module.eval(),
            (image, *LOOK.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image", *LOOK],
            output_names=["level"],
            dynamic_shapes=(free, *[None] * len(LOOK)),
        )
    if program is None:
        raise RuntimeError("The exporter of torch gave nothing.")
    return program.model_proto


def _stripped(made: Any) -> None:
    """Without what the exporter notes of this machine's files, and with sides that have names."""
    del made.graph.value_info[:]
    del made.graph.metadata_props[:]
    for node in made.graph.node:
        del node.metadata_props[:]
    for value, names in ((made.graph.input[0], ("height", "width")), (made.graph.output[0], ("rows", "columns"))):
        for side, name in zip(value.type.tensor_type.shape.dim[2:], names, strict=True):
            side.dim_param = name
    for value in (*made.graph.input, *made.graph.output):
        del value.metadata_props[:]


def _say(made: Any, model: Model) -> None:
    """Give the look's inputs their values, and the file its card."""
    onnx = library("onnx")
    for name, value in LOOK.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    made.producer_name, made.producer_version = "chromogen", __version__
    made.doc_string = f"{model.notice}. {HOW}"
    said = {
        "name": model.name,
        "target_stain": model.look.target_stain,
        "mpp": MPP,
        "claim": model.claim,
        "notice": model.notice,
        "sha256": model.sha256,
        "how": HOW,
        "stride_px": STRIDE_PX,
        CARD: json.dumps(model.card()),
    }
    onnx.helper.set_model_props(made, {key: str(value) for key, value in said.items()})


@contextmanager
def _quietly() -> Iterator[None]:
    """Torch's exporter warns of itself, and says that torchvision is not there."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
