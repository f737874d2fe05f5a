from dataclasses import replace

import numpy as np
import pytest
import torch

from chromogen.image import Image, to_tensor, to_uint8
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains, stain_matrix
from chromogen.stains.estimation import stain_strength
from chromogen.stains.light import tissue_share
from chromogen.style.canvas import (
    GAINS,
    Canvas,
    Pixels,
    StainMaps,
    StainNetwork,
    cut_gradients,
    developed,
    hematoxylin_alone,
    ihc_vectors,
    stain_plan,
    stains_of,
)
from chromogen.style.networks import tissue_features
from synthetic import tissue_like

HE, IHC = tissue_like(40, 48, seed=1), tissue_like(40, 48, seed=2)[..., ::-1].copy()
STAINS = stains_of(HE, [IHC], [1.0])
PLAN = stain_plan(to_tensor(HE), STAINS)
FEATURES = tissue_features(to_tensor(HE), H_E)
CANVASES: dict[str, Canvas] = {
    "pixels": Pixels(to_tensor(HE)),
    "maps": StainMaps(PLAN),
    "network": StainNetwork(PLAN, lambda _window: FEATURES, seed=0),
}


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_a_canvas_is_a_picture_by_its_parameters(canvas: Canvas) -> None:
    picture = canvas.picture()
    assert picture.shape == (1, 3, 40, 48)
    assert 0 <= picture.min() <= picture.max() <= 1
    picture.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in canvas.parameters)
    canvas.tame()
    canvas.settle()


def test_pixels_stay_between_black_and_white() -> None:
    canvas = Pixels(to_tensor(HE))
    with torch.no_grad():
        canvas.x += 2
    canvas.settle()
    assert canvas.picture().max() == 1


def test_the_hematoxylin_is_the_he_at_the_strength_of_the_ihc() -> None:
    ours = torch.from_numpy(separate_stains(HE, H_E)[..., 0]).float().clamp_min(0)
    tissue = tissue_share(to_tensor(HE))[0, 0] == 1
    inside = tissue & (ours > 0.1)
    ratio = PLAN.hematoxylin[0, 0][inside] / ours[inside]
    assert (ratio - STAINS.hematoxylin_gain).abs().quantile(0.95) < 1e-3
    wanted = stain_strength(IHC, ihc_vectors(IHC))[0] / stain_strength(HE, H_E)[0]
    assert STAINS.hematoxylin_gain == pytest.approx(np.clip(wanted, *GAINS))


def he_of(*columns: tuple[float, float, float]) -> Image:
    """An H&E of bands 16 px wide with these concentrations of haematoxylin, eosin and neither."""
    return combine_stains(np.repeat(np.array([columns]), 16, axis=1).repeat(40, axis=0), H_E)


def test_glass_takes_no_dab_and_dense_tissue_does() -> None:
    plan = stain_plan(to_tensor(he_of((0.8, 0.8, 0), (0.8, 0.8, 0), (0, 0, 0), (0, 0, 0))), STAINS)
    assert (plan.most_dab[..., 44:] == 0).all()
    assert plan.most_dab[..., :24].min() > 0.9 * STAINS.strongest_dab
    maps = StainMaps(plan)
    with torch.no_grad():
        maps.maps += 10
        assert (to_uint8(maps.picture())[:, 44:] >= 254).all()


def test_gray_glass_stays_as_bright_as_it_was_and_loses_its_tint() -> None:
    tinted = np.full((64, 96, 3), (228, 222, 230), np.uint8)
    tinted[:, :48] = he_of((0.8, 0.8, 0))[0, 0]
    plan = stain_plan(to_tensor(tinted), STAINS)
    glass = to_uint8(StainMaps(plan).picture())[:, 72:]
    assert np.ptp(glass) == 0
    assert glass.min() == pytest.approx(222, abs=1)


@pytest.mark.parametrize(
    ("name", "color"), [("red cells", (200, 60, 50)), ("ink", (40, 120, 80)), ("pigment", (140, 90, 50))]
)
def test_red_cells_ink_and_pigment_are_not_stained(name: str, color: tuple[int, int, int]) -> None:
    he = he_of((0.9, 0.4, 0), (0.1, 0.8, 0), (0.9, 0.4, 0))
    he[:, 20:28] = color
    plan = stain_plan(to_tensor(he), STAINS)
    assert plan.most_dab[0, 0, 20, 24] < 0.05 * plan.most_dab[0, 0, 20, 4]
    shown = to_uint8(StainMaps(plan).picture())[20, 24]
    if name == "red cells":
        assert shown.min() > 170, "a pale hint"
    else:
        assert shown == pytest.approx(color, abs=12), "as it was"


def test_an_ihcs_own_vectors_are_taken_where_they_are_h_dab() -> None:
    turned = stain_matrix((0.67, 0.64, 0.38), (0.28, 0.49, 0.83))
    amounts = np.random.default_rng(0).uniform(0, 1.5, (60, 60, 3)) * (1, 1, 0)
    assert np.abs(ihc_vectors(combine_stains(amounts, turned))[:2] - turned[:2]).max() < 0.06
    assert (ihc_vectors(combine_stains(amounts * (1, 0, 0), turned)) == H_DAB).all()
    assert (ihc_vectors(combine_stains(amounts, stain_matrix((0.1, 0.9, 0.3), (0.9, 0.1, 0.1)))) == H_DAB).all()


def test_blank_images_make_a_plan() -> None:
    blank = np.full((40, 48, 3), 255, np.uint8)
    for he, ihc in ((blank, IHC), (HE, blank), (blank, blank)):
        plan = stain_plan(to_tensor(he), stains_of(he, [ihc], [1.0]))
        assert plan.hematoxylin.isfinite().all()
        assert plan.most_dab.isfinite().all()


def test_the_dab_is_multiplied() -> None:
    plan = stain_plan(to_tensor(HE), replace(STAINS, strongest_dab=3.0))
    maps = StainMaps(plan)
    once = separate_stains(to_uint8(maps.picture()), plan.matrix)[..., 1]
    maps.plan = developed(plan, 2.0)
    twice = separate_stains(to_uint8(maps.picture()), plan.matrix)[..., 1]
    assert twice.mean() == pytest.approx(2 * once.mean(), rel=0.1)


def test_sites_of_the_full_scale_limit_the_dab_of_a_coarser_one() -> None:
    sites = np.random.default_rng(0).random((40, 48), np.float32)
    here, without = (stain_plan(to_tensor(HE[::2, ::2].copy()), STAINS, 1.0, where) for where in (sites, None))
    mean_of_four = sites.reshape(20, 2, 24, 2).mean(axis=(1, 3))
    assert torch.allclose(here.most_dab, without.most_dab * torch.from_numpy(mean_of_four), atol=1e-5)
    same = stain_plan(to_tensor(HE), STAINS, 0.5, sites)
    assert torch.allclose(same.most_dab, PLAN.most_dab * torch.from_numpy(sites), atol=1e-5)


def test_a_finer_scale_goes_on_where_the_coarse_one_was() -> None:
    coarse = StainMaps(stain_plan(to_tensor(HE[::2, ::2].copy()), STAINS, 1.0))
    with torch.no_grad():
        coarse.maps += torch.linspace(-1, 1, 24)
    fine = StainMaps(PLAN, coarse)
    assert fine.maps.shape == (1, 2, 40, 48)
    assert torch.allclose(fine.maps[0, 0, 5, 1::2], torch.linspace(-1, 1, 24), atol=0.05)
    network = StainNetwork(PLAN, lambda _window: FEATURES)
    assert StainNetwork(PLAN, network.features, 1, network).network is network.network


def test_hematoxylin_alone_has_no_brown() -> None:
    stains = separate_stains(to_uint8(hematoxylin_alone(to_tensor(HE), STAINS)), STAINS.matrix)
    assert np.abs(stains[..., 1]).max() < 0.06


def test_long_gradients_are_cut_together_and_short_ones_stay() -> None:
    for length, left in ((10.0, 1.0), (0.5, 0.5)):
        parameters = [torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)]
        parameters[0].grad, parameters[1].grad = torch.tensor([0.6 * length, 0.0]), torch.tensor([-0.8 * length])
        cut_gradients(parameters)
        torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6 * left, 0.0]))
        torch.testing.assert_close(parameters[1].grad, torch.tensor([-0.8 * left]))


def test_a_seed_gives_a_network() -> None:
    one, same, other = (StainNetwork(PLAN, lambda _window: FEATURES, seed).parameters[0] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
