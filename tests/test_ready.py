"""What is made ready once is stained as a whole window is, with any dials, and in any part of it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.models import LOOKS
from chromogen.staining import window
from chromogen.staining.how import SlideLook
from chromogen.staining.maps import Array
from chromogen.staining.stainer import load_look
from chromogen.staining.where import Place
from chromogen.staining.window import Dials, Keep, look_of, painted_window
from test_densities import IHC

AT = 1024, 48
TISSUE = IHC[60:412, 40:457].copy()
TISSUE[300:, :90] = 243  # glass


@pytest.fixture(scope="module")
def look() -> SlideLook:
    return look_of(Dials(0.3), TISSUE)


@dataclass(frozen=True)
class Slope:
    """A map that gives shares of nuclei, more to the right."""

    name: str = "slope"
    identity: str = "slope"
    gives_shares: bool = True

    def record(self) -> dict[str, Any]:
        return {}

    def measure(self, _sample: Image) -> None:
        return None

    def __call__(self, place: Place) -> Array:
        height, width = place.tissue.labels.shape
        return np.tile(np.linspace(0, 1, width, dtype=np.float32), (height, 1)) * place.tissue.there


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("where", [None, Slope()], ids=["tissue", "shares"])
def test_what_is_shown_is_as_in_the_whole_window(look: SlideLook, name: str, where: Slope | None) -> None:
    exemplar, rng = load_look(name).exemplar, np.random.default_rng(4)
    dials = replace(Dials(0.4, 0, 1.3, 0.8), **({"where": where} if where else {}))
    everything = painted_window(exemplar, dials, TISSUE, look, AT)
    corners = [np.sort(rng.integers(-40, 440, (2, 2)), axis=0) for _ in range(3)]
    for (left, top), (right, bottom) in [
        *corners,
        ((30, 310), (60, 340)),
        ((-50, -60), (3, 5)),
        ((416, 0), (417, 1)),
    ]:
        shown = Window(int(AT[0] + left), int(AT[1] + top), int(AT[0] + right), int(AT[1] + bottom))
        rows, columns = (slice(max(0, int(a)), max(0, int(b))) for a, b in ((top, bottom), (left, right)))
        made = painted_window(exemplar, dials, TISSUE, look, AT, shown)
        np.testing.assert_array_equal(made[rows, columns], everything[rows, columns])
        made[rows, columns] = 0
        assert not made.any(), "nothing else is painted"


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[int]:
    """Grows with every call of a function of painting."""
    calls: list[int] = []
    real = getattr(window, name)
    monkeypatch.setattr(window, name, lambda *given: calls.append(1) or real(*given))
    return calls


def test_dials_make_again_only_what_they_change(look: SlideLook, monkeypatch: pytest.MonkeyPatch) -> None:
    ready, amounts = counted(monkeypatch, "ready_of"), counted(monkeypatch, "amounts_of")
    exemplar, plain, shown = load_look("nuclear").exemplar, Dials(0.3), Window(1100, 100, 1164, 196)
    keep = Keep(LruCache(10**9, lambda kept: kept.nbytes), LruCache(10**9, lambda _: 1))
    other = replace(look, draws=look.draws[::-1])

    def paint(dials: Dials, by: SlideLook = look) -> tuple[int, int]:
        made = painted_window(exemplar, dials, TISSUE, by, AT, shown, keep)
        np.testing.assert_array_equal(made, painted_window(exemplar, dials, TISSUE, by, AT, shown))
        return len(ready), len(amounts)

    before = len(ready), len(amounts)
    assert before == (0, 0)
    made = {}
    for name, dials, by in (
        ("first", plain, look),
        ("intensity", replace(plain, intensity=1.5), look),
        ("counterstain", replace(plain, counterstain=0.5), look),
        ("share", replace(plain, share=0.6), look),
        ("seed", replace(plain, seed=1), other),
        ("fill", replace(plain, fill=True), look),
    ):
        begun = len(ready), len(amounts)
        now = paint(dials, by)
        made[name] = now[0] - begun[0] - 1, now[1] - begun[1] - 1  # but for what was made without keeping
    assert made == {
        "first": (1, 1),
        "intensity": (0, 0),
        "counterstain": (0, 0),
        "share": (0, 1),
        "seed": (0, 1),
        "fill": (1, 1),
    }
