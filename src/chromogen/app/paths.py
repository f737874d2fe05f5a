"""Which files a command reads, and whether it may write where it is told to."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from chromogen.errors import expected
from chromogen.image import list_images


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The images that paths name, folders opened; FileNotFoundError where one is missing."""
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"Expected an existing image, got {path}; check the spelling.")
    return [file for path in paths for file in (list_images(path) if path.is_dir() else [path])]


def in_folder(files: Sequence[Path], out: Path) -> list[Path]:
    """NAME.png in a folder for each of the files; ValueError for two of one name."""
    outputs = [out / f"{file.stem}.png" for file in files]
    twice = next((output for output in outputs if outputs.count(output) > 1), None)
    if twice:
        raise expected("content", "images of different names", f"two called {twice.stem}", "rename one")
    return outputs


def check_apart(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """ValueError if an output is a file that is taken already."""
    taken = {path.resolve() for path in inputs}
    for output in outputs:
        if output.resolve() in taken:
            raise expected("out", "another file than the inputs and the other outputs", output)


def check_folder(folder: Path) -> None:
    """ValueError if a folder to write in is missing or cannot be written to."""
    if not folder.is_dir():
        raise expected("out", "in a folder that exists", f"{folder}", "make the folder first")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise expected("out", "in a folder that can be written to", folder, error.strerror or "") from error


def make_folder(folder: Path) -> None:
    """The folder, made where only its last part is missing."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise expected("out", "a folder that is there or can be made", folder, error.strerror or "") from error
