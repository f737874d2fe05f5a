"""What of a run survives a kill, and Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from chromogen.compute.memory import save_tensors
from chromogen.errors import expected
from chromogen.files import written_beside

# Ctrl-C and requests to end, taken where the state of work is whole.

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While its `with` statement lasts, Ctrl-C and SIGTERM raise KeyboardInterrupt where nothing is lost by it.

    That is anywhere until `hold` or `let_in` is used, then only in `let_in`. What comes elsewhere waits for that,
    for `stop_if_asked`, or for the end of the statement; a second signal raises at once. Signals that are ignored
    stay ignored. In a thread that is not the main one nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self._is_open = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if kind is None:
            self.stop_if_asked()

    def hold(self) -> None:
        """From now on signals wait."""
        self._is_open = False

    @contextmanager
    def let_in(self) -> Iterator[None]:
        """Where work may stop at any moment. Raises: KeyboardInterrupt."""
        self.stop_if_asked()
        self._is_open = True
        try:
            yield
        finally:
            self.hold()

    def stop_if_asked(self) -> None:
        """Raises: KeyboardInterrupt where a signal waits."""
        if self.asked:
            raise KeyboardInterrupt

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        again, self.asked = self.asked, True
        if again or self._is_open:
            raise KeyboardInterrupt


# A descent on disk: all that going on after a kill takes. Tensors and JSON, never a pickle.

EVERY_S = 60.0


class Checkpoint:
    """A file that holds where a descent is, written anew every minute; `facts` are what decides the picture.

    With `resume`, a file from an earlier run is gone on from. It is also written before `interrupts` end the work:
    enter those for as long as that goes on.
    """

    def __init__(
        self, file: Path, facts: Mapping[str, Any], *, resume: bool = False, every_s: float = EVERY_S
    ) -> None:
        self.file, self.every_s, self.resume = file, every_s, resume
        self.facts = json.loads(json.dumps(facts))
        self.interrupts = Interrupts()
        self._written = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time to write again, or the work is to end."""
        return self.interrupts.asked or time.monotonic() - self._written >= self.every_s

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state of dicts, lists, numbers, texts and tensors in place of the last; OSError if it fails."""
        tensors: dict[str, Tensor] = {}
        packed = json.dumps({"facts": self.facts, "state": pack(state, tensors)})
        with written_beside(self.file) as temporary:
            save_tensors(temporary, tensors, {"chromogen": packed, "sha256": _sha256(packed, tensors)})
        self._written = time.monotonic()

    def save_if_it_can(self, state: Mapping[str, Any]) -> bool:
        """The same; where it fails a warning, and False: work goes on without."""
        try:
            self.save(state)
        except OSError as error:
            warnings.warn(f"No checkpoint: {error.strerror or error}; going on without.", stacklevel=3)
            return False
        return True

    def load(self) -> dict[str, Any] | None:
        """The state, or None where there is nothing to go on from; ValueError for a file of another picture."""
        if not (self.resume and self.file.exists()):
            return None
        try:
            with safe_open(self.file, "pt") as opened:
                metadata = opened.metadata() or {}
            tensors = load_file(self.file)
            if metadata["sha256"] != _sha256(metadata["chromogen"], tensors):
                raise ValueError("it was changed or damaged")
            packed = json.loads(metadata["chromogen"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise expected("checkpoint", "as chromogen wrote it", self.file, "delete it") from error
        different = [name for name, fact in self.facts.items() if packed["facts"].get(name) != fact]
        if different:
            got = f"one with another {', '.join(different)}"
            advice = f"give the same command, or --restart, which replaces {self.file}"
            raise expected("checkpoint", "of this very picture", got, advice)
        state: dict[str, Any] = unpack(packed["state"], tensors)
        return state

    def forget(self) -> None:
        """Delete the file: the picture is finished."""
        self.file.unlink(missing_ok=True)


def _sha256(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def pack(value: Any, tensors: dict[str, Tensor]) -> Any:
    """A value as JSON can hold it, its tensors put aside by number.

    >>> import torch
    >>> tensors = {}
    >>> pack({"a": [torch.ones(1), 2.5]}, tensors), list(tensors)
    ({'pairs': [['a', [{'tensor': '0'}, 2.5]]]}, ['0'])
    """
    if isinstance(value, Tensor):
        key = str(len(tensors))
        tensors[key] = value
        return {"tensor": key}
    if isinstance(value, Mapping):
        return {"pairs": [[key, pack(part, tensors)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return [pack(part, tensors) for part in value]
    return value


def unpack(packed: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given; tuples come back as lists."""
    if isinstance(packed, dict):
        if "tensor" in packed:
            return tensors[packed["tensor"]].clone()  # in a file they are not aligned, and sums round differently
        return {key: unpack(part, tensors) for key, part in packed["pairs"]}
    if isinstance(packed, list):
        return [unpack(part, tensors) for part in packed]
    return packed
