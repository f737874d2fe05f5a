"""Masks that any picture shows by itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.image import Image, to_tensor
from chromogen.stains.light import texture_octiles, tissue_share
from chromogen.style.guides import epithelium_share, found_masks
from synthetic import drawn_pair

HE, IHC = (to_tensor(image) for image in drawn_pair())


@pytest.mark.parametrize("picture", [HE, IHC], ids=["H&E", "IHC"])
def test_cells_and_stroma_are_the_tissue_told_by_nuclei(picture: torch.Tensor) -> None:
    found = found_masks({"cells", "stroma", "tissue"}, picture, 0.5)
    torch.testing.assert_close(found["cells"] + found["stroma"], found["tissue"])
    assert found["cells"][..., 4:56].mean() > 0.6
    assert found["cells"][..., 74:92].mean() < 0.2
    assert found["stroma"].min() >= 0


def test_only_what_is_asked_for_is_looked_for() -> None:
    found = found_masks({"octiles", "stroma"}, HE, 0.5)
    assert found.keys() == {"octiles", "stroma"}
    assert torch.equal(found["octiles"], texture_octiles(HE, 0.5))


def test_the_size_of_a_pixel_decides_what_is_a_nucleus() -> None:
    coarse = torch.nn.functional.interpolate(HE, scale_factor=0.5, mode="area")
    found = epithelium_share(coarse, 1.0)
    assert found.shape == (1, 1, 64, 64)
    assert found[..., 4:28].mean() > found[..., 37:46].mean() + 0.5
    with pytest.raises(ValueError, match="nuclei show"):
        epithelium_share(coarse, 4.0)


def test_a_picture_without_nuclei_has_no_cells() -> None:
    blank = torch.ones(1, 3, 64, 64)
    assert not found_masks({"cells", "stroma"}, blank, 0.5)["cells"].any()


def test_glands_are_cells_and_fibres_are_not(data: Path) -> None:
    from chromogen.slides.picture import read_picture

    he: Image = read_picture(data / "exemplars" / "OS-1-detail.ome.tif", at_mpp=0.5).pixels
    picture = to_tensor(np.ascontiguousarray(he[:480, :440]))
    cells = found_masks({"cells"}, picture, 0.5)["cells"][0, 0]
    assert cells[400:480, 330:420].mean() > 0.7
    assert cells[20:100, 250:420].mean() < 0.2
    assert (cells <= tissue_share(picture, 0.5)[0, 0]).all()
