"""The libraries of the extra `onnx`, loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from chromogen.errors import expected


def library(name: str) -> Any:
    """One of onnx, onnxscript, onnxruntime. Raises: ValueError where the extra is not installed."""
    try:
        return import_module(name)
    except ImportError as error:
        advice = "pip install 'chromogen[onnx]'"
        raise expected("ONNX models", "used with the extra `onnx`", f"no {name} in this Python", advice) from error
