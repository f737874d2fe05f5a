"""Tensors by number and name, kept for as long as they are needed: in memory, or on disk where they do not fit."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from chromogen.files import scratch_folder

if TYPE_CHECKING:
    from torch import Tensor


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: dict[str, str] | None = None) -> None:
    """A safetensors file; OSError where the disk is full or the folder gone, as of any other file."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path, facts)
    except SafetensorError as error:
        raise OSError(f"{path.name} could not be written in {path.parent}: {error}") from error


class Store(Protocol):
    """Tensors by number and name."""

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number; OSError where there is no room."""

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""


class InMemory:
    """A `Store` in memory."""

    def __init__(self) -> None:
        self._kept: dict[int, dict[str, Tensor]] = {}

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number."""
        self._kept[number] = {**self.of(number), **tensors}

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""
        return self._kept.get(number, {})


class Spill:
    """A `Store` in a folder of the system's for temporary files that goes when this does.

    TMPDIR says where that is; what a killed process leaves there goes with the next such folder.
    """

    @cached_property
    def _folder(self) -> Path:
        stack = ExitStack()
        folder = stack.enter_context(scratch_folder())
        weakref.finalize(self, stack.close)
        return folder

    def keep(self, number: int, tensors: Mapping[str, Tensor]) -> None:
        """Add to what is kept under a number; OSError where the disk is full."""
        save_tensors(self._file(number), {**self.of(number), **tensors})

    def of(self, number: int) -> dict[str, Tensor]:
        """What is kept under a number."""
        from safetensors.torch import load_file

        kept = "_folder" in self.__dict__ and self._file(number).exists()
        return load_file(self._file(number)) if kept else {}

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.safetensors"
