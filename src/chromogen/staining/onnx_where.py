"""*Where* by a model trained elsewhere: an ONNX file that gives a map of a window of H&E."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import choose, expected, short
from chromogen.image import Image, scaled
from chromogen.pixel_size import check_mpp
from chromogen.staining.maps import Array
from chromogen.staining.onnx_file import RANGES, Port, port_of, whole_model
from chromogen.staining.onnx_generator import session
from chromogen.staining.tissue import MPP
from chromogen.staining.where import MULTIPLE_PX, Place, Where, map_of_network

if TYPE_CHECKING:
    from chromogen.staining.where_network import PairStains

ARGUMENT = "where"
CLAIM = "as a model that was trained elsewhere has it; Chromogen does not know how well it does"
LOOK = ("white", "strength")  # inputs with usual values: a slide's glass, and its haematoxylin and eosin
TRIAL_PX = (2 * MULTIPLE_PX, 3 * MULTIPLE_PX)
TAKES = "a model that takes one RGB picture, float32 or uint8 [1, 3, H, W], of any H and W"
GIVES = "a model that gives one map from 0 to 1, float32 [1, 1, h, w] with H a multiple of h and W of w"


@dataclass(frozen=True)
class WhereModel:
    """A model by its file, which must have this hash. It sees H&E at `mpp` um/px, in numbers of `value_range`."""

    file: str
    sha256: str
    mpp: float
    value_range: str

    def map_of(self, place: Place) -> Array:
        """What the model gives for a window; what its pixels are too coarse to say, the tissue's edges say."""
        seen = scaled(place.image, MPP / self.mpp)
        return map_of_network(partial(_predicted, self, look=place.look.where), seen, place)

    def measure(self, sample: Image) -> Any:
        """White and strengths of the slide's stains, where the model has inputs for both; else nothing."""
        from chromogen.staining.where_network import slide_stains

        return slide_stains(sample) if _loaded(self.file, self.sha256).takes_look else None


@dataclass(frozen=True)
class Loaded:
    """A model that runs, the picture that it takes, and whether it takes a slide's look."""

    running: Any
    source: Port
    takes_look: bool


def read_where_model(file: Path, mpp: float | None = None) -> Where:
    """The source that a model in an ONNX file is, trained on H&E of `mpp` um/px: what the file states, or MPP.

    Its metadata may state `mpp` and `range`, one of RANGES; floats are 0..1 by default. It is tried once. Raises:
    FileNotFoundError; ValueError for what is no such model, or without the extra `onnx`; ArithmeticError where it
    gives what is no number.
    """
    found, _, sha256 = whole_model(file, ARGUMENT)
    source = _source(file, found)
    said = {prop.key: prop.value for prop in found.metadata_props}
    value_range = "0..255" if source.dtype == "uint8" else choose("range", said.get("range", "0..1"), RANGES)
    try:
        stated = float(said.get("mpp", MPP)) if mpp is None else mpp
    except ValueError:
        stated = 0.0
    check_mpp("mpp", stated)
    model = WhereModel(str(file.absolute()), sha256, stated, value_range)
    _predicted(model, np.full((*TRIAL_PX, 3), 200, np.uint8))
    identity = f"model {sha256}, {stated:g} um/px, {value_range}"
    facts = json.dumps({"sha256": sha256, "mpp": stated})
    return Where("model", CLAIM, identity, model.map_of, model.measure, facts)


def _source(file: Path, model: Any) -> Port:
    """The only input that has no value of its own."""
    valued = {tensor.name for tensor in model.graph.initializer}
    needed = [port_of(value) for value in model.graph.input if value.name not in valued]
    fits = len(needed) == 1 and needed[0].layout == "NCHW" and needed[0].dtype in ("float32", "uint8")
    if not fits or needed[0].sides_px != (None, None):
        got = f"inputs {'; '.join(map(str, needed)) or 'none'} in {str(file)!r}"
        raise expected(ARGUMENT, TAKES, got, "export it with free height and width")
    return needed[0]


@lru_cache(maxsize=2)
def _loaded(file: str, sha256: str) -> Loaded:
    """Once a process. Raises: ValueError where the file is another by now."""
    model, content, found = whole_model(Path(file), ARGUMENT)
    if found != sha256:
        got = found[:12]
        raise expected(ARGUMENT, f"the file with hash {sha256[:12]}", got, "do not change it under way")
    takes_look = {value.name for value in model.graph.input}.issuperset(LOOK)
    return Loaded(session(Path(file), content, ARGUMENT), _source(Path(file), model), takes_look)


def _predicted(model: WhereModel, image: Image, look: PairStains | None = None) -> Array:
    """What the model gives for an image, (h, w). Raises: as `read_where_model`."""
    loaded = _loaded(model.file, model.sha256)
    running, source = loaded.running, loaded.source
    low, high = RANGES[model.value_range]
    picture: NDArray[Any] = np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    if source.dtype == "float32":
        picture = picture * np.float32((high - low) / 255) + np.float32(low)
    told = {name: np.array(getattr(look, name), np.float32) for name in LOOK if look is not None}
    try:
        found = np.asarray(running.run([running.get_outputs()[0].name], {source.name: picture, **told})[0])
    except Exception as error:  # onnxruntime's own have no other base
        got = f"{model.file!r}, which does not run on {image.shape[1]} x {image.shape[0]} px ({short(error)})"
        raise expected(ARGUMENT, TAKES, got) from error
    return _checked(model.file, found, image.shape)


def _checked(file: str, found: NDArray[Any], given: tuple[int, ...]) -> Array:
    """The map in what came out. Raises: ValueError for another shape or values; ArithmeticError for NaN."""
    height, width = given[:2]
    sides = found.shape[2:] if found.ndim == 4 and found.shape[:2] == (1, 1) else ()
    if not sides or min(sides) < 1 or height % sides[0] or width % sides[1] or found.dtype.kind != "f":
        got = f"{found.dtype} {list(found.shape)} for {width} x {height} px by {file!r}"
        raise expected(ARGUMENT, GIVES, got)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"The model {file!r} gave what is no number (NaN or infinite).")
    lowest, highest = float(found.min()), float(found.max())
    if lowest < 0 or highest > 1:
        got = f"values from {lowest:.3g} to {highest:.3g} by {file!r}"
        raise expected(ARGUMENT, GIVES, got, "end it with a sigmoid")
    return np.asarray(found[0, 0], np.float32)
