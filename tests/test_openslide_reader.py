"""What OpenSlide reads: its levels, what it says, and how it goes on after an error."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import openslide
import PIL.Image
import pytest
import tifffile
from PIL import ImageCms

from chromogen.slides.openslide_reader import OpenSlideSource, detected_vendor
from chromogen.slides.slide import Slide, open_slide
from chromogen.slides.source import SlideError
from synthetic_slides import coordinates, crop, mean_of_blocks, ramp, write_ome_tiff, write_pyramid, write_svs


def a_slide(
    properties: Mapping[str, str], pixels: list[list[list[int]]] | None = None, profile: object = None
) -> type:
    """What stands in for OpenSlide: one level of 2 x 1 px."""
    known = properties

    class Fake:
        level_dimensions, level_downsamples = ((2, 1),), (1.0,)
        properties = known
        associated_images: Mapping[str, object] = {"label": None, "macro": None}
        color_profile = profile

        def __init__(self, _path: Path) -> None: ...

        def read_region(self, _location: object, _level: int, _size: object) -> PIL.Image.Image:
            return PIL.Image.fromarray(np.array(pixels, np.uint8), "RGBA")

        def close(self) -> None: ...

    return Fake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> object:
    def make(*facts: object) -> Slide:
        monkeypatch.setattr(openslide, "OpenSlide", a_slide(*facts))
        return Slide("x.mrxs", OpenSlideSource(Path("x.mrxs")))

    return make


def test_transparency_shows_the_background_of_the_slide(fake: object) -> None:
    pixels = [[[9, 9, 9, 255], [0, 0, 0, 0]]]
    slide = fake({"openslide.background-color": "C8D2DC"}, pixels)
    assert slide.read_region((0, 0), (2, 1)).tolist() == [[[9, 9, 9], [200, 210, 220]]]
    assert fake({}, pixels).read_region((0, 0), (2, 1)).tolist() == [[[9, 9, 9], [255, 255, 255]]]


def test_what_a_slide_says(fake: object) -> None:
    slide = fake(
        {
            "openslide.vendor": "mirax",
            "openslide.mpp-x": "0.25",
            "openslide.mpp-y": "0.25",
            "openslide.objective-power": "40",
            "openslide.quickhash-1": "abc",
            "openslide.bounds-x": "1",
            "openslide.bounds-y": "0",
            "openslide.bounds-width": "1",
            "openslide.bounds-height": "1",
        }
    )
    assert (slide.about.format, slide.about.vendor, slide.about.objective) == ("MIRAX", "mirax", 40)
    assert (slide.mpp, slide.quickhash, slide.bounds) == (0.25, "abc", ((1, 0), (1, 1)))
    assert slide.about.associated == ("label", "macro")
    assert slide.properties["openslide.vendor"] == "mirax"


@pytest.mark.parametrize("text", ["", "unknown", "0,25"])
def test_numbers_that_are_none(fake: object, text: str) -> None:
    slide = fake({"openslide.mpp-x": text, "openslide.mpp-y": "0.25", "openslide.objective-power": text})
    assert (slide.mpp, slide.about.objective) == (None, None)


def test_a_broken_profile_is_said_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(a_slide({})):  # type: ignore[misc]
        @property
        def color_profile(self) -> object:
            raise ImageCms.PyCMSError("cannot open profile")

    monkeypatch.setattr(openslide, "OpenSlide", Broken)
    with pytest.warns(UserWarning, match="ICC profile of 'x.dcm' to be one; its colours are read as sRGB"):
        assert OpenSlideSource(Path("x.dcm")).about.icc_profile is None


def test_tiles_too_large_for_memory_are_refused(fake: object) -> None:
    with pytest.raises(SlideError, match="in one piece"):
        fake({"openslide.level[0].tile-width": "64000", "openslide.level[0].tile-height": "64000"})


def test_properties_whose_names_are_no_text_are_left_out(fake: object) -> None:
    class Odd(dict[str, str]):
        def __iter__(self) -> Iterator[str]:
            return iter([*super().__iter__(), "\ufffd"])

    assert fake(Odd(a="1")).properties == {"a": "1"}


def test_aperio(tmp_path: Path) -> None:
    with open_slide(write_svs(tmp_path / "slide.svs", ramp(600, 440))) as slide:
        assert (slide.about.format, slide.about.objective, slide.mpp) == ("Aperio SVS", 20, 0.499)
        assert slide.size == (600, 440)
        assert isinstance(slide._source, OpenSlideSource)


@pytest.mark.parametrize("size", [(1037, 811), (1039, 810)])
def test_levels_rounded_down_keep_their_place(tmp_path: Path, size: tuple[int, int]) -> None:
    """OpenSlide says such a level is 2.002 or 4.01 times smaller: far from the origin that is pixels off."""
    image = ramp(*size)
    with open_slide(write_svs(tmp_path / "odd.svs", image, (2, 4))) as slide:
        assert len(slide.level_sizes) == 3
        for factor in (2, 3, 4, 8):
            location = (size[0] - 240, size[1] - 240)
            expected = mean_of_blocks(crop(image, location, (240, 240)), factor)
            region = slide.read_region(location, (240, 240), 0.499 * factor)
            assert np.abs(region[..., :2].astype(int) - expected[..., :2]).mean() < 2


@pytest.mark.parametrize(
    ("write", "vendor"), [(write_svs, "aperio"), (write_pyramid, "generic-tiff"), (write_ome_tiff, "generic-tiff")]
)
def test_vendors(tmp_path: Path, write: object, vendor: str) -> None:
    assert detected_vendor(write(tmp_path / "slide", ramp(300, 200))) == vendor


def test_text_has_no_vendor(tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("no slide")
    assert detected_vendor(tmp_path / "text.svs") is None


def test_a_slide_that_opens_no_more(tmp_path: Path) -> None:
    """Of a known maker, but in a compression that it does not know."""
    path = write_svs(tmp_path / "broken.svs", coordinates(300, 200))
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages.first.tags["Compression"].overwrite(9999)
    with pytest.raises(SlideError, match=r"whole slide or image, got '.*broken.svs' \(.*\); copy"):
        open_slide(path)
