"""A network that sees nuclei, from an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected, short
from chromogen.image import PathLike
from chromogen.nuclei.contract import MULTIPLE_PX, STRIDE_PX, Network, Prediction, prediction_of
from chromogen.nuclei.outlines import RAYS
from chromogen.onnx_models.generator import session
from chromogen.onnx_models.onnx_file import Port, port_of, whole_model

ARGUMENT = "network"
TRIAL_PX = (5 * MULTIPLE_PX, 7 * MULTIPLE_PX)  # height and width of what every model is tried on
TAKES = "a network that takes densities, float32 [1, 3, H, W], of any H and W"
GIVES = f"a network that gives float32 [1, {1 + RAYS}, H / {STRIDE_PX}, W / {STRIDE_PX}]"


def nucleus_network(file: PathLike) -> Network:
    """The network of an ONNX file, for `find_nuclei`, which says what it takes and gives. It is tried once.

    Raises: FileNotFoundError; ValueError for what is no such model, or without the extra `onnx`; ArithmeticError
    where it gives what is no number.
    """
    path = Path(file)
    model, content, _ = whole_model(path, ARGUMENT)
    source = _source(path, model)
    running = session(path, content, ARGUMENT)
    made = running.get_outputs()[0].name

    def predict(densities: NDArray[Any]) -> Prediction:
        given = np.ascontiguousarray(densities, np.float32)
        try:
            (found,) = running.run([made], {source.name: given})
        except Exception as error:  # onnxruntime's own have no other base
            height, width = given.shape[2:]
            got = f"{str(path)!r}, which does not run on {width} x {height} px ({short(error)})"
            raise expected(ARGUMENT, TAKES, got) from error
        return prediction_of(_checked(path, np.asarray(found), given.shape))

    predict(np.full((1, 3, *TRIAL_PX), 0.1, np.float32))
    return predict


def _source(path: Path, model: Any) -> Port:
    """The only input that has no value of its own."""
    valued = {tensor.name for tensor in model.graph.initializer}
    needed = [port_of(value) for value in model.graph.input if value.name not in valued]
    fits = len(needed) == 1 and needed[0].dtype == "float32" and _is_any_size(needed[0].shape)
    if not fits:
        got = f"inputs {'; '.join(map(str, needed)) or 'none'} in {str(path)!r}"
        raise expected(ARGUMENT, TAKES, got, "export it with free height and width")
    return needed[0]


def _is_any_size(shape: tuple[int | None, ...]) -> bool:
    return len(shape) == 4 and shape[0] in (1, None) and shape[1] in (3, None) and shape[2:] == (None, None)


def _checked(path: Path, found: NDArray[Any], given: tuple[int, ...]) -> NDArray[np.float32]:
    """What came out. Raises: ValueError for another shape or type; ArithmeticError for NaN or infinity."""
    height, width = given[2:]
    wanted = (1, 1 + RAYS, height // STRIDE_PX, width // STRIDE_PX)
    if found.shape != wanted or found.dtype != np.float32:
        got = f"{found.dtype} {list(found.shape)} for {width} x {height} px by {str(path)!r}"
        raise expected(ARGUMENT, GIVES, got)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"The network {str(path)!r} gave what is no number (NaN or infinite).")
    return np.ascontiguousarray(found)
