import imagecodecs
import numpy as np
import pytest
from skimage.data import immunohistochemistry

from chromogen.image import Image
from chromogen.slides.pyramid import COMPRESSIONS, compression_named

DECODE = {"jpeg": imagecodecs.jpeg8_decode, "jpeg2000": imagecodecs.jpeg2k_decode}


@pytest.fixture(scope="module")
def tissue() -> Image:
    return np.ascontiguousarray(immunohistochemistry()[:256, :256])


def psnr_db(found: Image, image: Image) -> float:
    return float(10 * np.log10(255**2 / np.square(found.astype(float) - image).mean()))


@pytest.mark.parametrize("quality", [50, 63, 75, 88, 90, 95, 100])
def test_white_stays_white_in_jpeg_beside_tissue(tissue: Image, quality: int) -> None:
    image = tissue.copy()
    image[:, 64:128] = 255  # whole blocks of 16 x 8 px
    found = imagecodecs.jpeg8_decode(COMPRESSIONS["jpeg"].encode(image, quality))
    assert (found[:, 65:127] == 255).all()
    assert found[:, 64:128].min() > 225, "the pixel beside tissue, as colour is of two pixels"


@pytest.mark.parametrize("quality", [35, 40, 47, 60])
def test_white_stays_white_in_jpeg2000(quality: int) -> None:
    white = np.full((512, 512, 3), 255, np.uint8)
    assert (imagecodecs.jpeg2k_decode(COMPRESSIONS["jpeg2000"].encode(white, quality)) == 255).all()


@pytest.mark.parametrize(("name", "least_db"), [("jpeg", 38), ("jpeg2000", 39)])
def test_default_quality_keeps_tissue(tissue: Image, name: str, least_db: float) -> None:
    how = COMPRESSIONS[name]
    assert psnr_db(DECODE[name](how.encode(tissue, how.quality)), tissue) > least_db


@pytest.mark.parametrize("name", ["jpeg", "jpeg2000"])
def test_quality_rises(tissue: Image, name: str) -> None:
    how = COMPRESSIONS[name]
    worst, best = (how.encode(tissue, quality) for quality in (how.qualities[0], how.qualities[-1]))
    assert len(worst) < len(best)
    assert psnr_db(DECODE[name](worst), tissue) < psnr_db(DECODE[name](best), tissue)


def test_deflate_is_zlib(tissue: Image) -> None:
    import zlib

    assert zlib.decompress(COMPRESSIONS["deflate"].encode(tissue, 0)) == tissue.tobytes()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="did you mean jpeg2000"):
        compression_named("jpg2000")
    with pytest.raises(ValueError, match="from 50 to 100, got 101; leave it out for 90"):
        COMPRESSIONS["jpeg"].quality_or_default(101)
    with pytest.raises(ValueError, match="lossless"):
        COMPRESSIONS["deflate"].quality_or_default(90)
    assert COMPRESSIONS["jpeg2000"].quality_or_default(None) == 40
    assert COMPRESSIONS["jpeg"].quality_or_default(75) == 75
