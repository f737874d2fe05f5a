"""Transforms for other programs: read back, they move points alike."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from scipy import ndimage
from shapely.geometry import box

from chromogen.registration import transfer
from chromogen.registration.transfer import (
    displacements_um,
    nearest_affine_px,
    write_affine,
    write_displacement_field,
)
from chromogen.registration.transform import Piece
from chromogen.stains.deconvolution import Array
from test_transform import AFFINE, POINTS_UM, SIDE_UM, transform, wavy


def straight() -> Piece:
    return Piece(box(0, 0, SIDE_UM, SIDE_UM), AFFINE)


def test_the_affine_of_a_straight_transform_is_itself(tmp_path: Path) -> None:
    pair = transform(straight())
    assert write_affine(tmp_path / "affine.txt", pair) == pytest.approx(0, abs=1e-6)
    affine = np.loadtxt(tmp_path / "affine.txt", delimiter=",")
    points = POINTS_UM / 0.5
    np.testing.assert_allclose(points @ affine[:, :2].T + affine[:, 2], pair.forward_px(points), atol=1e-4)


def test_the_affine_is_in_pixels_of_both_slides() -> None:
    pair = transform(straight())
    coarser = replace(pair, target=replace(pair.target, mpp=1.0))
    np.testing.assert_allclose(nearest_affine_px(coarser)[0] * 2, nearest_affine_px(pair)[0])


def test_what_an_affine_leaves_out_is_measured() -> None:
    affine, off_um = nearest_affine_px(transform())
    points = POINTS_UM / 0.5
    off = points @ affine[:, :2].T + affine[:, 2] - transform().forward_px(points)
    assert off_um == pytest.approx(np.median(np.hypot(*off.T)) * 0.5, rel=0.1)
    assert off_um > 1


def between_nodes(field: Array, step: float, points: Array) -> Array:
    at = points[:, ::-1].T / step
    return np.stack([ndimage.map_coordinates(field[..., k], at, order=1) for k in range(2)], 1)


def test_a_field_moves_points_as_the_transform_does(tmp_path: Path) -> None:
    pair = transform()
    write_displacement_field(tmp_path / "field.mha", pair)
    header, _, data = (tmp_path / "field.mha").read_bytes().partition(b"ElementDataFile = LOCAL\n")
    said = dict(line.split(" = ") for line in header.decode().splitlines())
    columns, rows = map(int, said["DimSize"].split())
    step = float(said["ElementSpacing"].split()[0])
    field = np.frombuffer(data, "<f8").reshape(rows, columns, 2)
    moved = POINTS_UM + between_nodes(field, step, POINTS_UM)
    assert np.abs(moved - pair.forward_um(POINTS_UM)).max() < 0.1


def test_itk_moves_points_by_the_field(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    pair = transform()
    write_displacement_field(tmp_path / "field.mha", pair)
    field = sitk.DisplacementFieldTransform(sitk.ReadImage(tmp_path / "field.mha", sitk.sitkVectorFloat64))
    moved = np.array([field.TransformPoint(tuple(point)) for point in POINTS_UM])
    assert np.abs(moved - pair.forward_um(POINTS_UM)).max() < 0.1


def test_a_reader_of_the_specification_moves_points_by_an_ome_zarr(tmp_path: Path) -> None:
    """By what NGFF 0.6 says alone: scene, path, axes, scale, components in the order of the output's axes."""
    pair, store = transform(), tmp_path / "field.ome.zarr"
    write_displacement_field(store, pair)
    ome = json.loads((store / "zarr.json").read_text())["attributes"]["ome"]
    (found,) = ome["scene"]["coordinateTransformations"]
    assert (ome["version"], found["type"], found["interpolation"]) == ("0.6", "displacements", "linear")
    folder = store / found["path"]
    (image,) = json.loads((folder / "zarr.json").read_text())["attributes"]["ome"]["multiscales"]
    (dataset,) = image["datasets"]
    axes = [axis["name"] for axis in image["coordinateSystems"][0]["axes"]]
    array = zarr.open_array(folder / dataset["path"], mode="r")
    spaces = {system["name"]: system["axes"] for system in ome["scene"]["coordinateSystems"]}
    assert [axis["type"] for axis in image["coordinateSystems"][0]["axes"]] == ["displacement", "space", "space"]
    assert image["coordinateSystems"][0]["axes"][1:] == spaces[found["input"]["name"]]
    assert array.shape[0] == len(spaces[found["output"]["name"]])
    scale = dict(zip(axes, dataset["coordinateTransformations"][0]["scale"], strict=True))
    values = array[:]
    y, x = POINTS_UM[:, 1], POINTS_UM[:, 0]
    at = np.stack([y / scale["y"], x / scale["x"]])
    dy, dx = (ndimage.map_coordinates(values[k], at, order=1) for k in range(2))
    np.testing.assert_allclose(np.column_stack([x + dx, y + dy]), pair.forward_um(POINTS_UM), atol=0.1)


@pytest.mark.parametrize("name", ["field.nii", "taken.zarr"])
def test_a_field_without_a_place_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "taken.zarr").mkdir()
    with pytest.raises(ValueError, match="Expected `field` to be a"):
        write_displacement_field(tmp_path / name, transform())


def test_a_field_has_few_enough_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_NODES", 10_000)
    pair = transform(Piece(box(0, 0, SIDE_UM, SIDE_UM), AFFINE, replace(wavy(), spacing_um=0.05)))
    field, step = displacements_um(pair)
    assert field.shape[0] * field.shape[1] < 10_500
    assert step > 10


@pytest.mark.parametrize("spacing_um", [0.0, -1.0])
def test_nodes_without_a_distance_are_refused(spacing_um: float) -> None:
    with pytest.raises(ValueError, match="Expected `spacing_um` to be above 0"):
        displacements_um(transform(), spacing_um)


def test_a_field_is_a_meta_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected `field` to be a file ending in \.mha"):
        write_displacement_field(tmp_path / "field.nii", transform())
