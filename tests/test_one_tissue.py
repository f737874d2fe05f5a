"""Command, page, metrics, unmixing and losses say the same of where tissue is."""

from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import box

from chromogen.app.info import describe
from chromogen.app.unmix import unmix_file
from chromogen.app.view.drawn_regions import numbers_of, parse_region
from chromogen.app.view.opened import ShelfPool
from chromogen.app.view.slide_catalog import SlideCatalog
from chromogen.evaluation.scores import tiles
from chromogen.evaluation.tile import Tile
from chromogen.image import Image, read_image, to_tensor, write_image
from chromogen.slides.slide import open_slide
from chromogen.stains.appearance import appearance
from chromogen.stains.deconvolution import VECTORS, tissue_share
from chromogen.whole_slide.survey import survey
from chromogen.whole_slide.view import View
from synthetic import tissue_like


def said_percent(file: Path, folder: Path, mpp: float) -> dict[str, float]:
    """The share of tissue by every way to it."""
    image = read_image(file)
    height, width = image.shape[:2]
    stains = VECTORS[appearance(image, mpp).stains]
    unmixed = unmix_file(file, folder, stains, [0.2], estimate=False, find_white=False, mpp=mpp)
    pool = ShelfPool()
    with pool.reading(SlideCatalog([file]).entries()[0]) as opened:
        region = parse_region(box(0, 0, width, height).__geo_interface__)
        page = numbers_of(opened, region, "h-dab", 0.2).tissue_percent
    pool.close()
    parts = [tile.core(tile.tissue) for tile in tiles(image, None, None, mpp)]
    with open_slide(file, mpp=mpp) as slide:
        stain = survey(View(slide, None)).tissue_fraction
    return {
        "info": describe(file, mpp=mpp)["tissue_percent"],
        "stain": 100 * stain,
        "page": page,
        "tile": 100 * float(Tile(image, mpp=mpp).tissue.mean()),
        "evaluate": 100 * float(np.concatenate([part.ravel() for part in parts]).mean()),
        "unmix": unmixed["tissue_percent"],
        "losses": 100 * float(tissue_share(to_tensor(image), mpp).mean()),
    }


def glassy(white: tuple[int, int, int]) -> Image:
    """Two parts of glass in five."""
    image = np.full((400, 500, 3), white, np.uint8)
    image[:, :300] = (tissue_like(400, 300, seed=2) * (np.array(white) / 255)).astype(np.uint8)
    return image


# Vectors decide nothing of tissue: H&E is unmixed as H-DAB here.
pytestmark = pytest.mark.filterwarnings("ignore:.* looks like H&E:UserWarning")


@pytest.mark.parametrize("white", [(255, 255, 255), (232, 229, 236), (208, 208, 208)])
def test_of_a_slide_with_forty_percent_glass_all_say_sixty(tmp_path: Path, white: tuple[int, int, int]) -> None:
    write_image(tmp_path / "slide.png", glassy(white), mpp=0.5)
    said = said_percent(tmp_path / "slide.png", tmp_path, 0.5)
    assert said == pytest.approx(dict.fromkeys(said, 60), abs=1.5)


@pytest.mark.parametrize(("name", "mpp"), [("he/hgsc_nest.jpg", 0.5), ("nuclei_ihc/22_2.png", 0.25)])
def test_of_real_pictures_all_say_the_same(data: Path, tmp_path: Path, name: str, mpp: float) -> None:
    write_image(tmp_path / "real.png", read_image(data / name)[:900, :700], mpp=mpp)
    said = said_percent(tmp_path / "real.png", tmp_path, mpp)
    assert max(said.values()) - min(said.values()) < 2
