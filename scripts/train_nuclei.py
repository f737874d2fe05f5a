"""Train the network that finds nuclei: about an hour on two cores with bf16 units.

    python scripts/train_nuclei.py DRAWN_FIELDS EXEMPLAR... --out src/chromogen/nuclei/nuclei.safetensors

DRAWN_FIELDS holds NNN_rgb.png and NNN_lab.npz (`lab`, uint16). EXEMPLARs are H&E and IHC of known pixel size,
without drawn nuclei. First the network learns from drawn nuclei and painted tissue. Then it labels the exemplars,
and learns from all of them, twice.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn import functional

from chromogen.compute.memory import keep_freed_memory
from chromogen.nuclei.network import NucleusNetwork, channels_last, network_from
from chromogen.nuclei.outlines import RAYS, STRIDE_PX
from nucleus_exemplars import Exemplar, exemplar
from nucleus_fields import Drawn, background, crop_of, drawn_fields, outlines_at, painted_tissue, turned_exemplar
from nucleus_stains import restained, stained, under_foreign_matter
from nucleus_views import VIEWS, turned, turned_radii

HELD_BACK = 5  # every fifth drawn field is for testing
BATCH = 16
RATE = 2e-3
DRAWN_BY_PEOPLE = 0.5  # of the examples that are no exemplars
FOREIGN = 0.1  # of the examples lie under a pen or dust
EXEMPLARS = 0.3  # of the examples, in the second round

Half: TypeAlias = NDArray[np.float16]


class Example(NamedTuple):
    """Amounts of stain of a field, the labels they lie in, and what the network learns of it.

    `stains` names the way its amounts become a picture; `weight` (h, w) is 0 where nobody knows what is right.
    """

    stains: str
    amounts: Half
    labels: NDArray[np.int16]
    depth: Half
    radii: Half
    weight: Half


def example(seed: int, fields: list[Drawn], exemplars: list[Exemplar]) -> Example:
    """The example that a number stands for: an exemplar's, one drawn by people, or drawn tissue."""
    rng = np.random.default_rng(seed)
    if exemplars and rng.random() < EXEMPLARS:
        chosen = exemplars[rng.integers(len(exemplars))]
        amounts, labels, unsure = turned_exemplar(rng, chosen.amounts, chosen.labels, chosen.unsure)
        return _example(chosen.stains, amounts, labels, 1 - unsure[::STRIDE_PX, ::STRIDE_PX])
    if rng.random() < DRAWN_BY_PEOPLE:
        many = np.array([len(np.unique(field.labels)) for field in fields]) ** 0.7
        amount, labels = crop_of(rng, fields[rng.choice(len(fields), p=many / many.sum())])
    else:
        amount, labels = painted_tissue(rng)
    amounts = np.concatenate([amount[None], background(rng, labels)])
    return _example("any", amounts, labels, np.ones(tuple(-(-side // STRIDE_PX) for side in labels.shape)))


def _example(
    stains: str, amounts: NDArray[np.float32], labels: NDArray[np.int32], known: NDArray[np.floating[Any]]
) -> Example:
    depth, radii = outlines_at(labels)
    halves = [np.asarray(part, np.float16) for part in (amounts, depth, radii, known)]
    return Example(stains, halves[0], labels.astype(np.int16), *halves[1:])


def examples(seed: int, many: int, fields: list[Drawn], exemplars: list[Exemplar]) -> list[Example]:
    """`many` examples, made by two processes."""
    with ProcessPoolExecutor(2) as pool:
        make = partial(example, fields=fields, exemplars=exemplars)
        return list(pool.map(make, range(seed * many, (seed + 1) * many), chunksize=32))


def batch(seed: int, pool: list[Example]) -> list[torch.Tensor]:
    """Densities (B, 3, H, W), depth, radii and weight of BATCH examples, stained anew."""
    rng = np.random.default_rng(seed)
    seen = [_seen(rng, pool[i]) for i in rng.integers(0, len(pool), BATCH)]
    return [torch.from_numpy(np.stack(part).astype(np.float32)) for part in zip(*seen, strict=True)]


def _seen(rng: np.random.Generator, one: Example) -> tuple[NDArray[np.float32], NDArray[np.float32], Half, Half]:
    """Densities, depth, radii and weight of an example in one of its views, in stains of its own."""
    stain = stained if one.stains == "any" else partial(restained, one.stains)
    densities, depth = stain(rng, one.amounts.astype(np.float32), one.labels), one.depth.astype(np.float32)
    if rng.random() < FOREIGN:
        densities, hidden = under_foreign_matter(rng, densities)
        depth = depth * ~hidden[::STRIDE_PX, ::STRIDE_PX]
    view = int(rng.integers(VIEWS))
    densities, depth, weight = (turned(part, view) for part in (densities, depth[None], one.weight[None]))
    return densities, depth, turned_radii(one.radii, view), weight


def loss_of(out: torch.Tensor, depth: torch.Tensor, radii: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Cross entropy of depth, and the error of radii relative to the nucleus, the more the deeper in it."""
    entropy = functional.binary_cross_entropy_with_logits(out[:, :1], depth, weight)
    size = radii.mean(dim=1, keepdim=True).clamp_min(3)
    error = ((out[:, 1:] - radii).abs() / size) * depth * weight
    return entropy + 0.5 * error.sum() / (depth.sum() * RAYS).clamp_min(1)


def train(network: NucleusNetwork, pool: list[Example], steps: int, seed: int) -> None:
    """Train in place, in bf16 with weights in fp32, by one cycle of the learning rate (Smith 2018)."""
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.1)
    began, shown = time.perf_counter(), 0.0
    network.train()
    with ThreadPoolExecutor(1) as ahead:
        following = ahead.submit(batch, seed * 10**6, pool)
        for step in range(1, steps + 1):
            densities, *known = following.result()
            following = ahead.submit(batch, seed * 10**6 + step, pool)
            with torch.autocast("cpu", torch.bfloat16):
                predicted = network(densities.to(memory_format=torch.channels_last))
            loss = loss_of(predicted.float(), *known)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            shown = 0.98 * shown + 0.02 * loss.item()
            if step % 100 == 0:
                print(
                    f"step {step}: loss {shown / (1 - 0.98**step):.4f}, {time.perf_counter() - began:.0f} s",
                    flush=True,
                )


def write(network: NucleusNetwork, out: Path) -> None:
    """The weights in fp16: half the file, and no nucleus is lost by it."""
    kept = {name: t.half() if t.is_floating_point() else t for name, t in network.state_dict().items()}
    save_file({name: tensor.contiguous() for name, tensor in kept.items()}, out)


def main() -> None:
    """The first round learns from what is drawn, all others from the exemplars too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("drawn", type=Path, help="folder of drawn fields")
    parser.add_argument("exemplars", type=Path, nargs="+", help="H&E and IHC images with their pixel size")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=(2000, 6000, 4000), help="of each round")
    parser.add_argument("--examples", type=int, nargs="+", default=(3000, 7000, 4000), help="of each round")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    fields = [field for i, field in enumerate(drawn_fields(given.drawn)) if i % HELD_BACK != HELD_BACK - 1]
    network = channels_last(NucleusNetwork())
    labelled: list[Exemplar] = []
    for seed, (steps, many) in enumerate(zip(given.steps, given.examples, strict=True), 2 * given.seed):
        train(network, examples(seed, many, fields, labelled), steps, seed)
        write(network, given.out)
        labelled = [exemplar(path, network_from(network.state_dict())) for path in given.exemplars]


if __name__ == "__main__":
    main()
