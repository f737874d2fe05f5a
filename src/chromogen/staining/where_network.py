"""The network that learns *where* from pairs, its file, and the same as an ONNX model for other programs."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from chromogen.errors import expected, missing, short
from chromogen.files import write_whole
from chromogen.image import Image
from chromogen.models import MODEL_SUFFIX
from chromogen.provenance import NOTICE, __version__, versions
from chromogen.staining.looks import UNREADABLE, Look, look_of_record, record_of_look
from chromogen.staining.maps import Array
from chromogen.staining.onnx_file import CARD, SUFFIX, library
from chromogen.staining.tissue import MPP
from chromogen.stains.deconvolution import H_E, White, blurred, optical_density, stain_strength
from chromogen.stains.glass import white_level

# The network of `train --paired`: where a marker lies in an H&E, as far as pairs of H&E and IHC taught it.

CELL_PX = 4  # of a picture at MPP: a cell of features is 2 um wide
CELLS = 4  # of features along a side of a pixel of the map, which is 8 um wide
STRIDE_PX = CELL_PX * CELLS
AROUND_CELLS = (1.0, 2.0, 4.0, 8.0)  # sigmas of the Gaussians through which the surroundings are seen
MAPS = 4  # haematoxylin, eosin, mean density, grain of haematoxylin
FEATURES = MAPS * (1 + len(AROUND_CELLS))
UNMIXING = np.linalg.inv(H_E)
USUAL_STRENGTH = (1.5, 1.0)  # of haematoxylin and eosin, where a slide shows neither
MIN_VARIANCE = 1e-8  # whose root has a gradient


@dataclass(frozen=True)
class PairStains:
    """What must be the same over a slide: its white (3,), 0 to 255, and both stains' strengths (2,), natural."""

    white: tuple[float, ...]
    strength: tuple[float, ...]


def slide_stains(sample: Image) -> PairStains:
    """The stains of a slide, from uint8 (H, W, 3) of its tissue."""
    white = white_level(sample)
    strength = stain_strength(sample, H_E, white)
    found = np.where(strength > 0, strength, USUAL_STRENGTH)
    return PairStains(tuple(map(float, white)), tuple(map(float, found)))


@dataclass(frozen=True)
class Architecture:
    """The network as data: `depth` layers of `width` channels."""

    width: int = 32
    depth: int = 2

    def __post_init__(self) -> None:
        if not (1 <= self.width <= 1024 and 1 <= self.depth <= 16):
            raise expected("network", "of 1 to 16 layers of 1 to 1024 channels", asdict(self))


class WhereNetwork(nn.Module):
    """Features (B, FEATURES, h, w) -> levels of DAB, 0 to 1, (B, 1, h / CELLS, w / CELLS).

    `mean` and `std` (1, FEATURES, 1, 1) standardize the features; they are those of the training's tissue.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.register_buffer("mean", torch.zeros(1, FEATURES, 1, 1))
        self.register_buffer("std", torch.ones(1, FEATURES, 1, 1))
        sizes = [FEATURES, *[architecture.width] * architecture.depth]
        hidden = [layer for a, b in pairwise(sizes) for layer in (nn.Conv2d(a, b, 1), nn.ReLU(inplace=True))]
        self.body = nn.Sequential(*hidden, nn.Conv2d(architecture.width, 1, 1))

    def forward(self, features: Tensor) -> Tensor:
        """The levels."""
        level: Tensor = self.body((features - self.mean) / self.std).sigmoid()
        return F.avg_pool2d(level, CELLS)


def features_of(density: Tensor, strength: Tensor) -> Tensor:
    """What the network sees, (B, FEATURES, H / 4, W / 4), of natural densities (B, 3, H, W).

    `strength` (2,) is that of the slide's haematoxylin and eosin.
    """
    hematoxylin, eosin = (_mixed(density, weights) / strength[i] for i, weights in enumerate(UNMIXING.T[:2]))
    mean, square = (F.avg_pool2d(x, CELL_PX) for x in (hematoxylin, hematoxylin.square()))
    grain = (square - mean.square()).clamp_min(MIN_VARIANCE).sqrt()
    others = (F.avg_pool2d(x, CELL_PX) for x in (eosin, density.mean(1, keepdim=True)))
    here = torch.cat([mean, *others, grain], 1)
    return torch.cat([here, *(blurred(here, sigma) for sigma in AROUND_CELLS)], 1)


def _mixed(density: Tensor, weights: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Tensor:
    red, green, blue = density.split(1, 1)
    amount: Tensor = red * float(weights[0]) + green * float(weights[1]) + blue * float(weights[2])
    return amount


def density_from(image: Image, white: White) -> Tensor:
    """Natural densities over white (1, 3, H, W) of uint8 (H, W, 3), by a table."""
    levels = optical_density(np.arange(256)[:, None], white).astype(np.float32).T
    density = np.empty((1, 3, *image.shape[:2]), np.float32)
    for channel, level in enumerate(levels):  # all are in the table: `clip` spares the question
        np.take(level, image[..., channel], out=density[0, channel], mode="clip")
    return torch.from_numpy(density)


@torch.inference_mode()
def level_map(network: WhereNetwork, image: Image, stains: PairStains) -> Array:
    """Levels (H / 16, W / 16), 0 to 1, of an image at MPP, uint8 (H, W, 3) with sides in multiples of 16 px."""
    features = features_of(density_from(image, stains.white), torch.tensor(stains.strength))
    return np.asarray(network(features)[0, 0].numpy(), np.float32)


# Models of pairs in files: the network that says *where*, the look of the pairs' IHC, and what a reader asks.

FORMAT = 1
HEADER, OLD_HEADER = "chromogen-where", "chromogen-stainer"
CLAIM = (
    "where the marker lies in tissue like that of its pairs, as far as these taught it and no finer than they "
    "fit; not which single cell expresses it"
)
WANTED = "a model that chromogen train --paired wrote"
MAX_WEIGHTS = 50_000_000


@dataclass(frozen=True)
class Model:
    """A network as data, the look of its pairs' IHC, and what it was trained on.

    `training` is its record: steps, losses, pairs. `data` names what it was trained on, files by their SHA-256
    alone. Raises: ValueError for weights that are not finite.
    """

    name: str
    architecture: Architecture
    weights: Mapping[str, Tensor] = field(repr=False)
    look: Look = field(repr=False)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=versions)
    notice: str = NOTICE

    def __post_init__(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.weights.values()):
            raise expected("weights", "finite", "some that are not", "train it anew")

    @property
    def facts(self) -> dict[str, Any]:
        """All but the weights, as JSON has it."""
        named = {name: getattr(self, name) for name in _FACTS}
        told = {**named, "architecture": asdict(self.architecture), "look": record_of_look(self.look)}
        facts: dict[str, Any] = json.loads(json.dumps(told))
        return facts

    @property
    def sha256(self) -> str:
        """The hash of facts and weights: what the file says, and so what it answers."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode())
        for name, weight in sorted(self.weights.items()):
            digest.update(f"{name} {list(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def claim(self) -> str:
        """What the model may claim, and what that rests on."""
        return f"{CLAIM}: {self.training['evidence']}" if "evidence" in self.training else CLAIM

    def network(self) -> WhereNetwork:
        """The network. Raises: ValueError where the weights are another's."""
        made = WhereNetwork(self.architecture)
        try:
            made.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise expected("weights", f"those of {self.architecture}", short(error)) from error
        return made.eval().requires_grad_(False)

    def card(self) -> dict[str, Any]:
        """What `chromogen info` says."""
        count = sum(weight.numel() for weight in self.weights.values())
        look = {name: getattr(self.look, name) for name in ("target_stain", "source", "licence", "sha256")}
        told = {**self.facts, "look": {**look, "site": self.look.exemplar.site, "doubts": list(self.look.doubts)}}
        said = {"format": FORMAT, "sha256": self.sha256, "parameters": count, "claim": self.claim, "mpp": MPP}
        return {**told, "target_stain": self.look.target_stain, **said}


_FACTS = ("name", "training", "data", "software", "notice")


def write_model(path: Path, model: Model) -> None:
    """Write a model as .safetensors. Raises: ValueError for another suffix, OSError where it cannot be written."""
    check_suffix(path)
    said = json.dumps({"format": FORMAT, "sha256": model.sha256, "facts": model.facts})
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.weights.items()}
    write_whole(path, save(weights, {HEADER: said}))


def check_suffix(path: Path) -> None:
    """ValueError for what is no name of a model."""
    if path.suffix != MODEL_SUFFIX:
        raise expected("model", f"a name ending in {MODEL_SUFFIX}", path)


def read_model(path: Path) -> Model:
    """Read a model and check it.

    Raises: FileNotFoundError; ValueError where a file is no model of pairs, of another version, truncated, or not
    as it was written.
    """
    if not path.is_file():
        raise missing("model", "an existing file", path, "name a file that `chromogen train` wrote")
    said, weights = _read(path)
    if said.get("format") != FORMAT:
        got = f"format {said.get('format')!r} in {str(path)!r}"
        raise expected("model", f"of format {FORMAT}", got, "a newer chromogen may read it")
    model = _model(path, said, weights)
    if model.sha256 != said.get("sha256"):
        raise expected("model", "as it was written", f"{str(path)!r}, which was changed or damaged", "get it anew")
    model.network()
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as opened:
            told = opened.metadata() or {}
            if HEADER not in told and OLD_HEADER in told:
                raise expected("model", WANTED, f"{str(path)!r} of an older kind", "train it anew on pairs")
            said = json.loads(told.get(HEADER, "null"))
            weights = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise expected("model", WANTED, f"{str(path)!r}, which is none, or truncated") from error
    if not isinstance(said, dict) or sum(weight.numel() for weight in weights.values()) > MAX_WEIGHTS:
        raise expected("model", WANTED, f"{str(path)!r}, which holds something else")
    return said, weights


def _model(path: Path, said: Mapping[str, Any], weights: dict[str, Tensor]) -> Model:
    try:
        facts = said["facts"]
        architecture = Architecture(**facts["architecture"])
        look = look_of_record(dict(facts["look"]))
        return Model(
            architecture=architecture, look=look, weights=weights, **{name: facts[name] for name in _FACTS}
        )
    except UNREADABLE as error:
        raise expected("model", f"{WANTED}, whole", f"{str(path)!r} ({short(error)})", "get it anew") from error


def trained_weights(network: WhereNetwork) -> dict[str, Tensor]:
    """What of a network goes into a model, in float32 on the CPU."""
    return {k: v.detach().to("cpu").float().clone() for k, v in network.state_dict().items()}


# A model of pairs as an ONNX model, which gives the same map without Chromogen and without torch.

OPSET = 18
LOOK = {"white": torch.full((3,), 255.0), "strength": torch.tensor(USUAL_STRENGTH)}
HOW = (
    "image: H&E, sRGB uint8 [1, 3, H, W] at mpp um/px, H and W multiples of stride_px; level: the level of DAB, "
    "0 to 1, [1, 1, H / stride_px, W / stride_px]. white [3] and strength [2], float32, are the colour of the "
    "slide's glass, and the strengths of its haematoxylin and eosin in natural density; what is left out has a "
    "usual value."
)


def export_onnx(model: Model, path: Path) -> dict[str, Any]:
    """Write a model as an ONNX model, with all it says of itself in the metadata; the facts.

    The only needed input is the image; a slide's stains are in others, which have a usual value.
    Raises: ValueError for another suffix, or without the extra `onnx`; OSError where it cannot be written.
    """
    if path.suffix != SUFFIX:
        raise expected("out", f"a name ending in {SUFFIX}", path)
    made = _traced(_OfImages(model.network()))
    _stripped(made)
    _say(made, model)
    library("onnx").checker.check_model(made)
    content = made.SerializeToString()
    write_whole(path, content)
    return {"onnx": str(path), "onnx_bytes": len(content), "opset": OPSET}


class _OfImages(nn.Module):
    """Levels of sRGB uint8 (1, 3, H, W), as `level_map` finds them, by the fields of `SlideStains`."""

    def __init__(self, network: WhereNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, white: Tensor, strength: Tensor) -> Tensor:
        level: Tensor = self.network(features_of(_densities(image, white), strength))
        return level


def _densities(image: Tensor, white: Tensor) -> Tensor:
    """Natural densities (1, 3, H, W) over white, by a table made in double precision."""
    levels = torch.arange(1, 257, dtype=torch.float64)[:, None]
    table = -(levels / (white.double() + 1)).log().float()
    channels = [nn.functional.embedding(image[:, c].int(), table[:, c : c + 1])[..., 0] for c in range(3)]
    return torch.stack(channels, 1)


def _traced(module: nn.Module) -> Any:
    """The model for an image of any size."""
    library("onnxscript")
    image = torch.zeros(1, 3, 5 * STRIDE_PX, 7 * STRIDE_PX, dtype=torch.uint8)
    free = {2: STRIDE_PX * torch.export.Dim("rows", min=2), 3: STRIDE_PX * torch.export.Dim("columns", min=2)}
    with _quietly():
        program = torch.onnx.export(
            module.eval(),
            (image, *LOOK.values()),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=["image", *LOOK],
            output_names=["level"],
            dynamic_shapes=(free, *[None] * len(LOOK)),
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
    for value, names in ((made.graph.input[0], ("height", "width")), (made.graph.output[0], ("rows", "columns"))):
        for side, name in zip(value.type.tensor_type.shape.dim[2:], names, strict=True):
            side.dim_param = name
    for value in (*made.graph.input, *made.graph.output):
        del value.metadata_props[:]


def _say(made: Any, model: Model) -> None:
    """Give the look's inputs their values, and the file its card."""
    onnx = library("onnx")
    for name, value in LOOK.items():
        made.graph.initializer.append(onnx.numpy_helper.from_array(value.numpy(), name))
    made.producer_name, made.producer_version = "chromogen", __version__
    made.doc_string = f"{model.notice}. {HOW}"
    said = {
        "name": model.name,
        "target_stain": model.look.target_stain,
        "mpp": MPP,
        "claim": model.claim,
        "notice": model.notice,
        "sha256": model.sha256,
        "how": HOW,
        "stride_px": STRIDE_PX,
        CARD: json.dumps(model.card()),
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
