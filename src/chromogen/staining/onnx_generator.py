"""Networks of others: generators, and networks that see nuclei."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.sliding_window import SlidingWindow
from chromogen.errors import choose, expected, short
from chromogen.image import Image, PathLike
from chromogen.nuclei.outlines import MULTIPLE_PX, RAYS, STRIDE_PX, Network, Prediction, prediction_of
from chromogen.pixel_size import check_mpp
from chromogen.staining.onnx_file import RANGES, OnnxFile, Port, library, port_of, read_onnx, whole_model

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
    if found.sha256 != generator.sha256:
        wanted, got = f"the one with hash {generator.sha256[:12]}", found.sha256[:12]
        raise expected("stainer", wanted, got, "do not change it under way")
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
