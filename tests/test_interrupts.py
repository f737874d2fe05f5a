"""Ctrl-C and SIGTERM end a run where its state is whole, and it goes on from there to the same bytes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from chromogen.style import optimize
from chromogen.style.checkpoint import SIGNALS, Checkpoint, Interrupts
from chromogen.style.encoder import Encoder
from chromogen.style.stylize import Stylized, stylized
from test_checkpoint import HE, IHC, RECIPES


@pytest.fixture(autouse=True)
def _signals_are_not_ignored() -> Iterator[None]:
    """A shell's background jobs, and so their tests, ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


def ended(work: Callable[[Interrupts, list[str]], None]) -> list[str]:
    """What work had done when a signal ended it."""
    before, done = [signal.getsignal(one) for one in SIGNALS], []
    with pytest.raises(KeyboardInterrupt):
        work(Interrupts(), done)
    assert [signal.getsignal(one) for one in SIGNALS] == before
    return done


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_let_in_where_nothing_is_lost(number: signal.Signals) -> None:
    def at_first(interrupts: Interrupts, done: list[str]) -> None:
        with interrupts:
            send(number)
            done.append("never")

    def let_in(interrupts: Interrupts, done: list[str]) -> None:
        with interrupts, interrupts.let_in():
            send(number)
            done.append("never")

    def held(interrupts: Interrupts, done: list[str]) -> None:
        with interrupts:
            with interrupts.let_in():
                done.append("open")
            send(number)
            done.append("held")
            with interrupts.let_in():
                done.append("never")

    assert (ended(at_first), ended(let_in), ended(held)) == ([], [], ["open", "held"])


def test_the_second_signal_and_the_end_of_the_work_wait_for_nothing() -> None:
    def twice(interrupts: Interrupts, done: list[str]) -> None:
        with interrupts:
            interrupts.hold()
            send()
            done.append("held")
            send()
            done.append("never")

    def at_last(interrupts: Interrupts, done: list[str]) -> None:
        with interrupts:
            interrupts.hold()
            send()
            done.append("finished")

    assert (ended(twice), ended(at_last)) == (["held"], ["finished"])


def test_what_is_ignored_stays_ignored_and_threads_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts, interrupts.let_in():
            send()
        assert not interrupts.asked
    finally:
        signal.signal(signal.SIGINT, before)

    def work() -> None:
        with Interrupts():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) == before


def interrupted(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder, name: str, file: Path, at: int, place: str
) -> None:
    """A run that a signal ends at its evaluation `at`: before or after that is computed, or after the step."""
    counted, real = [], optimize.add_gradient

    def evaluate(*given: object) -> object:
        counted.append(1)
        if len(counted) == at and place == "before":
            send(signal.SIGTERM)
        found = real(*given)  # type: ignore[arg-type]
        if len(counted) == at and place == "after":
            send(signal.SIGTERM)
        return found

    def follow(*_step: object) -> None:
        if len(counted) == at and place == "step":
            send(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(optimize, "add_gradient", evaluate)
        checkpoint = Checkpoint(file, {"recipe": 1})
        with pytest.raises(KeyboardInterrupt), checkpoint.interrupts:
            stylized(HE, IHC, RECIPES[name], encoder=encoder, on_step=follow, checkpoint=checkpoint)
    assert len(counted) == at


@pytest.fixture(scope="module")
def wholes(encoder: Encoder) -> Callable[[str], Stylized]:
    return cache(lambda name: stylized(HE, IHC, RECIPES[name], encoder=encoder))


@pytest.mark.parametrize(
    ("name", "at", "place"),
    [
        ("lbfgs", 1, "before"),
        ("lbfgs", 3, "after"),
        ("lbfgs", 4, "step"),  # the last of its scale
        ("lbfgs", 5, "before"),  # the first of the next
        ("network", 1, "after"),
        ("network", 7, "step"),
        ("preconditioned", 5, "after"),
    ],
)
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
    wholes: Callable[[str], Stylized],
    encoder: Encoder,
    tmp_path: Path,
    name: str,
    at: int,
    place: str,
) -> None:
    file = tmp_path / "out.png.checkpoint"
    interrupted(monkeypatch, encoder, name, file, at, place)
    kept = Checkpoint(file, {"recipe": 1}, resume=True)
    assert file.exists()
    done = len((kept.load() or {})["trace"])
    assert done == at - (place != "step"), "no step is lost"
    resumed = stylized(HE, IHC, RECIPES[name], encoder=encoder, checkpoint=kept)
    assert np.array_equal(resumed.image, wholes(name).image)
    assert [step.losses for step in resumed.trace] == [step.losses for step in wholes(name).trace]
