"""VGG's convolutions, ReLUs and pools as one differentiable function, with its own backward pass.

Autograd would keep a second gradient wherever a loss looks at a layer, and reorder every kernel at every step.
The derivative with respect to the input of a 3 x 3 convolution with padding 1 is the convolution with the kernel
turned by half a circle, so both ways run on kernels laid out once; oneDNN fuses bias and ReLU into the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from chromogen.compute.devices import (
    Operator,
    fused_convolution,
    gives,
    has_fused_convolution,
    operator,
    reordered,
    test_ramp,
)
from chromogen.style import winograd
from chromogen.style.gram import add_products_gradient, mean_products, position_shares, vectors_of

ONES = (1, 1)
WINDOW = ((2, 2), (2, 2), (0, 0))  # size, stride and padding of every pool
MAX_STRIPS = 32


class Convolution:
    """A 3 x 3 convolution with padding 1 and the gradient of its input, for inputs of any size.

    oneDNN wants kernels in an order that depends on the size of its input, and brings them into it at every call
    where they are not, which can take several times as long as the convolution itself. So each is laid out for
    the size it was used at last. Wide ones in fp32 are Winograd's where that is faster.
    """

    def __init__(self, kernel: Tensor, bias: Tensor) -> None:
        """From a kernel (out, in, 3, 3) and bias (out,), already on their device and in their dtype."""
        back = kernel.flip(2, 3).transpose(0, 1)
        self.kernel, self.back = (k.contiguous(memory_format=torch.channels_last) for k in (kernel, back))
        self.bias = bias
        self.fused = has_fused_convolution(kernel.device, kernel.dtype)
        self._laid_out: dict[str, tuple[torch.Size, Tensor]] = {}
        self._at_points: dict[str, Tensor] = {}

    @property
    def transformed_bytes(self) -> int:
        """What Winograd's kernels that were made so far take."""
        return sum(kernel.nbytes for kernel in self._at_points.values())

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of the convolution."""
        if winograd.pays(x, self.kernel):
            return winograd.convolve(x, self._transformed("kernel"), lambda band: band.add_(self.bias).relu_())
        if self.fused:
            return fused_convolution(x, self._laid("kernel", x.shape), self.bias, "relu")
        return F.conv2d(x, self.kernel, self.bias, padding=1).relu_()

    def input_grad(self, gradient: Tensor) -> Tensor:
        """From the derivative with respect to the convolution's output, that with respect to its input."""
        if winograd.pays(gradient, self.back):
            return winograd.convolve(gradient, self._transformed("back"), lambda band: band)
        if self.fused:
            return fused_convolution(gradient, self._laid("back", gradient.shape), None, "none")
        return F.conv2d(gradient, self.back, padding=1)

    def _transformed(self, way: str) -> Tensor:
        if way not in self._at_points:
            self._at_points[way] = winograd.transformed(getattr(self, way))
        return self._at_points[way]

    def _laid(self, way: str, shape: torch.Size) -> Tensor:
        latest = self._laid_out.get(way)
        if latest is None or latest[0] != shape:
            plain: Tensor = getattr(self, way)
            latest = self._laid_out[way] = shape, reordered(plain, shape)
        return latest[1]


# As in `fused`: each is tried once.
RELU_BACK = "aten.hardtanh_backward"  # its derivative is the same, and torch's own does not use vectors in bf16
AVERAGE_BACK, MAX_BACK = "aten.avg_pool2d_backward.grad_input", "aten.max_pool2d_with_indices_backward.grad_input"


def relu_backward(gradient: Tensor, activation: Tensor) -> Tensor:
    """From the derivative with respect to a ReLU's output, that with respect to its input."""
    back = operator(RELU_BACK)
    if back and _is_relu_backward(back, gradient.device, gradient.dtype):
        flow: Tensor = back(gradient, activation, 0, math.inf)
        return flow
    return torch.where(activation > 0, gradient, 0)


@cache
def _is_relu_backward(back: Operator, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether it lets through what is above zero."""
    activation = test_ramp((1, 2, 4, 6), dtype, device)
    gradient = activation.roll(1, 3)
    return gives(torch.where(activation > 0, gradient, 0), lambda: back(gradient, activation, 0, math.inf))


def strips_of(x: Tensor) -> int:
    """Into how many strips of whole 2 x 2 windows a channels-last batch can be cut without copying.

    torch's max pool goes back on one thread per image; strips seen as a batch of images use them all.
    """
    if not x.is_contiguous(memory_format=torch.channels_last):
        return 1
    return next(n for n in range(MAX_STRIPS, 0, -1) if n == 1 or x.shape[2] % (2 * n) == 0)


def as_batch(x: Tensor, strips: int) -> Tensor:
    """(B, C, H, W) as (B * strips, C, H / strips, W), the same memory."""
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).view(batch * strips, height // strips, width, channels)
    return rows.permute(0, 3, 1, 2)


def as_images(x: Tensor, batch: int) -> Tensor:
    """Undo `as_batch`."""
    _, channels, _, width = x.shape
    return x.permute(0, 2, 3, 1).view(batch, -1, width, channels).permute(0, 3, 1, 2)


def pool(x: Tensor, pooling: str) -> tuple[Tensor, Tensor | None]:
    """Halve both sides by "max" or "average"; for max also which position won, in the batch of strips."""
    if pooling == "average":
        return F.avg_pool2d(x, 2), None
    strips = strips_of(x)
    if strips == 1:
        return F.max_pool2d(x, 2, return_indices=True)
    pooled, winners = F.max_pool2d(as_batch(x, strips), 2, return_indices=True)
    return as_images(pooled, len(x)), winners


def pool_backward(gradient: Tensor, shape: Sequence[int], winners: Tensor | None) -> Tensor:
    """From the derivative with respect to a pool's output, that with respect to its input of this shape."""
    back = operator(AVERAGE_BACK if winners is None else MAX_BACK)
    if not (back and _is_pool_backward(back, winners is None, gradient.device, gradient.dtype)):
        return _pool_backward_in_public(gradient, shape, winners)
    x = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last)
    return _pool_backward_by(back, gradient, x, winners)


@cache
def _is_pool_backward(back: Operator, average: bool, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether it is a pool's backward pass, and writes where it is asked to."""
    x, gradient = test_ramp((1, 2, 5, 7), dtype, device), test_ramp((1, 2, 2, 3), dtype, device)
    winners = None if average else pool(x, "max")[1]
    wanted = _pool_backward_in_public(gradient, x.shape, winners)
    return gives(wanted, lambda: _pool_backward_by(back, gradient, x, winners))


def _pool_backward_by(back: Operator, gradient: Tensor, x: Tensor, winners: Tensor | None) -> Tensor:
    """Writes on x, of whose values none is looked at: it lends its memory to the result."""
    if winners is None:
        back(gradient, x, *WINDOW, False, True, None, grad_input=x)
        return x
    strips = len(winners) // len(x)
    parts, there = (gradient, x) if strips == 1 else (as_batch(gradient, strips), as_batch(x, strips))
    back(parts, there, *WINDOW, ONES, False, winners, grad_input=there)
    return x


def _pool_backward_in_public(gradient: Tensor, shape: Sequence[int], winners: Tensor | None) -> Tensor:
    """Every value goes to its window's four positions, a quarter to each, or to the one that won."""
    if winners is None:
        height, width = (side // 2 * 2 for side in shape[2:])
        x = gradient.new_zeros(tuple(shape))
        x[..., :height, :width] = (gradient / 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return x.contiguous(memory_format=torch.channels_last)
    batch, channels, height, width = shape
    strips = len(winners) // batch
    parts = gradient if strips == 1 else as_batch(gradient, strips)
    there = gradient.new_zeros(len(winners), channels, height // strips * width)
    there = there.scatter_(2, winners.flatten(2), parts.flatten(2)).unflatten(2, (height // strips, width))
    there = there.contiguous(memory_format=torch.channels_last)
    return there if strips == 1 else as_images(there, batch)


def add_gram_gradient(flow: Tensor | None, activations: Tensor, gradient: Tensor, shares: Tensor | None) -> Tensor:
    """Add to the gradient `flow` of activations that of their Gram matrix, whose own is given; in place."""
    given = None if flow is None else vectors_of(flow)
    rows = add_products_gradient(given, vectors_of(activations), gradient, shares)
    batch, channels, height, width = activations.shape
    return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


GramOf: TypeAlias = tuple[str, str | None]  # of which convolution or layer, and through which mask
Pooled: TypeAlias = "tuple[torch.Size, Tensor | None]"  # the input's shape, and which position won (max pools)


@dataclass(frozen=True)
class Saved:
    """What the backward pass needs from the forward pass, by the names of convolutions.

    `activations` are kept where a loss compares them, and `pools` behind convolutions. Elsewhere the backward pass
    only needs `signs`: anything that is positive where the activation is. ReLU and max pool commute, so a pool's
    output does where the pool hides the rest: a quarter of the values.
    """

    activations: dict[str, Tensor] = field(default_factory=dict)
    signs: dict[str, Tensor] = field(default_factory=dict)
    pools: dict[str, Pooled] = field(default_factory=dict)

    def take(self, name: str) -> Tensor | None:
        """The activations of a convolution, or what has their signs; they are no longer kept."""
        activations, signs = self.activations.pop(name, None), self.signs.pop(name, None)
        return signs if activations is None else activations


@dataclass(frozen=True)
class Asked:
    """What is asked for: the convolutions to run in turn, by name, "1_1" first, and what of them is given back.

    Each convolution called "x_1" but the first comes after a pool. `compared` are the activations that losses
    compare, `grams_of` the Gram matrices, through `masks` (1, 1, H, W).
    """

    convolutions: dict[str, Convolution]
    compared: Sequence[str]
    grams_of: Sequence[GramOf]
    pooling: str
    masks: Mapping[str, Tensor]


class _Vgg(torch.autograd.Function):
    """(B, 3, H, W) standardized, and the convolutions to run in turn -> activations and Gram matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, asked: Asked) -> tuple[Tensor, ...]:
        """Activations, then Gram matrices, in the order they are asked for."""
        ctx.shares = {of: _shares(*of, x.shape, asked.masks) for of in asked.grams_of}
        ctx.saved, grams = _forward(x, asked, ctx.shares)
        ctx.asked, ctx.input = asked, x.detach()
        ctx.set_materialize_grads(False)
        outputs = *(ctx.saved.activations[name] for name in asked.compared), *(grams[of] for of in asked.grams_of)
        ctx.saved.activations.pop("1_1", None)  # the largest of all; to compute it again takes no time
        # Not `save_for_backward`: the backward pass frees each as it passes. Detached, they hold no graph.
        return tuple(output.detach() for output in outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        """From the deepest layer up, adding each loss's gradient at its layer."""
        asked: Asked = ctx.asked
        of_activations = dict(zip(asked.compared, gradients, strict=False))
        of_grams = dict(zip(asked.grams_of, gradients[len(asked.compared) :], strict=True))
        flow: Tensor | None = None
        for name, convolution in reversed(asked.convolutions.items()):
            mask, masked = ctx.saved.take(name), False
            if mask is None:
                mask = convolution.forward(ctx.input)
            if flow is not None and name in ctx.saved.pools:
                shape, winners = ctx.saved.pools.pop(name)
                masked = mask.shape != shape
                flow = pool_backward(relu_backward(flow, mask) if masked else flow, shape, winners)
            for of, gradient in of_grams.items():
                if of[0] == name and gradient is not None:
                    flow = add_gram_gradient(flow, mask, gradient, ctx.shares[of])
            flow = _sum(flow, of_activations.get(name))
            if flow is not None:
                flow = convolution.input_grad(flow if masked else relu_backward(flow, mask))
        return flow, None


def _forward(
    x: Tensor, asked: Asked, shares: Mapping[GramOf, Tensor | None]
) -> tuple[Saved, dict[GramOf, Tensor]]:
    saved = Saved()
    grams: dict[GramOf, Tensor] = {}
    with_losses = {*asked.compared, *(name for name, _ in shares)}
    before = ""
    for name, convolution in asked.convolutions.items():
        if name.endswith("_1") and before:
            shape = x.shape
            x, winners = pool(x, asked.pooling)
            saved.pools[before] = shape, winners
            if asked.pooling == "max" and before not in with_losses:
                saved.signs[before] = x
        x = convolution.forward(x)
        if name != "1_1" or name in asked.compared:
            (saved.activations if name in with_losses else saved.signs)[name] = x
        grams |= {of: mean_products(vectors_of(x), share) for of, share in shares.items() if of[0] == name}
        before = name
    return saved, grams


def _shares(name: str, mask: str | None, shape: Sequence[int], masks: Mapping[str, Tensor]) -> Tensor | None:
    """How far every position behind a convolution counts by a mask; None: as much as all others."""
    halvings = int(name[0]) - 1
    return None if mask is None else position_shares(masks[mask], [side >> halvings for side in shape[2:]])


def _sum(flow: Tensor | None, added: Tensor | None) -> Tensor | None:
    """The gradient from deeper layers plus that of a loss at this layer.

    Not in place: writing where one has just read from memory takes twice as long as writing elsewhere.
    """
    if flow is None or added is None:
        return added if flow is None else flow
    return flow + added


def activations_and_grams(x: Tensor, asked: Asked) -> tuple[dict[str, Tensor], dict[GramOf, Tensor]]:
    """Activations by name, and Gram matrices (means over positions, float32) by name and mask.

    x in the dtype of the kernels; masks (1, 1, H, W), float32.
    """
    if not (asked.compared or asked.grams_of):
        return {}, {}
    found = _Vgg.apply(x, asked)  # type: ignore[no-untyped-call]
    activations = dict(zip(asked.compared, found[: len(asked.compared)], strict=True))
    return activations, dict(zip(asked.grams_of, found[len(asked.compared) :], strict=True))
