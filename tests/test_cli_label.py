"""`chromogen label`: a drawn pair whose every nucleus is known, bent; another section; bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from shapely.geometry import Point, shape

import chromogen
from chromogen.app.pair_commands import label_command
from chromogen.image import Image, write_image
from chromogen.labels.label import RESEARCH_USE
from chromogen.registration.transform import Piece, SlideFrame, Transform, write_transform
from chromogen.slides.slide import open_slide
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains
from test_cli import refused, run

MPP, SIDE_PX, NUCLEI = 0.5, 420, 130
BENT_PX = 8.0

Array = NDArray[np.float64]


def places(seed: int) -> Array:
    """Middles of nuclei, (x, y) in px, no two nearer than 18 px; the left half is crowded."""
    rng = np.random.default_rng(seed)
    found: list[Array] = []
    while len(found) < NUCLEI:
        at = rng.uniform(12, SIDE_PX - 12, 2)
        crowded = at[0] < SIDE_PX / 2 or rng.random() < 0.4
        if crowded and all(np.hypot(*(at - other)) > 18 for other in found):
            found.append(at)
    return np.array(found)


def bent(points: Array) -> Array:
    """Where points of the H&E lie on the IHC, in px."""
    wave = np.sin(points / SIDE_PX * 2 * np.pi)[:, ::-1]
    return np.asarray(points + [BENT_PX, 0] + 0.5 * BENT_PX * wave)


def section(middles: Array, dab: NDArray[np.bool_], matrix: Array, seed: int) -> Image:
    """Nuclei of 7 um, with DAB where they are positive, in pale tissue."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    away, nearest = cKDTree(middles).query(np.column_stack([x.ravel() + 0.5, y.ravel() + 0.5]))
    inside = ((7.5 - away).clip(0, 1)).reshape(x.shape)
    brown = inside * dab[nearest].reshape(x.shape)
    chromatin = ndimage.gaussian_filter(rng.normal(size=x.shape), 1.2)
    grain = 1 + 0.3 * chromatin / chromatin.std()
    eosin = 0.3 * (1 - inside) + 0.25 * inside if matrix is H_E else 0.03 + 1.2 * brown
    amounts = np.stack([inside * (1.0 - 0.5 * brown) + 0.08, eosin, 0 * x], 2) * grain.clip(0.3)[..., None]
    return combine_stains(amounts, matrix)


MIDDLES = places(0)
IS_POSITIVE = (MIDDLES[:, 0] < SIDE_PX / 2) ^ (np.random.default_rng(3).random(NUCLEI) < 0.1)


@pytest.fixture(scope="module")
def he(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("labels") / "he.png"
    write_image(file, section(MIDDLES, IS_POSITIVE, H_E, 1), mpp=MPP)
    return file


@pytest.fixture(scope="module")
def ihc(he: Path) -> Path:
    write_image(he.with_name("ihc.png"), section(bent(MIDDLES), IS_POSITIVE, H_DAB, 2), mpp=MPP)
    return he.with_name("ihc.png")


@pytest.fixture(scope="module")
def serial(he: Path) -> Path:
    """Another section of the same tissue: the same left half is positive, and no nucleus is the same."""
    middles = places(7)
    write_image(he.with_name("serial.png"), section(middles, middles[:, 0] < SIDE_PX / 2, H_DAB, 4), mpp=MPP)
    return he.with_name("serial.png")


def transform_of(he: Path, ihc: Path, doubt: str = "", mpp: float = MPP) -> Transform:
    """A registration that says that both lie on each other."""
    with open_slide(he) as ours, open_slide(ihc) as theirs:
        frames = [SlideFrame(slide.size, mpp, "file", slide.quickhash) for slide in (ours, theirs)]
    side = SIDE_PX * mpp
    piece = Piece(Point(side / 2, side / 2).buffer(side), np.eye(2, 3), doubt=doubt)
    return Transform(frames[0], frames[1], (piece,))


def features(file: Path, kind: str) -> list[dict[str, Any]]:
    found = json.loads(file.read_text())["features"]
    return [feature for feature in found if feature["properties"]["objectType"] == kind]


def right_and_labelled(file: Path) -> tuple[float, float]:
    """The share of right labels among labelled nuclei, and of labelled among all that were drawn."""
    nuclei = features(file, "detection")
    centres = np.array([shape(nucleus["geometry"]).centroid.coords[0] for nucleus in nuclei])
    names = np.array([nucleus["properties"]["classification"]["name"] for nucleus in nuclei])
    away, drawn = cKDTree(MIDDLES).query(centres)
    labelled = (names != "Nucleus") & (away < 6)
    right = names[labelled] == np.where(IS_POSITIVE[drawn[labelled]], "Positive", "Negative")
    return float(right.mean()), float(labelled.sum() / NUCLEI)


def test_a_section_stained_again_labels_its_nuclei(he: Path, ihc: Path, tmp_path: Path) -> None:
    """The IHC lies 4 um away, and is bent by 2 um more: the squares find the way."""
    out = tmp_path / "labels.geojson"
    found = chromogen.label(he, ihc, out, transform=transform_of(he, ihc))
    right, labelled = right_and_labelled(out)
    assert right > 0.97
    assert labelled > 0.85
    assert found.squares_that_share_nuclei == found.squares
    assert found.matched_percent is not None
    assert found.by_chance_percent is not None
    assert found.matched_percent > 3 * found.by_chance_percent
    assert not list(tmp_path.glob("*.nuclei"))


def test_another_section_labels_regions_and_squares_alone(
    he: Path, serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, transform = tmp_path / "labels.geojson", tmp_path / "t.json"
    write_transform(transform, transform_of(he, serial))
    status, stdout, stderr = run(
        capsys, "label", str(he), str(serial), "--transform", str(transform), "-o", str(out), "--json"
    )
    assert status == 0
    facts = json.loads(stdout)
    assert facts["positive_nuclei"] + facts["negative_nuclei"] == 0
    assert "do not share single nuclei" in stderr
    names = {feature["properties"]["classification"]["name"] for feature in features(out, "detection")}
    assert names == {"Nucleus"}
    regions = {
        region["properties"]["classification"]["name"]: shape(region["geometry"])
        for region in features(out, "annotation")
    }
    assert regions["Positive"].contains(Point(0.25 * SIDE_PX, SIDE_PX / 2))
    assert regions["Negative"].contains(Point(0.75 * SIDE_PX, SIDE_PX / 2))
    (square,) = features(out, "tile")
    share = square["properties"]["measurements"]["IHC: Positive nuclei %"]
    assert share == pytest.approx(100 * (places(7)[:, 0] < SIDE_PX / 2).mean(), abs=5)


def test_the_file_says_how_it_was_made(he: Path, ihc: Path, tmp_path: Path) -> None:
    out = tmp_path / "labels.geojson"
    settings = chromogen.LabelSettings(threshold_od10=0.3)
    chromogen.label(he, ihc, out, transform=transform_of(he, ihc), settings=settings)
    made = json.loads(out.read_text())["chromogen"]
    assert made["notice"] == RESEARCH_USE
    assert made["labels"]["threshold_od10"] == 0.3
    assert made["labels"]["he_mpp"] == MPP
    with open_slide(ihc) as slide:
        assert made["ihc_quickhash"] == slide.quickhash
    assert "he.png" not in out.read_text()


def test_stopped_it_resumes(he: Path, ihc: Path, tmp_path: Path) -> None:
    """Nuclei that were found stay beside the output, and go once it is written."""
    out, transform = tmp_path / "labels.geojson", transform_of(he, ihc)

    def stop(_done: int, _of: int, stage: str) -> None:
        if stage == "nuclei of he":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chromogen.label(he, ihc, out, transform=transform, on_stage=stop)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"labels.geojson.ihc.nuclei", "labels.geojson.he.nuclei"}
    assert list(tmp_path.glob("labels.geojson.ihc.nuclei/blocks/*.npz"))
    stages: list[tuple[int, int, str]] = []
    chromogen.label(he, ihc, out, transform=transform, on_stage=lambda *stage: stages.append(stage))
    assert [path.name for path in tmp_path.iterdir()] == ["labels.geojson"]
    assert {stage for _, _, stage in stages} == {"nuclei of ihc", "nuclei of he", "regions"}


def test_what_is_registered_in_doubt_is_refused(he: Path, ihc: Path, tmp_path: Path) -> None:
    doubtful = transform_of(he, ihc, doubt="fits no better than turned or mirrored")
    with pytest.raises(ValueError, match=r"to be two sections of the same tissue.*'ihc\.png'"):
        chromogen.label(he, ihc, tmp_path / "labels.geojson", transform=doubtful)


def test_pixels_too_large_for_nuclei_label_regions(he: Path, tmp_path: Path) -> None:
    """Of an IHC that Chromogen made, which is said."""
    ihc = tmp_path / "virtual.png"
    write_image(ihc, section(bent(MIDDLES), IS_POSITIVE, H_DAB, 2), {"stainer": "nuclear"}, MPP)
    settings = chromogen.LabelSettings(threshold_od10=0.2, gap_um=60)
    coarse = transform_of(he, ihc, mpp=3.0)
    found = chromogen.label(he, ihc, tmp_path / "labels.geojson", transform=coarse, settings=settings)
    assert found.positive_regions >= 1
    assert any("nuclei do not show" in note for note in found.notes)
    assert any("virtual stain by nuclear" in note for note in found.notes)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("ihc.png", "he.png"), [], "Expected `ihc` to be an IHC with DAB, got 'he.png', which looks like an H&E"),
        (("he.png", "he.png"), [], "another file than the H&E"),
        (("he.png", "no.png"), [], "an existing image or slide"),
        (("he.png", "ihc.png"), ["--register", "--transform", "t.json"], "given without --register"),
        (("he.png", "ihc.png"), ["--distance", "0"], "Expected `distance_um` to be above 0"),
        (("he.png", "ihc.png"), ["--threshold", "9"], "densities above 0"),
    ],
)
def test_bad_input_is_refused(
    he: Path,
    ihc: Path,
    names: tuple[str, str],
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ihc.exists()
    files = [str(he.with_name(name)) for name in names]
    out = tmp_path / "labels.geojson"
    assert message in refused(capsys, "label", *files, "-o", str(out), *options)
    assert not out.exists()


def test_a_transform_of_other_slides_is_refused(he: Path, ihc: Path, serial: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected `ihc` to be the slide that the transform was made of"):
        chromogen.label(he, serial, tmp_path / "labels.geojson", transform=transform_of(he, ihc))


def test_the_help_says_what_serial_sections_give() -> None:
    assert "Serial sections share few or no nuclei" in " ".join((label_command.__doc__ or "").split())
