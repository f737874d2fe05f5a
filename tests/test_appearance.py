"""What pictures look like: real H&E and IHC of many scanners, whole and in parts, and what is neither."""

from pathlib import Path

import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.image import Image, read_image
from chromogen.stains.appearance import Appearance, appearance, doubts
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains
from synthetic import tissue_like

IHC = np.asarray(immunohistochemistry())
HE = tissue_like(64, 64, seed=1)
BLUE = combine_stains(np.random.default_rng(0).uniform(0, 1.5, (40, 40, 3)) * (1, 0, 0), H_DAB)
GREY = np.ascontiguousarray(IHC[..., 1:2].repeat(3, 2))

HES = [
    *(f"he/{name}" for name in ("hgsc_nest.jpg", "hgsc_stromal_he.jpg", "instanseg_tma_core.tif")),
    *(f"he/torchstain_{name}.png" for name in ("source", "target")),
    *(f"pairs/mist/{marker}_he.png" for marker in ("ER", "HER2", "Ki67", "PR")),
    *(f"nuclei/{number}_rgb.png" for number in ("028", "042", "064", "066")),
    "pairs/lung-lesion/he.jpg",
    "exemplars/OS-1-detail.ome.tif",
]
IHCS = [
    *(f"pairs/mist/{marker}_ihc.png" for marker in ("ER", "Ki67", "PR")),
    *(f"nuclei_ihc/{name}.png" for name in ("22_2", "34_3", "Bladder1_ihc")),
    *(f"exemplars/OS-2-{scanner}.ome.tif" for scanner in ("ndpi", "vsi")),
]
NEITHER = ["nuclei_ihc/Bladder1_hematoxylin.png", "pairs/mist/HER2_ihc.png", "pairs/lung-lesion/CD31.jpg"]


def brightened(image: Image, gain: tuple[float, float, float], gamma: float) -> Image:
    return (255 * (image / 255) ** gamma * gain).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("names", "kind"),
    [(HES, "H&E"), (IHCS, "H-DAB"), (NEITHER, "haematoxylin alone")],
    ids=["H&E", "IHC", "neither"],
)
def test_real_pictures_are_what_they_are(data: Path, names: list[str], kind: str) -> None:
    found = {name: appearance(read_image(data / name)[:1000, :1000]).kind for name in names}
    assert found == dict.fromkeys(names, kind)


@pytest.mark.parametrize("gain", [(1, 0.97, 0.92), (0.93, 0.97, 1), (1, 0.95, 1), (0.8, 0.8, 0.8)])
@pytest.mark.parametrize(
    ("name", "wrong"), [(name, "H-DAB") for name in HES[4:7]] + [(name, "H&E") for name in IHCS[1:5]]
)
def test_under_other_lamps_and_in_parts_nothing_is_taken_for_the_other(
    data: Path, name: str, wrong: str, gain: tuple[float, float, float]
) -> None:
    image = brightened(read_image(data / name)[:400, :400], gain, 1.25)
    beside_glass = np.pad(image, ((0, 200), (0, 200), (0, 0)), "constant", constant_values=236)
    for part in (image, image[:128, :128], image[-200:, -200:], image[::4, ::4], beside_glass):
        assert appearance(part).kind != wrong


def test_what_is_not_sure_says_so() -> None:
    blue = appearance(BLUE)
    assert (blue.kind, blue.stains) == ("haematoxylin alone", "h-dab")
    assert blue.stains_doubt == "it shows neither eosin nor DAB"
    assert appearance(IHC).stains_doubt is None
    both = appearance(np.concatenate([IHC, np.kron(HE, np.ones((8, 8, 1), np.uint8))]))
    assert both.kind == "unclear"
    assert "% brown" in str(both.stains_doubt)
    assert Appearance("H&E", "h-e", "").stains_doubt is None


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
        (np.zeros((20, 20, 3), np.uint8), "content", "dark"),
        (GREY, "content", "black and white"),
        (np.eye(40, dtype=np.uint8)[..., None] * np.array([0, 255, 0], np.uint8), "content", "fluorescence"),
    ],
)
def test_what_does_not_look_like_its_role_is_doubted(image: Image, role: str, words: str | None) -> None:
    found = doubts(image, role)
    assert found is None if words is None else found is not None and words in found


@pytest.mark.parametrize("black_px", [120, 300])
def test_black_padding_does_not_make_a_picture_dark(black_px: int) -> None:
    on_glass = np.pad(tissue_like(100, 100, seed=1), ((50, 50), (50, 50), (0, 0)), "constant", constant_values=230)
    padded = np.pad(on_glass, ((black_px, 0), (0, black_px), (0, 0)))
    assert appearance(padded).kind == appearance(on_glass).kind != "dark"


@pytest.mark.parametrize("color", [(0, 0, 1), (1, 1, 1), (0.6, 1, 0.3)])
def test_fluorescence_is_dark(color: tuple[float, float, float]) -> None:
    y, x = np.indices((300, 300))
    cells = np.maximum(np.sin(x / 9) * np.sin(y / 9), 0) ** 2
    assert appearance((255 * cells[..., None] * color).astype(np.uint8)).kind == "dark"
