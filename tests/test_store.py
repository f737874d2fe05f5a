import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.slides.store import BLOCKS, LEVELS, BlockStore, StoreError, claimed, forget, planned
from synthetic_slides import coordinates, crop

SIZE, BLOCK = (250, 190), (100, 80)
PICTURE = coordinates(*SIZE)


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    made = BlockStore(tmp_path / "store", SIZE, BLOCK)
    made.folder.mkdir()
    made.create()
    return made


def part(window: Window) -> Image:
    return crop(PICTURE, (window.left, window.top), window.size)


def test_blocks_come_back_as_any_window(store: BlockStore) -> None:
    for index in store.indices():
        assert not store.has(index)
        store.write(index, part(store.window(index)), [])
        assert store.check(index)
    for window in (Window(0, 0, 250, 190), Window(99, 79, 101, 81), Window(249, 189, 250, 190)):
        np.testing.assert_array_equal(store.read(window), part(window))


def test_blocks_cover_everything_once(store: BlockStore) -> None:
    covered = np.zeros(SIZE[::-1], int)
    for index in store.indices():
        covered[store.window(index).at] += 1
        assert list(store.touched(store.window(index))) == [index]
    assert (covered == 1).all()
    assert len(list(store.touched(Window(99, 79, 101, 81)))) == 4


def test_a_white_block_is_a_finished_block(store: BlockStore) -> None:
    store.write((0, 0), np.full((80, 100, 3), 255, np.uint8), [])
    assert store.has((0, 0))
    assert store.check((0, 0))


@pytest.mark.parametrize("damage", ["empty", "short", "changed"])
def test_a_broken_block_is_found_and_removed(store: BlockStore, damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (80, 100, 3), dtype=np.uint8)
    store.write((0, 0), noise, [])
    file = store.folder / "blocks" / "c" / "0" / "0" / "0"
    data = file.read_bytes()
    file.write_bytes(
        {"empty": b"", "short": data[: len(data) // 2], "changed": data[:500] + b"\0\1\2" + data[503:]}[damage]
    )
    assert not store.check((0, 0))
    assert not store.has((0, 0))
    store.write((0, 0), noise, [])
    np.testing.assert_array_equal(store.read(store.window((0, 0))), noise)


def test_a_missing_block_is_no_white_one(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromogen.slides.store.SHARED_DISK_S", 0.0)
    with pytest.raises(StoreError, match="missing"):
        store.read(Window(0, 0, 10, 10))


def test_a_block_that_stops_half_way_is_not_there(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        store.write((0, 0), part(store.window((0, 0))), [])
    assert not store.has((0, 0))


def test_damage_is_kept(store: BlockStore) -> None:
    windows = [Window(1, 2, 3, 4), Window(5, 6, 7, 8)]
    store.write((1, 0), part(store.window((1, 0))), windows[1:])
    store.write((0, 0), part(store.window((0, 0))), windows[:1])
    store.write((0, 1), part(store.window((0, 1))), [])
    assert store.damage() == windows


@pytest.mark.parametrize("told", ["[5]", "[[1, 2, 3]]", '[["a", 0, 1, 1]]', "{", "[" * 100_000, "3"])
def test_a_block_whose_damage_is_not_told_is_made_again(store: BlockStore, told: str) -> None:
    store.write((0, 0), part(store.window((0, 0))), [Window(1, 2, 3, 4)])
    store.write((0, 1), part(store.window((0, 1))), [Window(5, 6, 7, 8)])
    (store.folder / "damage" / "0_0.json").write_text(told)
    with pytest.raises(StoreError, match="the same command finds out"):
        store.damage()
    assert [store.check(index) for index in ((0, 0), (0, 1))] == [False, True]
    assert store.damage() == [Window(5, 6, 7, 8)]


@pytest.mark.parametrize(
    "lie",
    [
        lambda said: said.pop("data_type"),
        lambda said: said.update(data_type="float32"),
        lambda said: said.update(shape=[10**9, 10**9, 3]),
        lambda said: said["chunk_key_encoding"].update(name="v2"),
        lambda said: said.update(codecs=5),
        lambda said: said.clear(),
    ],
)
def test_an_array_that_is_not_as_made_is_made_again(
    store: BlockStore, lie: Callable[[dict[str, Any]], Any]
) -> None:
    file = store.folder / BLOCKS / "zarr.json"
    made = file.read_text()
    store.write((0, 0), np.full((80, 100, 3), 7, np.uint8), [])
    store.create()
    assert store.has((0, 0)), "what is as made is kept"
    said = json.loads(made)
    lie(said)
    file.write_text(json.dumps(said))
    store.create()
    assert json.loads(file.read_text()) == json.loads(made)
    assert not store.has((0, 0))


def test_a_plan_goes_on_only_with_itself(store: BlockStore) -> None:
    planned(store.folder, {"slide": "a", "mpp": 0.5}, restart=False)
    store.create()
    store.write((0, 0), part(store.window((0, 0))), [])
    planned(store.folder, {"mpp": 0.5, "slide": "a"}, restart=False)
    assert store.has((0, 0))
    with pytest.raises(ValueError, match=r"mpp 0.5 then and 0.25 now; add --restart"):
        planned(store.folder, {"slide": "a", "mpp": 0.25}, restart=False)
    assert store.has((0, 0))
    planned(store.folder, {"slide": "a", "mpp": 0.25}, restart=True)
    assert not store.has((0, 0))


def test_blocks_without_a_plan_are_forgotten(store: BlockStore) -> None:
    store.write((0, 0), part(store.window((0, 0))), [])
    planned(store.folder, {"slide": "a"}, restart=False)
    assert not store.has((0, 0))


CLAIM = """
import os, signal, sys
from pathlib import Path
from chromogen.slides.store import claimed
with claimed(Path(sys.argv[1])):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def claim_and_die(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", CLAIM, folder], capture_output=True, text=True, check=False)


def test_a_second_job_is_refused_and_the_first_ends_cleanly(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with claimed(folder):
        with pytest.raises(StoreError, match="another job"), claimed(folder):
            pass
        assert "another job" in claim_and_die(folder).stderr
        forget(folder)
    assert not folder.exists()


def test_a_killed_job_holds_nothing(tmp_path: Path) -> None:
    assert claim_and_die(tmp_path / "store").returncode == -9
    with claimed(tmp_path / "store"):
        assert os.listdir(tmp_path / "store") == ["lock"]


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "thesis.txt").write_text("mine")
    with pytest.raises(StoreError, match="move them"), claimed(tmp_path / "store"):
        pass
    assert (tmp_path / "store" / "thesis.txt").read_text() == "mine"


def test_a_block_may_have_a_coarse_map(store: BlockStore) -> None:
    levels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    store.write((0, 0), part(store.window((0, 0))), [], levels)
    store.write((0, 1), part(store.window((0, 1))), [])
    np.testing.assert_array_equal(store.levels((0, 0)), levels)
    assert store.levels((0, 1)) is None
    assert store.check((0, 0))
    assert store.check((0, 1))


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"not a map"])
def test_a_block_whose_map_is_broken_is_made_again(store: BlockStore, damage: bytes) -> None:
    store.write((0, 0), part(store.window((0, 0))), [], np.ones((3, 4), np.uint8))
    (file,) = (store.folder / LEVELS).iterdir()
    file.write_bytes(damage)
    with pytest.raises(StoreError, match="same command makes it again"):
        store.levels((0, 0))
    assert not store.check((0, 0))
    assert not store.has((0, 0))
    assert store.levels((0, 0)) is None


def test_no_map_is_unpickled(store: BlockStore) -> None:
    np.save(store.folder / LEVELS / "0_0.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(StoreError):
        store.levels((0, 0))
