"""Where times how: what an exemplar says, what a slide says, and what is painted of both."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from chromogen.compute.tiles import Window
from chromogen.image import Image
from chromogen.models import FOLDER, LOOK_SUFFIX, LOOKS, MODEL_SUFFIX
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.outlines import no_nuclei
from chromogen.nuclei.positivity import fixed_threshold, grades_of, measure, positive_threshold
from chromogen.staining.amounts import nuclear_levels
from chromogen.staining.atlas import Atlas
from chromogen.staining.confidence import KnownTissue
from chromogen.staining.exemplar import QUANTILES, Exemplar, joined_exemplars, measure_exemplar
from chromogen.staining.how import MIN_FULL, base_of, glass, rendered_stains
from chromogen.staining.looks import Look, read_look, write_look
from chromogen.staining.ready import seen
from chromogen.staining.stainer import (
    STAINERS,
    Stainer,
    builtin_ihc,
    load_look,
    paint_image,
    stain_image,
    stainer_of_look,
)
from chromogen.staining.tissue import MPP, epithelium, rule_of, tissue_of, tissue_part
from chromogen.staining.window import Dials, look_of
from chromogen.stains.deconvolution import (
    CHROMOGENS,
    H_DAB,
    angle_deg,
    chromogen_name,
    estimate_chromogen,
    separate_stains_od10,
)
from chromogen.stains.glass import white_level
from synthetic import restained


@pytest.fixture(scope="module")
def looks() -> dict[str, Exemplar]:
    return {name: load_look(name).exemplar for name in ("epithelial", "nuclear")}


@pytest.fixture(scope="module")
def he(data: Path) -> Image:
    from chromogen.slides.slide import read_picture

    return read_picture(data / "exemplars" / "OS-1-detail.ome.tif", at_mpp=MPP).pixels


@pytest.fixture(scope="module")
def stained(he: Image) -> dict[str, Image]:
    return {name: Stainer.from_pretrained(name)(he) for name in ("epithelial", "nuclear")}


def test_the_looks_that_come_along_are_what_their_exemplars_measure(
    looks: dict[str, Exemplar], data: Path
) -> None:
    from chromogen.slides.slide import read_picture

    ki67 = read_picture(data / "exemplars" / "OS-2-ndpi.ome.tif", at_mpp=MPP).pixels
    for name, ihc in (("epithelial", builtin_ihc()), ("nuclear", ki67)):
        measured = measure_exemplar(ihc)
        assert measured.site == looks[name].site  # `auto` sees what the marker stains
        for value, kept in zip(vars(measured).values(), vars(looks[name]).values(), strict=True):
            if isinstance(value, Atlas):
                np.testing.assert_allclose(value.levels_od10, kept.levels_od10, atol=0.05)
            elif isinstance(value, float) or (isinstance(value, tuple) and not isinstance(value[0], KnownTissue)):
                np.testing.assert_allclose(np.asarray(value), np.asarray(kept), atol=0.03, rtol=0.03)


def test_what_comes_along_has_a_name_a_source_and_a_licence() -> None:
    files = [file for file in FOLDER.iterdir() if file.suffix in (LOOK_SUFFIX, MODEL_SUFFIX)]
    assert {file.name for file in files} == {f"{name}{LOOK_SUFFIX}" for name in LOOKS}
    assert set(LOOKS) <= set(STAINERS)
    for file in files:
        look = load_look(file.stem)
        assert (look.name, file.stat().st_size < 150_000) == (file.stem, True)
        assert look.source
        assert look.licence


def test_haematoxylin_stays_where_it_was(he: Image, stained: dict[str, Image]) -> None:
    before = separate_stains_od10(he)[..., 0]
    for name, least in (("epithelial", 0.5), ("nuclear", 0.6)):
        after = separate_stains_od10(stained[name], H_DAB)[..., 0]
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > least


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 1.0])
def test_the_share_of_positive_nuclei_is_the_dial(he: Image, share: float) -> None:
    made = stainer_of_look(load_look("nuclear"), share=share)(he)
    nuclei = nuclei_of_image(he, MPP)
    measured = measure(nuclei, made, MPP, white_level(made), H_DAB)
    threshold = positive_threshold(measured) if 0 < share < 1 else fixed_threshold(0.2)
    positive = grades_of(measured, threshold) > 0
    missed = 0.03 if share < 1 else 0.05  # looking twice, as here, finds some nuclei that painting has not seen
    assert positive.mean() == pytest.approx(share, abs=missed)


def test_glands_are_brown_and_fibres_are_not(he: Image, stained: dict[str, Image]) -> None:
    made = stained["epithelial"]
    brown = separate_stains_od10(made, H_DAB, white_level(made))[..., 1]
    gland, fibre = brown[400:480, 330:420], brown[20:100, 250:420]
    assert gland.mean() > 0.3
    assert fibre.mean() < 0.06


@pytest.mark.parametrize("name", ["epithelial", "nuclear"])
def test_dials_of_strength_change_one_stain_each(he: Image, name: str) -> None:
    """Mean densities, unmixed by the look's own colours, are the exemplar's times the dial."""
    look = load_look(name)
    matrix, white = np.array(look.exemplar.matrix), np.array(look.exemplar.white)

    def means(**dials: float) -> NDArray[np.float64]:
        made = stainer_of_look(look, **dials)(he[100:356, 100:356])
        return np.asarray(separate_stains_od10(made, matrix, white)[..., :2].mean(axis=(0, 1)))

    usual = means()
    assert means(intensity=2.0)[1] == pytest.approx(2 * usual[1], rel=0.1)
    assert means(intensity=0.5)[1] == pytest.approx(0.5 * usual[1], rel=0.1)
    twice = means(counterstain=2.0)
    assert twice[0] == pytest.approx(2 * usual[0], rel=0.1)
    assert twice[1] == pytest.approx(usual[1], rel=0.1)
    assert abs(means(intensity=0.0)[1]) < 0.02
    assert abs(means(counterstain=0.0)[0]) < 0.02


def test_dials_are_in_a_stainers_identity_and_within_bounds() -> None:
    look = load_look("nuclear")
    names = {stainer_of_look(look, intensity=a, counterstain=b).identity for a, b in ((1, 1), (2, 1), (1, 2))}
    assert len(names) == 3
    for name, value in (("intensity", -0.1), ("counterstain", 4.1), ("intensity", float("nan"))):
        with pytest.raises(ValueError, match=f"Expected `{name}` to be 0 to 4 times the exemplar's"):
            stainer_of_look(look, **{name: value})


@pytest.mark.parametrize("chromogen", ["AEC", "PAS", "Alcian blue"])
def test_a_look_of_any_chromogen_paints_in_its_colour(he: Image, chromogen: str) -> None:
    exemplar = measure_exemplar(restained(builtin_ihc()[128:384, :256], CHROMOGENS[chromogen]))
    made = stainer_of_look(Look("x", "x", "", "", exemplar))(he[180:436, 180:436])
    found = estimate_chromogen(made, np.array(exemplar.white)).matrix[1]
    assert chromogen_name(found) == chromogen
    assert angle_deg(found, np.array(CHROMOGENS[chromogen])) < 10


def test_another_seed_is_another_draw_and_the_same_one_the_same(he: Image, stained: dict[str, Image]) -> None:
    again, other = (stainer_of_look(load_look("nuclear"), seed=seed)(he) for seed in (0, 1))
    assert np.array_equal(again, stained["nuclear"])
    assert not np.array_equal(other, again)


@pytest.mark.parametrize("name", ["epithelial", "nuclear"])
def test_tiled_is_untiled_in_every_bit(he: Image, name: str) -> None:
    small = replace(Stainer.from_pretrained(name).fit(he), halo_px=256, stride_px=192)
    stainer = replace(small, sliding_window=replace(small.sliding_window, window_px=256, blend_px=64))  # type: ignore[type-var]
    whole = stainer.part(he, Window(0, 0, 500, 500))
    assert np.array_equal(stain_image(stainer, he, core_px=192), whole)
    assert np.array_equal(paint_image(stainer, he, core_px=192), stainer.painted(he, Window(0, 0, 500, 500)))
    outer = Window(192, 192, 500, 500)
    part = stainer.part(he[outer.at], Window(258, 260, 300, 308), location=(192, 192))
    assert np.array_equal(part, whole[452:500, 450:492])


def test_chance_belongs_to_the_place(he: Image) -> None:
    stainer = Stainer.from_pretrained("nuclear").fit(he)
    inner = Window(0, 0, 500, 500)
    here, moved = (stainer.part(he, inner, location=at) for at in ((0, 0), (1024, 0)))
    assert not np.array_equal(here, moved)


def blank(level: int = 240) -> Image:
    return np.full((96, 96, 3), level, np.uint8)


def noise() -> Image:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", ["epithelial", "nuclear"])
@pytest.mark.parametrize("picture", [blank(), blank(0), noise(), blank()[:1, :1], blank()[:40]], ids=str)
def test_any_picture_is_painted(name: str, picture: Image) -> None:
    made = Stainer.from_pretrained(name)(picture)
    assert made.shape == picture.shape
    assert made.dtype == np.uint8


@pytest.mark.parametrize("name", ["epithelial", "nuclear"])
def test_glass_becomes_the_exemplars_glass(looks: dict[str, Exemplar], name: str) -> None:
    made = Stainer.from_pretrained(name)(blank())
    np.testing.assert_allclose(made.reshape(-1, 3).mean(0), looks[name].white, atol=2)


def test_an_exemplar_needs_stained_and_unstained() -> None:
    from chromogen.stains.deconvolution import combine_stains

    for picture in (blank(), np.tile(combine_stains(np.array([[[0.3, 1.5, 0]]]) * 2.3, H_DAB), (96, 96, 1))):
        with pytest.raises(ValueError, match="an IHC with stained and unstained"):
            measure_exemplar(picture, "cytoplasm")
    with pytest.raises(ValueError, match="did you mean nuclear"):
        measure_exemplar(blank(), "nucleus")


def test_levels_are_quantiles_of_the_exemplars_nuclei(looks: dict[str, Exemplar]) -> None:
    exemplar = looks["nuclear"]
    rank = np.linspace(0, 1, 101)
    levels = nuclear_levels(rank, exemplar, 0.25)
    for kind in (levels[rank <= 0.75], levels[rank > 0.75]):
        assert (np.diff(kind) >= 0).all()
    assert levels[0] == exemplar.unstained_od10[0]
    assert levels[-1] == exemplar.stained_od10[-1]
    middle = np.interp(0.5, QUANTILES, exemplar.stained_od10)
    assert np.interp(0.875, rank, levels) == pytest.approx(middle, rel=0.02)


def test_several_exemplars_are_averaged(looks: dict[str, Exemplar]) -> None:
    one = looks["nuclear"]
    paler = replace(one, around_od10=one.around_od10 / 2, white=tuple(w - 10 for w in one.white))
    mean = joined_exemplars([one, paler])
    assert mean.around_od10 == pytest.approx(0.75 * one.around_od10)
    np.testing.assert_allclose(mean.white, np.array(one.white) - 5)
    same = joined_exemplars([one, one])
    np.testing.assert_allclose(same.stained_od10, one.stained_od10)
    with pytest.raises(ValueError, match="exemplars of one kind"):
        joined_exemplars([one, looks["epithelial"]])


def test_a_look_is_what_was_written(tmp_path: Path) -> None:
    look = load_look("nuclear")
    write_look(tmp_path / "a.json", look)
    assert read_look(tmp_path / "a.json") == look
    assert Stainer.from_pretrained(tmp_path / "a.json").identity == Stainer.from_pretrained("nuclear").identity


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("chromogen look 2", "chromogen look 9"),
        ('"site": "nuclear"', '"site": "membrane"'),
        ('"share": 0', '"share": NaN, "x": 0'),
        ('"white": [', '"white": [1,'),
        ("{", "["),
        ('"hidden_od10": [', '"hidden_od10": [3,'),
        ('"source"', '"from"'),
        ('"white": [\n   2', '"white": [\n   99992'),
        ('"share": 0', '"share": 7'),
        ('"source": ', '"source": ' + 100_000 * "["),
        ('"patches": "', '"patches": "AAAA'),
        ('"areas_um2": [', '"areas_um2": [40,'),
        ('"means": [', '"means": [3,'),
        ('"means": [', '"mean": ['),
        ('"covariance": [\n     [', '"covariance": [\n     [-'),
        ('"distances": [', '"distances": [9,'),
        ('"known": [', '"known": [], "x": ['),
        ('"known": [', '"known": 3, "x": ['),
    ],
)
def test_a_damaged_look_is_refused(tmp_path: Path, before: str, after: str) -> None:
    write_look(tmp_path / "a.json", load_look("nuclear"))
    text = (tmp_path / "a.json").read_text()
    assert before in text
    (tmp_path / "a.json").write_text(text.replace(before, after, 1))
    with pytest.raises(ValueError, match="Expected `stainer` to be a look"):
        Stainer.from_pretrained(tmp_path / "a.json")


def test_a_share_is_between_0_and_1() -> None:
    with pytest.raises(ValueError, match="Expected `share` to be 0 to 1"):
        stainer_of_look(load_look("nuclear"), share=1.2)


def test_a_marker_of_cytoplasm_has_no_share_of_nuclei() -> None:
    with pytest.raises(ValueError, match="epithelial stains cytoplasm, not nuclei"):
        stainer_of_look(load_look("epithelial"), share=0.3)


def painted_glands() -> Image:
    """An H&E with round nuclei close together on the left, and long ones far apart on the right."""
    from chromogen.stains.deconvolution import H_E, combine_stains

    rng = np.random.default_rng(3)
    y, x = np.indices((320, 480), np.float32)
    gland = x < 240
    amounts = np.zeros((320, 480, 3), np.float32)
    amounts[..., 0] = np.where(gland, 0.12, 0.03) + 0.01 * rng.normal(size=gland.shape)
    amounts[..., 1] = np.where(gland, 0.15, 0.25) + 0.02 * rng.normal(size=gland.shape)
    for row in range(20, 310, 26):
        for column in range(16, 230, 26):
            inside = np.hypot(y - row - rng.normal(0, 2), x - column - rng.normal(0, 2)) < 8
            amounts[inside, 0] = 0.6 + 0.1 * rng.normal(size=np.count_nonzero(inside))
    for row in range(20, 310, 60):
        for column in range(260, 470, 45):
            inside = np.hypot((y - row) / 2.5, (x - column) * 1.2) < 5
            amounts[inside, 0] = 0.7 + 0.1 * rng.normal(size=np.count_nonzero(inside))
    return combine_stains(amounts.clip(0) * 2.302585, H_E)


def test_epithelium_is_told_by_its_nuclei() -> None:
    from chromogen.stains.deconvolution import H_E

    picture = painted_glands()
    tissue = tissue_of(picture, nuclei_of_image(picture, MPP), np.full(3, 255.0), H_E)
    share = epithelium(tissue, rule_of(tissue))
    away = abs(np.arange(480) - 240) > 12
    assert share[:, away & (np.arange(480) < 240)].mean() > 0.8
    assert share[:, away & (np.arange(480) > 240)].mean() < 0.2


def test_stainer_says_what_it_is() -> None:
    stainer: Stainer = Stainer.from_pretrained("epithelial")
    assert stainer.target_stain == "DAB in epithelial cells"
    assert "share" in stainer.identity


def test_no_place_of_tissue_is_paler_than_its_ground(he: Image, looks: dict[str, Exemplar]) -> None:
    """Eosin, whose haematoxylin unmixes below 0, does not bleach: such places glowed."""
    look = look_of(Dials(0.2), he)
    tissue = seen(he, look)
    assert tissue.hematoxylin.min() < -0.05
    inside = tissue.there[20:-20, 20:-20] > 0.5
    found = base_of(tissue, look, looks["nuclear"], MIN_FULL).blue_od10[20:-20, 20:-20][inside]
    assert found.min() >= 0


def test_beside_tissue_only_glass_is_painted(he: Image) -> None:
    """And no place of tissue looks another way for it, but for what the network rounds."""
    small = he[100:260, 120:300]
    stainer = Stainer.from_pretrained("epithelial").fit(he)
    around = np.full((400, 480, 3), np.rint(stainer.statistics.white).astype(np.uint8), np.uint8)
    around[64:224, 64:244] = small
    assert tissue_part(blank(), np.full(3, 240.0)) is None
    part = tissue_part(around, np.array(stainer.statistics.white))
    assert part == Window(0, 0, 312, 288)
    made = stainer(around)
    np.testing.assert_allclose(made[300:].reshape(-1, 3).mean(0), stainer.white, atol=1.5)
    assert np.array_equal(made[:288, :312], stainer.paint(around[:288, :312], stainer.statistics, (0, 0))[..., :3])


def test_distances_are_those_of_every_pixel_but_for_a_little(he: Image) -> None:
    from scipy.ndimage import distance_transform_edt

    from chromogen.stains.deconvolution import H_E

    tissue = tissue_of(he, nuclei_of_image(he, MPP), np.full(3, 240.0), H_E)
    wanted = distance_transform_edt(tissue.labels == 0) * MPP
    off = np.abs(tissue.distance_um - wanted)
    assert off.mean() < 0.25
    assert off.max() < 2
    assert abs((tissue.distance_um - wanted).mean()) < 0.05
    assert (tissue.distance_um[tissue.labels > 0] == 0).all()
    assert np.array_equal(tissue.owner[tissue.labels > 0], tissue.labels[tissue.labels > 0])


@pytest.mark.parametrize("name", LOOKS)
def test_glass_is_the_picture_without_any_stain(name: str) -> None:
    exemplar = load_look(name).exemplar
    texture = np.random.default_rng(0).normal(0, 0.02, (70, 45)).astype(np.float32)
    none = np.zeros_like(texture)
    assert (glass(texture, exemplar) == rendered_stains(none, none, texture, exemplar)).all()


def test_where_there_is_no_nucleus_every_pixel_is_far_from_one() -> None:
    """Farther than any length that this room compares it with."""
    bare = tissue_of(np.full((64, 48, 3), 200, np.uint8), no_nuclei(MPP), np.full(3, 255.0), H_DAB)
    assert bare.distance_um.min() > 1000
