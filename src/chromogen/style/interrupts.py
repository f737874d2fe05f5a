"""Ctrl-C and requests to end, taken where the state of work is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

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
