"""Images that come in over the network: decoded in a process of their own, which may take only so much.

Run as `python -m chromogen.app.view.upload_decoder UPLOADED DECODED`. Exit status 0: done; 2: no usable image.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from chromogen.errors import expected
from chromogen.formats import decoders
from chromogen.image import read_image_and_facts, write_image
from chromogen.pixel_size import plausible_mpp

MAX_PIXELS = 40_000_000
MAX_MEMORY_BYTES = 2_500_000_000
MAX_CPU_S = 30
TIMEOUT_S = 60


def take_in(uploaded: Path, decoded: Path) -> None:
    """Decode an uploaded file in another process, and write it anew as a PNG, without its metadata.

    Raises: ValueError where it is no image, too large, or takes too long.
    """
    command = [sys.executable, "-m", "chromogen.app.view.upload_decoder", str(uploaded), str(decoded)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise expected("image", "one that is decoded quickly", "one that is not") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        why = said[-1][:300] if done.returncode == 2 and said else "it could not be decoded within limits"
        raise expected("image", "a picture of moderate size", f"one that cannot be used: {why}")


def decode_upload(uploaded: Path, decoded: Path) -> None:
    """What the other process does, within limits."""
    _limit()
    decoders.MAX_PIXELS = MAX_PIXELS  # in this process; sizes are checked before pixels are decoded
    with decoders.quiet():
        image, facts = read_image_and_facts(uploaded)
    write_image(decoded, image, mpp=plausible_mpp(facts.mpp))


def _limit() -> None:
    """Bound this process's memory and time, where the system can."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))


if __name__ == "__main__":
    try:
        decode_upload(Path(sys.argv[1]), Path(sys.argv[2]))
    except (ValueError, OSError, MemoryError) as problem:
        text = str(problem) or "it takes too much memory"
        sys.stderr.write(text.replace(str(Path(sys.argv[1]).parent), ""))
        raise SystemExit(2) from problem
