"""Which tiles a picture takes, by the memory there is."""

import warnings
from dataclasses import replace

import psutil
import pytest

from chromogen.compute.tiles import ALIGNED_PX
from chromogen.style.encoder import Encoder
from chromogen.style.memory import Limits, fitting, need_of, need_within
from chromogen.style.recipes import PRESETS

RECIPE = PRESETS["histology"]
LARGE = (4096, 4096)


def test_one_piece_where_it_fits() -> None:
    assert fitting((512, 512), RECIPE, "fp32", 10**10) == need_of((512, 512), RECIPE, "fp32")


def test_else_the_largest_tiles_that_do() -> None:
    need = fitting(LARGE, RECIPE, "fp32", 8 * 10**9)
    assert need is not None
    assert need.tile_px is not None
    assert need.tile_px % ALIGNED_PX == 0
    assert need.bytes <= 8 * 10**9
    assert need_of(LARGE, RECIPE, "fp32", need.tile_px + ALIGNED_PX).bytes > 8 * 10**9


def test_more_memory_gives_larger_tiles_and_bf16_too() -> None:
    needs = [fitting(LARGE, RECIPE, p, gb * 10**9) for p, gb in (("fp32", 6), ("fp32", 9), ("bf16", 9))]
    tiles = [need.tile_px or 0 for need in needs if need]
    assert tiles == sorted(tiles)
    assert len(set(tiles)) == 3


def test_what_fits_in_no_tiles_is_refused_with_advice(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 10**9

    assert fitting(LARGE, RECIPE, "fp32", 10**9) is None
    monkeypatch.setattr(psutil, "virtual_memory", Little)
    with pytest.raises(
        ValueError, match=r"`max_memory` to be at least \d+\.\d GB for 4096 x 4096 px in small tiles"
    ):
        need_within(Limits(), LARGE, RECIPE, encoder)
    with pytest.raises(ValueError, match="--set optimizer=adam"):
        need_within(Limits(), LARGE, PRESETS["balanced"], encoder)


def test_a_history_takes_memory_that_tiles_do_not_shrink() -> None:
    short, long = (
        need_of(LARGE, replace(PRESETS["balanced"], history=history), "fp32", 512).bytes for history in (5, 15)
    )
    assert long - short == 10 * 24 * 4096**2


def test_limits_count_what_the_process_has_already(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    class Free:
        available = 24 * 10**9

    monkeypatch.setattr(psutil, "virtual_memory", Free)
    assert need_within(Limits(), (1024, 1024), RECIPE, encoder).tile_px is None
    rss = psutil.Process().memory_info().rss
    tight = need_within(Limits(max_memory_bytes=rss + 2 * 10**9), (1024, 1024), RECIPE, encoder)
    assert tight.tile_px is not None
    assert tight.bytes <= 2 * 10**9
    assert need_within(Limits(tile_px=128), (1024, 1024), RECIPE, encoder).tile_px == 128


def test_a_limit_is_kept_to_with_a_tenth_to_spare_and_told_as_it_was_given(encoder: Encoder) -> None:
    limit = psutil.Process().memory_info().rss + 2 * 10**9
    need = need_within(Limits(max_memory_bytes=limit), (1024, 1024), RECIPE, encoder)
    assert psutil.Process().memory_info().rss + need.bytes <= 0.92 * limit
    with pytest.raises(ValueError, match=r"got 0\.2 GB"):
        need_within(Limits(max_memory_bytes=2 * 10**8), (1024, 1024), RECIPE, encoder)


def test_before_tiles_comes_one_that_gives_freed_memory_back() -> None:
    size = (1000, 600)
    kept = need_of(size, RECIPE, "fp32")
    spared = fitting(size, RECIPE, "fp32", kept.bytes - 1)
    assert spared is not None
    assert spared.tile_px == 1024
    assert spared.bytes < kept.bytes
    cut = fitting(size, RECIPE, "fp32", spared.bytes - 1)
    assert cut is not None
    assert cut.tile_px is not None
    assert cut.tile_px < 1000


def test_tiles_that_are_nearly_all_halo_are_warned_of(encoder: Encoder) -> None:
    recipe = PRESETS["balanced"]
    with pytest.warns(UserWarning, match="32 px with 70 px around them take 38 times the work"):
        need_within(Limits(tile_px=32), (512, 512), recipe, encoder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        need_within(Limits(tile_px=512), (2048, 2048), recipe, encoder)
        need_within(Limits(tile_px=64), (64, 64), recipe, encoder)
