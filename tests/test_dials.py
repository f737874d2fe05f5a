"""Dials are what the function that makes a stainer takes."""

from __future__ import annotations

from typing import Any

import pytest

from chromogen.app.view import choices as module
from chromogen.app.view.choices import dialled, dials_of
from chromogen.staining.stainer import load_look
from test_densities import IHC


def test_a_share_is_a_dial_of_a_marker_of_nuclei_alone() -> None:
    nuclear, epithelial = (dials_of(load_look(name)) for name in ("nuclear", "epithelial"))
    (share,) = (dial for dial in nuclear if dial.name == "share")
    assert (share.low, share.high) == (0, 1)
    assert share.default == load_look("nuclear").exemplar.share
    assert "share" not in {dial.name for dial in epithelial}
    assert "seed" in {dial.name for dial in epithelial}


def test_a_new_number_of_that_function_is_a_new_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(
        look: Any,
        share: float | None = None,
        seed: int = 0,
        intensity: float = 1.0,
        where: Any | None = None,
        *,
        fill: bool = False,
    ) -> dict[str, object]:
        return {"share": share, "seed": seed, "intensity": intensity, "where": where, "fill": fill}

    monkeypatch.setattr(module, "stainer_of_look", made)
    look = load_look("nuclear")
    found = {dial.name: dial for dial in dials_of(look)}
    assert list(found) == ["share", "seed", "intensity"]
    assert (found["intensity"].low, found["intensity"].high, found["intensity"].default) == (0, 2, 1)
    assert dialled(look, {"seed": 3.0, "intensity": 1.5}) == made(look, seed=3, intensity=1.5)


@pytest.mark.parametrize(("given", "says"), [({"hue": 1}, "some of share"), ({"share": 1.2}, "0 to 1")])
def test_dials_that_cannot_be_are_refused(given: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dialled(load_look("nuclear"), given)


def test_no_dial_but_chance_changes_what_is_measured_of_a_slide() -> None:
    """Views whose dials are moved share one measurement (`stains`)."""
    look, sample = load_look("nuclear"), IHC[:160, :160]
    dials = [dial for dial in dials_of(look) if dial.name != "seed"]
    before = dialled(look, {}).fit(sample).statistics
    assert dials
    for dial in dials:
        assert dialled(look, {dial.name: dial.high}).fit(sample).statistics == before, dial.name
