import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chromogen.whole_slide.blocks import (
    AHEAD,
    MAX_GROUP,
    cluster_at,
    group_of,
    in_threads,
    local_cluster,
    on_cluster,
)


def test_all_pieces_come_out_and_few_are_taken_ahead() -> None:
    taken: list[int] = []

    def pieces() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    done = []
    for result in in_threads(2)(lambda x: x * x, pieces()):
        done.append(result)
        assert len(taken) <= len(done) + 4 * AHEAD
    assert sorted(done) == [x * x for x in range(100)]


def test_pieces_run_side_by_side() -> None:
    both = threading.Barrier(2, timeout=120)
    assert len(list(in_threads(2)(lambda _: both.wait(), range(4)))) == 4


def test_an_error_ends_it_and_no_more_begins() -> None:
    begun: list[int] = []

    def fail(number: int) -> int:
        begun.append(number)
        if number == 3:
            raise OSError("full")
        return number

    with pytest.raises(OSError, match="full"):
        list(in_threads(2)(fail, range(1000)))
    assert len(begun) < 20


def test_leaving_early_ends_it() -> None:
    run = in_threads(2)(lambda x: x, range(1000))
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("block")]


@pytest.mark.parametrize("threads", [1, 2, 7, 64])
def test_groups_are_large_at_first_and_single_blocks_at_the_end(threads: int) -> None:
    left, groups = 1000, []
    while left:
        groups.append(group_of(left, threads))
        left -= groups[-1]
    assert groups == sorted(groups, reverse=True)
    assert groups[0] == min(MAX_GROUP, 1000 // (2 * threads))
    assert groups[-2 * threads :] == [1] * 2 * threads


def test_no_scheduler_is_a_wrong_request(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("chromogen.whole_slide.blocks.CONNECT_S", 0.2)
    with pytest.raises(ValueError, match="dask scheduler"), cluster_at("tcp://127.0.0.1:9"):
        pass


def die_once(marker: str) -> int:
    """The first worker that takes it dies."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return os.getpid()
    os._exit(9)


def threads_of_torch(_piece: int) -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def slow_square(number: int) -> int:
    time.sleep(0.01)
    return number * number


@pytest.mark.slow
def test_a_cluster_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with local_cluster(1):
        assert len(list(tmp_path.glob("*.tmp"))) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cluster_gives_the_same_and_outlives_its_workers(tmp_path: os.PathLike[str]) -> None:
    pytest.importorskip("distributed")
    with local_cluster(2) as client:
        this = psutil.Process()
        listening = [
            c.laddr.ip
            for p in (this, *this.children(recursive=True))
            for c in p.net_connections()
            if c.status == "LISTEN"
        ]
        assert set(listening) == {"127.0.0.1"}
        run = on_cluster(client)
        assert sorted(run(slow_square, range(60))) == [x * x for x in range(60)]
        assert set(run(threads_of_torch, range(3))) == {(1, "1")}
        assert len(set(run(die_once, [f"{tmp_path}/a", f"{tmp_path}/b"]))) >= 1
