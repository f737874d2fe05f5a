"""Chromogens are known by their vectors, and found beside haematoxylin whatever their colour."""

import numpy as np
import pytest
import skimage.color

from chromogen.staining.stainer import builtin_ihc
from chromogen.stains.deconvolution import (
    CHROMOGENS,
    HEMATOXYLIN,
    UNNAMED,
    angle_deg,
    chromogen_name,
    estimate_chromogen,
    estimate_stains,
    nearest_chromogen,
)
from chromogen.stains.glass import white_level
from synthetic import restained

# What scikit-image has of the same vectors: by chromogen the matrix and its row.
REFERENCE = {
    "DAB": ("rgb_from_hed", 2),
    "AEC": ("rgb_from_hax", 1),
    "Fast Red": ("rgb_from_rbd", 0),
    "Fast Blue": ("rgb_from_rbd", 1),
    "PAS": ("rgb_from_hpx", 1),
    "Alcian blue": ("rgb_from_ahx", 0),
    "methyl blue": ("rgb_from_bpx", 0),
    "ponceau fuchsin": ("rgb_from_bpx", 1),
    "light green": ("rgb_from_fgx", 1),
}


@pytest.mark.parametrize("name", CHROMOGENS)
def test_vectors_are_those_of_scikit_image(name: str) -> None:
    matrix, row = REFERENCE[name]
    expected = getattr(skimage.color, matrix)[row]
    assert angle_deg(np.array(CHROMOGENS[name]), expected) < 0.3


def test_the_nearest_is_named_and_what_is_far_is_not() -> None:
    assert nearest_chromogen(2 * np.array(CHROMOGENS["AEC"])) == ("AEC", pytest.approx(0, abs=1e-5))
    assert chromogen_name(np.array([0.22, 0.48, 0.85])) == "DAB"
    assert chromogen_name(np.array([1.0, 0.0, 1.0])) == UNNAMED


@pytest.mark.parametrize("name", ["DAB", "AEC", "Fast Red", "PAS", "Alcian blue", "methyl blue"])
def test_the_vector_of_any_chromogen_comes_back(name: str) -> None:
    """Of a real IHC whose DAB was exchanged by Beer-Lambert; blue ones are not taken for haematoxylin."""
    ihc = builtin_ihc()
    made = restained(ihc, CHROMOGENS[name])
    hematoxylin = estimate_stains(ihc, white=white_level(ihc, 0.5)).matrix[0]
    found = estimate_chromogen(made, white_level(made, 0.5))
    assert found.why == ""
    assert angle_deg(found.matrix[1], np.array(CHROMOGENS[name])) < 3
    assert angle_deg(found.matrix[0], hematoxylin) < 3
    assert chromogen_name(found.matrix[1]) == name


def test_two_stains_of_one_colour_are_said() -> None:
    made = restained(builtin_ihc(), (0.7, 0.65, 0.33))
    assert estimate_chromogen(made, white_level(made, 0.5)).why == "a single stain"


def test_haematoxylin_stays_haematoxylin_where_there_is_hardly_any_dab() -> None:
    made = restained(builtin_ihc(), (0.58, 0.6, 0.54))
    found = estimate_chromogen(made, white_level(made, 0.5))
    assert angle_deg(found.matrix[0], np.array(HEMATOXYLIN)) < 6
