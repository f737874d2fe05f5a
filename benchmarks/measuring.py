"""How every benchmark here measures: what runs, on what, in turn, with which spread, and as which table."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

from chromogen.compute.memory import keep_freed_memory
from chromogen.provenance import peak_rss_mb, versions

P = ParamSpec("P")
R = TypeVar("R")
Work = Callable[[], object]


def seconds(work: Work, clock: Callable[[], float] = time.perf_counter) -> float:
    """Wall time of one call, or what another clock says."""
    began = clock()
    work()
    return clock() - began


def in_turn(
    works: Mapping[str, Work], rounds: int, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each work, one after the other in every round, so that a noisy machine disturbs all alike."""
    for work in works.values():
        for _ in range(warm_up):
            work()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(seconds(work, clock))
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, quartiles and how many."""
    quartiles = statistics.quantiles(values, n=4) if len(values) > 1 else [values[0]] * 3
    return {
        "median": statistics.median(values),
        "quartile_1": quartiles[0],
        "quartile_3": quartiles[2],
        "n": len(values),
    }


def matmul_gflops(dtype: torch.dtype, n: int = 2048, products: int = 15) -> float:
    """This machine's own peak: the fastest of some n x n products, in 10^9 operations a second.

    Small products where large ones would take seconds each: bf16 without hardware for it."""

    def fastest(size: int) -> float:
        a = torch.randn(size, size).to(dtype)
        return 2 * size**3 / min(seconds(lambda: a @ a) for _ in range(products)) / 1e9

    small = fastest(n // 8)
    return fastest(n) if 2 * n**3 / 1e9 < small else small


def matmul_peaks() -> dict[str, float]:
    """The peak in both precisions."""
    return {"fp32": matmul_gflops(torch.float32), "bf16": matmul_gflops(torch.bfloat16)}


def pin_threads(count: int | None) -> int:
    """Fix the number of threads, or keep torch's, which honours the process's affinity; the number in force."""
    torch.set_num_threads(count or torch.get_num_threads())
    return torch.get_num_threads()


def machine() -> dict[str, Any]:
    """What the figures were measured on, and when."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _processor(),
        "features": [f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in _flags()],
        "threads": torch.get_num_threads(),
        "matmul_gflops": matmul_peaks(),
        "versions": versions(),
    }


def _cpuinfo() -> dict[str, str]:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _flags() -> list[str]:
    return _cpuinfo().get("flags", "").split()


def apart(function: Callable[P, R], *given: P.args, **named: P.kwargs) -> tuple[R, float]:
    """What a function returns in a fresh process with as many threads, and that process's peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, pin_threads, (torch.get_num_threads(),)) as pool:
        result = pool.submit(function, *given, **named).result()
        return result, pool.submit(peak_rss_mb).result()


def python(arguments: Sequence[str], cache: Path) -> str:
    """Output of a fresh Python with as many threads, and with its own cache folder."""
    own = {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **own}).stdout


def as_the_command_line() -> None:
    """Set up the process as `chromogen` does."""
    keep_freed_memory()


def heading(facts: Mapping[str, Any]) -> str:
    """One line about the machine, above a table."""
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in facts["matmul_gflops"].items())
    return (
        f"{facts['date']}, {facts['processor']} ({', '.join(facts['features'])}), {facts['threads']} threads, "
        f"torch {facts['versions']['torch']}; matmul peak in GFLOP/s: {peaks}"
    )


def markdown(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def command_line(doc: str | None) -> argparse.ArgumentParser:
    """What all benchmarks may be told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=positive, help="default: all the process may use")
    parser.add_argument("--out", type=Path, help="folder for pictures and figures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def positive(text: str) -> int:
    """A whole number of at least 1, or ValueError."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def publish(name: str, report: dict[str, Any], table: str, given: argparse.Namespace) -> None:
    """Write figures as JSON into the folder, if one was named; print them, or the table under the machine."""
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{name}.json").write_text(json.dumps(report, indent=1))
    print(json.dumps(report) if given.json else f"{heading(report['machine'])}\n\n{table}\n")
