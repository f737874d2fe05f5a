"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, then rename: whatever stops it, `path` holds the old content or all of the new.

    Raises: FileNotFoundError or another OSError where the folder is missing or cannot be written to.
    """
    temporary = path.with_name(f".chromogen-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
