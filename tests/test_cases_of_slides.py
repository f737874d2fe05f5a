"""Slides belong to one case by their names, whatever stains these name."""

import pytest

from chromogen.app.view.slide_catalog import case_of, marker_of


@pytest.mark.parametrize(
    ("names", "case"),
    [
        (["345_HE.svs", "345_her2.ndpi", "345 H&E.tif", "345-virtual-nuclear.ome.tif", "ihc/345.svs"], "345"),
        (["a/he.jpg", "a/Ki67.jpg", "a/PR.png"], "a"),
        (["HE_12.png", "Ki67_12.png"], "12"),
        (["b/ER_he.png", "b/ER_ihc.png"], "b/ER"),
    ],
)
def test_stains_in_names_do_not_part_a_case(names: list[str], case: str) -> None:
    assert {case_of(name) for name in names} == {case}


@pytest.mark.parametrize("name", ["cherry.svs", "person 1.tif", "1.svs", "he.svs", "HER2.tif", ".he.png"])
def test_words_that_are_none_stay(name: str) -> None:
    assert case_of(name)
    assert case_of(name) == name.rpartition(".")[0]


@pytest.mark.parametrize(
    ("name", "marker"),
    [
        ("345_Ki67.svs", "Ki67"),
        ("ki-67/345.tif", "ki-67"),
        ("mist/ER_ihc.png", "ER"),
        ("case 12 PD-L1.ome.tif", "PD-L1"),
        ("CD31_he.jpg", "CD31"),
        ("345_HE.svs", ""),
        ("cherry/person.svs", ""),
        ("", ""),
    ],
)
def test_a_marker_is_named_as_written(name: str, marker: str) -> None:
    assert marker_of(name or "x") == marker
