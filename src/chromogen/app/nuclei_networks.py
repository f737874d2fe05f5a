"""Which network sees nuclei: the one that comes with Chromogen, or a user's."""

from __future__ import annotations

from pathlib import Path

from chromogen.nuclei.find import built_in
from chromogen.provenance import sha256_of
from chromogen.whole_slide.nuclei import NamedNetwork


def named_network(file: Path | None) -> NamedNetwork:
    """The network of an ONNX file, or Chromogen's.

    Raises: FileNotFoundError; ValueError for what is no such model.
    """
    if file is None:
        from chromogen.nuclei.outlines import WEIGHTS

        return NamedNetwork(built_in(), "built-in", sha256_of(WEIGHTS))
    from chromogen.staining.onnx_file import whole_model
    from chromogen.staining.onnx_generator import ARGUMENT, nucleus_network

    return NamedNetwork(nucleus_network(file), file.name, whole_model(file, ARGUMENT)[2])
