"""`chromogen export`: a stainer as an ONNX model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chromogen.app.terminal import DebugOption, JsonOption
from chromogen.provenance import NOTICE

EPILOG = """Examples:

chromogen export my_stain.safetensors -o my_stain.onnx

chromogen export markers.safetensors --marker ER:0.7,Ki67:0.3 -o between.onnx

onnxruntime then makes the same picture, without Chromogen: sRGB uint8, batch x height x width x 3, in and out. A
slide's look is in other inputs, which have usual values; the model's card is in the metadata."""


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A file that `chromogen train` wrote.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE.onnx", help="ONNX model to write.")],
    marker: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Marker of a model of several: ER, or a blend, ER:0.7,Ki67:0.3."),
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a stainer as an ONNX model, for other programs to run."""
    from chromogen.app.paths import check_apart, check_folder
    from chromogen.onnx_models.export import export_onnx
    from chromogen.stainer_file import read_model

    check_apart([out], [model])
    check_folder(out.parent)
    facts = export_onnx(read_model(model), out, marker)
    line = f"{facts['onnx']}: {facts['onnx_bytes'] / 1000:.0f} kB, opset {facts['opset']}\n{NOTICE.capitalize()}."
    print(json.dumps(facts) if as_json else line)
