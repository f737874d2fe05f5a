"""Sources of *where*: one battery over all of them, and what each alone has to do."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from chromogen.compute.tiles import Window
from chromogen.errors import FAILURES
from chromogen.image import Image
from chromogen.nuclei.find import nuclei_of_image
from chromogen.nuclei.positivity import fixed_threshold, grades_of, measure
from chromogen.staining.how import SlideLook
from chromogen.staining.maps import Array
from chromogen.staining.ready import seen
from chromogen.staining.stainer import Stainer, load_look, stain_image, stainer_of_look
from chromogen.staining.tissue import MPP, Tissue, epithelium
from chromogen.staining.where import BY_TISSUE, Frame, Place, Where, sampled_map
from chromogen.staining.where_files import read_map, read_paired, read_regions
from chromogen.staining.where_network import CLAIM, write_model
from chromogen.staining.window import Dials, look_of
from chromogen.stains.deconvolution import H_DAB
from chromogen.stains.glass import white_level
from chromogen.style.where_style import StyleMap, style_map
from test_staining import painted_glands
from test_where_file import model

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
SIDE = (320, 512)  # of the picture: gland on the left, fibres on the right, glass at the end
GLAND_PX, GLASS_PX = 240, 480
WIDE = Frame((1024, 640), (512, 320))  # a slide of twice as many pixels
NAMES = ("tissue", "regions", "labels", "map", "model", "paired", "style")


@cache
def drawn() -> tuple[Image, SlideLook]:
    """The picture and its statistics."""
    made = np.full((*SIDE, 3), 255, np.uint8)
    made[:, :GLASS_PX] = painted_glands()
    return made, look_of(Dials(0.2), made)


@cache
def shown(window: Window) -> Tissue:
    """What a window of the picture shows."""
    return seen(drawn()[0][window.at], drawn()[1])


@pytest.fixture(scope="module")
def picture() -> Image:
    return drawn()[0]


@pytest.fixture(scope="module")
def look() -> SlideLook:
    return drawn()[1]


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    return shown(Window(0, 0, SIDE[1], SIDE[0]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("where")


def feature(name: str, *corners: tuple[float, float]) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [[*map(list, corners), list(corners[0])]]}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


def box(name: str, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return feature(name, (left, top), (right, top), (right, bottom), (left, bottom))


def geojson(path: Path, *features: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def image(path: Path, values: NDArray[Any]) -> Path:
    PIL.Image.fromarray(values).save(path)
    return path


def gland_map(coarse: int = 16) -> NDArray[np.uint8]:
    """200 in the gland, 20 in fibres, by squares of `coarse` px."""
    columns = (np.arange(SIDE[1]) < GLAND_PX) * 180.0 + 20
    means = np.broadcast_to(columns, SIDE).reshape(SIDE[0] // coarse, coarse, SIDE[1] // coarse, coarse)
    return means.mean(axis=(1, 3)).round().astype(np.uint8)


def regions_of(folder: Path) -> Where:
    file = geojson(folder / "r.geojson", box("Tumor", 0, 0, 480, 640), box("Stroma", 480, 0, 1024, 640))
    return read_regions(file, WIDE, {"Tumor": 0.8, "Stroma": 0.1})


def labels_of(folder: Path) -> Where:
    labels = np.where(np.arange(64) < 30, 1, 2)[None].repeat(40, 0).astype(np.uint8)
    return read_regions(image(folder / "labels.png", labels), WIDE, {"1": 0.8, "2": 0.1})


def paired_of(folder: Path) -> Where:
    made = replace(model("er"), training={"evidence": "2 pairs", "validation": {"dab_r_4um": 0.4}})
    write_model(folder / "er.safetensors", made)
    return read_paired(folder / "er.safetensors")


def model_of(folder: Path) -> Where:
    pytest.importorskip("onnxruntime")
    from chromogen.staining.onnx_generator import read_where_model
    from test_onnx_where import Blueness, exported

    return read_where_model(exported(folder / "where.onnx", Blueness()))


def style_of(_folder: Path) -> Where:
    dab = (gland_map(2) // 4).astype(np.uint8)
    return StyleMap(dab.tobytes(), (dab.shape[0], dab.shape[1]), (SIDE[1], SIDE[0]), 0.5).source()


MAKERS: dict[str, Callable[[Path], Where]] = {
    "tissue": lambda _folder: BY_TISSUE,
    "regions": regions_of,
    "labels": labels_of,
    "map": lambda folder: read_map(image(folder / "map.png", gland_map()), WIDE),
    "model": model_of,
    "paired": paired_of,
    "style": style_of,
}


def file_of(where: Where) -> Path:
    """The file that the map of a source is bound to."""
    made: Any = where.map_of
    return Path(made.args[0])


@pytest.fixture(scope="module", params=NAMES)
def where(request: pytest.FixtureRequest, folder: Path) -> Where:
    return MAKERS[request.param](folder)


def place_of(
    where: Where, picture: Image, look: SlideLook, site: str = "cytoplasm", at: Window | None = None
) -> Place:
    """A window of the picture as a source sees it."""
    window = at or Window(0, 0, SIDE[1], SIDE[0])
    known = replace(look, where=where.measure(picture))
    return Place(picture[window.at], shown(window), known, site, (window.left, window.top))


@pytest.mark.parametrize("site", ["cytoplasm", "nuclear"])
def test_a_map_is_from_0_to_1_and_nowhere_on_glass(
    where: Where, picture: Image, look: SlideLook, site: str
) -> None:
    place = place_of(where, picture, look, site)
    found = where(place)
    assert found.dtype == np.float32
    assert found.shape == SIDE
    assert found.min() >= 0
    assert 0.01 < found.max() <= 1
    assert found[:, GLASS_PX + 8 :].max() == 0


def test_a_source_is_small_and_says_what_it_is(where: Where) -> None:
    again = pickle.loads(pickle.dumps(where))  # noqa: S301 - our own, as blocks are sent
    assert again == where
    assert hash(again) == hash(where)
    assert len(pickle.dumps(where)) < 60_000
    record = json.loads(json.dumps(where.record()))
    assert record["source"] == where.name
    assert record["claim"]
    assert where.name in where.identity


def test_sources_have_identities_of_their_own(folder: Path) -> None:
    made = {name: MAKERS[name](folder).identity for name in NAMES if name != "model"}
    assert len(set(made.values())) == len(made)
    first = regions_of(folder)
    file = file_of(first)
    for levels, elsewhere in (({"Tumor": 0.7, "Stroma": 0.1}, 0.0), ({"Tumor": 0.8, "Stroma": 0.1}, 0.2)):
        assert read_regions(file, WIDE, levels, elsewhere).identity != first.identity
    assert read_regions(file, Frame((1024, 640), (1024, 640)), {"Tumor": 0.8, "Stroma": 0.1}) != first


def test_a_window_has_what_the_whole_has_there(where: Where, picture: Image, look: SlideLook) -> None:
    window = Window(128, 64, 384, 320)
    whole = where(place_of(where, picture, look))[window.at]
    part = where(place_of(where, picture, look, at=window))
    inner = slice(64, 192)
    assert abs(whole[inner, inner] - part[inner, inner]).mean() < 0.04


@pytest.mark.parametrize("name", ["nuclear", "epithelial"])
def test_tiled_is_untiled_in_every_bit(where: Where, picture: Image, look: SlideLook, name: str) -> None:
    made = stainer_of_look(load_look(name), where=where)
    small = replace(made, statistics=replace(look, where=where.measure(picture)), halo_px=128, stride_px=96)
    stainer: Stainer = replace(small, sliding_window=replace(small.sliding_window, window_px=128, blend_px=32))  # type: ignore[type-var]
    part = picture[:256, 140:440]
    whole = stainer.part(part, Window(0, 0, 300, 256))
    assert np.array_equal(stain_image(stainer, part, core_px=96), whole)
    outer = Window(96, 96, 300, 256)
    there = stainer.part(part[outer.at], Window(130, 130, 204, 160), location=(96, 96))
    assert np.array_equal(there, whole[226:256, 226:300])


def test_a_stainer_says_which_source_it_has(where: Where) -> None:
    stainer = stainer_of_look(load_look("nuclear"), where=where)
    assert stainer.where == where.record()
    assert stainer.identity.endswith(f"where {where.identity}")
    if where.gives_shares:
        with pytest.raises(ValueError, match=r"`share` to be left out: the map of `where`, .* gives shares"):
            stainer_of_look(load_look("nuclear"), share=0.3, where=where)


@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (64, 64)], ids=str)
@pytest.mark.parametrize("level", [0, 255, None])
def test_any_window_has_a_map(where: Where, shape: tuple[int, int], level: int | None) -> None:
    """Of nothing, of black, and of noise, without a nucleus."""
    rng = np.random.default_rng(1)
    window = rng.integers(0, 256, (*shape, 3)) if level is None else np.full((*shape, 3), level)
    image = window.astype(np.uint8)
    look = replace(drawn()[1], where=where.measure(drawn()[0]))
    for site in ("nuclear", "cytoplasm"):
        found = where(Place(image, seen(image, look), look, site, (4000, 9000)))
        assert found.shape == shape
        assert np.isfinite(found).all()
        assert 0 <= found.min() <= found.max() <= 1


def test_only_pairs_may_claim_a_place(folder: Path) -> None:
    for name in NAMES:
        if name != "model":
            assert MAKERS[name](folder).record()["claim"].startswith("where the marker lies") == (name == "paired")
    record = paired_of(folder).record()
    assert record["claim"] == f"{CLAIM}: 2 pairs"
    assert record["validation"] == {"dab_r_4um": 0.4}


def test_a_border_lies_on_the_glands_border_or_where_it_was_drawn(
    folder: Path, picture: Image, look: SlideLook, tissue: Tissue
) -> None:
    """Drawn by a hand that trembles by 5 um; in the midst of fibres or of the gland it stays."""
    truth = epithelium(tissue, look.rule) > 0.5
    columns = np.arange(SIDE[1])
    for middle, moves in ((int(np.median(truth.sum(axis=1))), True), (120, False), (400, False)):
        hand = (middle + 10 * np.sin(np.arange(SIDE[0]) / 18)).astype(float)
        corners = [(0.0, 640.0), (0.0, 0.0), *((2 * x, 2.0 * y) for y, x in enumerate(hand))]
        where = read_regions(geojson(folder / "hand.geojson", feature("a", *corners)), WIDE)
        near = slice(40, -40), slice(middle - 16, middle + 16)
        found = (where(place_of(where, picture, look)) > 0.5)[near]
        as_drawn = (columns < hand[:, None])[near]
        if moves:
            assert np.mean(found != truth[near]) < 0.75 * np.mean(as_drawn != truth[near])
        else:
            assert np.mean(found != as_drawn) < 0.03


@pytest.mark.parametrize("coarse", [16, 32])
def test_a_coarse_map_ends_at_the_glands_border(
    folder: Path, picture: Image, look: SlideLook, tissue: Tissue, coarse: int
) -> None:
    truth = epithelium(tissue, look.rule)
    means = truth.reshape(SIDE[0] // coarse, coarse, SIDE[1] // coarse, coarse).mean(axis=(1, 3))
    where = read_map(image(folder / f"{coarse}.png", (255 * means).round().astype(np.uint8)), WIDE)
    found = where(place_of(where, picture, look))
    linear = sampled_map(means.astype(np.float32), (coarse, coarse), (0, 0), SIDE) * tissue.there
    assert abs(found - truth).mean() < 0.8 * abs(linear - truth).mean()


def test_a_fine_map_stays_as_it_is(folder: Path, picture: Image, look: SlideLook, tissue: Tissue) -> None:
    values = np.random.default_rng(0).integers(0, 256, SIDE).astype(np.uint8)
    where = read_map(image(folder / "fine.png", values), WIDE)
    found = where(place_of(where, picture, look))
    np.testing.assert_allclose(found, values / np.float32(255) * tissue.there, atol=1e-6)


def test_a_finer_map_is_averaged(folder: Path, picture: Image, look: SlideLook, tissue: Tissue) -> None:
    values = np.random.default_rng(0).integers(0, 256, (640, 1024)).astype(np.uint8)
    where = read_map(image(folder / "finer.png", values), WIDE)
    means = values.reshape(320, 2, 512, 2).mean((1, 3)) / 255
    np.testing.assert_allclose(where(place_of(where, picture, look)), means * tissue.there, atol=1e-5)


def test_smaller_regions_lie_on_top(folder: Path, picture: Image, look: SlideLook) -> None:
    for order in (1, -1):
        features = [box("a", 0, 0, 440, 640), box("b", 100, 100, 340, 540)][::order]
        where = read_regions(geojson(folder / "top.geojson", *features), WIDE, {"a": 1.0, "b": 0.2})
        found = where(place_of(where, picture, look))
        assert np.median(found[100:220, 80:140]) == pytest.approx(0.2, abs=0.02)
        assert np.median(found[100:220, 5:35]) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scale", [1, 4])
def test_regions_are_in_pixels_of_the_slide(folder: Path, picture: Image, look: SlideLook, scale: int) -> None:
    frame = Frame((512 * scale, 320 * scale), (512, 320))
    file = geojson(folder / f"by{scale}.geojson", box("a", 0, 0, 120 * scale, 320 * scale))
    found = read_regions(file, frame)(place_of(BY_TISSUE, picture, look))
    assert abs((found[40:-40] > 0.5).sum(axis=1).mean() - 120) < 4


def field(data: Path) -> Image:
    from chromogen.slides.slide import read_picture

    return read_picture(data / "exemplars" / "OS-1-detail.ome.tif", at_mpp=MPP).pixels


@pytest.mark.parametrize(("left", "right"), [(0.8, 0.2), (0.5, 0.0), (1.0, 0.3)])
def test_levels_are_shares_of_nuclei(data: Path, folder: Path, left: float, right: float) -> None:
    """Within 5 points, in each region of at least 100 nuclei, as the picture shows it."""
    he = field(data)
    height, width = he.shape[:2]
    middle = width / 2
    file = geojson(folder / "two.geojson", box("L", 0, 0, middle, height), box("R", middle, 0, width, height))
    where = read_regions(file, Frame((width, height), (width, height)), {"L": left, "R": right})
    made = stainer_of_look(load_look("nuclear"), where=where)(he)
    nuclei = nuclei_of_image(he, MPP)
    positive = grades_of(measure(nuclei, made, MPP, white_level(made), H_DAB), fixed_threshold(0.2)) > 0
    for level, inside in ((left, nuclei.centres_px[:, 0] < middle), (right, nuclei.centres_px[:, 0] >= middle)):
        assert np.count_nonzero(inside) >= 100
        assert positive[inside].mean() == pytest.approx(level, abs=0.05)


def test_a_level_is_the_strength_of_a_marker_of_cytoplasm(folder: Path, picture: Image) -> None:
    """Half of the level has half of the DAB over the background."""
    from chromogen.stains.deconvolution import separate_stains_od10

    amounts = []
    for level in (0.0, 0.5, 1.0):
        file = geojson(folder / "level.geojson", box("a", 0, 0, 460, 640), box("b", 800, 0, 900, 640))
        where = read_regions(file, WIDE, {"a": level, "b": 1.0})
        made = stainer_of_look(load_look("epithelial"), where=where)(picture)
        amounts.append(separate_stains_od10(made, H_DAB, white_level(made))[60:260, 40:200, 1].mean())
    low, half, full = amounts
    assert full > low + 0.1
    assert (half - low) / (full - low) == pytest.approx(0.5, abs=0.08)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "outside": (
        lambda d: read_regions(geojson(d / "a.geojson", box("a", 2000, 0, 2100, 90), box("a", 0, 0, 9, 9)), WIDE),
        "regions inside the slide's 1024 x 640 px, got 1 of 2 outside",
    ),
    "a class that is not there": (
        lambda d: read_regions(geojson(d / "a.geojson", box("a", 0, 0, 9, 9)), WIDE, {"a": 1, "Tumour": 0.5}),
        r"given for a, the classes of a.geojson, got a, Tumour; name no others",
    ),
    "a class without a level": (
        lambda d: read_regions(
            geojson(d / "a.geojson", box("a", 0, 0, 9, 9), box("b", 0, 0, 5, 5)), WIDE, {"a": 1}
        ),
        "got a; add --level b=VALUE",
    ),
    "all levels 0": (
        lambda d: read_regions(geojson(d / "a.geojson", box("a", 0, 0, 9, 9)), WIDE, {"a": 0}),
        "nothing would be stained",
    ),
    "a level over 1": (
        lambda d: read_regions(geojson(d / "a.geojson", box("a", 0, 0, 9, 9)), WIDE, {"a": 1.5}),
        "Expected `level` to be 0 to 1, got 1.5 for a",
    ),
    "no polygon": (lambda d: read_regions(geojson(d / "a.geojson"), WIDE), "at least one polygon"),
    "no JSON": (
        lambda d: read_regions(Path((d / "a.geojson").write_text("{") and d / "a.geojson"), WIDE),
        "Expected `where` to be GeoJSON",
    ),
    "empty map": (
        lambda d: read_map(image(d / "a.png", np.zeros((40, 64), np.uint8)), WIDE),
        "a value above 0, got '.*', which is 0 everywhere",
    ),
    "another aspect": (
        lambda d: read_map(image(d / "a.png", np.ones((64, 64), np.uint8)), WIDE),
        "all of the slide, 1024 x 640 px or that aspect, got 64 x 64 px",
    ),
    "labels of another aspect": (
        lambda d: read_regions(image(d / "a.png", np.ones((40, 40), np.uint8)), WIDE, {"1": 1}),
        "or that aspect, got 40 x 40 px",
    ),
    "too many labels": (
        lambda d: read_regions(image(d / "a.png", (np.arange(2560) % 199).reshape(40, 64).astype(np.uint8)), WIDE),
        "Expected `where` to be a label image of the slide, got '.*' with 198 different values",
    ),
    "colours": (
        lambda d: read_map(image(d / "a.png", np.tile(np.array([9, 9, 200], np.uint8), (40, 64, 1))), WIDE),
        "Expected `where` to be a heat map: a grey image from 0 to white, got '.*' in colours",
    ),
    "numbers of 32 bits": (
        lambda d: read_map(image(d / "a.tif", np.full((40, 64), 70_000, np.int32)), WIDE),
        "with values from 70000 to 70000 and no white",
    ),
    "no file": (lambda d: read_map(d / "none.png", WIDE), "`where` to be an existing file"),
    "no image": (
        lambda d: read_map(Path((d / "a.png").write_text("x") and d / "a.png"), WIDE),
        "Expected `where` to be a heat map",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, said = REFUSED[name]
    with pytest.raises(FAILURES, match=said) as caught:
        make(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["regions", "labels", "map", "paired"])
def test_a_file_that_changes_under_way_is_noticed(
    tmp_path: Path, picture: Image, look: SlideLook, name: str
) -> None:
    where = MAKERS[name](tmp_path)
    file = file_of(where)
    known = replace(look, where=where.measure(picture))
    made: Any = where.map_of
    changed = replace(where, map_of=partial(made.func, made.args[0], "0" * 64, *made.args[2:]))
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(ValueError, match="do not change it under way|changed or damaged|which is none"):
        changed(Place(picture, seen(picture, look), known, "cytoplasm", (0, 0)))


@pytest.mark.slow
def test_style_transfer_gives_a_map(data: Path, folder: Path) -> None:
    """More DAB where the nuclei of a gland lie than on glass, the same twice, and another for another IHC."""
    from chromogen.staining.stainer import builtin_ihc

    he = field(data)[:200, :200]
    exemplar = load_look("epithelial").exemplar
    made, again = (style_map(he, [builtin_ihc()[:256, :256]], exemplar) for _ in range(2))
    assert made == again
    look = look_of(Dials(0.2), he)
    found = made(Place(he, seen(he, look), look, "cytoplasm", (0, 0)))
    assert found.shape == he.shape[:2]
    assert found.std() > 0.01


def test_a_slide_is_too_large_for_style_transfer() -> None:
    he = np.full((2100, 2100, 3), 200, np.uint8)
    with pytest.raises(ValueError, match=r"another source for more than 4,000,000 px, got 2100 x 2100 px"):
        style_map(he, [], load_look("epithelial").exemplar)


def test_linear_between_centres() -> None:
    values: Array = np.array([[0, 1], [0, 1]], np.float32)
    across = sampled_map(values, (2.0, 2.0), (0, 0), (4, 4))[0]
    np.testing.assert_allclose(across, [0, 0.25, 0.75, 1], atol=1e-6)
    np.testing.assert_array_equal(sampled_map(values, (2.0, 2.0), (2, 1), (3, 2)), np.array([[0.75, 1]] * 3))
