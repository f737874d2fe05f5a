"""Generators in ONNX files on the command line: slides, images, what they are, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.image import Image, read_image, read_provenance, write_image
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.staining.onnx_file import read_onnx
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide import stain as stain_module
from chromogen.whole_slide.blocks import in_threads, local_cluster, on_cluster
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile
from generators import conv, normed, saved, unary
from synthetic import tissue_like
from synthetic_slides import SyntheticSource, write_pyramid
from test_cli import refused, run

SIZE = (420, 300)
TISSUE = SyntheticSource(SIZE).read(0, (0, 0), SIZE)
LOSSLESS = ("--compression", "deflate")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stain_module, "BLOCK_PX", 128)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    return write_pyramid(tmp_path / "slide.tif", TISSUE, (2,))


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """Fixed windows of 64 px, of which 16 are blended."""
    return saved(tmp_path / "cut.onnx", normed(64))


def pixels(path: Path) -> Image:
    with open_slide(path) as made:
        return made.read_region((0, 0), made.size)


def job(slide: Path, cut: Path, **more: Any) -> SlideJob:
    return SlideJob(SlideFile(slide), Stainer.from_pretrained(cut, 0.5, **more), mask_tissue=False)


def output(folder: Path, name: str) -> Output:
    return Output(folder / f"{name}.ome.tif", "deflate")


# --- slides ---


def test_a_slide(capsys: pytest.CaptureFixture[str], slide: Path, cut: Path, tmp_path: Path) -> None:
    """In blocks it is what it would be in one piece, and says by which generator."""
    out = tmp_path / "out.ome.tif"
    given = (
        "--stainer",
        cut,
        "--model-mpp",
        "0.5",
        "--range",
        "-1..1",
        "--blend",
        "16",
        "--no-tissue-mask",
        *LOSSLESS,
    )
    status, said, err = run(capsys, "stain", slide, "-o", out, *given)
    assert status == 0, err
    assert "420 x 300 px at 0.5 um/px" in said
    np.testing.assert_array_equal(pixels(out), Stainer.from_pretrained(cut, 0.5)(TISSUE))
    facts = read_facts(out)
    assert facts is not None
    assert facts.stainer == "cut"
    assert facts.stainer_hash == f"{read_onnx(cut).sha256}, -1..1, 64 px windows, 16 blended"
    assert facts.settings["stainer"] == facts.stainer_hash
    assert facts.settings["mpp"] == 0.5


def test_a_region_is_a_crop_of_the_whole(
    capsys: pytest.CaptureFixture[str], slide: Path, cut: Path, tmp_path: Path
) -> None:
    out = tmp_path / "part.ome.tif"
    given = ("--stainer", cut, "--model-mpp", "0.5", "--region", "101,51,200,120", "--no-tissue-mask", *LOSSLESS)
    assert run(capsys, "stain", slide, "-o", out, *given)[0] == 0
    np.testing.assert_array_equal(pixels(out), Stainer.from_pretrained(cut, 0.5)(TISSUE)[51:171, 101:301])


def test_resolution_is_the_generators(
    capsys: pytest.CaptureFixture[str], slide: Path, cut: Path, tmp_path: Path
) -> None:
    """`--model-mpp` is what it was trained at, `--mpp` the slide's own."""
    out = tmp_path / "out.ome.tif"
    status, _, err = run(
        capsys, "stain", slide, "-o", out, "--stainer", cut, "--model-mpp", "0.5", "--mpp", "0.25"
    )
    assert status == 0, err
    with open_slide(out) as made:
        assert made.size == (210, 150)
        assert made.mpp == pytest.approx(0.5)


def backwards(function: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
    yield from map(function, reversed(list(pieces)))


def failing_after(count: int) -> Callable[..., Iterator[Any]]:
    def some(function: Callable[[Any], Any], pieces: Iterable[Any]) -> Iterator[Any]:
        for number, piece in enumerate(pieces):
            if number == count:
                raise OSError("the power is gone")
            yield function(piece)

    return some


def test_whatever_the_blocks_their_order_and_a_crash(
    slide: Path, cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {}
    for name, block_px, running in (
        ("whole", 2048, in_threads(1)),
        ("small", 80, in_threads(3)),
        ("back", 128, backwards),
    ):
        monkeypatch.setattr(stain_module, "BLOCK_PX", block_px)
        stain_slide(job(slide, cut), output(tmp_path, name), run=running)
        made[name] = pixels(tmp_path / f"{name}.ome.tif")
    with pytest.raises(OSError, match="power"):
        stain_slide(job(slide, cut), output(tmp_path, "crash"), run=failing_after(5))
    facts = stain_slide(job(slide, cut), output(tmp_path, "crash"))
    assert facts["tiles_found"] == 5
    made["crash"] = pixels(tmp_path / "crash.ome.tif")
    for picture in made.values():
        np.testing.assert_array_equal(picture, Stainer.from_pretrained(cut, 0.5)(TISSUE))


def test_an_unfinished_job_goes_on_with_the_same_generator_alone(slide: Path, cut: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="power"):
        stain_slide(job(slide, cut), output(tmp_path, "out"), run=failing_after(2))
    for other in (job(slide, cut, blend_px=8), job(slide, saved(tmp_path / "b.onnx", normed(64, "Sigmoid")))):
        with pytest.raises(ValueError, match="stainer"):
            stain_slide(other, output(tmp_path, "out"))


@pytest.mark.slow
def test_several_processes_make_the_same_bytes(slide: Path, cut: Path, tmp_path: Path) -> None:
    with local_cluster(2, 1) as client:
        stain_slide(job(slide, cut), output(tmp_path, "out"), run=on_cluster(client))
    np.testing.assert_array_equal(pixels(tmp_path / "out.ome.tif"), Stainer.from_pretrained(cut, 0.5)(TISSUE))


def test_the_seam_score_tells(slide: Path, cut: Path, tmp_path: Path) -> None:
    """It looks where windows meet, not blocks: without blending they show."""
    scores = {}
    for blend_px in (0, 32):
        facts = stain_slide(job(slide, cut, blend_px=blend_px), output(tmp_path, str(blend_px)))
        scores[blend_px] = facts["seam_score"]
    assert scores[32] == pytest.approx(1, abs=0.1)
    assert scores[0] > scores[32] + 0.2


def test_a_slide_that_does_not_say_its_resolution(
    capsys: pytest.CaptureFixture[str], cut: Path, tmp_path: Path
) -> None:
    slide, out = tmp_path / "bare.png", tmp_path / "out.ome.tif"
    write_image(slide, TISSUE)
    given = ("stain", slide, "-o", out, "--stainer", cut, "--model-mpp", "0.5")
    assert "`mpp` to be given, as" in refused(capsys, *given)
    assert run(capsys, *given, "--mpp", "0.5")[0] == 0


# --- images ---


def test_images_and_folders(capsys: pytest.CaptureFixture[str], cut: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, shape in enumerate(((90, 120), (30, 40))):
        write_image(tmp_path / "in" / f"{number}.png", tissue_like(*shape, seed=number))
    out = tmp_path / "out"
    status, said, err = run(
        capsys, "stain", tmp_path / "in", "-o", out, "--stainer", cut, "--model-mpp", "0.5", "--json"
    )
    assert status == 0, err
    assert "Note: 2 images state no pixel size; Chromogen took 0.5 um/px (set it with --mpp)." in err
    assert [result["seam_score"] is None for result in json.loads(said)["results"]] == [False, True]
    for number in (0, 1):
        wanted = Stainer.from_pretrained(cut, 0.5)(read_image(tmp_path / "in" / f"{number}.png"))
        np.testing.assert_array_equal(read_image(out / f"{number}.png"), wanted)
    provenance = read_provenance(out / "0.png") or {}
    assert provenance["stainer_hash"].startswith(read_onnx(cut).sha256)


# --- what it is ---


def test_info(capsys: pytest.CaptureFixture[str], cut: Path, tmp_path: Path) -> None:
    status, said, _ = run(capsys, "info", cut)
    assert status == 0
    for part in (
        "input      x float32 [1, 3, 64, 64]",
        "output     y float32",
        "64 x 64 px alone",
        "range      -1..1, as it ends",
        "not told: give --mpp",
        "opset      17, made with test",
        read_onnx(cut).sha256,
    ):
        assert part in said
    other = saved(tmp_path / "other.onnx", conv(), {"mpp": "0.25"})
    status, said, _ = run(capsys, "info", other)
    assert "any; in windows of 512 px" in said
    assert "0.25 um/px, as it says" in said
    assert "not told: give --range" in said
    (result,) = json.loads(run(capsys, "info", other, "--json")[1])["results"]
    assert (result["opset"], result["fixed"], result["input"]["layout"]) == (17, False, "NCHW")


# --- what is refused, in one line ---


def test_wrong_requests(capsys: pytest.CaptureFixture[str], slide: Path, cut: Path, tmp_path: Path) -> None:
    begin, made = ("stain", slide, "-o", tmp_path / "out.ome.tif"), saved(tmp_path / "conv.onnx", conv())
    truncated = tmp_path / "truncated.onnx"
    truncated.write_bytes(cut.read_bytes()[:300])
    grey = saved(tmp_path / "grey.onnx", conv(source=[1, 1, "h", "w"]))
    for given, why in (
        (("--stainer", cut), "`model_mpp` to be given"),
        (("--stainer", made, "--model-mpp", "0.5"), "`range` to be given"),
        (("--stainer", cut, "--model-mpp", "0.5", "--blend", "40"), "`blend` to be 0 to 32 px"),
        (("--stainer", cut, "--model-mpp", "0.5", "--range", "0..2"), "`range` to be one of"),
        (("--stainer", truncated, "--model-mpp", "0.5"), "an ONNX model"),
        (("--stainer", grey, "--model-mpp", "0.5"), "one RGB picture in"),
        (("--stainer", tmp_path / "no.onnx", "--model-mpp", "0.5"), "an existing file"),
        (("--stainer", "identity", "--blend", "16"), "`blend` to be given with a generator"),
        (("--stainer", "identity", "--range", "0..1"), "`range` to be given with a generator"),
        (("--stainer", "identity", "--model-mpp", "0.5"), "`model-mpp` to be given with a generator"),
    ):
        assert why in refused(capsys, *begin, *given)
    assert not (tmp_path / "out.ome.tif").exists()
    assert "holds no graph" in refused(capsys, "info", truncated) or "truncated" in refused(
        capsys, "info", truncated
    )


def test_no_numbers_end_in_one_line(capsys: pytest.CaptureFixture[str], slide: Path, tmp_path: Path) -> None:
    made = saved(tmp_path / "nan.onnx", unary("Log"))
    given = ("--stainer", made, "--model-mpp", "0.5", "--range", "-1..1")
    status, said, err = run(capsys, "stain", slide, "-o", tmp_path / "out.ome.tif", *given)
    assert (status, said) == (1, "")
    assert err.count("\n") == 1
    assert "NaN" in err


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_the_extra(
    library: str,
    capsys: pytest.CaptureFixture[str],
    slide: Path,
    cut: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    given = ("--stainer", cut, "--model-mpp", "0.5", "-o", tmp_path / "out.ome.tif")
    assert "pip install 'chromogen[onnx]'" in refused(capsys, "stain", slide, *given)


# --- our own, exported ---


@pytest.mark.slow
def test_export_and_stain_with_it(
    capsys: pytest.CaptureFixture[str], slide: Path, model_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "dab.onnx"
    status, said, err = run(capsys, "export", model_file, "-o", file, "--json")
    assert status == 0, err
    assert json.loads(said)["onnx"] == str(file)
    status, said, err = run(capsys, "info", file)
    assert status == 0, err
    assert "0.5 um/px, as it says" in said
    assert "where the marker lies" in said
    for name in (file, model_file):
        out = tmp_path / f"{name.stem}.ome.tif"
        assert run(capsys, "stain", slide, "-o", out, "--where", name, *LOSSLESS)[0] == 0
    by_onnx, by_torch = (pixels(tmp_path / f"{stem}.ome.tif") for stem in ("dab", "my_stain"))
    assert np.abs(by_onnx.astype(int) - by_torch).max() <= 1


def test_export_refuses(capsys: pytest.CaptureFixture[str], model_file: Path, tmp_path: Path) -> None:
    assert "a name ending in .onnx" in refused(capsys, "export", model_file, "-o", tmp_path / "dab.pt")
    assert "name a file that `chromogen train` wrote" in refused(
        capsys, "export", "epithelial", "-o", tmp_path / "dab.onnx"
    )
    assert "export" in refused(capsys, "train", "--paired", tmp_path, "-o", "m.safetensors", "--export", "coreml")
