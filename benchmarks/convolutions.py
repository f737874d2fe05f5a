"""Seconds of one evaluation of loss and gradient with Winograd's convolutions and without, in turn.

    python benchmarks/convolutions.py [--sizes 512] [--rounds 7] [--threads N] [--out DIR] [--json]

The preset `balanced` in fp32. Rows differ in which kernels are Winograd's: none, or those of at least so many
pairs of channels. The last columns compare the gradient with that of direct convolutions: 1 - cosine, distance.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from chromogen.image import to_tensor
from chromogen.style import winograd
from chromogen.style.encoder import Encoder
from efficiency import gradient, targets_for
from measuring import as_the_command_line, command_line, in_turn, machine, markdown, pin_threads, positive, publish
from pair import pictures

NONE = 10**9
MIN_PAIRS = {
    "direct": NONE,
    "from 128 x 256 channels on": 128 * 256,
    "from 128 x 128": 128 * 128,
    "from 64 x 64": 64 * 64,
}


def measured(size_px: int, rounds: int, encoder: Encoder) -> list[dict[str, Any]]:
    """The figures for one size."""
    he, ihc = pictures(size_px)
    targets, start = targets_for(he, ihc, encoder), to_tensor(he)

    def evaluate(least_pairs: int) -> Tensor:
        winograd.MIN_PAIRS = least_pairs
        return gradient(start, targets, encoder).flatten().double()

    exact = evaluate(NONE)
    found = {name: evaluate(least) for name, least in MIN_PAIRS.items()}
    times = in_turn({name: partial(evaluate, least) for name, least in MIN_PAIRS.items()}, rounds)
    return [
        {
            "size_px": size_px,
            "threads": torch.get_num_threads(),
            "winograd": name,
            "seconds": statistics.median(times[name]),
            "fastest_s": min(times[name]),
            "cosine_missing": 1 - torch.cosine_similarity(found[name], exact, dim=0).item(),
            "distance": float((found[name] - exact).norm() / exact.norm()),
        }
        for name in MIN_PAIRS
    ]


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """One row for each size and threshold."""
    columns = ["size, threads", "Winograd's", "s, median (fastest)", "times as fast", "1 - cosine", "distance"]
    direct = {f["size_px"]: f["seconds"] for f in found if f["winograd"] == "direct"}
    return markdown(
        columns,
        [
            [
                f"{f['size_px']} px, {f['threads']}",
                f["winograd"],
                f"{f['seconds']:.3f} ({f['fastest_s']:.3f})",
                f"{direct[f['size_px']] / f['seconds']:.2f}",
                f"{f['cosine_missing']:.0e}",
                f"{f['distance']:.0e}",
            ]
            for f in found
        ],
    )


def main() -> None:
    """Parse, run, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--sizes", type=positive, nargs="+", default=[512], metavar="PX")
    parser.add_argument("--rounds", type=positive, default=7)
    given = parser.parse_args()
    pin_threads(given.threads)
    as_the_command_line()
    encoder = Encoder(precision="fp32")
    found = [row for size in given.sizes for row in measured(size, given.rounds, encoder)]
    publish("convolutions", {"machine": machine(), "results": found}, table(found), given)


if __name__ == "__main__":
    main()
