"""Looks of reference IHCs in files: once for the same pixels, of whole slides, and better of several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chromogen.image import Image, write_image
from chromogen.slides.slide import read_picture
from chromogen.staining.exemplar import (
    Exemplar,
    ReferenceTissue,
    joined_exemplars,
    measure_exemplar,
    reference_tissue,
)
from chromogen.staining.stainer import builtin_ihc, load_look
from chromogen.staining.tissue import MPP
from chromogen.stains.deconvolution import CHROMOGENS, angle_deg
from chromogen.whole_slide import measured_looks, survey
from chromogen.whole_slide.measured_looks import measure_look, read_references, stain_of
from synthetic import restained
from synthetic_slides import write_pyramid

GLAND = builtin_ihc()[128:384, :256]  # with stroma beside it


@pytest.fixture
def ihc(tmp_path: Path) -> Path:
    write_image(tmp_path / "ck.png", GLAND, mpp=MPP)
    return tmp_path / "ck.png"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what was measured, call by call."""
    calls: list[tuple[int, ...]] = []

    def counted(picture: Image, *rest: object) -> ReferenceTissue:
        calls.append(picture.shape)
        return reference_tissue(picture, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(measured_looks, "reference_tissue", counted)
    return calls


def test_a_file_is_measured_as_its_pixels_are(ihc: Path) -> None:
    look = measure_look(ihc, site="cytoplasm")
    wanted = measure_exemplar(GLAND, "cytoplasm")
    assert replace(look.exemplar, matrix=wanted.matrix) == wanted
    # Sums of an array may differ in the last digit by where it lies in memory.
    np.testing.assert_allclose(look.exemplar.matrix, wanted.matrix, rtol=1e-12)
    assert (look.name, look.target_stain, look.source, look.doubts) == ("ck", "DAB in cytoplasm", "ck.png", ())
    named = measure_look([ihc], site="cytoplasm", name="CK", source="our lab", licence="CC0")
    assert (named.name, named.source, named.licence) == ("CK", "our lab", "CC0")
    assert named.sha256 == look.sha256


def test_the_same_pixels_are_measured_once(ihc: Path, tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    first = measure_look(ihc)
    other = tmp_path / "renamed.png"
    ihc.rename(other)
    again = measure_look(other)
    assert measured == [(256, 256, 3)]
    assert (again.exemplar, again.name) == (first.exemplar, "renamed")
    measure_look(other, site="nuclear")
    measure_look(other, region=(0, 0, 200, 256))
    assert measured == [(256, 256, 3)] * 2 + [(256, 200, 3)]


def test_doubts_are_kept_too_and_name_the_file(tmp_path: Path, measured: list[tuple[int, ...]]) -> None:
    write_image(tmp_path / "small.png", GLAND[72:136, 100:164], mpp=MPP)
    first, again = (measure_look(tmp_path / "small.png").doubts for _ in range(2))
    assert first == again
    assert first[0].startswith("small.png shows only")
    assert len(measured) == 1


@pytest.mark.parametrize("content", ["", "{}", '{"format": "chromogen look 1"}'])
def test_a_damaged_cache_is_measured_anew(ihc: Path, look_cache: Path, content: str) -> None:
    first = measure_look(ihc)
    (kept,) = look_cache.iterdir()
    kept.write_text(content)
    assert measure_look(ihc) == first


def test_a_cache_that_cannot_be_written_is_done_without(ihc: Path, look_cache: Path) -> None:
    look_cache.write_text("a file where the folder would be")
    assert measure_look(ihc).exemplar.site == "cytoplasm"


def test_a_whole_slide_is_measured_on_fields_of_its_tissue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[tuple[int, ...]]
) -> None:
    """Fields of 128 px of a slide that would be too much; share and colours are those of all its tissue."""
    for name, value in {"WHOLE_PX": 512, "FIELD_PX": 128, "FIELDS": 8}.items():
        monkeypatch.setattr(survey, name, value)
    picture = np.full((1024, 2048, 3), 235, np.uint8)
    picture[256:768, 256:1280] = np.tile(builtin_ihc(), (1, 2, 1))
    slide = write_pyramid(tmp_path / "slide.tif", picture, (4,))
    look = measure_look(slide, mpp=MPP, site="cytoplasm")
    assert measured[0][1] == 128
    assert 512 <= measured[0][0] <= 8 * 128
    known = load_look("epithelial").exemplar
    np.testing.assert_allclose(look.exemplar.white, known.white, atol=3)
    assert angle_deg(np.array(look.exemplar.matrix[1]), np.array(known.matrix[1])) < 4
    assert look.exemplar.share == pytest.approx(known.share, abs=0.2)
    part = measure_look(slide, mpp=MPP, site="cytoplasm", region=(256, 256, 512, 512))
    assert measured[1] == (512, 512, 3)
    assert part.exemplar.share == pytest.approx(known.share, abs=0.02)


def test_what_cannot_be_is_refused(ihc: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="existing IHC"):
        measure_look(tmp_path / "none.png")
    with pytest.raises(ValueError, match="inside the 256 x 256 px of ck.png"):
        measure_look(ihc, region=(500, 0, 100, 100))
    with pytest.raises(ValueError, match="given with one IHC"):
        measure_look([ihc, ihc], region=(0, 0, 100, 100))
    write_image(tmp_path / "glass.png", np.full((300, 300, 3), 240, np.uint8), mpp=MPP)
    with pytest.raises(ValueError, match="glass.png: Expected `style`"):
        measure_look([ihc, tmp_path / "glass.png"])


@pytest.mark.parametrize("color", [(40, 90, 60), (30, 30, 32), (30, 50, 140)], ids=["green", "black", "blue"])
def test_ink_is_no_exemplar(tmp_path: Path, color: tuple[int, int, int]) -> None:
    picture = np.full((300, 300, 3), 240, np.uint8)
    picture[100:160] = color
    write_image(tmp_path / "ink.png", picture, mpp=MPP)
    with pytest.raises(ValueError, match="an IHC with stained and unstained tissue"):
        measure_look(tmp_path / "ink.png")


def test_files_that_state_no_pixel_size_are_known(ihc: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "unknown.png", GLAND)
    references = read_references([ihc, tmp_path / "unknown.png"])
    assert [reference.assumed for reference in references] == [False, True]
    (finer,) = read_references([tmp_path / "unknown.png"], 0.25)
    assert finer.picture.shape == (128, 128, 3)


@pytest.mark.parametrize("name", ["AEC", "PAS", "Alcian blue"])
def test_a_stain_has_the_name_of_its_chromogen(tmp_path: Path, name: str) -> None:
    write_image(tmp_path / "a.png", restained(builtin_ihc(), CHROMOGENS[name]), mpp=MPP)
    look = measure_look(tmp_path / "a.png")
    assert look.target_stain == f"{name} in cytoplasm"
    assert look.exemplar.share == pytest.approx(load_look("epithelial").exemplar.share, abs=0.02)


def distance(a: Exemplar, b: Exemplar) -> float:
    """Wasserstein distance between the second stain of stained nuclei, and of unstained ones."""
    kinds = ("stained_od10", "unstained_od10")
    return float(sum(np.abs(np.subtract(getattr(a, kind), getattr(b, kind))).mean() for kind in kinds))


@pytest.mark.slow
def test_several_exemplars_come_nearer_to_another_field_than_one(data: Path) -> None:
    """Quarters of a real Ki67: three of them foretell the fourth better than one does, in the mean."""
    ihc = read_picture(data / "exemplars" / "OS-2-ndpi.ome.tif", at_mpp=MPP).pixels
    quarters = [measure_exemplar(ihc[y : y + 500, x : x + 500], "nuclear") for y in (0, 500) for x in (0, 500)]
    one, three = [], []
    for index, held_out in enumerate(quarters):
        others = quarters[:index] + quarters[index + 1 :]
        one += [distance(other, held_out) for other in others]
        three.append(distance(joined_exemplars(others), held_out))
    assert np.mean(three) < 0.9 * np.mean(one)
    assert stain_of(joined_exemplars(quarters)) == "DAB in nuclei"


def test_the_mean_of_stain_vectors_is_of_length_1() -> None:
    one = load_look("epithelial").exemplar
    other = measure_exemplar(restained(GLAND, CHROMOGENS["AEC"]))
    matrix = np.array(joined_exemplars([one, other]).matrix)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1)
    np.testing.assert_allclose(matrix[2] @ matrix[:2].T, 0, atol=1e-9)
