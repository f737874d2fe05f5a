"""`whole_slide/nuclei.py`: the nuclei of slides and pictures, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage.data import immunohistochemistry

from chromogen.image import Image, write_image
from chromogen.nuclei import find
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.network import built_in_network
from chromogen.nuclei.outlines import Prediction, joined, prediction_of
from chromogen.slides.slide import Slide, open_slide
from chromogen.stains.deconvolution import H_DAB, H_E
from chromogen.whole_slide import nuclei as module
from chromogen.whole_slide import view
from chromogen.whole_slide.nuclei import NamedNetwork, SlideNuclei, slide_nuclei
from synthetic_slides import synthetic_slide, write_ome_tiff

IHC: Image = np.asarray(immunohistochemistry())
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def network() -> NamedNetwork:
    return NamedNetwork(built_in_network(), "built-in", "0")


def arrays_of(found: SlideNuclei) -> Arrays:
    """All that was found, in its order."""
    nuclei = joined((part.nuclei for part in found.parts()), found.slide.need_mpp())
    shapes = {"centres": nuclei.centres_px, "outlines": nuclei.outlines_px, "confidence": nuclei.confidence}
    at = sorted(found.pixels)
    shapes |= {"fields": np.array(at), "pixels": np.array([found.pixels[field] for field in at])}
    return shapes | {name: np.asarray(values) for name, values in vars(found.measured).items()}


def found_on(slide: Slide, folder: Path, network: NamedNetwork, **given: Any) -> Arrays:
    with slide_nuclei(slide, folder, network, **given) as found:
        return arrays_of(found)


def in_order(arrays: Arrays) -> Arrays:
    """Sorted by place, whatever the windows."""
    order = np.lexsort(arrays["centres"].round(1).T)
    of_fields = ("fields", "pixels")
    return {name: values if name in of_fields else values[order] for name, values in arrays.items()}


@pytest.fixture
def ihc(tmp_path: Path) -> Iterator[Slide]:
    write_image(tmp_path / "ihc.png", IHC[:384, :448], mpp=0.5)
    with open_slide(tmp_path / "ihc.png") as slide:
        yield slide


def test_a_tile_has_the_nuclei_that_find_nuclei_finds(ihc: Slide, tmp_path: Path, network: NamedNetwork) -> None:
    found = found_on(ihc, tmp_path / "work", network)
    alone = nuclei_of_image(IHC[:384, :448], 0.5)
    assert len(alone) > 100
    np.testing.assert_allclose(found["centres"], alone.centres_px, atol=1e-3)
    assert not (tmp_path / "work").exists()


def test_nuclei_are_the_same_whatever_the_windows(
    ihc: Slide, tmp_path: Path, network: NamedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = in_order(found_on(ihc, tmp_path / "whole", network))
    monkeypatch.setattr(find, "CORE_PX", 256)
    cut = in_order(found_on(ihc, tmp_path / "cut", network))
    assert len(cut["centres"]) == len(whole["centres"])
    np.testing.assert_allclose(cut["centres"], whole["centres"], atol=1e-3)
    np.testing.assert_allclose(cut["outlines"], whole["outlines"], atol=0.02)
    np.testing.assert_array_equal(cut["fields"], whole["fields"])
    np.testing.assert_array_equal(cut["pixels"], whole["pixels"])
    np.testing.assert_allclose(cut["second_od10"], whole["second_od10"], atol=2e-3)


def dark_spots(densities: NDArray[np.float32]) -> Prediction:
    """In place of a network: discs of 4 px where it is darkest. Fast."""
    density = densities[0].mean(axis=0)
    coarse = density.reshape(density.shape[0] // 2, 2, density.shape[1] // 2, 2).mean(axis=(1, 3))
    made = np.full((1, 33, *coarse.shape), 4, np.float32)
    made[0, 0] = 20 * (ndimage.gaussian_filter(coarse, 1.5) - 0.3)
    return prediction_of(made)


class Counting:
    """A network that counts its windows, and fails at one of them."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.windows, self.fails_at = 0, fails_at

    def __call__(self, densities: NDArray[np.float32]) -> Prediction:
        if self.windows == self.fails_at:
            raise KeyboardInterrupt
        self.windows += 1
        return dark_spots(densities)


SPOTS = NamedNetwork(dark_spots, "n", "0")


def interrupted(slide: Slide, folder: Path, fails_at: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        found_on(slide, folder, NamedNetwork(Counting(fails_at), "n", "0"))


def same(first: Arrays, second: Arrays) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_stopped_after_some_windows_it_goes_on_to_the_same(
    done: int, ihc: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "CORE_PX", 224)
    at_once = found_on(ihc, tmp_path / "once", SPOTS)
    assert len(at_once["centres"]) > 50
    interrupted(ihc, tmp_path / "work", done)
    rest = Counting()
    assert same(at_once, found_on(ihc, tmp_path / "work", NamedNetwork(rest, "n", "0")))
    assert rest.windows == 4 - done
    assert not (tmp_path / "work").exists()


def test_with_other_settings_it_starts_afresh(ihc: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "CORE_PX", 224)
    for changed in ({"stains": "h-e"}, {"sha256": "1"}):
        interrupted(ihc, tmp_path / "work", 2)
        rest = Counting()
        named = NamedNetwork(rest, "n", changed.get("sha256", "0"))
        found_on(ihc, tmp_path / "work", named, stains=changed.get("stains", "auto"))
        assert rest.windows == 4


def test_a_window_that_a_broken_disk_has_left_is_done_again(
    ihc: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(find, "CORE_PX", 224)
    at_once = found_on(ihc, tmp_path / "once", SPOTS)
    for broken in (b"", b"PK\x03\x04 and no more", (tmp_path / "ihc.png").read_bytes()):
        interrupted(ihc, tmp_path / "work", 3)
        (tmp_path / "work/blocks/1.npz").write_bytes(broken)
        rest = Counting()
        assert same(at_once, found_on(ihc, tmp_path / "work", NamedNetwork(rest, "n", "0")))
        assert rest.windows == 2


def test_two_jobs_do_not_share_a_folder(ihc: Slide, tmp_path: Path) -> None:
    with (
        slide_nuclei(ihc, tmp_path / "work", SPOTS),
        pytest.raises(OSError, match="being written by another job"),
    ):
        found_on(ihc, tmp_path / "work", SPOTS)
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("mpp", [0.2, 0.25, 0.51, 1.0])
def test_nuclei_lie_in_pixels_of_level_0(mpp: float, tmp_path: Path) -> None:
    """The same picture, said to have other pixels: places lie within it, and areas are in um2."""
    write_ome_tiff(tmp_path / "a.ome.tif", IHC[:300, :200])
    with open_slide(tmp_path / "a.ome.tif", mpp=mpp) as slide, slide_nuclei(slide, tmp_path / "w", SPOTS) as found:
        for part in found.parts():
            assert part.nuclei.mpp == mpp
            assert (part.nuclei.outlines_px >= 0).all()
            assert (part.nuclei.outlines_px <= (200, 300)).all()


def test_windows_of_glass_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "CORE_PX", 256)
    image = np.full((512, 1536, 3), 240, np.uint8)
    image[100:300, 100:300] = IHC[:200, :200]
    write_image(tmp_path / "a.png", image, mpp=0.5)
    counting = Counting()
    with (
        open_slide(tmp_path / "a.png") as slide,
        slide_nuclei(slide, tmp_path / "w", NamedNetwork(counting, "n", "0")) as found,
    ):
        assert found.windows == 12
        assert counting.windows == found.windows - found.skipped < 12
        assert len(found.measured) > 20
        assert found.tissue_mm2 == pytest.approx(0.01, rel=0.25)


def test_gaps_in_memory_are_given_back_after_each_window(
    ihc: Slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else memory would grow with the windows of a slide."""
    order: list[str] = []

    def seen(densities: NDArray[np.float32]) -> Prediction:
        order.append("seen")
        return dark_spots(densities)

    monkeypatch.setattr(find, "CORE_PX", 224)
    monkeypatch.setattr(module, "give_back_scattered_memory", lambda *_: order.append("given back"))
    found_on(ihc, tmp_path / "work", NamedNetwork(seen, "n", "0"))
    assert order == ["seen", "given back"] * 4


def test_damage_is_gone_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is white, counted, and costs no nuclei beside it."""
    monkeypatch.setattr(view, "_check_still_there", lambda _: None)
    broken, whole = (synthetic_slide((600, 400), factors=(1,), broken=bad) for bad in ([(0, 0, 100, 100)], []))
    with slide_nuclei(broken, tmp_path / "work", SPOTS) as found:
        assert found.damaged_mm2 == pytest.approx(100 * 100 * 0.25e-6, rel=1)
        left = in_order(arrays_of(found))
    all_there = in_order(found_on(whole, tmp_path / "work", SPOTS))
    beside = (all_there["centres"] > 160).any(axis=1)
    kept = (left["centres"] > 160).any(axis=1)
    assert beside.any()
    np.testing.assert_array_equal(left["centres"][kept], all_there["centres"][beside])


def test_a_slide_that_is_gone_is_no_damage(tmp_path: Path) -> None:
    slide = synthetic_slide((600, 400), broken=[(0, 0, 100, 100)], factors=(1,))
    with pytest.raises(OSError, match="is gone"):  # a synthetic slide is no file that could still be there
        found_on(slide, tmp_path / "work", SPOTS)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (15, 15), (16, 17)])
def test_pictures_smaller_than_the_network_sees(
    size: tuple[int, int], tmp_path: Path, network: NamedNetwork
) -> None:
    write_image(tmp_path / "a.png", IHC[100 : 100 + size[0], 100 : 100 + size[1]], mpp=0.5)
    with open_slide(tmp_path / "a.png") as slide, slide_nuclei(slide, tmp_path / "w", network) as found:
        assert found.windows == 1
        assert len(found.measured) == sum(len(part.nuclei) for part in found.parts())


def test_pixels_too_large_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", IHC[:64, :64], mpp=2.5)
    with (
        open_slide(tmp_path / "a.png") as slide,
        pytest.raises(ValueError, match="Expected `mpp` to be at most 2 um/px, where nuclei show"),
    ):
        found_on(slide, tmp_path / "w", SPOTS)
    assert not (tmp_path / "w").exists()


def test_stains_by_the_look_or_as_wanted(ihc: Slide, tmp_path: Path) -> None:
    with slide_nuclei(ihc, tmp_path / "w", SPOTS) as found:
        assert found.stains.name == "h-dab"
        assert (found.stains.matrix[:2] * H_DAB[:2]).sum(axis=1).min() > np.cos(np.radians(15.01))
    with slide_nuclei(ihc, tmp_path / "w", SPOTS, "h-e") as found:
        assert found.stains.name == "h-e"
        assert (found.stains.matrix[:2] * H_E[:2]).sum(axis=1).min() > np.cos(np.radians(15.01))
    with pytest.raises(ValueError, match="did you mean h-dab"):
        found_on(ihc, tmp_path / "w", SPOTS, stains="dab")
