"""What made a file: versions, hashes, the mark of research use, and what the run took."""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

__version__ = "0.1.0"

NOTICE = "virtual stain, research use only, not for diagnosis"


def versions() -> dict[str, str]:
    """Versions of Chromogen, Python, and the libraries that decide its numbers, as far as they are there."""
    found = {"chromogen": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "pillow"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def sha256_of(path: Path) -> str:
    """SHA-256 of a file: names a file in outputs without telling its name, which may identify a patient."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def peak_rss_mb() -> float:
    """The most memory this process has had resident so far, in megabytes (10^6 bytes)."""
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    # Linux counts in ru_maxrss what the process had that started this one; VmHWM begins anew with the program.
    with suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text()):
            return int(found[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def run_facts() -> dict[str, Any]:
    """What a run that computes by torch took of this machine: its threads, and its memory at most."""
    import torch

    return {"threads": torch.get_num_threads(), "peak_rss_mb": round(peak_rss_mb(), 1)}


def facts_since(began: float) -> dict[str, Any]:
    """Of a run since `began`, by `time.perf_counter`: seconds, versions, and what it took."""
    return {"seconds": time.perf_counter() - began, "versions": versions(), **run_facts()}
