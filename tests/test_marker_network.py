"""One network for several markers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chromogen.stainer import load_stainer
from chromogen.stainer_file import write_model
from chromogen.style.marker_network import MarkerArchitecture, MarkerNetwork, blend_of, built
from chromogen.style.slide_densities import density_from
from test_kinds import HE, STAIN, TARGET, model, network

MARKERS = ("ER", "Ki67", "HER2")


def test_folding_is_the_affine_after_each_layer() -> None:
    """Against factors and shifts applied to what the layers give, in the open."""
    made = network("stain, markers")
    assert isinstance(made, MarkerNetwork)
    plain, base = made.at((0.0, 1.0, 0.0)), made.base
    x = torch.randn(50, base.mean.numel())
    wanted = x
    for at, layer in enumerate([base.body[0], base.body[2], base.head]):
        wanted = (1 + made.scales[at][1]) * layer(wanted) + made.shifts[at][1]
        wanted = wanted.relu() if layer is not base.head else wanted
    torch.testing.assert_close(plain.head(plain.body(x)), wanted, atol=1e-5, rtol=1e-4)


def test_weights_between_markers_blend() -> None:
    made = network("stain, markers")
    assert isinstance(made, MarkerNetwork)
    density = density_from(HE[:64, :64], (255.0,) * 3)
    given_ = density, torch.tensor([1.5, 0.9]), torch.tensor([0.0])
    pictures = [made.at((1 - share, share, 0.0))(*given_) for share in (0.0, 0.1, 0.5, 1.0)]
    away = [float((picture - pictures[0]).abs().mean()) for picture in pictures]
    assert 0 == away[0] < away[1] < away[2] < away[3]
    half = made.target_at((0.5, 0.5, 0.0))
    assert half.dab == pytest.approx((1.4 + 0.9) / 2)
    np.testing.assert_allclose(np.linalg.norm(half.matrix, axis=1), 1.0, atol=1e-6)


@given(st.lists(st.floats(0, 10), min_size=3, max_size=3).filter(lambda w: sum(w) > 1e-6))
def test_a_blend_adds_up_to_one(weights: list[float]) -> None:
    text = ",".join(f"{name}:{weight!r}" for name, weight in zip(MARKERS, weights, strict=True))
    blend = blend_of(text, MARKERS)
    assert sum(blend) == pytest.approx(1)
    np.testing.assert_allclose(np.array(blend) * sum(weights), weights, rtol=1e-6, atol=1e-9)


def test_a_marker_alone() -> None:
    assert blend_of("Ki67", MARKERS) == (0.0, 1.0, 0.0)
    assert blend_of(None, ["ER"]) == (1.0,)
    assert blend_of(None, []) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ki76", "did you mean Ki67"),
        ("ER:0.5,her2:0.5", "did you mean HER2"),
        (None, "one of ER, Ki67, HER2, or a blend"),
        ("ER:-1,Ki67:2", "at least 0"),
        ("ER:x", "at least 0"),
        ("ER:nan", "at least 0"),
        ("ER:0", "above 0"),
    ],
)
def test_wrong_blends(text: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        blend_of(text, MARKERS)


@pytest.mark.parametrize("names", [(), ("ER", "ER"), ("a,b", "c"), ("a:b",), ("",), (" ER",), ("a=b",)])
def test_names_that_no_blend_could_say(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="Expected `marker"):
        MarkerArchitecture(STAIN, names)


def test_stainers_of_a_file(tmp_path: Path, model_file: Path) -> None:
    file = tmp_path / "m.safetensors"
    write_model(file, model("stain, markers"))
    stainers = [load_stainer(file, text) for text in ("ER", "Ki67", "ER:1,Ki67:1")]
    assert len({stainer.identity for stainer in stainers}) == 3
    assert stainers[2].name == "test (ER 0.5, Ki67 0.5)"
    assert len({stainer.fit(HE)(HE).tobytes() for stainer in stainers}) == 3
    with pytest.raises(ValueError, match="one of ER, Ki67, HER2"):
        load_stainer(file)
    with pytest.raises(ValueError, match="left out"):
        load_stainer(model_file, "ER")
    with pytest.raises(ValueError, match="left out"):
        load_stainer("identity", "ER")


def test_what_all_markers_share_is_trained_by_all() -> None:
    made = built(MarkerArchitecture(STAIN, MARKERS), TARGET)
    assert isinstance(made, MarkerNetwork)
    own = sum(weight.numel() for weight in [*made.scales, *made.shifts])
    shared = sum(weight.numel() for weight in made.base.parameters())
    assert own / len(MARKERS) < shared / 4
