"""Statistics of styles are measured once per content, and a cache in any state does no harm."""

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chromogen.app import jobs
from chromogen.app.jobs import Styles, Stylist
from chromogen.image import Image, write_image
from chromogen.style import measured_style
from chromogen.style.encoder import Encoder, Weights
from chromogen.style.measured_style import Style, measure_style
from chromogen.style.objective import Term
from chromogen.style.recipes import Recipe, content_term, guided_recipe, style_term, with_term
from synthetic import drawn_pair, tissue_like

RECIPE = Recipe((content_term(), style_term(layers=("relu1_1", "relu2_1"))), scales=(0.5, 1.0), steps=(1, 1))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images were measured to be kept, call by call."""
    calls: list[int] = []

    write = measured_style._write

    def counted(file: Path, style: Style) -> None:
        calls.append(len(style.images))
        write(file, style)

    monkeypatch.setattr(measured_style, "_write", counted)
    return calls


def measure_style_once(*given: Any, **more: Any) -> Style:
    return measure_style(*given, **more, kept_in=jobs.style_cache_folder())


@pytest.fixture
def images() -> list[Image]:
    return [tissue_like(36, 32, seed=1), tissue_like(30, 40, seed=2)]


def assert_same(one: Style, other: Style) -> None:
    assert (one.mix, one.mpp) == (other.mix, other.mpp)
    assert one.floors == other.floors
    assert one.exemplar == other.exemplar
    assert all(np.array_equal(a, b) for a, b in zip(one.images, other.images, strict=True))
    assert one.references.keys() == other.references.keys()
    for scale, references in one.references.items():
        assert references.keys() == other.references[scale].keys()
        for key, reference in references.items():
            assert torch.equal(reference.measured, other.references[scale][key].measured)
            assert torch.equal(reference.energy, other.references[scale][key].energy)


def test_the_second_time_nothing_is_measured(images: list[Image], encoder: Encoder, measured: list[int]) -> None:
    first, second = (measure_style_once(images, RECIPE, encoder, (3, 1)) for _ in range(2))
    assert measured == [2]
    assert_same(first, second)
    assert_same(first, measure_style(images, RECIPE, encoder, (3, 1)))


@pytest.mark.parametrize(
    "other",
    [
        lambda images, recipe: ([images[0], images[1] ^ 1], recipe, (3, 1)),
        lambda images, recipe: (images[::-1], recipe, (3, 1)),
        lambda images, recipe: ([images[0].reshape(32, 36, 3), images[1]], recipe, (3, 1)),
        lambda images, recipe: (images, recipe, (1, 3)),
        lambda images, recipe: (images, replace(recipe, scales=(0.6, 1.0)), (3, 1)),
        lambda images, recipe: (images, replace(recipe, loss_scale="paper"), (3, 1)),
        lambda images, recipe: (images, replace(recipe, stop_at_floor=True), (3, 1)),
        lambda images, recipe: (images, with_term(recipe, "style", layers={"relu1_1": 1.0}), (3, 1)),
        lambda images, recipe: (images, with_term(recipe, "style", statistic="self_similarity"), (3, 1)),
    ],
)
def test_what_decides_the_statistics_decides_the_file(
    other: object, encoder: Encoder, measured: list[int], style_cache: Path
) -> None:
    images = [tissue_like(36, 32, seed=1), tissue_like(36, 32, seed=2)]
    measure_style_once(images, RECIPE, encoder, (3, 1))
    changed, recipe, mix = other(images, RECIPE)  # type: ignore[operator]
    found = measure_style_once(changed, recipe, encoder, mix)
    assert measured == [2, 2]
    assert_same(found, measure_style(changed, recipe, encoder, mix))


OTHER_TERMS = {
    "name": "brown",
    "weight": 5.0,
    "layers": {"relu1_1": 0.9, "relu2_1": 0.1},
    "statistic": "self_similarity",
    "distance": "mae",
    "reference": "content",
    "mask": "tissue",
}
OTHER_RECIPES = {
    "objective": (content_term(), style_term(layers=("relu1_1",))),
    "loss_scale": "paper",
    "space": "stain",
    "init": "noise",
    "scales": (0.75, 1.0),
    "steps": (3, 2),
    "optimizer": "adam",
    "plateau": 0.1,
    "preconditioned_steps": 1,
    "history": 3,
    "seed": 7,
    "stop_at_floor": True,
    "site": "cytoplasm",
    "dab_amount": 2.0,
    "share": 0.3,
}
MEASURED_ANEW = {"objective", "loss_scale", "space", "scales", "stop_at_floor", "site"}
IN_STAIN = {field: {"space": "stain", "optimizer": "adam"} for field in ("site", "dab_amount", "share")}
IN_STAIN["space"] = {"optimizer": "adam"}


def test_every_field_is_tried() -> None:
    """A field that is new belongs here, and into NOT_MEASURED only if statistics do not depend on it."""
    assert OTHER_TERMS.keys() == {field.name for field in fields(Term)}
    assert OTHER_RECIPES.keys() == {field.name for field in fields(Recipe)}


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("field", OTHER_TERMS)
def test_what_is_read_is_what_would_be_measured_whatever_field_of_a_term_changed(
    field: str, floor: bool, encoder: Encoder, measured: list[int]
) -> None:
    """Of two style terms, so that their weights among themselves decide the floor."""
    image = tissue_like(36, 32, seed=1)
    varied, fixed = style_term(layers=("relu1_1", "relu2_1")), style_term(0.5, layers=("relu2_1",))
    recipe = replace(RECIPE, objective=(varied, replace(fixed, name="fixed")), stop_at_floor=floor)
    measure_style_once([image], recipe, encoder)
    changed = replace(recipe, objective=(replace(varied, **{field: OTHER_TERMS[field]}), recipe.objective[1]))
    found = measure_style_once([image], changed, encoder)
    assert_same(found, measure_style([image], changed, encoder))
    assert len(measured) == (1 if field in ("weight", "distance", "layers") and not floor else 2)


@pytest.mark.parametrize("floor", [False, True])
@pytest.mark.parametrize("field", OTHER_RECIPES)
def test_what_is_read_is_what_would_be_measured_whatever_field_of_a_recipe_changed(
    field: str, floor: bool, encoder: Encoder, measured: list[int]
) -> None:
    image = drawn_pair()[1]
    recipe = replace(RECIPE, stop_at_floor=floor and field not in ("loss_scale", "stop_at_floor"))
    recipe = replace(recipe, **IN_STAIN.get(field, {}))
    measure_style_once([image], recipe, encoder)
    changed = replace(recipe, **{field: OTHER_RECIPES[field]})
    assert_same(measure_style_once([image], changed, encoder), measure_style([image], changed, encoder))
    assert len(measured) == (2 if field in MEASURED_ANEW else 1)


def test_floors_follow_the_weights_of_layers_and_the_distance(encoder: Encoder) -> None:
    """Else a scale would end at the floor of another objective."""
    image = tissue_like(36, 32, seed=1)
    recipe = replace(RECIPE, stop_at_floor=True)
    found = [
        measure_style_once([image], with_term(recipe, "style", **changes), encoder).floors[1.0]
        for changes in ({}, {"layers": {"relu1_1": 0.9, "relu2_1": 0.1}}, {"distance": "mae"})
    ]
    assert len({round(floor, 6) for floor in found}) == 3


def test_another_network_or_pooling_measures_anew(
    images: list[Image], encoder: Encoder, weights: Weights, measured: list[int]
) -> None:
    average = Encoder(weights, pooling="average", precision="fp32")
    foreign = Encoder(replace(weights, sha256="0" * 64), precision="fp32")
    for network in (encoder, average, foreign):
        measure_style_once(images, RECIPE, network)
    assert measured == [2, 2, 2]


def test_weights_and_steps_do_not_matter(images: list[Image], encoder: Encoder, measured: list[int]) -> None:
    measure_style_once(images, RECIPE, encoder)
    heavier = with_term(replace(RECIPE, steps=(9, 9), init="color"), "style", weight=7.0)
    measure_style_once(images, heavier, encoder)
    assert measured == [2]


@pytest.mark.parametrize("damage", [b"", b"not tensors", None])
def test_a_damaged_file_is_measured_anew_and_mended(
    damage: bytes | None, images: list[Image], encoder: Encoder, measured: list[int], style_cache: Path
) -> None:
    first = measure_style_once(images, RECIPE, encoder)
    (file,) = style_cache.iterdir()
    file.write_bytes(file.read_bytes()[:-100] if damage is None else damage)
    assert_same(measure_style_once(images, RECIPE, encoder), first)
    assert_same(measure_style_once(images, RECIPE, encoder), first)
    assert measured == [2, 2]


def test_without_a_cache_it_measures_every_time(
    images: list[Image], encoder: Encoder, measured: list[int], style_cache: Path
) -> None:
    style_cache.parent.mkdir(exist_ok=True)
    style_cache.write_text("a file where the folder should be")
    first, second = (measure_style_once(images, RECIPE, encoder) for _ in range(2))
    assert_same(first, second)
    assert measured == [2, 2]


def test_a_cache_that_can_only_be_read_is_used(
    images: list[Image], encoder: Encoder, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path) -> None:
        raise PermissionError

    first = measure_style_once(images, RECIPE, encoder)
    monkeypatch.setattr("chromogen.style.measured_style.os.utime", refuse)
    assert_same(measure_style_once(images, RECIPE, encoder), first)
    assert measured == [2]


def test_only_the_last_used_are_kept(
    images: list[Image], encoder: Encoder, style_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chromogen.style.measured_style.MAX_FILES", 2)
    mixes = [(1, 1), (1, 2), (1, 3)]
    files = []
    for age, mix in zip((300, 200, 0), mixes, strict=True):
        if mix == (1, 3):
            measure_style_once(images, RECIPE, encoder, (1, 1))  # used again, so now the newest
        before = set(style_cache.glob("*"))
        measure_style_once(images, RECIPE, encoder, mix)
        (new,) = set(style_cache.glob("*")) - before
        os.utime(new, (new.stat().st_atime, new.stat().st_mtime - age))
        files.append(new)
    assert [file.exists() for file in files] == [True, False, True]


# --- folders of styles ---


def folder_of(tmp_path: Path, images: list[Image]) -> Path:
    folder = tmp_path / "ihc"
    folder.mkdir()
    for index, image in enumerate(images):
        write_image(folder / f"{index}.png", image)
    return folder


@pytest.mark.filterwarnings("ignore:The style")
def test_a_folder_is_the_mix_of_its_images_and_measured_once(
    tmp_path: Path, images: list[Image], encoder: Encoder, measured: list[int]
) -> None:
    folder = folder_of(tmp_path, images)
    found = [Stylist(Styles((folder,)), RECIPE, encoder).style(None) for _ in range(2)]
    assert measured == [2]
    assert_same(found[1], measure_style(images, RECIPE, encoder))


@pytest.mark.filterwarnings("ignore:The style")
def test_contents_of_other_pixel_sizes_have_the_style_measured_at_theirs(
    tmp_path: Path, images: list[Image], encoder: Encoder, measured: list[int]
) -> None:
    """Also where the style's own pixel size is not known, so that it is not enlarged."""
    recipe = replace(RECIPE, objective=(content_term(), replace(RECIPE.objective[1], mask="tissue")))
    stylist = Stylist(Styles((folder_of(tmp_path, images[:1]),)), recipe, encoder)
    coarse, fine = (stylist.style(mpp) for mpp in (4.0, 0.25))
    assert (coarse.mpp, fine.mpp) == (4.0, 0.25)
    assert_same(fine, measure_style(images[:1], recipe, encoder, mpp=0.25))
    assert measured == [1, 1]
    assert stylist.style(4.0) is coarse


def test_a_folders_weight_is_shared_by_its_images(tmp_path: Path, images: list[Image]) -> None:
    folder = folder_of(tmp_path, images)
    write_image(tmp_path / "alone.png", images[0])
    styles = Styles((folder, tmp_path / "alone.png"), mix=(1, 3))
    assert [file.name for file in styles.files] == ["0.png", "1.png", "alone.png"]
    assert styles.file_mix == [0.5, 0.5, 3]
    assert Styles((folder, tmp_path / "alone.png")).file_mix is None
    with pytest.raises(ValueError, match="one weight for each of 2 styles"):
        _ = Styles((folder, tmp_path / "alone.png"), mix=(1, 1, 3)).file_mix


def test_measuring_tells_how_far_it_is(images: list[Image], encoder: Encoder) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        measure_style(
            images,
            RECIPE,
            encoder,
            kept_in=jobs.style_cache_folder(),
            on_measured=lambda done, of: told.append((done, of)),
        )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_floors_are_kept_and_regions_and_pixel_size_decide(encoder: Encoder, measured: list[int]) -> None:
    image = tissue_like(48, 48, seed=1)
    recipe = replace(RECIPE, stop_at_floor=True)
    first, second = (measure_style_once([image], recipe, encoder, mpp=2.0) for _ in range(2))
    assert first.floors.keys() == {0.5, 1.0}
    assert_same(first, second)
    measure_style_once([image], recipe, encoder, mpp=1.0)
    drawn = guided_recipe(RECIPE, ["A"])
    for rows in (np.s_[:24], np.s_[24:], np.s_[24:]):
        mask = np.zeros((48, 48), np.float32)
        mask[rows] = 1
        measure_style_once([image], drawn, encoder, guides={"A": mask})
    assert measured == [1, 1, 1, 1]
