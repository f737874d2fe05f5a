"""The front door from Python: arrays and files in, arrays and files out."""

from pathlib import Path

import numpy as np
import pytest

import chromogen
from chromogen.image import read_image, read_provenance, write_image
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import stain_image
from chromogen.stains.deconvolution import H_DAB, combine_stains
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS
from synthetic import drawn, drawn_pair, tissue_like
from synthetic_slides import SyntheticSource, write_pyramid

TISSUE = tissue_like(90, 120, seed=2)


def test_an_array_keeps_its_size_at_any_pixel_size() -> None:
    stained = chromogen.stain(TISSUE, stainer="normalize", mpp=0.5)
    assert np.array_equal(stained, stain_image(chromogen.Stainer.from_pretrained("normalize"), TISSUE))
    finer = chromogen.stain(np.kron(TISSUE, np.ones((2, 2, 1), np.uint8)), stainer="normalize", mpp=0.25)
    assert finer.shape == (180, 240, 3)
    assert np.abs(finer[::2, ::2].astype(int) - stained).mean() < 12


def test_a_file_without_out_gives_the_picture(tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", TISSUE, mpp=0.5)
    assert np.array_equal(chromogen.stain(tmp_path / "he.png", stainer="identity"), TISSUE)


def test_a_tile_is_written_with_its_facts_and_shows_itself(tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", TISSUE, mpp=0.5)
    made = chromogen.stain(tmp_path / "he.png", tmp_path / "out.png", stainer="normalize")
    assert made.path == tmp_path / "out.png"
    assert made.facts["stainer"] == "normalize"
    assert (read_provenance(made.path) or {})["stainer"] == "normalize"
    assert made._repr_png_().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:The slide")
def test_a_slide_is_written_as_the_command_writes_it(tmp_path: Path) -> None:
    tissue = SyntheticSource((600, 400)).read(0, (0, 0), (600, 400))
    slide = write_pyramid(tmp_path / "slide.tif", tissue, (4,))
    made = chromogen.stain(slide, tmp_path / "out.ome.tif", stainer="identity", mpp=0.5)
    with open_slide(made.path) as written:
        assert written.size == (600, 400)
        assert written.mpp == pytest.approx(0.5)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`out` to be left out for an array"):
        chromogen.stain(TISSUE, tmp_path / "out.png")
    with pytest.raises(ValueError, match="did you mean epithelial"):
        chromogen.stain(TISSUE, stainer="epithelail")
    with pytest.raises(ValueError, match="`mpp` to be from"):
        chromogen.stain(TISSUE, stainer="identity", mpp=500)
    with pytest.raises(FileNotFoundError):
        chromogen.stain(tmp_path / "none.png")


def test_stainers_are_listed_and_loaded() -> None:
    names = chromogen.list_stainers()
    assert {"epithelial", "nuclear", "normalize"} <= {*names}
    assert [chromogen.Stainer.from_pretrained(name).name for name in names] == list(names)


@pytest.mark.filterwarnings("ignore:The style")
def test_stylize_takes_a_preset_settings_or_a_recipe_and_files(tmp_path: Path) -> None:
    he, ihc = drawn_pair(96)
    settings = ["steps=2", "scales=1", "style.layers=relu1_1"]
    made = chromogen.stylize(he, ihc, "fast", settings=settings)
    assert (made.image.shape, len(made.trace)) == (he.shape, 2)
    assert made._repr_png_().startswith(b"\x89PNG")
    for path, image in (("he.png", he), ("ihc.png", ihc)):
        write_image(tmp_path / path, image, mpp=0.5)
    again = chromogen.stylize(tmp_path / "he.png", tmp_path / "ihc.png", "fast", settings=settings)
    assert np.array_equal(again.image, made.image)
    coarse = read_image(tmp_path / "ihc.png")[::2, ::2]
    write_image(tmp_path / "coarse.png", np.ascontiguousarray(coarse), mpp=1.0)
    other = chromogen.stylize(tmp_path / "he.png", tmp_path / "coarse.png", "fast", settings=settings)
    assert other.image.shape == he.shape
    with pytest.raises(ValueError, match="did you mean fast"):
        chromogen.stylize(he, ihc, "fats")
    assert PRESETS["fast"].space == "rgb"


def test_sample_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tissue = SyntheticSource((900, 700)).read(0, (0, 0), (900, 700))
    slide = write_pyramid(tmp_path / "slide.tif", tissue, (4,))
    monkeypatch.setattr("chromogen.data.demo_slide", lambda: slide)
    assert chromogen.data.slide() == slide
    assert chromogen.data.he(256).shape == (256, 256, 3)
    assert chromogen.data.ihc().shape == (512, 512, 3)


def test_arrays_are_registered_as_files_are(tmp_path: Path) -> None:
    he, ihc = drawn_pair(256)
    found = chromogen.register(he, np.ascontiguousarray(ihc[:, ::-1]), he_mpp=0.5, ihc_mpp=0.5)
    for name, image in (("he", he), ("ihc", np.ascontiguousarray(ihc[:, ::-1]))):
        write_image(tmp_path / f"{name}.png", image, mpp=0.5)
    by_file = chromogen.register(tmp_path / "he.png", tmp_path / "ihc.png")
    np.testing.assert_array_equal(found.pieces[0].affine, by_file.pieces[0].affine)


def test_an_array_is_a_slide() -> None:
    with chromogen.open_slide(TISSUE, mpp=0.5) as slide:
        assert (slide.size, slide.mpp) == ((120, 90), 0.5)
        np.testing.assert_array_equal(slide.read_region((10, 20), (30, 40)), TISSUE[20:60, 10:40])
    with pytest.raises(ValueError, match=r"an array uint8 \(H, W, 3\)"):
        chromogen.open_slide(TISSUE / 255)


def test_stains_are_taken_apart(tmp_path: Path) -> None:
    amounts = np.zeros((64, 96, 3))
    amounts[8:24, :, 0], amounts[40:56, :, 1] = 1.0, 1.5
    image = combine_stains(amounts)
    write_image(tmp_path / "ihc.png", image, mpp=0.5)
    found = chromogen.unmix(image, mpp=0.5)
    assert np.abs(found.od10 * np.log(10) - amounts).max() < 0.05
    np.testing.assert_array_equal(chromogen.unmix(tmp_path / "ihc.png").od10, found.od10)
    assert found._repr_png_().startswith(b"\x89PNG")
    assert np.abs(found.alone(1)[45, 5].astype(int) - image[45, 5]).max() <= 2
    with pytest.raises(ValueError, match="did you mean h-dab"):
        chromogen.unmix(image, "h-dba")


def test_nuclei_are_found_in_arrays_and_files_and_drawn(tmp_path: Path) -> None:
    he = drawn_pair(128)[0]
    write_image(tmp_path / "he.png", he, mpp=0.5)
    found = chromogen.find_nuclei(he)
    np.testing.assert_array_equal(found.centres_px, chromogen.find_nuclei(tmp_path / "he.png").centres_px)
    assert found._repr_html_().count("<polygon") == len(found) > 5


@pytest.mark.filterwarnings("ignore")
def test_arrays_are_scored_as_files_are(tmp_path: Path, encoder: Encoder) -> None:
    he, ihc = drawn_pair(128)
    for name, image in (("he", he), ("ihc", ihc)):
        write_image(tmp_path / f"{name}.png", image, mpp=0.5)
    found = chromogen.evaluate(ihc, he, ihc, mpp=0.5, encoder=encoder)
    paths = tmp_path / "ihc.png", tmp_path / "he.png", tmp_path / "ihc.png"
    assert found.summary == chromogen.evaluate_files(*paths, encoder=encoder).summary
    table = found._repr_html_()
    assert table.count("<tr>") > 10
    assert "color_transfer" in table


@pytest.mark.filterwarnings("ignore:The style")
def test_a_look_is_learnt_from_an_array_or_files_and_saved(tmp_path: Path) -> None:
    ihc = chromogen.data.ihc()
    write_image(tmp_path / "ihc.png", ihc, mpp=0.5)
    learnt = chromogen.train(ihc, name="colon")
    assert learnt.look.exemplar == chromogen.train(tmp_path / "ihc.png").look.exemplar
    file = learnt.save(tmp_path / "colon.json")
    he = chromogen.read_image(tmp_path / "ihc.png")[:96, :96]
    assert chromogen.Stainer.from_pretrained(file).name == "colon"
    assert chromogen.stain(he, stainer=file, mpp=0.5).shape == he.shape
    assert "colon" in learnt._repr_html_()
    for given in ({}, {"style": ihc, "pairs": tmp_path}):
        with pytest.raises(ValueError, match="Expected `style` to be given, or `pairs`"):
            chromogen.train(**given)


def test_a_model_is_learnt_from_pairs_and_saved(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    for number in range(2):
        for role, image in (("he", drawn(128, number)), ("ihc", drawn(128, number, 0.9, H_DAB))):
            write_image(tmp_path / "pairs" / f"{number}_{role}.png", image, mpp=0.5)
    learnt = chromogen.train(pairs=tmp_path / "pairs", training=chromogen.Training(steps=2, batch=1))
    file = learnt.save(tmp_path / "marker.safetensors")
    stainer = chromogen.Stainer.from_pretrained(file)
    assert (stainer.where or {})["source"] == "paired"
    assert "taught by" in learnt._repr_html_()
