"""On which device torch computes."""

from __future__ import annotations

import torch

from chromogen.errors import choose, expected


def choose_device(device: str) -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU; a device that is not there is a ValueError."""
    if device == "auto":
        return torch.device(_available()[0])
    name = device.partition(":")[0]
    choose("device", name, ("auto", "cpu", "cuda", "mps"))
    if name not in _available():
        raise expected("device", f"one this machine has ({', '.join(_available())})", device)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise expected("device", "auto, cpu, cuda, cuda:N or mps", device) from error
    if name == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise expected("device", f"below cuda:{torch.cuda.device_count()}", device)
    return chosen


def _available() -> list[str]:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    return [name for name, available in there.items() if available]
