import subprocess
import sys

import pytest

import chromogen.compute.memory
from chromogen.compute.memory import give_back_freed_memory, keep_freed_memory

# Frees a block far above glibc's own thresholds and says how much of it stays resident.
FREE_A_BLOCK = """
import ctypes, psutil, sys
from chromogen.compute.memory import give_back_freed_memory, keep_freed_memory
if sys.argv[1] != "leave":
    assert keep_freed_memory()
if sys.argv[1] == "give back":
    assert give_back_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
before = psutil.Process().memory_info().rss
block = libc.malloc(256 * 2**20)
ctypes.memset(block, 1, 256 * 2**20)
libc.free(block)
print(psutil.Process().memory_info().rss - before)
"""


def resident_bytes_after_free(what: str) -> int:
    said = subprocess.run(
        [sys.executable, "-c", FREE_A_BLOCK, what], capture_output=True, text=True, check=True
    ).stdout
    return int(said)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_freed_memory_stays_with_the_process() -> None:
    assert resident_bytes_after_free("keep") > 200 * 2**20
    assert resident_bytes_after_free("leave") < 50 * 2**20
    assert resident_bytes_after_free("give back") < 50 * 2**20


def test_other_c_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chromogen.compute.memory.ctypes, "CDLL", lambda _name: object())
    assert keep_freed_memory() is False
    assert give_back_freed_memory() is False


# Leaves small blocks between large ones that are free, and says how much of the process stays resident.
SCATTER = """
import ctypes, sys
from chromogen.compute.memory import give_back_scattered_memory, keep_freed_memory, resident_bytes
assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
large = []
for _ in range(100):
    large.append(libc.malloc(2**20))
    ctypes.memset(large[-1], 1, 2**20)
    libc.malloc(64)
for block in large:
    libc.free(block)
before = resident_bytes()
assert give_back_scattered_memory(int(sys.argv[1])) == (int(sys.argv[1]) < before)
print(before - resident_bytes())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
@pytest.mark.parametrize(("from_bytes", "given_back"), [(50 * 2**20, True), (2**40, False)])
def test_gaps_between_blocks_are_given_back_where_they_are_many(from_bytes: int, given_back: bool) -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCATTER, str(from_bytes)], capture_output=True, text=True, check=True
    ).stdout
    assert (int(said) > 80 * 2**20) == given_back


# What Python still searches for garbage, at the very end.
ENDING = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000, gc.get_threshold()[0]))
from chromogen.compute.memory import collect_garbage_rarely
collect_garbage_rarely()
"""


def test_garbage_is_looked_for_rarely_and_not_at_the_end() -> None:
    said = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True", str(chromogen.compute.memory.GARBAGE_OBJECTS)]
