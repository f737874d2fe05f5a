"""A tape that was put away gives the same way back, to the bit, as the way there itself."""

from __future__ import annotations

import warnings
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from chromogen.spill import Spill
from chromogen.style.tape import GramOf, Tape, Tapes, packed, unpacked
from chromogen.style.trunk import look, pool
from test_trunk import MASKS, POOLS, laid_out

LOOKED_AT = ([], ["1_1"], ["2_1", "3_1"], ["1_2", "2_2"])
GRAMS_OF = ([], [("1_1", "left"), ("3_1", "soft")], [("2_1", None), ("2_1", "left"), ("2_2", "soft")])


def there_and_back(
    x: Tensor, looked_at: list[str], grams_of: list[GramOf], pooling: str, tape: Tape
) -> list[Tensor]:
    """What is seen, and the gradient of a sum in which every value counts differently."""
    deepest = max([*looked_at, *(name for name, _ in grams_of)])
    x = x.clone().requires_grad_()
    activations, grams = look(x, laid_out([deepest]), looked_at, grams_of, pooling, MASKS, tape)
    seen = [*activations.values(), *grams.values()]
    total = sum((x * torch.linspace(-1, 1, x.numel()).view(x.shape)).sum() for x in seen)
    assert isinstance(total, Tensor)
    return [*seen, torch.autograd.grad(total, x)[0]]


def written(x: Tensor, looked_at: list[str], grams_of: list[GramOf], pooling: str) -> Tape:
    tape = Tape()
    deepest = max([*looked_at, *(name for name, _ in grams_of)])
    with torch.no_grad():
        look(x, laid_out([deepest]), looked_at, grams_of, pooling, MASKS, tape)
    return tape


@pytest.mark.parametrize("pooling", list(POOLS))
@pytest.mark.parametrize(
    ("looked_at", "grams_of"), [asked for asked in product(LOOKED_AT, GRAMS_OF) if any(asked)]
)
def test_the_way_back_is_the_same_to_the_bit(looked_at: list[str], grams_of: list[GramOf], pooling: str) -> None:
    x = torch.randn(2, 3, 12, 19, generator=torch.Generator().manual_seed(1)).contiguous(
        memory_format=torch.channels_last
    )
    spill = Spill()
    spill.keep(0, packed(written(x, looked_at, grams_of, pooling)))
    tape = unpacked(spill.of(0), x)
    ours = there_and_back(x, looked_at, grams_of, pooling, tape)
    theirs = there_and_back(x, looked_at, grams_of, pooling, Tape())
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert [tape.activations, tape.signs, tape.pools] == [{}, {}, {}], "let go of on the way"


def test_a_written_tape_spares_the_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 3, 12, 19).contiguous(memory_format=torch.channels_last)
    tape, convolutions = written(x, [], [("3_1", "left")], "max"), laid_out(["3_1"])
    for convolution in convolutions.values():
        monkeypatch.setattr(convolution, "there", lambda _x: pytest.fail("went there again"))
    _, grams = look(x, convolutions, [], [("3_1", "left")], "max", MASKS, tape)
    assert grams["3_1", "left"].shape == (1, 16, 16)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(1, 2), st.integers(0, 2**16))
def test_winners_come_back(height: int, width: int, batch: int, seed: int) -> None:
    x = torch.rand(batch, 8, 4 * height, width, generator=torch.Generator().manual_seed(seed)).contiguous(
        memory_format=torch.channels_last
    )
    _, winners = pool(x, "max")
    assert winners is not None
    parts = packed(Tape(pools={"1_2": (x.shape, winners)}))
    assert parts["winners\t1_2"].numel() == 2 * winners.numel() // 8
    shape, back = unpacked(parts, x).pools["1_2"]
    assert shape == x.shape
    assert back is not None
    assert torch.equal(back, winners)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_signs_take_a_bit(dtype: torch.dtype) -> None:
    x = torch.randn(1, 16, 5, 7).to(dtype)
    parts = packed(Tape(signs={"1_2": x}))
    assert {key: part.numel() for key, part in parts.items()} == {"signs\t1_2": 16 * 5 * 7 // 8}
    back = unpacked(parts, x).signs["1_2"]
    assert torch.equal(back, (x > 0).to(dtype))


def test_tapes_that_do_not_fit_are_not_kept_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tapes = Tapes(has_room=True)
    like = torch.zeros(0)
    tapes.keep(0, Tape(signs={"1_2": torch.ones(1, 8, 2, 2)}))
    assert tapes.of(0, like).is_written

    def full(path: Path, *_given: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("chromogen.spill.save_tensors", full)
    with pytest.warns(UserWarning, match="looked at twice from here on, which is slower: No space left"):
        tapes.keep(1, Tape(signs={"1_2": torch.ones(1, 8, 2, 2)}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tapes.keep(2, Tape(signs={"1_2": torch.ones(1, 8, 2, 2)}))
    assert [tapes.of(number, like).is_written for number in range(3)] == [True, False, False]
    tapes.forget(0)
    assert not tapes.of(0, like).is_written


def test_without_room_nothing_is_kept() -> None:
    tapes = Tapes()
    tapes.keep(0, Tape(signs={"1_2": torch.ones(1, 8, 2, 2)}))
    assert not tapes.of(0, torch.zeros(0)).is_written
