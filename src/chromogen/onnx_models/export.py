"""Our own stainers as ONNX models, which paint the same picture without Chromogen and without torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chromogen.errors import expected
from chromogen.files import write_whole
from chromogen.onnx_models.extra import library
from chromogen.onnx_models.onnx_file import CARD, SUFFIX
from chromogen.provenance import __version__
from chromogen.stainer_file import Model
from chromogen.style.stainer_network import HALO_PX, STRIDE_PX, USUAL_STRENGTH, SlideLook, StainerNetwork

OPSET = 18
SIDES = ("batch", "height", "width")
KINDS = ("stain-pyramid",)
USUAL_LOOK = SlideLook((255.0, 255.0, 255.0), USUAL_STRENGTH, 0.0)
HOW = (
    "image and stained: sRGB uint8 [batch, height, width, 3], any size, at mpp um/px. white [3], strength [2] and "
    "residue [1], float32, are the slide's look; what is left out has a usual value. What is further than halo_px "
    "from a pixel does not change it; tiles begin at multiples of stride_px."
)


class _Painter(nn.Module):
    """sRGB uint8 (B, H, W, 3) to the same in another stain, as `stain` does it, by the fields of a `SlideLook`."""

    def __init__(self, network: StainerNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, white: Tensor, strength: Tensor, residue: Tensor) -> Tensor:
        height, width = image.shape[1:3]
        padded = image.index_select(1, _going_on(height)).index_select(2, _going_on(width))
        made: Tensor = self.network(_densities(padded, white), strength, residue)
        light = (white.view(1, 3, 1, 1) + 1) * (-made[..., :height, :width]).exp() - 1
        return light.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _going_on(side: int) -> Tensor:
    """Places along a side, the last one again and again up to a multiple of the stride."""
    return torch.arange((side + STRIDE_PX - 1) // STRIDE_PX * STRIDE_PX).clamp_max(side - 1)


def _densities(image: Tensor, white: Tensor) -> Tensor:
    """Natural densities (B, 3, H, W), by a table that is made in double precision."""
    levels = torch.arange(1, 257, dtype=torch.float64)[:, None]
    table = -(levels / (white.double() + 1)).log().float()
    channels = [nn.functional.embedding(image[..., c].int(), table[:, c : c + 1])[..., 0] for c in range(3)]
    return torch.stack(channels, 1)


def export_onnx(model: Model, path: Path, look: SlideLook = USUAL_LOOK) -> dict[str, Any]:
    """Write a stainer as an ONNX model, with all it says of itself in the metadata; the facts.

    Its only needed input is the image. The look of a slide is what `slide_look` measures; `look` is what stands in
    where none is given.
    Raises: ValueError for another suffix or kind of network, or without the extra `onnx`; OSError where it cannot
    be written.
    """
    if path.suffix != SUFFIX:
        raise expected("out", f"a name ending in {SUFFIX}", path)
    check_kind(model.architecture.kind)
    network = model.network()
    assert isinstance(network, StainerNetwork)  # noqa: S101 - of its kind it is one
    made = _traced(network)
    _stripped(made)
    _say(made, model, look)
    library("onnx").checker.check_model(made)
    content = made.SerializeToString()
    write_whole(path, content)
    return {"onnx": str(path), "onnx_bytes": len(content), "opset": OPSET}


def check_kind(kind: str) -> None:
    """ValueError for a kind of network that cannot be exported."""
    if kind not in KINDS:
        raise expected("model", f"of a kind that can be exported, {', '.join(KINDS)}", kind)


def _traced(network: StainerNetwork) -> Any:
    """The model for any number of images of any size."""
    library("onnxscript")
    image = torch.zeros(2, 5 * STRIDE_PX, 7 * STRIDE_PX, 3, dtype=torch.uint8)
    given = (image, *_values(USUAL_LOOK).values())
    free = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(SIDES)}
    with _quietly():
        program = torch.onnx.export(
            _Painter(network).eval(),
            given,
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image", *_values(USUAL_LOOK)],
            output_names=["stained"],
            dynamic_shapes=(free, None, None, None),
        )
    if program is None:
        raise RuntimeError("The exporter of torch gave nothing.")
    return program.model_proto


def _values(look: SlideLook) -> Mapping[str, Tensor]:
    """A look as inputs."""
    return {
        "white": torch.tensor(look.white),
        "strength": torch.tensor(look.strength),
        "residue": torch.tensor([look.residue]),
    }


def _stripped(made: Any) -> None:
    """Without what the exporter notes of this machine's files, and with sides that have names."""
    del made.graph.value_info[:]
    del made.graph.metadata_props[:]
    for node in made.graph.node:
        del node.metadata_props[:]
    for value in (*made.graph.input, *made.graph.output):
        del value.metadata_props[:]
    for side, name in zip(made.graph.output[0].type.tensor_type.shape.dim, SIDES, strict=False):
        side.dim_param = name


def _say(made: Any, model: Model, look: SlideLook) -> None:
    """Give the look's inputs their values, and the file its card."""
    onnx = library("onnx")
    for name, value in _values(look).items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    card = model.card()
    made.producer_name, made.producer_version, made.doc_string = "chromogen", __version__, f"{model.notice}. {HOW}"
    short = {
        name: card[name] for name in ("name", "target_stain", "mpp", "claim", "attribution", "notice", "sha256")
    }
    said = {**short, "how": HOW, "halo_px": HALO_PX, "stride_px": STRIDE_PX, CARD: json.dumps(card)}
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
