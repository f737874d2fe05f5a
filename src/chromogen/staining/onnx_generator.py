"""Networks of others in ONNX files: generators, networks that see nuclei, and models that say *where*."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.tiles import SlidingWindow
from chromogen.errors import choose, expected, short
from chromogen.image import Image, PathLike, scaled
from chromogen.nuclei.outlines import MULTIPLE_PX, RAYS, STRIDE_PX, Network, Prediction, prediction_of
from chromogen.pixel_size import check_mpp
from chromogen.staining.maps import Array
from chromogen.staining.onnx_file import RANGES, OnnxFile, Port, library, needed_ports, read_onnx, whole_model
from chromogen.staining.tissue import MPP
from chromogen.staining.where import MAP_MULTIPLE_PX, Place, Where, check_unchanged, map_of_network

if TYPE_CHECKING:
    from chromogen.staining.where_network import PairStains

# A generator trained elsewhere, in an ONNX file, as a stainer of tiles and whole slides.

BLENDED = 4  # windows overlap by this part of theirs, if nothing else is said
QUIET = 4  # what onnxruntime says of a model comes as an exception


@dataclass(frozen=True)
class Generator:
    """A generator by its file, which must have this hash, and the range of its numbers: small, to be sent."""

    file: str
    sha256: str
    range: str

    def paint(self, image: Image, _statistics: object = None, _location: tuple[int, int] = (0, 0)) -> Image:
        """What the generator makes of a window, uint8 (H, W, 3).

        Raises: ValueError if its file has changed, or for a picture of another size; RuntimeError;
        FloatingPointError for NaN or infinity.
        """
        return _loaded(self).painted(image)


def read_generator(
    file: PathLike, model_mpp: float | None, value_range: str | None, blend_px: int | None
) -> tuple[Generator, float, SlidingWindow]:
    """The generator of an ONNX file, the pixel size in um it was trained at, and the windows it sees.

    It is tried once. Arguments and errors: as `Stainer.from_pretrained`.
    """
    found = read_onnx(Path(file).absolute())
    mpp = _mpp(found, model_mpp)
    generator = Generator(str(found.path), found.sha256, _range(found, value_range))
    windows = SlidingWindow(
        found.window_px, found.window_px // BLENDED if blend_px is None else blend_px, found.fixed
    )
    generator.paint(_trial(found.window_px))
    return generator, mpp, windows


def _mpp(found: OnnxFile, given: float | None) -> float:
    try:
        mpp = float(found.metadata.get("mpp", "nan")) if given is None else given
    except ValueError:
        mpp = math.nan
    if not (math.isfinite(mpp) and mpp > 0):
        wanted = "given, in um: how large a pixel was in the pictures the generator was trained on"
        raise expected("model_mpp", wanted, "none" if given is None else given, "about 0.5 for 20x, 0.25 for 40x")
    check_mpp("model_mpp", mpp)
    return mpp


def _range(found: OnnxFile, given: str | None) -> str:
    if given is None and found.range is None:
        wanted = f"given, one of {', '.join(RANGES)}, as the file does not tell it"
        raise expected("range", wanted, "none", "most of CUT, CycleGAN and pix2pix take -1..1")
    return choose("range", given or found.range or "", RANGES)


def _trial(side_px: int) -> Image:
    """A picture with all levels in it."""
    ramp = np.linspace(0, 255, side_px).astype(np.uint8)
    down, across = np.meshgrid(ramp, ramp, indexing="ij")
    return np.stack([across, down, across[:, ::-1]], 2)


@lru_cache(maxsize=4)
def _loaded(generator: Generator) -> Running:
    """Once a process."""
    found = read_onnx(Path(generator.file))
    check_unchanged("stainer", generator.sha256, found.sha256)
    running = session(found.path, found.content, "stainer")
    return Running(running, found.source, found.made, *RANGES[generator.range])


def session(path: Path, content: bytes, argument: str) -> Any:
    """An onnxruntime session on the processor, of one thread: blocks, or windows, are what runs side by side.

    `content` is all of a model's file, which was given by `argument`. Raises: ValueError where
    onnxruntime does not take the model.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = QUIET
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own have no other base
        got = f"{str(path)!r} ({short(error)})"
        raise expected(argument, "a model that onnxruntime takes", got) from error


@dataclass(frozen=True)
class Running:
    """A model that runs: what it is given, what it makes, and between which numbers."""

    session: Any
    source: Port
    made: Port
    low: float
    high: float

    def painted(self, image: Image) -> Image:
        """What becomes of an image, uint8 (H, W, 3). Raises: as `Generator.paint`."""
        found = self._made_of(image)
        return _pixels(_as_image(np.asarray(found), image.shape), self.low, self.high)

    def _made_of(self, image: Image) -> Any:
        """The picture as it comes out. Raises: RuntimeError."""
        given: NDArray[Any] = image[None] if self.source.layout == "NHWC" else image.transpose(2, 0, 1)[None]
        if self.source.dtype != "uint8":
            given = given * np.float32((self.high - self.low) / 255) + np.float32(self.low)
        given = np.ascontiguousarray(given.astype(self.source.dtype, copy=False))
        try:
            return self.session.run([self.made.name], {self.source.name: given})[0]
        except Exception as error:
            width, height = image.shape[1], image.shape[0]
            raise RuntimeError(
                f"The generator does not run on {width} x {height} px: {short(error).rstrip('.')}."
            ) from error


def _as_image(found: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """What came out, as (H, W, 3)."""
    height, width, channels = shape
    if found.shape == (1, channels, height, width):
        return np.moveaxis(found[0], 0, 2)
    if found.shape == (1, *shape):
        return np.asarray(found[0])
    wanted = f"a generator of RGB pictures as large as its input, {width} x {height} px"
    raise expected("stainer", wanted, f"an output of {list(found.shape)}")


def _pixels(found: NDArray[Any], low: float, high: float) -> Image:
    if found.dtype == np.uint8:
        return np.ascontiguousarray(found)
    if not np.isfinite(found).all():
        raise FloatingPointError("The generator made pixels that are no numbers (NaN or infinite); check --range.")
    scaled = (found.astype(np.float32) - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.rint(scaled).clip(0, 255), np.uint8)


# A network that sees nuclei, from an ONNX file.

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
    needed = needed_ports(model)
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


# *Where* by a model trained elsewhere: an ONNX file that gives a map of a window of H&E.

MODEL_CLAIM = "as a model that was trained elsewhere has it; Chromogen does not know how well it does"
LOOK = ("white", "strength")  # inputs with usual values: a slide's glass, and its haematoxylin and eosin
TRIAL_MAP_PX = (2 * MAP_MULTIPLE_PX, 3 * MAP_MULTIPLE_PX)
TAKES_PICTURE = "a model that takes one RGB picture, float32 or uint8 [1, 3, H, W], of any H and W"
GIVES_MAP = "a model that gives one map from 0 to 1, float32 [1, 1, h, w] with H a multiple of h and W of w"


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

        return slide_stains(sample) if _loaded_model(self.file, self.sha256).takes_look else None


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
    found, _, sha256 = whole_model(file, "where")
    source = _picture_port(file, found)
    said = {prop.key: prop.value for prop in found.metadata_props}
    value_range = "0..255" if source.dtype == "uint8" else choose("range", said.get("range", "0..1"), RANGES)
    try:
        stated = float(said.get("mpp", MPP)) if mpp is None else mpp
    except ValueError:
        stated = 0.0
    check_mpp("mpp", stated)
    model = WhereModel(str(file.absolute()), sha256, stated, value_range)
    _predicted(model, np.full((*TRIAL_MAP_PX, 3), 200, np.uint8))
    identity = f"model {sha256}, {stated:g} um/px, {value_range}"
    facts = json.dumps({"sha256": sha256, "mpp": stated})
    return Where("model", MODEL_CLAIM, identity, model.map_of, model.measure, facts)


def _picture_port(file: Path, model: Any) -> Port:
    """The only input that has no value of its own."""
    needed = needed_ports(model)
    fits = len(needed) == 1 and needed[0].layout == "NCHW" and needed[0].dtype in ("float32", "uint8")
    if not fits or needed[0].sides_px != (None, None):
        got = f"inputs {'; '.join(map(str, needed)) or 'none'} in {str(file)!r}"
        raise expected("where", TAKES_PICTURE, got, "export it with free height and width")
    return needed[0]


@lru_cache(maxsize=2)
def _loaded_model(file: str, sha256: str) -> Loaded:
    """Once a process. Raises: ValueError where the file is another by now."""
    model, content, found = whole_model(Path(file), "where")
    check_unchanged("where", sha256, found)
    takes_look = {value.name for value in model.graph.input}.issuperset(LOOK)
    return Loaded(session(Path(file), content, "where"), _picture_port(Path(file), model), takes_look)


def _predicted(model: WhereModel, image: Image, look: PairStains | None = None) -> Array:
    """What the model gives for an image, (h, w). Raises: as `read_where_model`."""
    loaded = _loaded_model(model.file, model.sha256)
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
        raise expected("where", TAKES_PICTURE, got) from error
    return _checked_map(model.file, found, image.shape)


def _checked_map(file: str, found: NDArray[Any], given: tuple[int, ...]) -> Array:
    """The map in what came out. Raises: ValueError for another shape or values; ArithmeticError for NaN."""
    height, width = given[:2]
    sides = found.shape[2:] if found.ndim == 4 and found.shape[:2] == (1, 1) else ()
    if not sides or min(sides) < 1 or height % sides[0] or width % sides[1] or found.dtype.kind != "f":
        got = f"{found.dtype} {list(found.shape)} for {width} x {height} px by {file!r}"
        raise expected("where", GIVES_MAP, got)
    if not np.isfinite(found).all():
        raise FloatingPointError(f"The model {file!r} gave what is no number (NaN or infinite).")
    lowest, highest = float(found.min()), float(found.max())
    if lowest < 0 or highest > 1:
        got = f"values from {lowest:.3g} to {highest:.3g} by {file!r}"
        raise expected("where", GIVES_MAP, got, "end it with a sigmoid")
    return np.asarray(found[0, 0], np.float32)
