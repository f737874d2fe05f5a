import numpy as np
import pytest
from scipy import ndimage

from chromogen.evaluation import tissue_kept
from chromogen.evaluation.tile import Tile, UndefinedError
from chromogen.evaluation.tissue_kept import NO_BORDERS, stained_glands
from chromogen.stains.deconvolution import combine_stains

SIDE, RADIUS = 240, 60  # px of 0.5 um
Y, X = np.indices((SIDE, SIDE)) + 0.5
AWAY = np.hypot(X - SIDE / 2, Y - SIDE / 2) - RADIUS  # px outside of a round gland


def tile_of(dab_od10: np.ndarray) -> Tile:
    amounts = np.stack([0.1 + 0 * X, dab_od10, 0 * X], axis=2)
    return Tile(combine_stains(amounts * np.log(10)), mpp=0.5)


@pytest.mark.parametrize("strength", [0.3, 0.9])
@pytest.mark.parametrize("blur_um", [0.0, 1.0, 2.5])
def test_bleed_is_what_lies_beyond_the_drawn_border(strength: float, blur_um: float) -> None:
    dab = strength * (AWAY < 0).astype(float)
    dab = ndimage.gaussian_filter(dab, blur_um / 0.5) if blur_um else dab
    outside, inside = dab[(AWAY > 0) & (AWAY <= 6)].mean(), dab[AWAY < 0].mean()
    found = tissue_kept.bleed(tissue_kept.add_borders(NO_BORDERS, tile_of(dab).side("prediction")))
    assert found == pytest.approx(outside / inside, abs=0.05)


def test_unstained_nuclei_are_no_borders_and_cells_no_glands() -> None:
    holes = np.zeros_like(AWAY, bool)
    for y in range(20, SIDE, 24):
        for x in range(20, SIDE, 24):
            holes |= np.hypot(X - x, Y - y) < 7
    inner = holes & (ndimage.maximum_filter(np.where(holes, AWAY, -SIDE), 15) < -4)
    gland = tile_of(0.6 * ((AWAY < 0) & ~inner))
    mask = stained_glands(gland.side("prediction"))
    assert inner.sum() > 500
    assert (mask != (AWAY < 0))[abs(AWAY) > 2].mean() < 1e-4
    cells = tile_of(0.6 * holes)
    assert not stained_glands(cells.side("prediction")).any()


def test_virtual_and_real_are_measured_alike() -> None:
    sharp, pale = tile_of(0.6 * (AWAY < 0)), tile_of(0.05 + 0 * X)
    both = Tile(sharp.prediction, real=sharp.prediction, mpp=0.5)
    ours, real = (tissue_kept.add_borders(NO_BORDERS, both.side(name)) for name in ("prediction", "real"))
    assert tissue_kept.bleed(ours) == tissue_kept.bleed(real)
    with pytest.raises(UndefinedError, match="no border of a stained gland"):
        tissue_kept.bleed(tissue_kept.add_borders(NO_BORDERS, pale.side("prediction")))
