import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.image import Image
from chromogen.stains.appearance import doubts
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains
from synthetic import tissue_like

IHC = np.asarray(immunohistochemistry())
HE = tissue_like(64, 64, seed=1)
BLUE = combine_stains(np.random.default_rng(0).uniform(0, 1.5, (40, 40, 3)) * (1, 0, 0), H_DAB)


@pytest.mark.parametrize(
    ("image", "role", "words"),
    [
        (HE, "content", None),
        (IHC, "style", None),
        (BLUE, "content", None),
        (BLUE, "style", None),
        (IHC, "content", "looks like an IHC"),
        (combine_stains(np.full((20, 20, 3), (0.3, 0.8, 0.0)), H_E), "style", "looks like an H&E"),
        (np.full((20, 20, 3), 250, np.uint8), "content", "hardly any tissue"),
        (np.full((1, 1, 3), 250, np.uint8), "style", "hardly any tissue"),
        (np.eye(40, dtype=np.uint8)[..., None] * np.array([0, 255, 0], np.uint8), "content", "fluorescence"),
    ],
)
def test_what_does_not_look_like_its_role_is_doubted(image: Image, role: str, words: str | None) -> None:
    found = doubts(image, role)
    assert found is None if words is None else found is not None and words in found
