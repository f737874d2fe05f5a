"""Files that are whole or not there at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A new file's path to write to; it takes the place of `path` once all is written.

    Whatever stops it, `path` holds the old content or all of the new. Raises FileNotFoundError or another OSError
    where the folder is missing or cannot be written to.
    """
    temporary = path.with_name(f".chromogen-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, then rename, as `written_beside`."""
    with written_beside(path) as temporary, temporary.open("xb") as file:
        file.write(data)
