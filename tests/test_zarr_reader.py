"""OME-Zarr: what its metadata may be, and what is no brightfield picture."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from chromogen.slides.slide import open_slide
from chromogen.slides.source import SlideError
from synthetic_slides import MPP, coordinates, write_ome_zarr

IMAGE = coordinates(300, 200)


@pytest.mark.parametrize("axes", ["cyx", "yxc", "tczyx", "zcyx", "cxy"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_axes_in_any_order(tmp_path: Path, axes: str, zarr_format: int) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE, (2,), axes, zarr_format)
    with open_slide(path) as slide:
        assert slide.about.format == ("OME-Zarr 0.5" if zarr_format == 3 else "OME-Zarr 0.4")
        assert (slide.level_sizes, slide.mpp) == (((300, 200), (150, 100)), MPP)
        assert np.array_equal(slide.read_region((0, 0), slide.size), IMAGE)


def test_grey(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "grey.zarr", IMAGE, axes="yxc")
    root = zarr.open_group(path)
    root.create_array("0", data=IMAGE[..., :1], chunks=(64, 64, 1), overwrite=True)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), slide.size), np.repeat(IMAGE[..., :1], 3, axis=2))


def test_a_level_that_is_lost_costs_only_time(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE, (2, 4))
    shutil.rmtree(path / "1")
    with open_slide(path) as slide:
        assert slide.level_sizes == ((300, 200), (75, 50))
    shutil.rmtree(path / "0")
    with pytest.raises(SlideError, match=r"whole slide or image, got '.*slide.zarr'"):
        open_slide(path)


def test_a_picture_below_the_root(tmp_path: Path) -> None:
    """As bioformats2raw lays it out."""
    zarr.open_group(tmp_path / "slide.zarr", mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    write_ome_zarr(tmp_path / "slide.zarr" / "0", IMAGE, axes="tczyx", zarr_format=2)
    with open_slide(tmp_path / "slide.zarr") as slide:
        assert slide.size == (300, 200)


@pytest.mark.parametrize("unit", ["micrometer", "nanometer", None, "parsec"])
def test_the_unit_of_the_scale(tmp_path: Path, unit: str | None) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE, mpp=250.0 if unit == "nanometer" else 0.25)
    group = zarr.open_group(path)
    ome = group.attrs["ome"]
    for axis in ome["multiscales"][0]["axes"]:
        axis.pop("unit", None)
        if unit and axis["type"] == "space":
            axis["unit"] = unit
    group.attrs["ome"] = ome
    with open_slide(path) as slide:
        assert slide.mpp == (0.25 if unit in ("micrometer", "nanometer") else None)


@pytest.mark.parametrize("names", ["red green blue", "R G B"])
def test_channels_that_a_camera_saw(tmp_path: Path, names: str) -> None:
    channels = [{"label": name, "color": "FFFFFF"} for name in names.split()]
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE, channels=channels)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), slide.size), IMAGE)


def test_colours_of_a_camera(tmp_path: Path) -> None:
    channels = [{"label": "camera", "color": color} for color in ("ff0000", "00ff00", "0000ff")]
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE, channels=channels)
    with open_slide(path) as slide:
        assert slide.size == (300, 200)


def test_stains_are_refused_by_name(tmp_path: Path) -> None:
    channels = [{"label": name, "color": "FFFFFF"} for name in ("DAPI", "FITC", "Cy5")]
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE, channels=channels)
    with pytest.raises(SlideError, match=r"brightfield image, got .* with the channels DAPI, FITC, Cy5 \(fluor"):
        open_slide(path)


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (np.zeros((4, 64, 64), np.uint8), "with 4 channels"),
        (np.zeros((2, 64, 64), np.uint16), "with 2 channels"),
        (np.zeros((3, 64, 64), np.uint16), "with uint16 channels that nothing calls RGB"),
        (np.zeros((3, 64, 64), np.float32), "of float32"),
        (np.zeros((64, 64), np.uint8), "axes cyx for an array of shape"),
        (np.zeros((3, 0, 64), np.uint8), "64 x 0 px"),
    ],
)
def test_what_is_no_brightfield_slide(tmp_path: Path, pixels: np.ndarray, problem: str) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE)
    zarr.open_group(path).create_array("0", data=pixels, chunks=(*pixels.shape[:-2], 64, 64), overwrite=True)
    with pytest.raises(SlideError, match=rf"^Expected .*slide.zarr.*{problem}.*; .*\.$"):
        open_slide(path)


def test_a_group_without_a_picture(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "other.zarr", mode="w")
    with pytest.raises(SlideError, match="an OME-Zarr picture, got '.*other.zarr' without `multiscales`"):
        open_slide(tmp_path / "other.zarr")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"zarr_format": 3, "node_type": "group", "attributes": {"ome": 5}}']
)
def test_broken_metadata(tmp_path: Path, text: str) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE)
    (path / "zarr.json").write_text(text)
    with pytest.raises(SlideError, match=r"^Expected .*slide.zarr"):
        open_slide(path)


def test_a_damaged_chunk_fails_alone(tmp_path: Path) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE)
    (path / "0" / "c" / "0" / "0" / "1").write_bytes(b"damaged")
    with open_slide(path) as slide:
        assert np.array_equal(slide.read_region((0, 0), (128, 128)), IMAGE[:128, :128])
        with pytest.raises(SlideError, match=r"whole slide or image, got '.*slide.zarr'"):
            slide.read_region((0, 0), slide.size)


def test_a_chunk_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_ome_zarr(tmp_path / "slide.zarr", IMAGE)
    monkeypatch.setattr("chromogen.slides.source.MAX_SEGMENT_BYTES", 1000)
    with pytest.raises(SlideError, match="in one piece; export it as a tiled pyramid"):
        open_slide(path)


def test_properties_are_what_it_says(tmp_path: Path) -> None:
    with open_slide(write_ome_zarr(tmp_path / "slide.zarr", IMAGE)) as slide:
        assert json.loads(slide.properties["zarr.ome"])["version"] == "0.5"
