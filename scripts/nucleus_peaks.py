"""Put the peaks of a nucleus network's activations into its file, by which it computes in 8-bit integers.

    python scripts/nucleus_peaks.py src/chromogen/nuclei/nuclei.safetensors IMAGE...

IMAGEs are such as the network has learnt from. Those that state no pixel size are taken to have 0.3 um/px.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from chromogen.image import Image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.network import PEAKS, NucleusNetwork, layers_of, network_from
from chromogen.nuclei.outlines import Prediction
from chromogen.slides.slide import read_picture

QUANTILE = 0.9995  # of the activations behind a layer: finer steps for all are worth more than the highest few
SAMPLED = 7  # every so many values, since torch's quantile takes 16 million at most
ASSUMED_MPP = 0.3


def with_peaks(weights: Mapping[str, Tensor], pictures: Iterable[tuple[Image, float]]) -> dict[str, Tensor]:
    """The weights, and the highest activations that pictures with pixels of so many um give, layer by layer."""
    kept = {name: tensor for name, tensor in weights.items() if name != PEAKS}
    network, usual = NucleusNetwork(), network_from(kept, views=1)
    network.load_state_dict({name: tensor.float() for name, tensor in kept.items()})
    network.eval()
    peaks = torch.zeros(1 + len(layers_of(network)))

    def watch(number: int, layer: nn.Module) -> None:
        def notice(_layer: nn.Module, _given: object, made: Tensor) -> None:
            peaks[number] = max(peaks[number], torch.quantile(made.flatten()[::SAMPLED], QUANTILE))

        layer.register_forward_hook(notice)

    def watched(densities: NDArray[Any]) -> Prediction:
        with torch.inference_mode():
            network.features(torch.from_numpy(densities))
        return usual(densities)

    for number, layer in enumerate([network.unshuffle, *layers_of(network)]):
        watch(number, layer)
    for picture, mpp in pictures:
        nuclei_of_image(picture, mpp, watched)
    return {**kept, PEAKS: peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    given = parser.parse_args()
    read = (read_picture(path) for path in given.images)
    pictures = ((picture, mpp or ASSUMED_MPP) for picture, mpp in read)
    weights = with_peaks(load_file(given.weights), pictures)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, given.weights)
    print(", ".join(f"{peak:.2f}" for peak in weights[PEAKS].tolist()))


if __name__ == "__main__":
    main()
