"""Pairs that are read by a registration: an IHC that lies elsewhere comes to its H&E."""

from pathlib import Path

import numpy as np
import pytest
from shapely.geometry import box

from chromogen.evaluation.fields import Pair
from chromogen.image import write_image
from chromogen.registration.transform import Piece, SlideFrame, Transform, write_transform
from chromogen.slides.slide import open_slide
from chromogen.stains.deconvolution import H_DAB
from chromogen.training.pairs import REFUSED, Registration, read_pairs
from synthetic import drawn

TURNED = np.array([[0.0, -1.0, 64.0], [1.0, 0.0, 0.0]])  # a quarter turn of 128 px at 0.5 um


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A pair whose IHC is a quarter turn away, with more glass below, and its registration."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    he, ihc = drawn(128, 1), drawn(128, 1, 0.9, H_DAB)
    padded = np.concatenate([np.rot90(ihc, -1), np.full((40, 128, 3), 255, np.uint8)])
    for name, image in (("a_he", he), ("a_ihc", padded)):
        write_image(folder / f"{name}.png", image, mpp=0.5)
    frames = []
    for name in ("a_he", "a_ihc"):
        with open_slide(folder / f"{name}.png") as slide:
            frames.append(SlideFrame(slide.size, 0.5, "file", slide.quickhash))
    write_transform(tmp_path / "a.json", Transform(frames[0], frames[1], (Piece(box(0, 0, 64, 64), TURNED),)))
    return folder


@pytest.mark.parametrize("named", ["a.json", "."])
def test_the_ihc_comes_to_its_h_and_e(pairs: Path, named: str) -> None:
    found = read_pairs(pairs, registration=Registration(pairs.parent / named))
    np.testing.assert_array_equal(found.kept[0].pair.ihc, drawn(128, 1, 0.9, H_DAB))
    assert found.rows[0]["displacement_px"] < 2


def test_without_it_sizes_differ(pairs: Path) -> None:
    with pytest.raises(ValueError, match="two pictures of one size"):
        read_pairs(pairs)


def test_another_h_and_e_is_refused(pairs: Path) -> None:
    write_image(pairs / "a_he.png", drawn(128, 2), mpp=0.5)
    with pytest.raises(ValueError, match="Expected `he` to be the slide that the transform was made of"):
        read_pairs(pairs, registration=Registration(pairs.parent / "a.json"))


def test_a_pair_that_registration_refuses_is_named(tmp_path: Path) -> None:
    """Here a blank IHC."""
    for name, image in (("a_he", drawn(96, 1)), ("a_ihc", np.full((96, 96, 3), 255, np.uint8))):
        write_image(tmp_path / f"{name}.png", image, mpp=0.5)
    with pytest.raises(ValueError, match="Expected `pairs` to be at least one H&E with an IHC .*, got a: .*blank"):
        read_pairs(tmp_path, registration=Registration())


def test_what_is_refused_is_left_out_beside_what_fits(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role, seed in (("he", 3), ("ihc", 4)):
        write_image(pairs / f"b_{role}.png", drawn(96, seed, 0.9, H_DAB), mpp=0.5)
    good = Registration(pairs.parent / "a.json")

    def of(_self: Registration, pair: Pair, mpp: float | None) -> Transform:
        if pair.name == "b":
            raise ValueError("Expected `he and ihc` to be two sections of the same tissue.")
        return as_found(good, pair, mpp)

    as_found = Registration.of
    monkeypatch.setattr(Registration, "of", of)
    found = read_pairs(pairs, registration=Registration())
    assert [row["left_out"] for row in found.rows] == [None, REFUSED]
    assert any(said.startswith("b: Expected `he and ihc`") for said in found.warnings)
