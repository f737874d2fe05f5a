"""Whether a GPU computes what the processor computes, and how fast: for a machine with CUDA or Apple's MPS.

    python benchmarks/gpu.py [--device auto] [--sizes 512 1024 2048] [--steps 20] [--out DIR] [--json]

Ten minutes. First the battery of correctness: VGG19's activations, losses and gradients of both main presets,
tiles against one piece, bf16 against fp32, and training, each against the processor in fp32. Then the speed of a
step by size and precision, beside the processor's at the first size, and the device's peak memory. A check that
fails is in the table, and ends the program with status 1. `--device cpu` compares the processor with itself: that
tries the program, and no hardware.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chromogen.compute.devices import choose_device, choose_precision
from chromogen.image import Image, to_tensor
from chromogen.staining.tissue import MPP
from chromogen.style.canvas import PixelCanvas
from chromogen.style.encoder import Encoder
from chromogen.style.loss import add_gradient, picture_windows, targets_of, tiles_of, with_reference
from chromogen.style.measured_style import measure_style
from chromogen.style.objective import LAYERS
from chromogen.style.optimize import loss_function
from chromogen.style.recipes import PRESETS, Recipe
from chromogen.style.stylize import Step, Stylized, stylized
from chromogen.training.fields import TissuePair, check_pair
from chromogen.training.train import Training, train_where
from drawn_pairs import drawn_pair
from measuring import as_the_command_line, command_line, machine, markdown, pin_threads, positive, publish
from pair import pictures

CHECKED_PX = 256
CHECKED_STEPS = 10
CHECKED_PRESETS = ("paper", "histology")
EXACT, ROUNDED = 1e-3, 0.05  # of fp32, whose sums run in another order; of bf16, or after many steps


@dataclass(frozen=True)
class Check:
    """How far two ways of computing one thing are apart, relative to it, and how far they may be."""

    name: str
    difference: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether they agree; not where the difference is no number."""
        return self.difference <= self.limit


def difference(found: Tensor, wanted: Tensor) -> float:
    """The norm of the difference, relative to that of what is wanted."""
    found, wanted = (tensor.detach().double().cpu() for tensor in (found, wanted))
    return float((found - wanted).norm() / wanted.norm())


def relative(found: float, wanted: float) -> float:
    """The same of numbers."""
    return abs(found - wanted) / abs(wanted)


def checks(device: torch.device) -> Iterator[Check]:
    """The battery of correctness, one check after the other."""
    he, ihc = pictures(CHECKED_PX)
    exact, there = Encoder(precision="fp32"), Encoder(precision="fp32", device=device)
    yield from _of_activations(he, exact, there)
    yield _of_gradients(he, ihc, exact, there)
    for preset in CHECKED_PRESETS:
        recipe = _short(preset, CHECKED_STEPS)
        wanted, found = (stylized(he, ihc, recipe, encoder=encoder) for encoder in (exact, there))
        yield Check(f"{preset}: first loss", relative(found.initial.total, wanted.initial.total), EXACT)
        yield Check(f"{preset}: loss after {CHECKED_STEPS} steps", _loss_apart(found, wanted), ROUNDED)
        tiled = stylized(he, ihc, recipe, encoder=there, tile_px=CHECKED_PX // 2)
        yield Check(f"{preset}: first loss, tiles", relative(tiled.initial.total, found.initial.total), EXACT)
        yield Check(f"{preset}: loss after {CHECKED_STEPS} steps, tiles", _loss_apart(tiled, found), ROUNDED)
        if _computes_bf16(device):
            rounded = stylized(he, ihc, recipe, encoder=Encoder(precision="bf16", device=device))
            yield Check(f"{preset}: loss after {CHECKED_STEPS} steps, bf16", _loss_apart(rounded, found), ROUNDED)
    yield _of_training(device)


def _computes_bf16(device: torch.device) -> bool:
    """Whether the device has bf16; on MPS the presets decide for fp32."""
    return device.type != "mps" and choose_precision("auto", device) == "bf16"


def _loss_apart(found: Stylized, wanted: Stylized) -> float:
    """Of the last loss, relative to what optimizing took off."""
    return abs(found.final.total - wanted.final.total) / abs(wanted.initial.total - wanted.final.total)


def _short(preset: str, steps: int) -> Recipe:
    """A preset at full size alone, for so many steps."""
    return replace(PRESETS[preset], scales=(1.0,), steps=(steps,), stop_at_floor=False, plateau=0.0)


def _of_activations(he: Image, exact: Encoder, there: Encoder) -> Iterator[Check]:
    layers = [layer for layer in LAYERS if layer.endswith("_1")]
    wanted, found = (encoder(to_tensor(he).to(encoder.device), layers) for encoder in (exact, there))
    for layer in layers:
        yield Check(f"activations, {layer}", difference(found[layer], wanted[layer]), EXACT)


def _of_gradients(he: Image, ihc: Image, exact: Encoder, there: Encoder) -> Check:
    wanted, found = (_gradient(he, ihc, encoder) for encoder in (exact, there))
    return Check("paper: gradient of the picture", difference(found, wanted), EXACT)


def _gradient(he: Image, ihc: Image, encoder: Encoder) -> Tensor:
    """What the report's loss asks of the pixels of the H&E, half way between it and the IHC's mirror image."""
    recipe = _short("paper", 1)
    style = measure_style([ihc], recipe, encoder)
    loss = loss_function(recipe, encoder)
    picture = to_tensor(he).to(encoder.device)
    grid = tiles_of((CHECKED_PX, CHECKED_PX), recipe.objective)
    targets = targets_of(loss, grid, {}, style.references[1.0])
    targets = with_reference(loss, "content", picture_windows(picture), targets)
    canvas = PixelCanvas((picture + to_tensor(ihc).flip(3).to(encoder.device)) / 2)
    add_gradient(loss, canvas.picture, targets)
    (pixels,) = canvas.parameters
    assert pixels.grad is not None
    return pixels.grad


def _of_training(device: torch.device) -> Check:
    drawn = {f"drawn {seed}": drawn_pair(seed, "pink") for seed in range(2)}
    pairs = [check_pair(TissuePair(name, name, pair.he, pair.ihc), MPP) for name, pair in drawn.items()]
    training = Training(steps=CHECKED_STEPS, batch=2, validate_every=CHECKED_STEPS)
    wanted, found = (train_where(pairs, training, device=name).trace for name in ("cpu", str(device)))
    losses = [[step.loss for step in trace] for trace in (found, wanted)]
    return Check(f"training: loss of step {CHECKED_STEPS}", relative(losses[0][-1], losses[1][-1]), ROUNDED)


def speed(device: torch.device, preset: str, side_px: int, precision: str, steps: int) -> dict[str, Any]:
    """Seconds of a step (median, without the first) and of everything, and the device's peak memory."""
    he, ihc = pictures(side_px)
    encoder = Encoder(precision=precision, device=device)
    _forget_peak(device)
    at: list[float] = []

    def follow(_step: Step, _picture: object) -> None:
        _wait(device)
        at.append(time.perf_counter())

    began = time.perf_counter()
    stylized(he, ihc, _short(preset, steps), encoder=encoder, on_step=follow)
    _wait(device)
    return {
        "device": str(device),
        "preset": preset,
        "side_px": side_px,
        "precision": encoder.precision,
        "step_s": float(np.median(np.diff(at))),
        "whole_s": time.perf_counter() - began,
        "device_peak_mb": _peak_mb(device),
    }


def _wait(device: torch.device) -> None:
    """Until the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device: torch.device) -> float | None:
    """Of CUDA the peak, of MPS what is held now; of the processor nothing."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return torch.mps.driver_allocated_memory() / 1e6 if device.type == "mps" else None


def speeds(device: torch.device, sizes_px: Sequence[int], steps: int) -> Iterator[dict[str, Any]]:
    """The processor at the first size, then the device at all sizes in each precision that it has."""
    processor = torch.device("cpu")
    yield speed(processor, "paper", sizes_px[0], "auto", min(steps, 5))
    precisions = ["fp32", "bf16"] if _computes_bf16(device) else ["fp32"]
    for preset in CHECKED_PRESETS:
        for side_px in sizes_px:
            for precision in precisions:
                yield speed(device, preset, side_px, precision, steps)


def told(rows: Iterator[Any], say: Callable[[Any], str]) -> list[Any]:
    """All rows, each said on stderr as soon as it is there."""
    found = []
    for row in rows:
        print(say(row), file=sys.stderr, flush=True)
        found.append(row)
    return found


def _said(check: Check) -> str:
    return f"{'ok  ' if check.holds else 'FAIL'} {check.name}: {check.difference:.1e} (limit {check.limit:g})"


def _said_of(row: dict[str, Any]) -> str:
    return f"{row['device']} {row['preset']} {row['side_px']} px {row['precision']}: {row['step_s']:.3f} s a step"


def table(found: Sequence[Check], timed: Sequence[dict[str, Any]]) -> str:
    """Both tables."""
    rows = [[check.name, f"{check.difference:.1e}", f"{check.limit:g}", check.holds] for check in found]
    correct = markdown(["check", "relative difference", "limit", "agrees"], rows)
    columns = ["device", "preset", "size", "precision", "s a step", "s in all", "device's peak memory"]
    fast = [
        [
            row["device"],
            row["preset"],
            f"{row['side_px']}^2",
            row["precision"],
            f"{row['step_s']:.3f}",
            f"{row['whole_s']:.1f}",
            f"{row['device_peak_mb']:.0f} MB" if row["device_peak_mb"] else "",
        ]
        for row in timed
    ]
    return f"{correct}\n\n{markdown(columns, fast)}"


def main() -> None:
    """Parse, check, time, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--device", default="auto", help="cuda, cuda:1, mps, or cpu to try the program")
    parser.add_argument("--sizes", type=positive, nargs="+", default=[512, 1024, 2048], metavar="PX")
    parser.add_argument("--steps", type=positive, default=20)
    given = parser.parse_args()
    pin_threads(given.threads)
    as_the_command_line()
    device = choose_device(given.device)
    # TF32 keeps 10 bits of fp32's 23: the battery asks for all of them, and speed is that of Chromogen's own fp32.
    as_it_was, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    found = told(checks(device), _said)
    torch.backends.cudnn.allow_tf32 = as_it_was
    timed = told(speeds(device, given.sizes, max(3, given.steps)), _said_of)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    report = {"machine": machine(), "device": name, "checks": [asdict(c) for c in found], "speeds": timed}
    publish("gpu", report, f"Device: {name}\n\n{table(found, timed)}", given)
    sys.exit(any(not check.holds for check in found))


if __name__ == "__main__":
    main()
