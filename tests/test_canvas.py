import numpy as np
import pytest
import torch

from chromogen.image import to_tensor, to_uint8
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.style.canvas import Canvas, Pixels, StainMaps, StainNetwork, stain_plan
from synthetic import tissue_like

HE, IHC = tissue_like(40, 48, seed=1), tissue_like(40, 48, seed=2)[..., ::-1].copy()
PLAN = stain_plan(to_tensor(HE), IHC)
CANVASES: dict[str, Canvas] = {
    "pixels": Pixels(to_tensor(HE)),
    "maps": StainMaps(PLAN),
    "network": StainNetwork(PLAN, to_tensor(HE), seed=0),
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
    ratio = PLAN.hematoxylin[0, 0][ours > 0.1] / ours[ours > 0.1]
    assert ratio.std() < 1e-3 * ratio.mean()
    theirs = torch.from_numpy(separate_stains(IHC, H_DAB)[..., 0]).float().clamp_min(0)
    assert torch.quantile(PLAN.hematoxylin, 0.98).item() == pytest.approx(
        torch.quantile(theirs, 0.98).item(), rel=0.02
    )


def test_glass_takes_no_dab_and_dense_tissue_does() -> None:
    parts = np.zeros((40, 48, 3))
    parts[:, :24, :2] = 0.8
    plan = stain_plan(to_tensor(combine_stains(parts, H_E)), IHC)
    assert (plan.most_dab[..., 36:] == 0).all()
    assert plan.most_dab[..., :12].min() > 1.2
    maps = StainMaps(plan)
    with torch.no_grad():
        maps.maps += 10
        assert (to_uint8(maps.picture())[:, 36:] >= 254).all()


def test_a_blank_he_and_a_blank_ihc_make_a_plan() -> None:
    blank = np.full((40, 48, 3), 255, np.uint8)
    for he, ihc in ((blank, IHC), (HE, blank), (blank, blank)):
        plan = stain_plan(to_tensor(he), ihc)
        assert plan.hematoxylin.isfinite().all()
        assert plan.most_dab.isfinite().all()


def test_a_seed_gives_a_network() -> None:
    one, same, other = (StainNetwork(PLAN, to_tensor(HE), seed).parameters[0] for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
