import pickle
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chromogen.image import Image
from chromogen.staining.stainer import (
    REFERENCE,
    STAINERS,
    Stainer,
    builtin_ihc,
    color_transfer,
    identity,
    normalize,
    stain_image,
)
from chromogen.stains.deconvolution import H_E, combine_stains, normalize_stains, optical_density, stain_look
from chromogen.stains.glass import white_level
from chromogen.stains.tissue import tissue_mask
from synthetic import tissue_like

HE = tissue_like(300, 260, seed=3)
FITTED = {name: make().fit(HE) for name, make in STAINERS.items()}


def brighter_around(image: Image, _statistics: object, _location: object, reach_px: int = 3) -> Image:
    """A stainer that looks at its surroundings: the mean of a square around every pixel."""
    padded = np.pad(image.astype(np.int64), ((reach_px, reach_px), (reach_px, reach_px), (0, 0)), mode="edge")
    side = 2 * reach_px + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))
    return np.asarray(windows.sum(axis=(-1, -2)) // side**2, np.uint8)


@pytest.mark.parametrize("name", STAINERS)
@settings(max_examples=20)
@given(core_px=st.integers(16, 200), seed=st.integers(0, 3))
def test_tiled_equals_untiled_exactly(name: str, core_px: int, seed: int) -> None:
    image = tissue_like(150, 170, seed=seed)
    np.testing.assert_array_equal(stain_image(FITTED[name], image, core_px), FITTED[name](image))


def test_halos_are_looked_at() -> None:
    stainer = Stainer("blur", "as it is", brighter_around, "blur 1", halo_px=3)
    np.testing.assert_array_equal(stain_image(stainer, HE, 48)[3:-3, 3:-3], stainer(HE)[3:-3, 3:-3])
    wrong = stain_image(replace(stainer, halo_px=0), HE, 48)
    assert (wrong != stainer(HE)).any()


def test_fit_fixes_what_a_tile_alone_would_see_otherwise() -> None:
    dark = (HE // 2).astype(np.uint8)
    for name in ("color-transfer", "normalize"):
        assert (Stainer.from_pretrained(name)(dark) != FITTED[name](dark)).any()
        np.testing.assert_array_equal(
            Stainer.from_pretrained(name).fit(dark)(dark), Stainer.from_pretrained(name)(dark)
        )


def test_identity_changes_nothing() -> None:
    np.testing.assert_array_equal(identity()(HE), HE)


def test_color_transfer_has_the_exemplars_densities_and_keeps_glass() -> None:
    """Second moments of densities, up to what 8 bits cut off."""
    image = combine_stains(np.random.default_rng(0).uniform(0.3, 1.2, (64, 64, 3)) * [1, 1, 0], H_E)
    made, ihc = color_transfer().fit(image)(image), builtin_ihc()
    wanted = optical_density(ihc[tissue_mask(ihc)], white_level(ihc))
    got = optical_density(made).reshape(-1, 3)
    np.testing.assert_allclose(got.T @ got / len(got), wanted.T @ wanted / len(wanted), rtol=0.15)
    glass = np.full((8, 8, 3), 255, np.uint8)
    np.testing.assert_array_equal(color_transfer().fit(image)(glass), glass)


def test_normalize_is_macenkos() -> None:
    """Against the way through concentrations, in double precision; they differ by rounding alone."""
    slow = normalize_stains(HE, stain_look(HE), REFERENCE)
    assert np.abs(normalize()(HE).astype(int) - slow).max() <= 1


def test_a_blank_tile_stays_blank() -> None:
    blank = np.full((40, 40, 3), 243, np.uint8)
    for name in STAINERS:
        assert (np.ptp(Stainer.from_pretrained(name)(blank), axis=(0, 1)) == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (37, 3)])
@pytest.mark.parametrize("name", STAINERS)
def test_any_size(name: str, shape: tuple[int, int]) -> None:
    assert Stainer.from_pretrained(name)(tissue_like(*shape, seed=1)).shape == (*shape, 3)


@pytest.mark.parametrize("name", STAINERS)
def test_a_fitted_stainer_is_small_and_can_be_sent(name: str) -> None:
    """Workers are sent pickles, nuclei of an exemplar and all; a deep copy is made of the same parts."""
    assert len(pickle.dumps(FITTED[name])) < (150_000 if name == "nuclear" else 8000)
    np.testing.assert_array_equal(deepcopy(FITTED[name])(HE), FITTED[name](HE))


@pytest.mark.parametrize("more", [{"model_mpp": 0.5}, {"value_range": "0..1"}, {"blend_px": 64}])
def test_what_is_for_generators_goes_with_no_other(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"given with a generator \(.onnx\)"):
        Stainer.from_pretrained("nuclear", **more)


def test_a_wrong_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean normalize"):
        Stainer.from_pretrained("normalise")


def test_identities_differ() -> None:
    assert len({stainer.identity for stainer in FITTED.values()}) == len(STAINERS)
    assert partial(identity)().halo_px == 0


def test_the_builtin_ihc_has_brown_and_blue() -> None:
    ihc = builtin_ihc().astype(int)
    assert ihc.shape == (512, 512, 3)
    assert np.mean(ihc[..., 0] > ihc[..., 2] + 30) > 0.2
    assert np.mean(ihc[..., 2] > ihc[..., 0] + 10) > 0.05


# Says whether torch is loaded when a look is there, and once it is prepared.
LOADED = """
import sys
from chromogen.staining.stainer import Stainer
stainer = Stainer.from_pretrained("epithelial")
print("torch" in sys.modules)
stainer.prepare()
print("torch" in sys.modules)
"""


def test_a_look_loads_torch_when_it_is_prepared_and_not_before() -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "True"]
