import pytest

from chromogen.errors import choose, expected


def test_choose_names_all_and_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"`preset`.*paper, default.*got 'papr'; did you mean paper\?"):
        choose("preset", "papr", ["paper", "default"])


def test_choose_without_anything_to_choose_from() -> None:
    with pytest.raises(ValueError, match="got 'x'"):
        choose("preset", "x", [])


def test_expected_leaves_out_what_there_is_no_advice_for() -> None:
    assert str(expected("size", "positive", -1)) == "Expected `size` to be positive, got -1."
