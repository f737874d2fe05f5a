"""Our own stainers as ONNX models, which paint the same picture without Chromogen and without torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from chromogen.errors import expected
from chromogen.files import write_whole
from chromogen.onnx_models.extra import library
from chromogen.onnx_models.graphs import Graph, graph_of
from chromogen.onnx_models.onnx_file import CARD, SUFFIX
from chromogen.provenance import __version__
from chromogen.stainer_file import Model
from chromogen.style.marker_network import blend_of, chosen, shares_in_words
from chromogen.style.slide_densities import STRIDE_PX

OPSET = 18
SIDES = ("batch", "height", "width")


def export_onnx(model: Model, path: Path, marker: str | None = None) -> dict[str, Any]:
    """Write a stainer as an ONNX model, with all it says of itself in the metadata; the facts.

    Of several markers `marker` chooses one, or a blend, as in `load_stainer`. The only needed input is the image;
    the look of a slide is in others, which have a usual value.
    Raises: ValueError for another suffix, a marker that is left out or not there, or without the extra `onnx`;
    OSError where it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise expected("out", f"a name ending in {SUFFIX}", path)
    blend = blend_of(marker, model.markers)
    graph = graph_of(chosen(model.network(), blend))
    made = _traced(graph)
    _stripped(made)
    _say(made, model, shares_in_words(model.markers, blend), graph)
    library("onnx").checker.check_model(made)
    content = made.SerializeToString()
    write_whole(path, content)
    return {"onnx": str(path), "onnx_bytes": len(content), "opset": OPSET}


def _traced(graph: Graph) -> Any:
    """The model for any number of images of any size."""
    library("onnxscript")
    image = torch.zeros(2, 5 * STRIDE_PX, 7 * STRIDE_PX, 3, dtype=torch.uint8)
    free = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(SIDES)}
    with _quietly():
        program = torch.onnx.export(
            graph.module.eval(),
            (image, *graph.look.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image", *graph.look],
            output_names=list(graph.outputs),
            dynamic_shapes=(free, *[None] * len(graph.look)),
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
    for value in (*made.graph.input, *made.graph.output):
        del value.metadata_props[:]
    for side, name in zip(made.graph.output[0].type.tensor_type.shape.dim, SIDES, strict=False):
        side.dim_param = name


def _say(made: Any, model: Model, shares: str, graph: Graph) -> None:
    """Give the look's inputs their values, and the file its card."""
    onnx = library("onnx")
    for name, value in graph.look.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    card = model.card() | ({"marker": shares} if shares else {})
    made.producer_name, made.producer_version = "chromogen", __version__
    made.doc_string = f"{model.notice}. {graph.how}"
    same = {name: card[name] for name in ("mpp", "claim", "attribution", "notice", "sha256")}
    said = {
        "name": f"{model.name} ({shares})" if shares else model.name,
        "target_stain": f"{model.target_stain} as {shares}" if shares else model.target_stain,
        **same,
        "how": graph.how,
        "halo_px": graph.halo_px,
        "stride_px": STRIDE_PX,
        CARD: json.dumps(card),
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
