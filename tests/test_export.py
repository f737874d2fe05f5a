"""Our stainers as ONNX models: the same picture, by onnxruntime alone."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chromogen.image import Image, read_image, write_image
from chromogen.onnx_models.export import OPSET, export_onnx
from chromogen.onnx_models.generator import load_generator
from chromogen.onnx_models.graphs import IMAGES, STAIN_LOOK
from chromogen.onnx_models.onnx_file import read_onnx
from chromogen.provenance import NOTICE
from chromogen.stainer import load_stainer, stain_image
from chromogen.stainer_file import Model, write_model
from chromogen.style.kinds import Look
from chromogen.style.rgb_network import RGB_HALO_PX
from chromogen.style.slide_densities import STRIDE_PX
from chromogen.style.stainer_network import HALO_PX, USUAL_STRENGTH, SlideLook, slide_look, stain
from synthetic import tissue_like
from test_kinds import model as of_kind
from test_stainer_file import model

onnx = pytest.importorskip("onnx", reason="the extra `onnx` is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

HE = tissue_like(100, 118, seed=3)
LOOK = SlideLook((243.0, 240.0, 246.0), (1.3, 0.8), 0.05)
USUAL_LOOK = SlideLook((255.0, 255.0, 255.0), USUAL_STRENGTH, 0.0)


# Torch takes half a minute to write a model down: what uses `exported` is slow, all else is not.
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "test.onnx"
    facts = export_onnx(model(), file)
    assert facts == {"onnx": str(file), "onnx_bytes": file.stat().st_size, "opset": OPSET}
    return file


def painted(file: Path, images: NDArray[np.uint8], look: Look | None = None) -> NDArray[np.uint8]:
    """By onnxruntime, as a program does that knows nothing of Chromogen."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    fields = {} if look is None else vars(look)
    values = {name: np.atleast_1d(np.array(value, np.float32)) for name, value in fields.items()}
    made: NDArray[np.uint8] = session.run(["stained"], {"image": images, **values})[0]
    return made


def farthest(made: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> int:
    return int(np.abs(made.astype(int) - wanted).max())


@slow
@pytest.mark.parametrize("shape", [(1, 1), (15, 33), (80, 112), (97, 64)])
def test_the_same_picture_within_one_level_at_any_size(exported: Path, shape: tuple[int, int]) -> None:
    image = HE[: shape[0], : shape[1]]
    for look in (LOOK, slide_look(HE)):
        assert farthest(painted(exported, image[None], look)[0], stain(model().network(), image, look)) <= 1


@slow
def test_without_a_look_there_is_a_usual_one(exported: Path) -> None:
    np.testing.assert_array_equal(painted(exported, HE[None]), painted(exported, HE[None], USUAL_LOOK))
    assert farthest(painted(exported, HE[None]), painted(exported, HE[None], LOOK)) > 1


@slow
def test_several_pictures_at_once(exported: Path) -> None:
    images = np.stack([HE, HE[::-1], HE[:, ::-1]])
    made = painted(exported, images, LOOK)
    for image, one in zip(images, made, strict=True):
        assert farthest(one, painted(exported, image[None], LOOK)[0]) <= 1


@slow
def test_what_the_file_says(exported: Path) -> None:
    """All of the model's card, how it is used, and nothing of the machine it was made on."""
    made = onnx.load(exported)
    onnx.checker.check_model(made, full_check=True)
    said = {prop.key: prop.value for prop in made.metadata_props}
    card = json.loads(said["chromogen-stainer"])
    assert card == json.loads(json.dumps(model().card()))
    target = json.loads(json.dumps(asdict(model().target)))
    assert card["target"] == {name: target[name] for name in ("matrix", "hematoxylin", "dab")}
    assert (said["mpp"], said["halo_px"], said["stride_px"]) == ("0.5", str(HALO_PX), str(STRIDE_PX))
    assert said["notice"] == NOTICE
    assert "means nothing" in said["claim"]
    assert "VGG19" in said["attribution"]
    assert said["how"] == IMAGES + STAIN_LOOK
    assert made.producer_name == "chromogen"
    assert NOTICE in made.doc_string
    assert {used.version for used in made.opset_import if used.domain == ""} == {OPSET}
    sides = [side.dim_param or side.dim_value for side in made.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "height", "width", 3]
    assert str(Path(__file__).parents[1]).encode() not in exported.read_bytes()
    assert b"site-packages" not in exported.read_bytes()


@slow
def test_runs_as_a_stainer_by_the_slides_look(exported: Path) -> None:
    """As the one it was made of: no mpp, no range, no blending; the file is read again from where it is."""
    stainer = load_generator(exported)
    assert (stainer.name, stainer.mpp, stainer.halo_px, stainer.lattice) == ("test", 0.5, HALO_PX, None)
    assert stainer.identity == read_onnx(exported).sha256
    fitted = stainer.fit(HE)
    assert farthest(fitted(HE), stain(model().network(), HE, slide_look(HE))) <= 1
    assert farthest(stain_image(fitted, HE, 32), fitted(HE)) <= 1
    assert len(pickle.dumps(fitted)) < 2000
    for option in ({"value_range": "0..1"}, {"blend_px": 8}):
        with pytest.raises(ValueError, match="left out, as the model is one of Chromogen's"):
            load_generator(exported, **option)  # type: ignore[arg-type]


@slow
def test_what_the_documentation_says_runs(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program in docs/onnx.md, as it stands."""
    text = (Path(__file__).parents[1] / "docs" / "onnx.md").read_text()
    (program,) = [part.split("```")[0] for part in text.split("```python\n") if "InferenceSession" in part]
    (tmp_path / "my_stain.onnx").write_bytes(exported.read_bytes())
    write_image(tmp_path / "he.png", HE)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "onnx.md", "exec"), {})  # noqa: S102
    assert NOTICE in capsys.readouterr().out
    np.testing.assert_array_equal(read_image(tmp_path / "stained.png"), painted(exported, HE[None], LOOK)[0])


def calibrated(dab_offset: float) -> Model:
    return replace(model(), target=replace(model().target, dab_offset=dab_offset))


MODELS = {
    "an offset of DAB": (calibrated(0.2), None),
    "an offset below 0": (calibrated(-0.15), None),
    "rgb": (of_kind("rgb"), None),
    "stain, markers": (of_kind("stain, markers"), "Ki67"),
    "rgb, markers": (of_kind("rgb, markers"), "ER:0.7,Ki67:0.3"),
}


@slow
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_as_a_stainer(name: str, tmp_path: Path) -> None:
    """The picture of the file that it was made of, whole and in tiles, by a look that onnxruntime measures."""
    given, marker = MODELS[name]
    write_model(tmp_path / "m.safetensors", given)
    export_onnx(given, tmp_path / "m.onnx", marker)
    ours, theirs = load_stainer(tmp_path / "m.safetensors", marker), load_generator(tmp_path / "m.onnx")
    assert (ours.name, ours.target_stain, ours.mpp) == (theirs.name, theirs.target_stain, theirs.mpp)
    assert (theirs.halo_px, theirs.stride_px) == (ours.halo_px, ours.stride_px)
    assert theirs.halo_px == (RGB_HALO_PX if "rgb" in name else HALO_PX)
    fitted = theirs.fit(HE)
    for image in (HE, HE[:33, 5:80]):
        assert farthest(fitted(image), ours.fit(HE)(image)) <= 1
    assert farthest(stain_image(fitted, HE, 32), fitted(HE)) <= 1
    assert len(pickle.dumps(fitted)) < 10_000


def test_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a name ending in .onnx"):
        export_onnx(model(), tmp_path / "model.pt")
    for marker, said in ((None, "one of ER, Ki67, HER2, or a blend"), ("KI76", "did you mean Ki67")):
        with pytest.raises(ValueError, match=said):
            export_onnx(of_kind("stain, markers"), tmp_path / "model.onnx", marker)
    with pytest.raises(ValueError, match="left out: this stainer has one look"):
        export_onnx(model(), tmp_path / "model.onnx", "ER")
    assert not list(tmp_path.iterdir())


@slow
def test_the_same_picture_of_real_tissue(exported: Path, data: Path) -> None:
    for picture in ("he/hgsc_stromal_he.jpg", "he/torchstain_source.png", "pairs/mist/HER2_he.png"):
        image: Image = read_image(data / picture)[:410, :333]
        look = slide_look(image)
        wanted = stain(model().network(), image, look)
        assert farthest(painted(exported, image[None], look)[0], wanted) <= 1
