import threading
import time
from collections.abc import Iterator

import pytest

from chromogen.slides import pyramid
from chromogen.slides.pyramid import results_in_order


def test_results_come_in_order_of_items() -> None:
    def late(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * 2

    assert list(results_in_order(late, range(50))) == [number * 2 for number in range(50)]


def test_no_more_wait_than_a_few_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "processors", lambda: 2)
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    for done, _ in enumerate(results_in_order(lambda item: item, items())):
        assert len(made) - done <= 2 * pyramid.WAITING + 1


def test_the_first_error_ends_it() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise OSError("full")
        return number

    before = threading.active_count()
    with pytest.raises(OSError, match="full"):
        list(results_in_order(work, range(10_000)))
    assert len(begun) < 200
    assert threading.active_count() == before
