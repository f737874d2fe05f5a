"""VGG's convolutions, ReLUs and pools as one differentiable step, with a backward pass of its own.

Autograd would keep a second gradient wherever a loss looks at a layer, and reorder every kernel at every step.
The derivative with respect to the input of a 3 x 3 convolution with padding 1 is the convolution with the kernel
turned by half a circle, so both ways run on kernels laid out once; oneDNN fuses bias and ReLU into the first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

ONES = (1, 1)
aten = torch.ops.aten


@dataclass(frozen=True)
class Convolution:
    """A 3 x 3 convolution ready to run: its kernel, bias and kernel for the way back, laid out for the device."""

    kernel: Tensor
    bias: Tensor
    back: Tensor
    fused: bool


def lay_out(kernel: Tensor, bias: Tensor) -> Convolution:
    """Prepare a kernel (out, in, 3, 3) and bias (out,), already on their device and in their dtype."""
    back = kernel.flip(2, 3).transpose(0, 1)
    fused = has_fused_convolution(kernel.device)
    order = _reordered if fused else _channels_last
    return Convolution(order(kernel), bias, order(back), fused)


def has_fused_convolution(device: torch.device) -> bool:
    """Whether torch carries oneDNN's convolution with a fused ReLU for this device (x86 and ARM builds do)."""
    built = device.type == "cpu" and torch.backends.mkldnn.is_available()
    return built and hasattr(torch.ops.mkldnn, "_convolution_pointwise")


def _channels_last(kernel: Tensor) -> Tensor:
    return kernel.contiguous(memory_format=torch.channels_last)


def _reordered(kernel: Tensor) -> Tensor:
    reordered: Tensor = torch.ops.mkldnn._reorder_convolution_weight(_channels_last(kernel), ONES, ONES, ONES, 1)
    return reordered


def convolve_relu(x: Tensor, convolution: Convolution) -> Tensor:
    """ReLU of the convolution."""
    if convolution.fused:
        return _fused(x, convolution.kernel, convolution.bias, "relu")
    return F.conv2d(x, convolution.kernel, convolution.bias, padding=1).relu_()


def convolve_back(gradient: Tensor, convolution: Convolution) -> Tensor:
    """From the derivative with respect to a convolution's output, that with respect to its input."""
    if convolution.fused:
        return _fused(gradient, convolution.back, None, "none")
    return F.conv2d(gradient, convolution.back, padding=1)


def _fused(x: Tensor, kernel: Tensor, bias: Tensor | None, activation: str) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, kernel, bias, ONES, ONES, ONES, 1, activation, [], ""
    )
    return result


def pool(x: Tensor, pooling: str) -> tuple[Tensor, Tensor | None]:
    """Halve both sides by "max" or "average"; for max also which position won."""
    if pooling == "average":
        return F.avg_pool2d(x, 2), None
    return F.max_pool2d(x, 2, return_indices=True)


def pool_back(gradient: Tensor, x: Tensor, winners: Tensor | None) -> Tensor:
    """From the derivative with respect to a pool's output, that with respect to its input `x`."""
    window = ((2, 2), (2, 2), (0, 0))
    if winners is None:
        spread: Tensor = aten.avg_pool2d_backward(gradient, x, *window, False, True, None)
    else:
        spread = aten.max_pool2d_with_indices_backward(gradient, x, *window, ONES, False, winners)
    return spread


class Trunk(torch.autograd.Function):
    """(B, 3, H, W) standardized, and the convolutions to run in turn -> the activations of those looked at."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, convolutions: Mapping[str, Convolution], looked_at: Collection[str], pooling: str
    ) -> tuple[Tensor, ...]:
        """`convolutions` by name, "1_1" first; one called "x_1" comes after a pool, but for the first."""
        activations: dict[str, Tensor] = {}
        winners: dict[str, Tensor | None] = {}
        for name, convolution in convolutions.items():
            if name.endswith("_1") and activations:
                x, winners[name] = pool(x, pooling)
            x = activations[name] = convolve_relu(x, convolution)
        ctx.convolutions, ctx.looked_at = convolutions, tuple(looked_at)
        ctx.winners = winners
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*activations.values())
        return tuple(activations[name] for name in ctx.looked_at)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """Walk back from the deepest layer, adding what the losses ask for where they look."""
        activations = dict(zip(ctx.convolutions, ctx.saved_tensors, strict=True))
        asked = dict(zip(ctx.looked_at, gradients, strict=True))
        names = list(ctx.convolutions)
        flow: Tensor | None = None
        for name, before in zip(reversed(names), [*reversed(names[:-1]), None], strict=True):
            flow = _joined(flow, asked.get(name))
            if flow is None:
                continue
            flow = aten.threshold_backward(flow, activations[name], 0)
            flow = convolve_back(flow, ctx.convolutions[name])
            if before and name in ctx.winners:
                flow = pool_back(flow, activations[before], ctx.winners[name])
        return flow, None, None, None


def _joined(flow: Tensor | None, asked: Tensor | None) -> Tensor | None:
    """The gradient that came from deeper layers, ours to write on, plus the one a loss asks for here."""
    if flow is None or asked is None:
        return asked if flow is None else flow
    return flow.add_(asked)


def activations_at(
    x: Tensor, convolutions: Mapping[str, Convolution], looked_at: Sequence[str], pooling: str
) -> dict[str, Tensor]:
    """Activations by name of the convolutions looked at, x in the dtype of the kernels."""
    if not looked_at:
        return {}
    found = Trunk.apply(x, convolutions, looked_at, pooling)  # type: ignore[no-untyped-call]
    return dict(zip(looked_at, found, strict=True))
