"""oneDNN's convolution with bias and ReLU in one, where torch carries it: ReLU alone takes as long in bf16.

torch documents none of the operators that are taken by name as public. So each is tried once, whether it gives
what the public way gives; where it does not, in another build or a later torch, the public way is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from chromogen.devices import Operator, operator

POINTWISE, REORDER = "mkldnn._convolution_pointwise", "mkldnn._reorder_convolution_weight"
ONE = (1, 1)


def has_fused_convolution(device: torch.device) -> bool:
    """Whether torch carries oneDNN's convolution with a fused ReLU for this device (x86 and ARM builds do)."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and fuses(torch.float32)


def fuses(dtype: torch.dtype) -> bool:
    """The same of a dtype."""
    return _is_fused(operator(POINTWISE), operator(REORDER), dtype)


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
