"""Convolutions in 8-bit integers: twice as fast as fp32 where a processor has no units for bf16.

What goes in and out are bytes from 0 to `LEVELS`, of which `LEVELS` stands for a `peak` (Jacob et al. 2018). With
seven bits of them, and eight of the weights, AVX2 adds up two products without overflow, so every processor gets
the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import nn

from chromogen.compute.devices import Operator, gives, operator

if TYPE_CHECKING:
    from torch import Tensor

LEVELS, WEIGHT_LEVELS = 127, 127
CONVOLVE, PREPARE = "onednn.qconv2d_pointwise", "onednn.qconv_prepack"
ONE = (1, 1)


def has_integer_convolution(device: torch.device) -> bool:
    """Whether torch carries oneDNN's convolution of bytes here."""
    return device.type == "cpu" and _is_convolution(operator(CONVOLVE), operator(PREPARE))


@cache
def _is_convolution(_convolve: Operator | None, _prepare: Operator | None) -> bool:
    """Whether both operators together are a convolution, a bias and a ReLU."""
    given = torch.arange(72.0).view(1, 3, 4, 6)
    weights, bias = torch.arange(-27.0, 27.0).view(2, 3, 3, 3), torch.tensor([5.0, -5.0])
    weights.view(2, -1)[:, 0] = WEIGHT_LEVELS  # which makes the step between weights 1
    convolution = nn.Conv2d(3, 2, 3, padding=1)
    convolution.weight, convolution.bias = nn.Parameter(weights), nn.Parameter(bias)
    with torch.no_grad():
        wanted = F.conv2d(given, weights, bias, padding=1).relu_()
    return gives(wanted, lambda: IntegerConvolution(convolution, LEVELS, None)(bytes_of(given, LEVELS)))


def bytes_of(x: Tensor, peak: float) -> Tensor:
    """Numbers (B, C, H, W) from 0 to `peak` as bytes, channels-last; what is higher counts as the peak."""
    levels = (x * (LEVELS / peak)).round_().clamp_(0, LEVELS)
    return levels.to(torch.uint8, memory_format=torch.channels_last)


class IntegerConvolution(nn.Module):
    """ReLU of a 3 x 3 convolution, from bytes (B, C, H, W) up to peak `given` to bytes up to peak `made`.

    Where nothing is said to be `made`, to float32.
    """

    def __init__(self, convolution: nn.Conv2d, given: float, made: float | None) -> None:
        super().__init__()
        self.given_step, self.made_step = given / LEVELS, 1.0 if made is None else made / LEVELS
        self.made = torch.float32 if made is None else torch.uint8
        weight, self.bias = convolution.weight.detach(), cast("Tensor", convolution.bias).detach()
        self.around = convolution.dilation[0], convolution.dilation[1]
        self.steps = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / WEIGHT_LEVELS
        self.zeros = torch.zeros(len(self.steps), dtype=torch.int64)
        levels = (weight / self.steps.view(-1, 1, 1, 1)).round().to(torch.int8)
        prepare = cast("Operator", operator(PREPARE))
        self.weight = prepare(levels, self.steps, self.given_step, 0, ONE, self.around, self.around, 1, None)

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of the convolution."""
        convolve = cast("Operator", operator(CONVOLVE))
        weights, places = (self.weight, self.steps, self.zeros, self.bias), (ONE, self.around, self.around, 1)
        made: Tensor = convolve(
            x, self.given_step, 0, *weights, *places, self.made_step, 0, self.made, "relu", [], ""
        )
        return made if made.dtype == torch.float32 else made.clamp_(max=LEVELS)


def peaks_joined(peaks: Sequence[float], same: Sequence[tuple[int, int]]) -> list[float]:
    """Peaks where those of each pair are the higher of both: what is laid side by side has one step."""
    joined = list(peaks)
    for one, other in same:
        joined[one] = joined[other] = max(joined[one], joined[other])
    return joined
