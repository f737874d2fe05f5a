"""How much of the machine one evaluation uses: its FLOP/s beside the peak of a matrix product.

    python benchmarks/efficiency.py [--sizes 512] [--rounds 15] [--out DIR] [--json]

One evaluation is what every step of the optimization does: features of the picture down to relu5_1, the five
Gram matrices, the losses of the default recipe, and the gradient with respect to the picture. Operations are
counted from the layers' shapes, a multiplication and an addition as two: each convolution and each Gram matrix,
both ways. Evaluations and 2048 x 2048 products in the same precision take turns after a warm-up.

Two peaks are given. `in turn`: the median of the products that take turns with evaluations, on caches as an
evaluation leaves them. `alone`: the fastest of thirty products in a row, the most the machine does at all.
Accuracy is the cosine between the gradients in bf16 and in fp32, at the start and after eight steps of the
default recipe.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from chromogen.image import Image, to_tensor
from chromogen.style.encoder import Encoder
from chromogen.style.loss import Targets, add_gradient, picture_windows, targets_of, tiles_of, with_reference
from chromogen.style.objective import CONVOLUTIONS
from chromogen.style.optimize import loss_function
from chromogen.style.recipes import PRESETS, STYLE_LAYERS
from chromogen.style.stylize import stylized
from measuring import (
    as_the_command_line,
    command_line,
    in_turn,
    machine,
    markdown,
    matmul_gflops,
    pin_threads,
    positive,
    publish,
)
from pair import pictures

RECIPE = PRESETS["balanced"]
PRODUCT = 2048
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def counted_gflop(encoder: Encoder, size_px: int) -> tuple[float, float]:
    """10^9 operations of the convolutions, both ways, and of the Gram matrices, both ways."""
    convolutions = grams = 0
    for name in CONVOLUTIONS[: CONVOLUTIONS.index("5_1") + 1]:
        channels_out, channels_in = encoder.weights.convolutions[name][0].shape[:2]
        pixels = (size_px >> (int(name[0]) - 1)) ** 2
        convolutions += 2 * 2 * 9 * channels_in * channels_out * pixels
        grams += 2 * 2 * channels_out**2 * pixels if f"relu{name}" in STYLE_LAYERS else 0
    return convolutions / 1e9, grams / 1e9


def gradient(picture: Tensor, targets: Targets, encoder: Encoder) -> Tensor:
    """Of the default recipe's loss with respect to the picture."""
    x = picture.detach().requires_grad_()
    add_gradient(loss_function(RECIPE, encoder), picture_windows(x), targets)
    assert x.grad is not None
    return x.grad


def targets_for(he: Image, ihc: Image, encoder: Encoder) -> Targets:
    """What content and style have, in fp32."""
    loss = loss_function(RECIPE, encoder)
    targets = targets_of(loss, tiles_of((he.shape[1], he.shape[0]), RECIPE.objective))
    for name, image in {"content": he, "style": ihc}.items():
        targets = with_reference(loss, name, picture_windows(to_tensor(image)), targets)
    return targets


def cosine(picture: Tensor, targets: Targets, encoder: Encoder) -> float:
    """Between the gradients in this precision and in fp32."""
    ours, exact = (gradient(picture, targets, network).flatten().double() for network in (encoder, encoder.exact))
    return torch.cosine_similarity(ours, exact, dim=0).item()


def measured(size_px: int, rounds: int, encoder: Encoder) -> dict[str, Any]:
    """The figures for one size."""
    he, ihc = pictures(size_px)
    targets, start = targets_for(he, ihc, encoder), to_tensor(he)
    later = stylized(he, ihc, replace(RECIPE, scales=(1.0,), steps=(8,)), encoder=encoder).image
    matrix = torch.randn(PRODUCT, PRODUCT).to(DTYPES[encoder.precision])
    works: Mapping[str, Callable[[], object]] = {
        "evaluation": partial(gradient, start, targets, encoder),
        "product": lambda: matrix @ matrix,
    }
    times = in_turn(works, rounds, warm_up=3)
    seconds = statistics.median(times["evaluation"])
    convolutions, grams = counted_gflop(encoder, size_px)
    return {
        "size_px": size_px,
        "precision": encoder.precision,
        "seconds": seconds,
        "fastest_s": min(times["evaluation"]),
        "gflop": convolutions + grams,
        "gflops": (convolutions + grams) / seconds,
        "fastest_gflops": (convolutions + grams) / min(times["evaluation"]),
        "peak_in_turn_gflops": 2 * PRODUCT**3 / statistics.median(times["product"]) / 1e9,
        "peak_alone_gflops": matmul_gflops(DTYPES[encoder.precision], products=30),
        "cosine": [cosine(picture, targets, encoder) for picture in (start, to_tensor(later))],
    }


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row for each size and precision."""
    columns = ["size", "precision", "s, median (fastest)", "GFLOP", "GFLOP/s", "of the peak in turn"]
    columns += ["of the peak alone, median (fastest)", "gradient cosine with fp32"]
    return markdown(columns, [_row(f) for f in found])


def _row(f: Mapping[str, Any]) -> list[str]:
    in_turn, alone = f["peak_in_turn_gflops"], f["peak_alone_gflops"]
    return [
        f"{f['size_px']} px",
        f["precision"],
        f"{f['seconds']:.3f} ({f['fastest_s']:.3f})",
        f"{f['gflop']:.0f}",
        f"{f['gflops']:.0f}",
        f"{f['gflops'] / in_turn:.0%} of {in_turn:.0f}",
        f"{f['gflops'] / alone:.0%} ({f['fastest_gflops'] / alone:.0%}) of {alone:.0f}",
        ", ".join(f"{value:.4f}" for value in f["cosine"]),
    ]


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[512], metavar="PX")
    parser.add_argument("--rounds", type=positive, default=15)
    given = parser.parse_args()
    pin_threads(given.threads)
    as_the_command_line()
    encoders = [Encoder(precision=precision) for precision in dict.fromkeys([Encoder().precision, "fp32"])]
    found = [measured(size, given.rounds, encoder) for size in given.sizes for encoder in encoders]
    publish("efficiency", {"machine": machine(), "results": found}, table(found), given)


if __name__ == "__main__":
    main()
