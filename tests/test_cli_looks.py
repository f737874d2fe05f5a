"""`chromogen stain` by measured looks, from the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from chromogen.image import read_image, write_image
from chromogen.slides.facts import read_facts
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import builtin_ihc, load_look
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from synthetic import tissue_like
from synthetic_slides import write_pyramid
from test_cli import refused, run

pytestmark = pytest.mark.filterwarnings(
    "always:.*(looks like|shows hardly|is black|pixel|preview shows):UserWarning"
)


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    picture = np.full((160, 300, 3), 243, np.uint8)
    picture[:, :200] = tissue_like(160, 200, seed=2)
    write_image(tmp_path / "tile.png", picture, mpp=0.5)
    return tmp_path / "tile.png"


@pytest.fixture
def ihc(tmp_path: Path) -> Path:
    write_image(tmp_path / "ihc.png", builtin_ihc(), mpp=0.5)
    return tmp_path / "ihc.png"


def test_a_reference_ihc_gives_its_look(
    capsys: pytest.CaptureFixture[str], tile: Path, ihc: Path, tmp_path: Path
) -> None:
    status, said, err = run(capsys, "stain", tile, "--style", ihc, "-o", tmp_path / "out.png", "--json")
    assert status == 0, err
    facts = json.loads(said)
    assert facts["stainer"] == "ihc"
    assert facts["target_stain"] == "DAB in cytoplasm"
    made = read_image(tmp_path / "out.png")
    assert made.shape == (160, 300, 3)
    glass = made[:, 250:].reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(glass, load_look("epithelial").exemplar.white, atol=3)


def test_the_glass_of_a_slide_is_the_looks_everywhere(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also where a block is not painted at all, since nothing of it is tissue."""
    picture = np.full((600, 2400, 3), 243, np.uint8)
    picture[100:400, 100:500] = tissue_like(300, 400, seed=3)
    slide = write_pyramid(tmp_path / "slide.tif", picture, (4,))
    out = tmp_path / "out.ome.tif"
    options = ("--stainer", "nuclear", "--mpp", "0.5", "--compression", "deflate")
    status, _, err = run(capsys, "stain", slide, "-o", out, *options)
    assert status == 0, err
    facts, white = read_facts(out), load_look("nuclear").exemplar.white
    assert facts is not None
    np.testing.assert_allclose(facts.white or (), white, atol=0.5)
    with open_slide(out) as made:
        pixels = made.read_region((0, 0), made.size)
    np.testing.assert_allclose(pixels[:, 2000:].reshape(-1, 3).mean(0), white, atol=0.6)
    np.testing.assert_allclose(pixels[450:, 700:1000].reshape(-1, 3).mean(0), white, atol=1.5)


def test_share_and_seed_are_dials(capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path) -> None:
    made = {}
    for name, options in {
        "none": ("--share", "0"),
        "all": ("--share", "1"),
        "seed": ("--share", "1", "--seed", "7"),
    }.items():
        out = tmp_path / f"{name}.png"
        assert run(capsys, "stain", tile, "--stainer", "nuclear", "--fill", *options, "-o", out)[0] == 0
        made[name] = separate_stains_od10(read_image(out), H_DAB)[..., 1]
    assert made["all"].mean() > made["none"].mean() + 0.008
    assert not np.array_equal(made["all"], made["seed"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--share", "1.5"), "share"),
        (("--share", "0.5"), "epithelial stains cytoplasm, not nuclei"),
        (("--blend", "3"), "Expected `blend` to be given with a generator"),
        (("--site", "nuclear"), "Expected `site` to be given with --style"),
        (("--stainer", "identity", "--share", "0.2"), "Expected `share` to be given with a look"),
        (("--stainer", "identity", "--intensity", "2"), "Expected `intensity` to be given with a look"),
        (("--intensity", "5"), "Expected `intensity` to be 0 to 4 times the exemplar's, got 5"),
        (("--counterstain", "-1"), "Expected `counterstain` to be 0 to 4 times the exemplar's, got -1"),
        (("--style-mpp", "0.5"), "Expected `style-mpp` to be given with --style"),
        (("--style-region", "0,0,9,9"), "Expected `style-region` to be given with --style"),
        (("--style", "none.png"), "an existing IHC"),
        (("--stainer", "none.json"), "none.json"),
        (("--stainer", "epitelial"), "did you mean epithelial"),
    ],
)
def test_what_does_not_go_together_is_refused(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, "stain", tile, "-o", tmp_path / "out.png", *options)
    assert not (tmp_path / "out.png").exists()


def test_an_exemplar_without_dab_is_refused(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "blank.png", np.full((300, 300, 3), 240, np.uint8), mpp=0.5)
    status, _, err = run(capsys, "stain", tile, "--style", tmp_path / "blank.png", "-o", tmp_path / "out.png")
    assert status == 2
    assert "an IHC with stained and unstained" in err


def test_an_exemplar_that_looks_like_an_h_e_is_doubted(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    _, _, err = run(capsys, "stain", tile, "--style", tile, "--site", "cytoplasm", "-o", out)
    assert "Warning: tile.png looks like an H&E" in err


def test_a_look_has_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run(capsys, "info", "nuclear")
    assert status == 0
    assert "OpenSlide" in said
    assert "CC0" in said
    card = json.loads(run(capsys, "info", "epithelial", "--json")[1])["results"][0]
    assert card["site"] == "cytoplasm"
    assert "not for diagnosis" in card["notice"]


@pytest.fixture
def small_ihc(tmp_path: Path) -> Path:
    write_image(tmp_path / "ck.png", builtin_ihc()[128:384, :256], mpp=0.5)
    return tmp_path / "ck.png"


def test_train_with_ihc_alone_makes_a_look(
    capsys: pytest.CaptureFixture[str], small_ihc: Path, tile: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ours.json"
    options = ("--name", "CK, ours", "--source", "our lab", "--licence", "CC0", "--preview", tile, "--json")
    status, said, err = run(capsys, "train", "--style", small_ihc, "-o", out, *options)
    assert status == 0, err
    facts = json.loads(said)
    assert (facts["target_stain"], facts["site"], facts["exemplars"]) == ("DAB in cytoplasm", "cytoplasm", 1)
    assert facts["chromogen"]["nearest"] == "DAB"
    assert facts["stained_od10"] == sorted(facts["stained_od10"])
    look = load_look(out)
    assert (look.name, look.source, look.licence) == ("CK, ours", "our lab", "CC0")
    assert look.exemplar == load_look(out).exemplar
    assert facts["sha256"] == look.sha256
    preview = read_image(tmp_path / "ours.preview.png")
    assert preview.shape == (256, 256 + 8 + 160 + 8 + 160, 3)  # exemplar, H&E as high as the tile, stained
    np.testing.assert_array_equal(preview[:, :256], builtin_ihc()[128:384, :256])
    assert (preview[100, 256:264] == 255).all()
    assert run(capsys, "stain", tile, "--stainer", out, "-o", tmp_path / "stained.png")[0] == 0


def test_what_train_and_info_say_of_a_look(
    capsys: pytest.CaptureFixture[str], small_ihc: Path, tile: Path, tmp_path: Path
) -> None:
    out = tmp_path / "ours.json"
    said = run(capsys, "train", "--style", small_ihc, "--style", small_ihc, "-o", out, "--preview", tile)[1]
    for words in (f"{out}: look of 2 IHC", "ours.preview.png shows it", f"chromogen stain SLIDE --stainer {out}"):
        assert words in said
    card = run(capsys, "info", out)[1]
    for words in ("name       ours", "DAB in cytoplasm", "degrees from DAB", "% of its tissue, "):
        assert words in said
        assert words in card


def test_the_preview_does_without_a_demo_slide(
    capsys: pytest.CaptureFixture[str], small_ihc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chromogen.app import looks

    def offline() -> Path:
        raise looks.DemoSlideError("No demo slide.")

    monkeypatch.setattr(looks, "demo_slide", offline)
    status, _, err = run(capsys, "train", "--style", small_ihc, "-o", tmp_path / "ours.json")
    assert status == 0
    assert "Warning: The preview shows the exemplar alone. No demo slide." in err
    assert read_image(tmp_path / "ours.preview.png").shape == (256, 256, 3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-o", "m.safetensors"), "a look's file ending in .json, as no pairs are given"),
        (("-o", "m.json", "--steps", "3"), "Expected `steps` to be given with pairs"),
        (("-o", "m.json", "--restart"), "Expected `restart` to be given with pairs"),
        (("-o", "m.json", "--style", "no.png"), "Expected `style` to be an existing IHC"),
        (("-o", "m.json", "--style-region", "1,2"), "Expected `style-region` to be X,Y,W,H"),
        (("-o", "m.json", "--preview", "none.png"), "Expected `preview` to be an existing H&E"),
        (("-o", "ck.json", "--preview", "ck.png"), None),
        (("-o", "m.json", "--site", "nucleus"), "did you mean nuclear"),
        (("-o", "m.json", "--paired", "."), "Expected `style` to be given, or pairs, got both"),
    ],
)
def test_what_does_not_go_with_a_look_is_refused(
    capsys: pytest.CaptureFixture[str],
    small_ihc: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    said: str | None,
) -> None:
    monkeypatch.chdir(small_ihc.parent)
    if said is not None:
        assert said in refused(capsys, "train", "--style", "ck.png", *options)
    else:
        assert run(capsys, "train", "--style", "ck.png", *options)[0] == 0


def test_strengths_are_dials(capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path) -> None:
    made = {}
    for name, options in {"usual": (), "pale": ("--intensity", "0"), "white": ("--counterstain", "0")}.items():
        out = tmp_path / f"{name}.png"
        status, _, err = run(capsys, "stain", tile, "--share", "1", "--stainer", "nuclear", *options, "-o", out)
        assert status == 0, err
        made[name] = separate_stains_od10(read_image(out), H_DAB)[:, :200].mean(axis=(0, 1))
    assert made["pale"][1] < made["usual"][1] - 0.02
    assert made["white"][0] < made["usual"][0] - 0.02


def test_an_exemplar_of_unknown_pixel_size_is_noted(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    write_image(tmp_path / "unknown.png", builtin_ihc()[128:384, :256])
    _, _, err = run(capsys, "stain", tile, "--style", tmp_path / "unknown.png", "-o", tmp_path / "out.png")
    assert "Note: 1 reference IHC states no pixel size; Chromogen took 0.5 um/px (set it with --style-mpp)." in err


def test_the_second_stain_command_does_not_measure_again(
    capsys: pytest.CaptureFixture[str],
    tile: Path,
    small_ihc: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from chromogen.whole_slide import measured_looks

    calls: list[int] = []
    measure = measured_looks.reference_tissue
    monkeypatch.setattr(measured_looks, "reference_tissue", lambda *given: calls.append(1) or measure(*given))
    for name in ("a.png", "b.png"):
        assert run(capsys, "stain", tile, "--style", small_ihc, "-o", tmp_path / name)[0] == 0
    assert calls == [1]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


def test_a_reference_ihc_as_the_h_e_is_doubted(
    capsys: pytest.CaptureFixture[str], small_ihc: Path, tmp_path: Path
) -> None:
    _, _, err = run(capsys, "stain", small_ihc, "-o", tmp_path / "out.png")
    assert "Warning: ck.png looks like an IHC" in err
    assert read_image(tmp_path / "out.png").shape == (256, 256, 3)


@pytest.mark.parametrize("color", [None, (40, 90, 60), (30, 30, 32)], ids=["glass", "green ink", "black ink"])
def test_a_slide_without_tissue_becomes_glass(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, color: tuple[int, int, int] | None
) -> None:
    """Ink is no tissue: it is left out, as glass is, and the command says that it saw hardly any tissue."""
    picture = np.full((600, 800, 3), 243, np.uint8)
    if color:
        picture[250:380] = color
    slide = write_pyramid(tmp_path / "slide.tif", picture, (4,))
    out = tmp_path / "out.ome.tif"
    status, said, err = run(capsys, "stain", slide, "--mpp", "0.5", "-o", out, "--json")
    assert status == 0, err
    assert json.loads(said)["tissue_fraction"] < 0.01
    assert "shows hardly any tissue" in err
    with open_slide(out) as made:
        pixels = made.read_region((0, 0), made.size)
    np.testing.assert_allclose(pixels.reshape(-1, 3).mean(0), load_look("epithelial").exemplar.white, atol=2)


def test_confidence_and_fill(capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path) -> None:
    out, sure = tmp_path / "out.png", tmp_path / "sure.png"
    status, said, err = run(capsys, "stain", tile, "-o", out, "--confidence", sure, "--json")
    assert status == 0, err
    assert 0 <= json.loads(said)["unlike_fraction"] <= 1
    colors = read_image(sure)
    assert colors.shape == (10, 19, 3)
    assert (colors[:, 16:] == 255).all()  # glass
    assert (colors[:, :11] < 255).any(axis=2).all()
    status, said, _ = run(capsys, "stain", tile, "-o", tmp_path / "filled.png", "--fill")
    assert status == 0
    assert "only counterstained" not in said


def test_tissue_that_is_left_out_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A tile that is half ink."""
    picture = tissue_like(300, 600, seed=2)
    picture[:, 300:] = (20, 60, 120)
    write_image(tmp_path / "inked.png", picture, mpp=0.5)
    for options, became in (
        ((), "it is only counterstained; --fill stains it"),
        (("--fill",), "--fill stained it"),
    ):
        status, said, err = run(capsys, "stain", tmp_path / "inked.png", "-o", tmp_path / "out.png", *options)
        assert status == 0, err
        assert f"of the tissue is unlike any in the reference IHC: {became}" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--confidence", "sure.txt"), "Expected `confidence` to be a file ending in"),
        (("--stainer", "identity", "--confidence", "sure.png"), "Expected `confidence` to be given with a look"),
        (("--stainer", "identity", "--fill"), "Expected `fill` to be given with a look"),
    ],
)
def test_confidence_and_fill_go_with_looks(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    assert message in refused(capsys, "stain", tile, "-o", tmp_path / "out.png", *options)


def test_a_map_goes_with_one_input_and_overwrites_none(
    capsys: pytest.CaptureFixture[str], tile: Path, tmp_path: Path
) -> None:
    said = refused(capsys, "stain", tile, "-o", tmp_path / "out.png", "--confidence", tile)
    assert "tile.png" in said
    other = tmp_path / "other.png"
    other.write_bytes(tile.read_bytes())
    said = refused(capsys, "stain", tile, other, "-o", tmp_path / "made", "--confidence", tmp_path / "sure.png")
    assert "given with one input" in said
