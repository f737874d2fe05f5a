"""Where torch computes, in which precision, and with fused convolutions where torch has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from chromogen.errors import choose, expected

# On which device torch computes, and in which precision.

Operator: TypeAlias = Callable[..., Any]

PRECISIONS = ("auto", "fp32", "bf16")


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU; a device that is not there is a ValueError."""
    if device == "auto":
        return torch.device(_available()[0])
    name = device.partition(":")[0]
    choose("device", name, ("auto", "cpu", "cuda", "mps"))
    if name not in _available():
        raise expected("device", f"one this machine has ({', '.join(_available())})", device)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise expected("device", "auto, cpu, cuda, cuda:N or mps", device) from error
    if name == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise expected("device", f"below cuda:{torch.cuda.device_count()}", device)
    return chosen


def _available() -> list[str]:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, available in there.items() if available]


def choose_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 where the processor or GPU computes it in hardware.

    Raises: ValueError for bf16 on a processor whose vectors are too short for it (x86 without AVX-512).
    """
    choose("precision", precision, PRECISIONS)
    if precision == "bf16" and not can_bf16(device):
        raise expected(
            "precision", "fp32 or auto on this processor, which has no instructions for bf16", precision
        )
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device) else "fp32"


AVX_512 = ("avx512_bw", "avx512_vl", "avx512_dq")  # what oneDNN's bf16 takes at least on x86
# By torch's public names of what a processor has: its probes, which are private, and older.
PROBES = {"amx_tile": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}


def can_bf16(device: torch.device) -> bool:
    """Whether torch has bf16 convolutions for this device that are not a hundred times slower than fp32."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return True
    if probe := operator("mkldnn._is_mkldnn_bf16_supported"):
        return bool(probe())
    known, has_avx_512 = _capabilities(), torch.backends.cpu.get_cpu_capability() == "AVX512"
    return bool(known.get("bf16")) or all(known.get(name, has_avx_512) for name in AVX_512)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and any(_has(name) for name in PROBES)


def _has(name: str) -> bool:
    """Whether the processor has a capability; where torch has neither probe nor name for it, no."""
    probe: Callable[[], bool] | None = getattr(torch.cpu, PROBES[name], None)
    return bool(probe() if probe else _capabilities().get(name))


def _capabilities() -> Mapping[str, Any]:
    """What the processor has, by torch's names for it; nothing where torch is too old to say."""
    public: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return public()


def operator(name: str) -> Operator | None:
    """One of torch's by its name, if torch has it."""
    try:
        found: Operator = attrgetter(name)(torch.ops)
    except (AttributeError, RuntimeError):
        return None
    return found


# oneDNN's convolution with bias and ReLU in one, where torch carries it: ReLU alone takes as long in bf16.

POINTWISE, REORDER = "mkldnn._convolution_pointwise", "mkldnn._reorder_convolution_weight"
ONE = (1, 1)


def has_fused_convolution(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch carries oneDNN's convolution with a fused ReLU here (x86 and ARM builds do), in a dtype."""
    there = device.type == "cpu" and torch.backends.mkldnn.is_available()
    return there and _is_fused(operator(POINTWISE), operator(REORDER), dtype)


def fused_convolution(
    x: Tensor, kernel: Tensor, bias: Tensor | None, activation: str, around: tuple[int, int] = ONE
) -> Tensor:
    """A convolution and its activation, `relu` or `none`; `around` is padding and dilation along both sides."""
    convolve = cast("Operator", operator(POINTWISE))
    result: Tensor = convolve(x, kernel, bias, around, ONE, around, 1, activation, [], "")
    return result


def reordered(kernel: Tensor, shape: torch.Size, around: tuple[int, int] = ONE) -> Tensor:
    """A kernel laid out for inputs of a shape (B, C, H, W)."""
    result: Tensor = cast("Operator", operator(REORDER))(kernel, around, ONE, around, 1, shape)
    return result


def gives(wanted: Tensor, way: Callable[[], Tensor]) -> bool:
    """Whether a way that may not be there gives what is wanted."""
    try:
        return torch.equal(way(), wanted)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False


def test_ramp(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers of either sign, channels last, that add up exactly in every dtype."""
    numbers = torch.arange(math.prod(shape), device=device) % 7 - 3
    return numbers.view(*shape).to(dtype).contiguous(memory_format=torch.channels_last)


@cache
def _is_fused(_pointwise: Operator | None, _reorder: Operator | None, dtype: torch.dtype) -> bool:
    """Whether both operators together are a convolution, a bias and a ReLU."""
    x, kernel = (test_ramp(shape, dtype, torch.device("cpu")) for shape in ((1, 3, 4, 6), (2, 3, 3, 3)))
    bias = kernel[:, 0, 0, 0].contiguous()
    wanted = F.conv2d(x, kernel, bias, padding=1).relu_()
    return gives(wanted, lambda: fused_convolution(x, reordered(kernel, x.shape), bias, "relu"))
