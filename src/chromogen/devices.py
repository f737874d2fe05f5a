"""On which device torch computes, and in which precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeAlias

import torch

from chromogen.errors import choose, expected

Operator: TypeAlias = Callable[..., Any]

PRECISIONS = ("auto", "fp32", "bf16")


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


def choose_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 where the processor or GPU computes it in hardware.

    Raises: ValueError for bf16 on a processor whose vectors are too short for it (x86 without AVX-512).
    """
    choose("precision", precision, PRECISIONS)
    if precision == "bf16" and not can_bf16(device):
        raise expected(
            "precision", "fp32 or auto on this processor, which has no instructions for bf16", precision
        )
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device) else "fp32"


AVX_512 = ("avx512_bw", "avx512_vl", "avx512_dq")  # what oneDNN's bf16 takes at least on x86
# By torch's public names of what a processor has: its probes, which are private, and older.
PROBES = {"amx_tile": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}


def can_bf16(device: torch.device) -> bool:
    """Whether torch has bf16 convolutions for this device that are not a hundred times slower than fp32."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return True
    if probe := operator("mkldnn._is_mkldnn_bf16_supported"):
        return bool(probe())
    known, has_avx_512 = _capabilities(), torch.backends.cpu.get_cpu_capability() == "AVX512"
    return bool(known.get("bf16")) or all(known.get(name, has_avx_512) for name in AVX_512)


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and any(_has(name) for name in PROBES)


def _has(name: str) -> bool:
    """Whether the processor has a capability; where torch has neither probe nor name for it, no."""
    probe: Callable[[], bool] | None = getattr(torch.cpu, PROBES[name], None)
    return bool(probe() if probe else _capabilities().get(name))


def _capabilities() -> Mapping[str, Any]:
    """What the processor has, by torch's names for it; nothing where torch is too old to say."""
    public: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return public()


def operator(name: str) -> Operator | None:
    """One of torch's by its name, if torch has it."""
    try:
        found: Operator = attrgetter(name)(torch.ops)
    except (AttributeError, RuntimeError):
        return None
    return found
