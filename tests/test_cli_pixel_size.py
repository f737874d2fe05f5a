"""The pixel size that a file states, in every command; and sizes that no command takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from skimage.data import immunohistochemistry
from tifffile import TiffFile

from chromogen.app.cli import app
from chromogen.evaluation.evaluate import evaluate_files
from chromogen.evaluation.fields import crops_of_pairs, find_pairs
from chromogen.formats.ome_metadata import ome_facts
from chromogen.image import read_image_and_facts, read_provenance, resize, write_image
from chromogen.slides.slide import open_slide
from chromogen.style.encoder import Encoder
from chromogen.training.pairs import _pieces
from drawn_pairs import drawn_pair
from synthetic import tissue_like
from test_cli import QUICK, refused, run

HE, IHC = tissue_like(64, 64, seed=1), np.asarray(immunohistochemistry())[:80, 300:396]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MPP_OPTIONS = [
    (name, option.opts[0])
    for name, command in COMMANDS.items()
    for option in command.params
    if str(option.name).endswith("mpp")
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """An H&E of 0.5 and an IHC of 0.25 um/px, and both say so."""
    write_image(tmp_path / "he.tif", HE, mpp=0.5)
    write_image(tmp_path / "ihc.png", IHC, mpp=0.25)
    return tmp_path / "he.tif", tmp_path / "ihc.png"


def test_stylize_resamples_the_style_as_with_options(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    silent = tmp_path / "a.png", tmp_path / "b.png"
    for path, image in zip(silent, (HE, IHC), strict=True):
        write_image(path, image)
    given = ["--mpp", 0.5, "--style-mpp", 0.25]
    quick = [*QUICK, "--precision", "fp32"]
    assert run(capsys, "stylize", *silent, "-o", tmp_path / "given.png", *quick, *given)[0] == 0
    status, _, err = run(capsys, "stylize", *files, "-o", tmp_path / "stated.png", *quick)
    assert (status, err) == (0, "")
    stated, given_facts = (read_image_and_facts(tmp_path / f"{name}.png") for name in ("stated", "given"))
    np.testing.assert_array_equal(stated[0], given_facts[0])
    assert stated[1].mpp == pytest.approx((0.5, 0.5))
    known = read_provenance(tmp_path / "stated.png")
    assert known
    assert (known["mpp"], known["style_mpp"]) == (pytest.approx(0.5), [pytest.approx(0.25)])


@pytest.mark.parametrize(
    ("content", "style", "said"),
    [
        ("a.png", "ihc.png", [("image", 0.25, "--mpp")]),
        ("he.tif", "b.png", [("style", 0.5, "--style-mpp")]),
        ("a.png", "b.png", [("image", 0.5, "--mpp"), ("style", 0.5, "--style-mpp")]),
        ("he.tif", "ihc.png", []),
    ],
)
def test_stylize_says_what_it_assumes(
    content: str,
    style: str,
    said: list[tuple[str, float, str]],
    capsys: pytest.CaptureFixture[str],
    files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    write_image(tmp_path / "a.png", HE)
    write_image(tmp_path / "b.png", IHC)
    _, _, err = run(capsys, "stylize", tmp_path / content, tmp_path / style, "-o", tmp_path / "o.png", *QUICK)
    lines = [
        f"Note: 1 {role} states no pixel size; Chromogen took {mpp:g} um/px (set it with {option}).\n"
        for role, mpp, option in said
    ]
    assert err == "".join(lines)
    assert (read_image_and_facts(tmp_path / "o.png")[1].mpp is None) == (content == "a.png")


def test_unmix_measures_and_writes_it(
    capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    write_image(tmp_path / "silent.png", IHC)
    stated = json.loads(run(capsys, "unmix", files[1], "-o", tmp_path / "u", "--json")[1])["results"][0]
    given = run(capsys, "unmix", tmp_path / "silent.png", "-o", tmp_path / "u", "--mpp", 0.25, "--json")[1]
    assert stated | {"name": "silent.png"} == json.loads(given)["results"][0]
    assert stated["mpp"] == 0.25
    assert read_image_and_facts(tmp_path / "u" / "ihc_first.png")[1].mpp == pytest.approx((0.25, 0.25))
    with TiffFile(tmp_path / "u" / "ihc_od10.tif") as densities:
        facts = ome_facts(str(densities.ome_metadata))
    assert facts
    assert facts.images[0].mpp == (0.25, 0.25)
    _, _, err = run(capsys, "unmix", tmp_path / "silent.png", "-o", tmp_path / "u")
    assert "Note: 1 image states no pixel size; Chromogen took 0.5 um/px (set it with --mpp)." in err


def test_evaluate_brings_pictures_to_one_pixel_size(
    files: tuple[Path, Path], tmp_path: Path, encoder: Encoder
) -> None:
    write_image(tmp_path / "fine.png", resize(HE, (128, 128)), mpp=0.25)
    write_image(tmp_path / "silent.tif", HE)
    for he, size in (("fine.png", 0.5), ("silent.tif", 0.5)):
        found = evaluate_files(files[0], tmp_path / he, encoder=encoder)
        assert found.rows[0].mpp == pytest.approx(size)
        assert isinstance(found.rows[0].sides["prediction"]["edge_r"], float)
        assert not any("pixel size" in warning for warning in found.warnings)
        assert found.settings["mpp"] == pytest.approx(size)
    unknown = evaluate_files(tmp_path / "silent.tif", encoder=encoder)
    assert "pixel size: 1 image without; Chromogen took 0.5 um/px (set it with --mpp)" in unknown.warnings


def test_study_takes_crops_at_the_size_of_the_he(tmp_path: Path) -> None:
    write_image(tmp_path / "x_he.png", tissue_like(128, 128, seed=1), mpp=0.5)
    write_image(tmp_path / "x_ihc.png", tissue_like(256, 256, seed=2), mpp=0.25)
    (crop,) = crops_of_pairs(find_pairs(tmp_path), 128, 1, None)
    assert (crop.mpp, crop.ihc.shape, crop.paired) == (pytest.approx(0.5), (128, 128, 3), True)


def test_train_resamples_what_states_another_size(tmp_path: Path) -> None:
    """Pairs of 1 um/px at 0.5, and what states no size as it is."""
    pair = drawn_pair(0, "pink", 128, (4.0, 2.0))
    for name, mpp in (("a", 1.0), ("silent", None)):
        for end, image in (("he", pair.he), ("ihc", pair.ihc)):
            write_image(tmp_path / f"{name}_{end}.png", image, mpp=mpp)
    (first, *_), assumed = _pieces(find_pairs(tmp_path)[0], None, None, None)
    assert (first.he.shape, first.ihc.shape, assumed) == ((256, 256, 3), (256, 256, 3), False)
    (first, *_), assumed = _pieces(find_pairs(tmp_path)[1], None, None, None)
    assert (first.he.shape, assumed) == ((128, 128, 3), True)
    (first, *_), assumed = _pieces(find_pairs(tmp_path)[1], 0.25, None, None)
    assert (first.he.shape, assumed) == ((64, 64, 3), False)


@pytest.mark.parametrize("name", ["o.tif", "o.png", "o.jpg", "o.webp"])
def test_stain_writes_it_into_tiles(
    name: str, capsys: pytest.CaptureFixture[str], files: tuple[Path, Path], tmp_path: Path
) -> None:
    write_image(tmp_path / "fine.tif", resize(HE, (128, 128)), mpp=0.25)
    command = ["stain", tmp_path / "fine.tif", "--stainer", "normalize", "-o", tmp_path / name]
    status, _, err = run(capsys, *command)
    assert (status, err) == (0, "")
    with open_slide(tmp_path / name) as slide:
        assert (slide.mpp, slide.mpp_from) == (pytest.approx(0.5), "file")


@pytest.mark.parametrize(("command", "option"), MPP_OPTIONS)
@pytest.mark.parametrize("mpp", ["0", "-0.5", "nan", "1000"])
def test_sizes_that_no_command_takes(
    command: str,
    option: str,
    mpp: str,
    capsys: pytest.CaptureFixture[str],
    files: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    needed = {
        "stylize": files,
        "register": files,
        "label": files,
        "study": (),
        "evaluate": files[:1],
        "train": ("--paired", tmp_path) if option == "--mpp" else ("--style", files[1]),
    }.get(command, files[:1])
    out = [] if command == "info" else ["-o", tmp_path / "o.safetensors"]
    error = refused(capsys, command, *needed, *out, option, mpp)
    assert error.startswith(f"Error: Expected `{option[2:].replace('-', '_')}` to be from 0.05 to 20 um/px")
    assert not (tmp_path / "o.safetensors").exists()


def test_every_command_with_pixels_has_such_an_option() -> None:
    assert {name for name, _ in MPP_OPTIONS} == {
        *("info", "stain", "stylize", "train", "evaluate", "unmix", "study", "nuclei", "register", "label"),
    }
