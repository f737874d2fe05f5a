"""Export a ResNet generator of CUT, CycleGAN, pix2pix or ASP as ONNX, for `chromogen stain --stainer FILE.onnx`.

    python export_generator.py latest_net_G.pth -o cut.onnx --mpp 0.5

The weights file is a state dict, as these programs save it. Its tensors say how wide the network is, how many
blocks it has, and whether it is anti-aliased. No code in the file is run. Dropout, which pix2pix leaves on, is
turned off, so that one picture has one result. Needs `pip install 'chromogen[onnx]'`.
Park et al. 2020 (CUT), Zhu et al. 2017 (CycleGAN), Isola et al. 2017 (pix2pix). SPDX-License-Identifier: MIT
"""

from __future__ import annotations

import argparse
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

HALVINGS = 2
SIDE_PX = 256  # of the picture that is exported with; any multiple of 4 works later

State = dict[str, Tensor]
Norm = Callable[[int], nn.Module]


class Residual(nn.Module):
    """Two convolutions whose result is added to their input. Dropout only moves the second one's number."""

    def __init__(self, channels: int, norm: Norm, *, bias: bool, dropout: bool) -> None:
        super().__init__()
        first = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm(channels), nn.ReLU()]
        second = [nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm(channels)]
        self.conv_block = nn.Sequential(*first, *([nn.Dropout(0.5)] if dropout else []), *second)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, of the shape of `x` (1, C, H, W)."""
        y: Tensor = x + self.conv_block(x)
        return y


class Halved(nn.Module):
    """Blurred by a binomial filter of 3, and every second pixel taken (CUT's anti-aliasing)."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The picture at half the size."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.filt, stride=2, groups=x.shape[1])


class Doubled(nn.Module):
    """Enlarged twice by a binomial filter of 4 (CUT's anti-aliasing)."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 4, 4))

    def forward(self, x: Tensor) -> Tensor:
        """The picture at twice the size."""
        wide = F.pad(x, (1, 1, 1, 1), mode="replicate")
        larger = F.conv_transpose2d(wide, self.filt, stride=2, padding=2, groups=x.shape[1])
        return larger[:, :, 1:-1, 1:-1]


class Generator(nn.Module):
    """A ResNet generator whose layers have the numbers that the weights name."""

    def __init__(self, state: State) -> None:
        super().__init__()
        width, bias = state["model.1.weight"].shape[0], "model.1.bias" in state
        is_batch = "model.2.running_mean" in state
        norm: Norm = nn.BatchNorm2d if is_batch else nn.InstanceNorm2d
        blocks = len({name.split(".")[1] for name in state if ".conv_block.1.weight" in name})
        dropout = any(".conv_block.6.weight" in name and tensor.dim() == 4 for name, tensor in state.items())
        smooth = any(name.endswith(".filt") for name in state)
        layers = [nn.ReflectionPad2d(3), nn.Conv2d(3, width, 7, bias=bias), norm(width), nn.ReLU()]
        for _ in range(HALVINGS):
            conv = nn.Conv2d(width, 2 * width, 3, stride=1 if smooth else 2, padding=1, bias=bias)
            width *= 2
            layers += [conv, norm(width), nn.ReLU(), *([Halved(width)] if smooth else [])]
        layers += [Residual(width, norm, bias=bias, dropout=dropout) for _ in range(blocks)]
        for _ in range(HALVINGS):
            layers += [*self._enlarged(width, smooth=smooth, bias=bias), norm(width // 2), nn.ReLU()]
            width //= 2
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())
        self.load_state_dict(state)

    @staticmethod
    def _enlarged(width: int, *, smooth: bool, bias: bool) -> list[nn.Module]:
        """The layers that double the size and halve the channels."""
        if smooth:
            return [Doubled(width), nn.Conv2d(width, width // 2, 3, padding=1, bias=bias)]
        return [nn.ConvTranspose2d(width, width // 2, 3, stride=2, padding=1, output_padding=1, bias=bias)]

    def forward(self, x: Tensor) -> Tensor:
        """A picture (1, 3, H, W) in -1 to 1 for one; H and W are multiples of 4."""
        y: Tensor = self.model(x)
        return y


def read_generator(file: Path) -> Generator:
    """The generator whose weights a file holds, in eval mode. Raises: ValueError where it holds others."""
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
        return Generator(state).eval()
    except (pickle.UnpicklingError, AttributeError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise ValueError(
            f"Expected {file} to be the state dict of a ResNet generator (resnet_9blocks or resnet_6blocks), "
            f"got other content ({reason}); export other networks by torch.onnx.export, as the page says."
        ) from None


def export(generator: Generator, out: Path, mpp: float | None) -> None:
    """Write a generator as ONNX, of free height and width, with its pixel size in um as metadata."""
    free = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        generator,
        (torch.zeros(1, 3, SIDE_PX, SIDE_PX),),
        out,
        dynamo=False,
        opset_version=17,
        input_names=["he"],
        output_names=["ihc"],
        dynamic_axes={"he": free, "ihc": free},
    )
    if mpp is not None:
        model = onnx.load(out)
        model.metadata_props.add(key="mpp", value=f"{mpp:g}")
        onnx.save(model, out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("weights", type=Path, help="latest_net_G.pth, or latest_net_G_A.pth of CycleGAN")
    parser.add_argument("-o", "--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--mpp", type=float, help="um per pixel of the pictures that the generator was trained on")
    given = parser.parse_args()
    try:
        export(read_generator(given.weights), given.out, given.mpp)
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {error}")
    size = "" if given.mpp else " --model-mpp MPP"
    print(f"Next: chromogen stain slide.svs --stainer {given.out}{size} -o stained.ome.tif")


if __name__ == "__main__":
    main()
