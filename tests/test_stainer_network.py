"""The network that stains slides."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chromogen.grid import Window
from chromogen.image import Image
from chromogen.stainer import Stainer, stain_image
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.style.slide_densities import STRIDE_PX, Target, density_from, image_from, padded
from chromogen.style.stainer_network import (
    DENSITY_FOR_DAB,
    HALO_PX,
    LEAST_DAB,
    TRAINED_SITES,
    Architecture,
    SlideLook,
    StainerNetwork,
    features_of,
    slide_look,
    stain,
)
from synthetic import tissue_like

TARGET = Target(tuple(tuple(map(float, row)) for row in H_DAB), 1.2, 1.4)
LOOK = SlideLook((240.0, 238.0, 243.0), (1.5, 0.9), 0.0)


def network(site: str = "any", seed: int = 0) -> StainerNetwork:
    """With a head that says something."""
    torch.manual_seed(seed)
    made = StainerNetwork(Architecture(width=16, depth=2, site=site), TARGET).eval()
    torch.nn.init.normal_(made.head.weight, std=0.5)
    return made


NETWORKS = {site: network(site) for site in TRAINED_SITES}
LARGE = tissue_like(400, 432, seed=5)
WHOLE = {site: stain(made, LARGE, LOOK) for site, made in NETWORKS.items()}


def stained_by(image: Image, site: str, _location: object = None) -> Image:
    return stain(NETWORKS[site], image, LOOK)


@settings(max_examples=12)
@given(core_px=st.integers(16, 300), site=st.sampled_from(TRAINED_SITES))
def test_tiled_equals_untiled_exactly(core_px: int, site: str) -> None:
    stainer = Stainer("net", "DAB", stained_by, "0", halo_px=HALO_PX, stride_px=STRIDE_PX, statistics=site)
    np.testing.assert_array_equal(stain_image(stainer, LARGE, core_px), WHOLE[site])


def test_nothing_further_than_the_halo_counts() -> None:
    changed = LARGE.copy()
    changed[200, 200] = 0
    rows, columns = np.nonzero((stain(NETWORKS["cytoplasm"], changed, LOOK) != WHOLE["cytoplasm"]).any(axis=2))
    assert rows.size
    assert np.abs(rows - 200).max() <= HALO_PX
    assert np.abs(columns - 200).max() <= HALO_PX


def test_even_tissue_is_rendered_by_the_formula() -> None:
    """An untrained network, away from glass, against Beer-Lambert in double precision."""
    he = np.full((96, 80, 3), combine_stains(np.array([[[0.8, 0.6, 0.0]]]), H_E)[0, 0], np.uint8)
    h, e, _ = separate_stains(he[0, 0], H_E)
    dab = TARGET.dab * (1 - np.exp(-DENSITY_FOR_DAB * (h + e))) * (1 - (1 + np.exp(LEAST_DAB)) ** -0.5)
    density = h * (1.2 / 1.5) * H_DAB[0] + dab * H_DAB[1]
    untrained = StainerNetwork(Architecture(), TARGET).eval()
    made = stain(untrained, he, SlideLook((255.0, 255.0, 255.0), (1.5, 0.9), 0.0))
    assert np.abs(made.astype(float) - (256 * np.exp(-density) - 1)).max() <= 0.51


def test_glass_stays_glass_whatever_its_colour() -> None:
    glass = np.tile(np.array(LOOK.white, np.uint8), (64, 64, 1))
    for made in NETWORKS.values():
        np.testing.assert_array_equal(stain(made, glass, LOOK), glass)


def test_no_pink_is_left() -> None:
    """What is neither haematoxylin nor DAB."""
    rng = np.random.default_rng(0)
    amounts = np.stack([rng.uniform(0.2, 1.2, (96, 96)), rng.uniform(0.3, 1.0, (96, 96)), np.zeros((96, 96))], 2)
    made = stain(NETWORKS["any"], combine_stains(amounts, H_E), slide_look(combine_stains(amounts, H_E)))
    assert np.abs(separate_stains(made, H_DAB)[..., 2]).max() < 0.06


def test_ink_goes_through_and_takes_no_dab() -> None:
    he = LARGE[:96, :96].copy()
    he[32:64, 32:64] = (30, 130, 60)
    made = stain(NETWORKS["any"], he, SlideLook((255.0, 255.0, 255.0), (1.5, 0.9), 0.0))
    assert np.abs(made[44:52, 44:52].astype(int) - (30, 130, 60)).max() < 12


def test_sites_differ_where_nuclei_are() -> None:
    amounts = np.zeros((128, 128, 3))
    amounts[..., 1] = 0.7
    y, x = np.mgrid[:128, :128]
    nuclei = ((y % 32 - 16) ** 2 + (x % 32 - 16) ** 2) < 49
    amounts[nuclei, 0] = 1.5
    he = combine_stains(amounts, H_E)
    dab = {
        site: separate_stains(stain(network(site), he, slide_look(he)), H_DAB)[..., 1] for site in TRAINED_SITES
    }
    centre, away = ((y % 32 - 16) ** 2 + (x % 32 - 16) ** 2) < 9, ((y % 32) < 3) & ((x % 32) < 3)
    assert dab["nuclear"][centre].mean() > 3 * dab["nuclear"][away].mean()
    assert dab["cytoplasm"][away].mean() > 3 * dab["cytoplasm"][centre].mean()


@pytest.mark.parametrize(("site", "covered"), [("nuclear", 0.6), ("any", 0.0), ("cytoplasm", 0.0)])
def test_dab_in_nuclei_hides_their_haematoxylin(site: str, covered: float) -> None:
    """All the DAB that a pixel can take, against Beer-Lambert in double precision."""
    density = torch.tensor(0.8 * H_E[0] + 0.6 * H_E[1]).float().view(1, 3, 1, 1)
    logit, gain, takes = 30.0, 1.0, 1.0
    maps = torch.tensor([logit, 0, 0, gain, takes, 0, 0]).view(1, 7, 1, 1)
    made = network(site).rendered(density, maps, torch.tensor([1.5, 0.9]))
    full = 1 - np.exp(-DENSITY_FOR_DAB * (0.8 + 0.6))
    wanted = 0.8 * (1 - covered * full) * H_DAB[0] + TARGET.dab * full * H_DAB[1]
    np.testing.assert_allclose(made.detach().numpy().ravel(), wanted, rtol=1e-5)


def test_cytoplasm_is_of_cells_side_by_side_and_collagen_stays_pale() -> None:
    amounts = np.zeros((256, 256, 3))
    amounts[..., :2] = 0.1, 0.6
    amounts[:, 128:, 0] = 0.7
    stained = stain(network("cytoplasm"), combine_stains(amounts, H_E), LOOK)
    dab = separate_stains(stained, H_DAB)[..., 1]
    assert dab[:, 208:].mean() > 3 * dab[:, :48].mean()


def test_white_level_scales_the_picture() -> None:
    """The same densities on darker glass."""
    white = tuple(0.8 * level for level in (255.0, 255.0, 255.0))
    dim = np.rint((LARGE[:128, :128] + 1.0) * (white[0] + 1) / 256 - 1).clip(0).astype(np.uint8)
    on_dim = stain(NETWORKS["any"], dim, SlideLook(white, (1.5, 0.9), 0.0)).astype(float)
    on_white = stain(NETWORKS["any"], LARGE[:128, :128], SlideLook((255.0,) * 3, (1.5, 0.9), 0.0)).astype(float)
    assert np.abs((on_dim + 1) / (white[0] + 1) - (on_white + 1) / 256).max() < 0.02


def test_a_look_has_the_slides_white_and_strengths() -> None:
    rng = np.random.default_rng(1)
    amounts = np.stack([rng.uniform(0, 2, (80, 80)), rng.uniform(0, 1, (80, 80)), np.zeros((80, 80))], 2)
    amounts[:30] = 0
    found = slide_look(combine_stains(amounts, H_E, 240.0))
    assert found.white == (240.0, 240.0, 240.0)
    np.testing.assert_allclose(found.strength, (1.98, 0.99), rtol=0.03)
    assert abs(found.residue) < 0.01


def test_a_blank_slide_has_a_usual_look() -> None:
    found = slide_look(np.full((50, 50, 3), 250, np.uint8))
    assert min(found.strength) > 0
    assert np.isfinite(found.residue)


def test_features_know_no_more_than_stains() -> None:
    density = density_from(padded(LARGE), LOOK.white)
    features = features_of(density, torch.tensor(LOOK.strength))
    assert features.shape == (1, 15, density.shape[2] // 2, density.shape[3] // 2)
    np.testing.assert_allclose(
        features[:, 2], torch.nn.functional.avg_pool2d(density.mean(1, keepdim=True), 2)[:, 0], atol=1e-6
    )


@settings(max_examples=12)
@given(height=st.integers(1, 9), width=st.integers(1, 9), site=st.sampled_from(TRAINED_SITES))
def test_strips_are_the_network(height: int, width: int, site: str) -> None:
    """What is rendered strip by strip is what the network says of the whole, in every bit."""
    image = LARGE[: height * STRIDE_PX, : width * STRIDE_PX]
    with torch.inference_mode():
        given_look = torch.tensor(LOOK.strength), torch.tensor([LOOK.residue])
        made = NETWORKS[site](density_from(image, LOOK.white), *given_look)
    np.testing.assert_array_equal(stain(NETWORKS[site], image, LOOK), image_from(made, LOOK.white))


@settings(max_examples=12)
@given(corner=st.tuples(*[st.integers(0, 200)] * 2), size=st.tuples(*[st.integers(1, 200)] * 2))
def test_a_part_is_a_crop_of_the_whole(corner: tuple[int, int], size: tuple[int, int]) -> None:
    (left, top), (width, height) = corner, size
    part = Window(left, top, left + width, top + height)
    np.testing.assert_array_equal(stain(NETWORKS["nuclear"], LARGE, LOOK, part), WHOLE["nuclear"][part.at])


@pytest.mark.parametrize("wrong", [{"site": "membran"}, {"width": 0}, {"depth": 99}, {"kind": "unet"}])
def test_unknown_architectures_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Architecture(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (33, 17)])
def test_any_size(size: tuple[int, int]) -> None:
    image = LARGE[: size[0], : size[1]]
    assert stain(NETWORKS["nuclear"], image, LOOK).shape == image.shape
