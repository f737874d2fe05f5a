"""Pairs to train on: which are left out and why, how finely they count, and that no slide is on both sides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromogen.stains.registration import Displacement
from chromogen.training.fields import (
    CheckedPair,
    TissuePair,
    alike_names,
    check_pair,
    joined_pairs,
    kept_of,
    trust_of,
)
from drawn_pairs import drawn_pair

MPP = 0.5


def pair_of(seed: int, name: str = "a", slide: str = "s", side: int = 256) -> TissuePair:
    drawn = drawn_pair(seed, "pink", side)
    return TissuePair(name, slide, drawn.he, drawn.ihc)


PAIR, OTHER = pair_of(0, "a", "s"), pair_of(1, "b", "t")


def test_a_pair_is_used_and_told_of() -> None:
    found = check_pair(PAIR, MPP)
    assert found.problem is None
    row = found.row(MPP)
    assert row["displacement_um"] == pytest.approx(row["displacement_px"] * MPP, abs=0.06)
    assert kept_of([found]) == [found]


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        (replace(PAIR, ihc=OTHER.ihc), "fits no better than another tissue within 30 um"),
        (replace(PAIR, ihc=PAIR.he), "paired with itself"),
        (replace(PAIR, he=PAIR.ihc), "paired with itself"),
        (replace(PAIR, ihc=OTHER.he), "its IHC looks like an H&E"),
        (replace(PAIR, he=PAIR.ihc, ihc=PAIR.he), "its H&E looks like an IHC"),
        (replace(PAIR, ihc=np.full_like(PAIR.ihc, 245)), "fits no better than another tissue within 30 um"),
    ],
)
def test_what_is_no_pair_is_left_out(pair: TissuePair, said: str) -> None:
    found = check_pair(pair, MPP)
    assert found.problem == said
    with pytest.raises(ValueError, match=f"at least one H&E with an IHC of its tissue, got a {said}"):
        kept_of([found])
    assert len(kept_of([found, check_pair(PAIR, MPP)])) == 1


def test_two_sizes_and_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="of one size, got a, 256 x 256 px and 250 x 256 px"):
        check_pair(replace(PAIR, ihc=PAIR.ihc[:, :250]), MPP)
    with pytest.raises(ValueError, match="at least 64 px on each side"):
        check_pair(replace(PAIR, he=PAIR.he[:50], ihc=PAIR.ihc[:50]), MPP)


@given(residual=st.floats(0, 200), confidence=st.floats(0, 1))
def test_the_further_apart_the_coarser(residual: float, confidence: float) -> None:
    trust = np.array(trust_of(Displacement((0, 0), residual, confidence, 0.5))) ** 2
    assert trust.sum() == pytest.approx(min(1, confidence / 0.3))
    assert list(trust) == sorted(trust)
    further = np.array(trust_of(Displacement((0, 0), residual + 5, confidence, 0.5))) ** 2
    assert further[0] <= trust[0] + 1e-9
    assert further[-1] >= trust[-1] - 1e-9


@pytest.mark.parametrize(
    "same", [lambda x: x, lambda x: x[::-1].copy(), lambda x: np.rot90(x).copy(), lambda x: x[3:-3, 2:]]
)
def test_the_same_picture_under_two_names_is_of_one_slide(same: object) -> None:
    """Also turned, mirrored, cropped by a few pixels."""
    again = TissuePair("c", "u", same(PAIR.he), same(PAIR.ihc))  # type: ignore[operator]
    found, said = joined_pairs([PAIR, OTHER, again])
    assert [pair.slide for pair in found] == ["s", "t", "s"]
    assert said == ["a and c are nearly the same picture: kept on one side"]
    assert joined_pairs([PAIR, OTHER])[1] == []


def test_names_that_may_be_tiles_of_one_slide() -> None:
    def named(*names: str) -> list[TissuePair]:
        return [replace(PAIR, name=name, slide=name) for name in names]

    assert alike_names(named("S1_x100_y20", "S2_x1", "S1_x0_y7")) == ("S1_x100_y20", "S1_x0_y7")
    assert alike_names(named("liver", "lung")) is None
    assert alike_names([replace(pair, slide="one") for pair in named("S1_1", "S1_2")]) is None


def test_none_at_all() -> None:
    with pytest.raises(ValueError, match="got none"):
        kept_of([])
    bad = CheckedPair(PAIR, Displacement((0, 0), 0, 0, 0), "wrong")
    with pytest.raises(ValueError, match="got a wrong, and 1 others"):
        kept_of([bad, bad])
