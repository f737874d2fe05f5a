"""The network that sees nuclei: a small U-Net from optical densities to star-convex outlines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from chromogen.compute.devices import (
    choose_device,
    choose_precision,
    fused_convolution,
    has_fused_convolution,
)
from chromogen.compute.memory import FRUGAL, give_back_scattered_memory
from chromogen.nuclei.integers import IntegerConvolution, bytes_of, has_integer_convolution, peaks_joined
from chromogen.nuclei.outlines import MIN_LIKELY, RAYS, STRIDE_PX, WEIGHTS, Network, Prediction

if TYPE_CHECKING:
    from torch import Tensor

MAX_RADIUS_PX = 40.0  # of an outline, at the network's pixel size: 20 um


class _Rectified(nn.Module):
    """A 3 x 3 convolution and its ReLU in one step."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of the convolution."""
        around = self.convolution.dilation[0], self.convolution.dilation[1]
        return fused_convolution(x, self.convolution.weight, self.convolution.bias, "relu", around)


def _layer(inputs: int, outputs: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class NucleusNetwork(nn.Module):
    """A U-Net (Ronneberger et al. 2015) that predicts star-convex outlines (Schmidt et al. 2018).

    In: optical densities of base 10, float32 (B, 3, H, W) in the order red, green, blue, at 0.5 um/px; height and
    width are multiples of MULTIPLE_PX. Out: float32 (B, 1 + RAYS, H / 2, W / 2): the logit of lying deep in a
    nucleus, and the distances in px of the input to its border along RAYS directions, clockwise from +x.
    """

    def __init__(self, widths: tuple[int, int, int] = (32, 64, 96)) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.unshuffle = nn.PixelUnshuffle(STRIDE_PX)
        self.down_fine = nn.Sequential(_layer(3 * STRIDE_PX**2, fine), _layer(fine, fine))
        self.down_middle = nn.Sequential(_layer(fine, middle), _layer(middle, middle))
        self.bottom = nn.Sequential(
            _layer(middle, coarse), _layer(coarse, coarse, 2), _layer(coarse, coarse, 2), _layer(coarse, middle)
        )
        self.up_middle = nn.Sequential(_layer(2 * middle, middle), _layer(middle, fine))
        self.up_fine = nn.Sequential(_layer(2 * fine, fine), _layer(fine, 2 * fine))
        self.head = nn.Conv2d(2 * fine, 1 + RAYS, 1)

    def forward(self, densities: Tensor) -> Tensor:
        """Predictions from densities: see the class."""
        out: Tensor = self.head(self.features(densities))
        return torch.cat([out[:, :1], radii_of(out[:, 1:])], dim=1)

    def features(self, densities: Tensor) -> Tensor:
        """What the head makes predictions of, (B, C, H / 2, W / 2)."""
        return self.features_of_squares([self.unshuffle(densities)])

    def features_of_squares(self, squares: list[Tensor]) -> Tensor:
        """As `features`, of the pixels of squares as channels, which are taken out of their list."""
        fine = _through(self.down_fine, squares)
        middle = _through(self.down_middle, [_halved(fine)])
        coarse = _through(self.bottom, [_halved(middle)])
        joined = [_beside(middle, coarse)]
        del middle, coarse
        middle = _through(self.up_middle, joined)
        joined = [_beside(fine, middle)]
        del fine, middle
        return _through(self.up_fine, joined)


def _through(layers: nn.Sequential, given: list[Tensor]) -> Tensor:
    """What layers make of a tensor, which is taken out of its list: it goes as soon as the first has seen it."""
    x = given.pop()
    for layer in layers:
        x = layer(x)
    return x


def radii_of(made: Tensor) -> Tensor:
    """Distances to the border, in px, of what the head makes."""
    return MAX_RADIUS_PX * torch.sigmoid(made / 4 - 1.5)


def _halved(x: Tensor) -> Tensor:
    """The largest of every 2 x 2: in bf16 on a processor twice as fast as `max_pool2d`."""
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def _beside(fine: Tensor, coarse: Tensor) -> Tensor:
    """Fine maps and, after them, coarse ones of half the size, in the memory of the result alone."""
    if torch.onnx.is_in_onnx_export():  # an ONNX file knows no writing in place
        return torch.cat([fine, nn.functional.interpolate(coarse, scale_factor=2, mode="nearest")], dim=1)
    batch, channels, height, width = fine.shape
    joined = fine.new_empty((batch, height, width, channels + coarse.shape[1])).movedim(3, 1)
    joined[:, :channels] = fine
    squares = joined[:, channels:].unflatten(3, (width // 2, 2)).unflatten(2, (height // 2, 2))
    squares[:] = coarse[:, :, :, None, :, None]
    return joined


def layers_of(network: NucleusNetwork) -> list[nn.Sequential]:
    """Its 3 x 3 convolutions in turn, each with what follows it."""
    parts = network.down_fine, network.down_middle, network.bottom, network.up_middle, network.up_fine
    return [cast("nn.Sequential", layer) for part in parts for layer in part]


def _join_norms(network: NucleusNetwork) -> None:
    """The same function with every normalization made part of its convolution."""
    for layer in layers_of(network):
        layer[0] = fuse_conv_bn_eval(cast("nn.Conv2d", layer[0]), cast("nn.BatchNorm2d", layer[1]))
        layer[1] = nn.Identity()


def _join_rectifiers(network: NucleusNetwork) -> None:
    """The same function with every ReLU made part of its convolution."""
    for layer in layers_of(network):
        layer[0], layer[2] = _Rectified(cast("nn.Conv2d", layer[0])), nn.Identity()


# The activations by which a network in integers is scaled: of the squares given, and behind every layer.
PEAKS = "peaks"
SIDE_BY_SIDE = (2, 10), (4, 8)  # the layers that `_beside` joins, whose bytes must mean the same


def _put_into_integers(network: NucleusNetwork, peaks: Sequence[float]) -> None:
    """Nearly the same function with every convolution in 8-bit integers; the last gives float32."""
    made = [*peaks_joined(peaks, SIDE_BY_SIDE)[1:-1], None]
    given = [peaks[0], *(peak for peak in made if peak is not None)]
    for layer, before, behind in zip(layers_of(network), given, made, strict=True):
        layer[0] = IntegerConvolution(cast("nn.Conv2d", layer[0]), before, behind)
        layer[2] = nn.Identity()


def channels_last(network: NucleusNetwork) -> NucleusNetwork:
    """The same network, its weights laid out as processors convolve fastest."""
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


@lru_cache(maxsize=2)
def built_in_network(views: int = 2) -> Network:
    """The network that comes with Chromogen on the fastest device there is, its weights read once."""
    return network_from(load_file(WEIGHTS), "auto", views)


def network_from(weights: Mapping[str, Tensor], device: str = "cpu", views: int = 2) -> Network:
    """The network of these weights: see `contract.Network`.

    With two `views` it looks twice, the second time with the picture turned by half a circle, and gives the mean:
    that finds a fiftieth more nuclei, at twice the time. It computes in bf16 where the hardware does; on other
    processors in 8-bit integers, where the weights come with the peaks of their activations.
    """
    where = choose_device(device)
    network, enter = _made_fast(weights, where)

    def look(densities: Tensor) -> Prediction:
        with torch.inference_mode():
            squares = enter(network.unshuffle(densities.to(where)))
            return _prediction(network, network.features_of_squares([squares]))

    def predict(densities: NDArray[Any]) -> Prediction:
        given = torch.from_numpy(densities)
        upright = look(given)
        if views == 1:
            return upright
        give_back_scattered_memory(*FRUGAL)  # the second look finds hardly a gap that fits
        return _mean(upright, look(given.flip(2, 3)))

    return predict


Enter: TypeAlias = "Callable[[Tensor], Tensor]"  # the squares of a picture, as the layers take them


def _made_fast(weights: Mapping[str, Tensor], where: torch.device) -> tuple[NucleusNetwork, Enter]:
    """A network of these weights that is fast on a device, and how squares enter it."""
    network = NucleusNetwork()
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items() if name != PEAKS})
    _join_norms(network.eval())
    bf16 = choose_precision("auto", where) == "bf16"
    if PEAKS in weights and not bf16 and has_integer_convolution(where):
        peaks = weights[PEAKS].tolist()
        _put_into_integers(network, peaks)
        return network, partial(bytes_of, peak=peaks[0])
    dtype = torch.bfloat16 if bf16 else torch.float32
    if has_fused_convolution(where, dtype):
        _join_rectifiers(network)
    channels_last(network.to(where, dtype))
    return network, lambda squares: squares.to(dtype, memory_format=torch.channels_last)


def _prediction(network: NucleusNetwork, features: Tensor) -> Prediction:
    """Of features (1, C, h, w): radii are computed where they are asked for, which is nearly nowhere.

    Of the features only those of places stay that are MIN_LIKELY to lie in a nucleus, a tenth of the memory.
    """
    head, places = network.head, features[0].movedim(0, 2)
    weight, bias = head.weight[:, :, 0, 0], cast("Tensor", head.bias)
    depth = nn.functional.linear(places, weight[:1], bias[:1])[..., 0].float().sigmoid()
    likely = depth > MIN_LIKELY
    kept, number = places[likely], likely.flatten().cumsum(0, dtype=torch.int32).view(depth.shape) - 1

    def radii_px(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        with torch.inference_mode():
            chosen = kept[number[torch.from_numpy(rows), torch.from_numpy(columns)]]
            return _numpy(radii_of(nn.functional.linear(chosen, weight[1:], bias[1:]).float()))

    return Prediction(_numpy(depth), radii_px)


def _numpy(x: Tensor) -> NDArray[np.float32]:
    return np.asarray(x.cpu().numpy())


def _mean(upright: Prediction, turned: Prediction) -> Prediction:
    """The mean of two predictions, of which one was turned by half a circle: its rays point the other way."""
    height, width = upright.depth.shape

    def radii_px(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.float32]:
        opposite = np.roll(turned.radii_px(height - 1 - rows, width - 1 - columns), RAYS // 2, axis=1)
        return np.asarray((upright.radii_px(rows, columns) + opposite) / 2)

    return Prediction(np.asarray((upright.depth + turned.depth[::-1, ::-1]) / 2), radii_px)
