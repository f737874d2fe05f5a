"""Models of pairs as ONNX models: the same map without Chromogen, and through `stain --where FILE.onnx`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from chromogen.app.cli import app
from chromogen.image import Image, read_image, write_image
from chromogen.staining.ready import seen
from chromogen.staining.stainer import Stainer, load_look
from chromogen.staining.where import Place
from chromogen.staining.where_files import read_paired
from chromogen.staining.where_network import PairStains, level_map, slide_stains, write_model
from synthetic import tissue_like
from test_where_file import model

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
from chromogen.staining.onnx_generator import read_where_model  # noqa: E402
from chromogen.staining.where_network import export_onnx  # noqa: E402

HE = tissue_like(176, 208, seed=5)
LOOK = PairStains((243.0, 240.0, 246.0), (1.3, 0.8))
EPSILON = 1e-4
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    write_model(folder / "m.safetensors", model())
    export_onnx(model(), folder / "m.onnx")
    return folder / "m.onnx"


def levels(file: Path, image: Image, look: PairStains | None) -> np.ndarray:
    """By onnxruntime alone."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    told = {} if look is None else {name: np.array(value, np.float32) for name, value in vars(look).items()}
    return np.asarray(session.run(["level"], {"image": image.transpose(2, 0, 1)[None], **told})[0])


@slow
@pytest.mark.parametrize("size", [(176, 208), (32, 48), (64, 16 * 9)])
def test_the_same_levels_without_chromogen(exported: Path, size: tuple[int, int]) -> None:
    image = np.ascontiguousarray(HE[: size[0], : size[1]])
    found = levels(exported, image, LOOK)
    assert found.shape == (1, 1, size[0] // 16, size[1] // 16)
    np.testing.assert_allclose(found[0, 0], level_map(model().network(), image, LOOK), atol=EPSILON)


@slow
def test_a_look_left_out_is_a_usual_one(exported: Path) -> None:
    usual = PairStains((255.0, 255.0, 255.0), (1.5, 1.0))
    np.testing.assert_allclose(levels(exported, HE, None), levels(exported, HE, usual), atol=1e-6)


@slow
def test_as_a_source_it_gives_the_map_of_the_model(exported: Path) -> None:
    """By the slide's own stains, in windows of any size."""
    ours, theirs = read_paired(exported.with_suffix(".safetensors")), read_where_model(exported)
    assert theirs.measure(HE) == ours.measure(HE) == slide_stains(HE)
    assert theirs.record()["mpp"] == 0.5
    look = Stainer.from_pretrained("epithelial").fit(HE).statistics
    for window in (HE, np.ascontiguousarray(HE[:61, 7:150])):
        tissue = seen(window, look)
        maps = [
            where(Place(window, tissue, replace(look, where=where.measure(HE)), "cytoplasm", (0, 0)))
            for where in (ours, theirs)
        ]
        assert maps[0].max() > 0.1
        np.testing.assert_allclose(maps[0], maps[1], atol=EPSILON)


@slow
def test_stain_and_export_as_commands(exported: Path, tmp_path: Path) -> None:
    model_file = exported.with_suffix(".safetensors")
    done = CliRunner().invoke(app, ["export", str(model_file), "-o", str(tmp_path / "m.onnx"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["onnx_bytes"] < 60_000
    write_image(tmp_path / "he.png", HE, {})
    pictures = []
    for name, file in (("a", model_file), ("b", tmp_path / "m.onnx")):
        command = ["stain", str(tmp_path / "he.png"), "--where", str(file), "-o", str(tmp_path / f"{name}.png")]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        pictures.append(read_image(tmp_path / f"{name}.png").astype(int))
    assert (abs(pictures[0] - pictures[1]) > 1).mean() < 1e-3


@slow
def test_it_says_what_it_is(exported: Path) -> None:
    onnx = pytest.importorskip("onnx")
    told = {prop.key: prop.value for prop in onnx.load(exported).metadata_props}
    assert told["sha256"] == model().sha256
    assert told["notice"] == model().notice
    assert told["claim"].startswith("where the marker lies")
    assert json.loads(told["chromogen-where"])["name"] == "test"
    assert (told["mpp"], told["stride_px"]) == ("0.5", "16")
    assert str(Path.home()) not in str(onnx.load(exported))


@slow
def test_it_is_no_stainer_but_holds_a_look(exported: Path) -> None:
    with pytest.raises(ValueError, match="Expected `stainer` to be a generator"):
        CliRunner().invoke(
            app, ["stain", "he.png", "--stainer", str(exported), "-o", "x.png"], catch_exceptions=False
        )
    assert load_look(exported.with_suffix(".safetensors")).name == "test"


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a name ending in .onnx"):
        export_onnx(model(), tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
