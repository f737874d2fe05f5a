"""What is kept of what was made last."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from chromogen.compute.memory import LruCache


def test_the_ones_not_asked_for_longest_go_first() -> None:
    recent: LruCache[bytes] = LruCache(25, len)
    for n in range(3):
        assert recent.get(n, lambda n=n: bytes([n]) * 10) == bytes([n]) * 10
    assert [n in recent for n in range(3)] == [False, True, True]
    assert recent.get(1, lambda: b"made again") == bytes([1]) * 10
    assert recent.peek(1) == bytes([1]) * 10
    assert recent.peek(0) is None
    recent.get(3, lambda: b"x" * 10)
    assert [n in recent for n in range(4)] == [False, True, False, True]


def test_one_is_kept_however_large() -> None:
    recent: LruCache[bytes] = LruCache(25, len)
    recent.get(0, lambda: b"x" * 10)
    recent.get(1, lambda: b"x" * 100)
    assert 0 not in recent
    assert recent.get(1, lambda: b"made again") == b"x" * 100


def test_many_threads_stay_within_its_bytes() -> None:
    recent: LruCache[bytes] = LruCache(50, len)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: recent.get(n % 9, lambda: bytes([n % 9]) * 10), range(500)))
    assert made == [bytes([n % 9]) * 10 for n in range(500)]
    assert sum(n in recent for n in range(9)) == 5


def test_of_many_threads_one_makes_it_and_the_others_wait() -> None:
    recent: LruCache[bytes] = LruCache(50, len)
    made: list[int] = []

    def make() -> bytes:
        made.append(1)
        time.sleep(0.02)
        return b"x"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: recent.get(0, make), range(16))) == {b"x"}
    assert made == [1]


def test_a_failure_is_told_and_not_kept() -> None:
    recent: LruCache[bytes] = LruCache(50, len)
    with pytest.raises(ZeroDivisionError):
        recent.get(0, lambda: bytes(1 // 0))
    assert recent.get(0, lambda: b"x") == b"x"
