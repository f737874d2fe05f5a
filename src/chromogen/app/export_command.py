"""`chromogen export`: a model of where a marker lies as an ONNX model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption
from chromogen.provenance import NOTICE

EPILOG = """Examples:

chromogen export my_marker.safetensors -o my_marker.onnx

chromogen stain slide.svs --where my_marker.onnx -o stained.ome.tif

onnxruntime then gives the same map, without Chromogen: sRGB uint8, 1 x 3 x height x width in, levels from 0 to 1
of squares of 16 px out. A slide's white and stain strengths are in other inputs, which have usual values; the
model's card is in the metadata."""


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `chromogen train` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.onnx", help="ONNX model to write.")],
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a model by `train --paired` as an ONNX model, for other programs to run."""
    from chromogen.app.paths import check_apart, check_folder
    from chromogen.staining.onnx_export import export_onnx
    from chromogen.staining.where_network import read_model

    check_apart([out], [model])
    check_folder(out.parent)
    facts = export_onnx(read_model(model), out)
    line = f"{facts['onnx']}: {facts['onnx_bytes'] / 1000:.0f} kB, opset {facts['opset']}\n{NOTICE.capitalize()}."
    print(json.dumps(facts) if as_json else line)
