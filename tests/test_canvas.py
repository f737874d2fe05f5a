import numpy as np
import pytest
import torch

from chromogen.compute.tiles import TileGrid, Window, whole
from chromogen.image import to_tensor, to_uint8
from chromogen.stains.deconvolution import (
    H_DAB,
    H_E,
    combine_stains,
    separate_stains,
    stain_matrix,
    stain_strength,
)
from chromogen.style.canvas import (
    GAINS,
    MAX_DAB_GAIN,
    MAX_GAIN,
    Canvas,
    NetworkCanvas,
    PixelCanvas,
    TissueFeatures,
    hematoxylin_alone,
    ihc_vectors,
    restained,
    stain_amounts,
    stain_strengths,
    with_dab_scaled,
)
from synthetic import tissue_like

HE, IHC = tissue_like(40, 48, seed=1), tissue_like(40, 48, seed=2)[..., ::-1].copy()
STAINS = stain_strengths(HE, [IHC], [1.0])
WHITE = (243.0, 238.0, 246.0)
AMOUNTS = stain_amounts(to_tensor(IHC), H_DAB, WHITE)
WHOLE = whole((48, 40))
FEATURES = TissueFeatures(HE, H_E, AMOUNTS.of_stains[:, :2], 0.5, TileGrid((48, 40), 64, 0), torch.empty(0))(WHOLE)


def features_at(window: Window) -> torch.Tensor:
    return FEATURES[..., *window.at]


CANVASES: dict[str, Canvas] = {
    "pixels": PixelCanvas(to_tensor(HE)),
    "network": NetworkCanvas(AMOUNTS, features_at, seed=0),
}


@pytest.mark.parametrize("canvas", CANVASES.values(), ids=CANVASES)
def test_a_canvas_is_a_picture_by_its_parameters(canvas: Canvas) -> None:
    picture = canvas.picture(WHOLE)
    assert picture.shape == (1, 3, 40, 48)
    assert 0 <= picture.min() <= picture.max() <= 1
    picture.square().sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in canvas.parameters)
    canvas.clip_gradients()
    canvas.project()


def test_pixels_stay_between_black_and_white() -> None:
    canvas = PixelCanvas(to_tensor(HE))
    with torch.no_grad():
        canvas.x += 2
    canvas.project()
    assert canvas.picture(WHOLE).max() == 1


def test_amounts_are_those_over_the_glass_and_make_the_picture_again() -> None:
    density = -np.log((IHC.astype(float) + 1) / (np.array(WHITE) + 1))
    wanted = density @ np.linalg.inv(H_DAB)
    np.testing.assert_allclose(AMOUNTS.of_stains[0].permute(1, 2, 0).numpy(), wanted, atol=1e-4)
    nothing = torch.zeros(1, 2, 40, 48)
    assert (to_uint8(restained(AMOUNTS, nothing)) == IHC).all()


def test_amounts_change_by_no_more_than_their_bounds() -> None:
    strong = torch.full((1, 2, 40, 48), 50.0)
    for sign in (-1, 1):
        made = stain_amounts(restained(AMOUNTS, sign * strong), H_DAB, WHITE).of_stains
        clear = (restained(AMOUNTS, sign * strong) > 0.02).all(1)[0] & (made.abs().amin(1)[0] > 0.05)
        ratio = (made[:, :2] / AMOUNTS.of_stains[:, :2])[0][:, clear]
        for found, most in zip(ratio, (MAX_GAIN, MAX_DAB_GAIN), strict=True):
            assert found.median().log().item() == pytest.approx(sign * most, abs=0.05)


def test_the_background_changes_less() -> None:
    """Of DAB up to the background, and of twice as much."""
    parts = np.zeros((20, 24, 3))
    parts[..., 1] = np.where(np.arange(24) < 12, 0.2, 0.4)
    picture = to_tensor(combine_stains(parts, H_DAB))
    made = stain_amounts(
        restained(stain_amounts(picture, H_DAB, (255,) * 3, 0.2), torch.full((1, 2, 20, 24), 50.0)),
        H_DAB,
        (255,) * 3,
    )
    wanted = 0.2 * np.exp(MAX_GAIN), 0.2 * np.exp(MAX_GAIN) + 0.2 * np.exp(MAX_DAB_GAIN)
    for part, value in zip((slice(0, 12), slice(12, 24)), wanted, strict=True):
        assert made.of_stains[0, 1, :, part].mean().item() == pytest.approx(value, abs=0.02)


def test_what_has_no_dab_gets_none() -> None:
    blue = combine_stains(np.full((20, 24, 3), (0.6, 0.0, 0.0)), H_DAB)
    amounts = stain_amounts(to_tensor(blue), H_DAB, (255.0, 255.0, 255.0))
    made = to_uint8(restained(amounts, torch.full((1, 2, 20, 24), 50.0)))
    assert np.abs(separate_stains(made, H_DAB)[..., 1]).max() < 0.03


def test_an_ihcs_own_vectors_are_taken_where_they_are_h_dab() -> None:
    turned = stain_matrix((0.67, 0.64, 0.38), (0.28, 0.49, 0.83))
    amounts = np.random.default_rng(0).uniform(0, 1.5, (60, 60, 3)) * (1, 1, 0)
    assert np.abs(ihc_vectors(combine_stains(amounts, turned))[:2] - turned[:2]).max() < 0.06
    assert (ihc_vectors(combine_stains(amounts * (1, 0, 0), turned)) == H_DAB).all()
    assert (ihc_vectors(combine_stains(amounts, stain_matrix((0.1, 0.9, 0.3), (0.9, 0.1, 0.1)))) == H_DAB).all()


def test_blank_images_have_stains() -> None:
    blank = np.full((40, 48, 3), 255, np.uint8)
    for he, ihc in ((blank, IHC), (HE, blank), (blank, blank)):
        found = stain_strengths(he, [ihc], [1.0])
        assert GAINS[0] <= found.hematoxylin_gain <= GAINS[1]
        assert np.isfinite(found.strongest_dab)


def test_the_haematoxylin_is_brought_to_the_strength_of_the_ihc() -> None:
    wanted = stain_strength(IHC, ihc_vectors(IHC))[0] / stain_strength(HE, H_E)[0]
    assert STAINS.hematoxylin_gain == pytest.approx(np.clip(wanted, *GAINS))


def test_the_dab_is_multiplied() -> None:
    twice = with_dab_scaled(AMOUNTS, 2.0).of_stains
    torch.testing.assert_close(twice[:, 1], 2 * AMOUNTS.of_stains[:, 1])
    assert torch.equal(twice[:, ::2], AMOUNTS.of_stains[:, ::2])


def test_a_finer_scale_goes_on_with_the_network() -> None:
    network = NetworkCanvas(AMOUNTS, features_at)
    assert NetworkCanvas(AMOUNTS, network.features, 1, network).network is network.network


def test_a_window_is_a_part_of_the_picture() -> None:
    canvas = NetworkCanvas(AMOUNTS, features_at)
    with torch.no_grad():
        canvas.parameters[-2].normal_()
        part = canvas.picture(Window(7, 3, 30, 29))
        torch.testing.assert_close(part, canvas.picture(WHOLE)[..., 3:29, 7:30])


def test_hematoxylin_alone_has_no_brown() -> None:
    stains = separate_stains(to_uint8(hematoxylin_alone(to_tensor(HE), STAINS)), STAINS.matrix)
    assert np.abs(stains[..., 1]).max() < 0.06


def test_long_gradients_are_cut_together_and_short_ones_stay() -> None:
    for length, left in ((10.0, 1.0), (0.5, 0.5)):
        canvas = NetworkCanvas(AMOUNTS, features_at)
        parameters = canvas.parameters = [torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)]
        parameters[0].grad, parameters[1].grad = torch.tensor([0.6 * length, 0.0]), torch.tensor([-0.8 * length])
        canvas.clip_gradients()
        torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6 * left, 0.0]))
        torch.testing.assert_close(parameters[1].grad, torch.tensor([-0.8 * left]))


def test_a_seed_gives_a_network() -> None:
    one, same, other = (NetworkCanvas(AMOUNTS, features_at, seed).parameters[0] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
