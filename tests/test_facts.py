import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ome_types import from_xml

from chromogen.provenance import NOTICE
from chromogen.slides.facts import NAMESPACE, Facts, ome_xml, read_facts
from chromogen.slides.writer import write_ome_tiff, write_ome_zarr
from synthetic import WherePixels

FULL = Facts(
    mpp=0.2513,
    stainer="color-transfer",
    name="Smith_Jane 12-345.svs",
    made="2026-03-01T10:00:00+00:00",
    stainer_hash="ab12",
    target_stain="Ki-67",
    source_quickhash="ffee",
    source_mpp=0.2499,
    white=(243, 241, 244),
    settings={
        "icc": True,
        "tile_px": 1024,
        "mask": Path("a/b.geojson"),
        "text": "0.5",
        "nested": {"note": "x<&>"},
    },
    statistics={"mean": [1.5, 2.5]},
)


def written(folder: Path, facts: Facts, kind: str) -> Path:
    path = folder / f"out.{kind}"
    (write_ome_zarr if kind == "zarr" else write_ome_tiff)(path, WherePixels((40, 30)), facts)
    return path


def contents(path: Path) -> bytes:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return b"".join(file.read_bytes() for file in files)


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_facts_come_back(tmp_path: Path, kind: str) -> None:
    found = read_facts(written(tmp_path, FULL, kind))
    assert found is not None
    assert found.as_json() == FULL.as_json()
    assert found.white == FULL.white
    assert found.settings["text"] == "0.5"
    assert found.notice == NOTICE


@pytest.mark.parametrize("kind", ["tif", "zarr"])
def test_anonymous_leaves_out_names_and_dates(tmp_path: Path, kind: str) -> None:
    settings = {
        **FULL.settings,
        "masks": [Path("b.geojson")],
        "deep": {"out": "smith_jane 12-345 (er).tif", "px": 3},
    }
    path = written(tmp_path, Facts(**{**vars(FULL), "settings": settings}).anonymous(), kind)
    data = contents(path).lower()
    assert not any(word in data for word in (b"smith", b"12-345", b"geojson", b"2026", b".svs"))
    found = read_facts(path)
    assert found is not None
    assert found.settings == {
        "icc": True,
        "tile_px": 1024,
        "text": "0.5",
        "nested": {"note": "x<&>"},
        "deep": {"px": 3},
    }
    assert (found.source_quickhash, found.statistics) == ("ffee", {"mean": [1.5, 2.5]})


@settings(max_examples=40)
@given(st.text(st.characters(), max_size=20), st.floats(1e-3, 1e3), st.integers(1, 6))
@example("smith\udcff.svs", 0.5, 1)
def test_xml_is_valid_whatever_the_name(name: str, mpp: float, levels: int) -> None:
    sizes = [(2**9 >> level, 2**8 >> level) for level in range(levels)]
    text = ome_xml(Facts(mpp, "identity", name=name, settings={"note": name}), sizes)
    assert b"&#" not in text, "Bio-Formats reads no numeric character references"
    ome = from_xml(text.decode("utf-8"), validate=True)
    pixels = ome.images[0].pixels
    assert (pixels.size_x, pixels.size_y, pixels.size_c) == (512, 256, 3)
    assert pixels.physical_size_x == pixels.physical_size_y == pytest.approx(mpp, rel=1e-8)
    assert pixels.physical_size_x_unit.value == "µm"
    annotations = {a.namespace: dict(a.value) for a in ome.structured_annotations}
    assert json.loads(annotations[NAMESPACE]["settings"])["note"] == name, (
        "half a surrogate too, as in names that are no text"
    )
    assert len(ome.images[0].annotation_refs) == len(annotations) == (1 if levels == 1 else 2)


@pytest.mark.parametrize("mpp", [0.0, -0.5, float("nan"), float("inf")])
def test_mpp_must_be_a_length(mpp: float) -> None:
    with pytest.raises(ValueError, match="Expected `mpp` to be a positive"):
        Facts(mpp, "identity")


def test_other_files_have_none(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "other.ome.tif", np.zeros((8, 8), np.uint8), ome=True)
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((8, 8), np.uint8))
    (tmp_path / "text.tif").write_text("no slide")
    (tmp_path / "empty.tif").touch()
    for name in ("other.ome.tif", "plain.tif", "text.tif", "empty.tif"):
        assert read_facts(tmp_path / name) is None
    (tmp_path / "zarr.json").write_text('{"attributes": {"chromogen": {"mpp": "x"}}}')
    assert read_facts(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        read_facts(tmp_path / "missing.tif")


def test_facts_nested_deeper_than_anyone_reads_are_none(tmp_path: Path) -> None:
    write_ome_zarr(tmp_path / "a.zarr", WherePixels((8, 8)), Facts(mpp=0.5, stainer="none"))
    (tmp_path / "a.zarr" / "zarr.json").write_text('{"a":' * 100_000)
    assert read_facts(tmp_path / "a.zarr") is None


def test_what_a_later_version_says_more_is_no_obstacle(tmp_path: Path) -> None:
    later = {"attributes": {"chromogen": {"mpp": 0.5, "stainer": "x", "later": 1}}}
    (tmp_path / "zarr.json").write_text(json.dumps(later))
    found = read_facts(tmp_path)
    assert found is not None
    assert found.mpp == 0.5
