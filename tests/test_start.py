"""What stain space starts from, and the compartments that styles are compared in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from chromogen.image import Image, resize
from chromogen.staining.exemplar import Exemplar
from chromogen.staining.stainer import load_look
from chromogen.stains.deconvolution import H_DAB, separate_stains_od10
from chromogen.style import start as module
from chromogen.style.objective import COMPARTMENTS
from chromogen.style.start import (
    BROWN_NUCLEI,
    Start,
    compartments_of,
    measured_exemplars,
    start_of,
    start_record,
)
from synthetic import drawn_pair

MPP = 0.5
HE, IHC = drawn_pair()
GLAND, STROMA, GLASS = (slice(4, 56), slice(74, 92), slice(100, 128))


@pytest.fixture(scope="module")
def exemplar() -> Exemplar:
    return measured_exemplars([IHC], MPP, "auto")[0]


@pytest.fixture(scope="module")
def start(exemplar: Exemplar) -> Start:
    return start_of(HE, MPP, exemplar, 0)


def dab_of(image: Image) -> np.ndarray:
    return separate_stains_od10(image, H_DAB)[..., 1]


def test_the_start_is_brown_where_the_marker_is_likely(start: Start) -> None:
    dab = dab_of(start.picture)
    assert dab[:, GLAND].mean() > 0.15
    assert dab[:, STROMA].mean() < 0.4 * dab[:, GLAND].mean()
    assert start.picture[:, GLASS].min() > 225


@pytest.mark.parametrize("real", [True, False])
def test_compartments_are_nuclei_and_the_rest_brown_or_not(real: bool, start: Start, exemplar: Exemplar) -> None:
    found = compartments_of(IHC, MPP, exemplar) if real else start.compartments
    brown_nuclei, blue_nuclei, brown, pale = (found[name] for name in COMPARTMENTS)
    together = sum(found.values())
    assert together.max() < 1 + 1e-5
    assert together[:, GLASS].mean() < 0.03
    assert min(brown_nuclei[:, GLAND].mean(), brown[:, GLAND].mean()) > 0.3
    assert max(blue_nuclei[:, GLAND].mean(), pale[:, GLAND].mean()) < 0.2
    assert blue_nuclei[:, STROMA].max() > 0.9
    assert pale[:, STROMA].mean() > 0.5
    assert brown[:, STROMA].mean() < (0.01 if real else 0.2), "the source of where is not the exemplar's own"


def test_of_a_marker_of_nuclei_those_are_brown_that_have_dab(exemplar: Exemplar) -> None:
    """The upper half of the nuclei is stained; cytoplasm is never brown."""
    he, _ = drawn_pair()
    nuclei = separate_stains_od10(he)[..., 0] > 0.2
    density = np.stack([0.2 * nuclei, 0.02 + 0 * nuclei, 0 * nuclei], 2)
    density[:60, :, 1] += 0.6 * nuclei[:60]
    ihc = np.rint(256 * 10 ** -(density @ H_DAB) - 1).clip(0, 255).astype(np.uint8)
    nuclear = measured_exemplars([ihc], MPP, "auto")[0]
    assert nuclear.site == "nuclear"
    found = compartments_of(ihc, MPP, nuclear)
    assert found["brown nuclei"][:50][nuclei[:50]].mean() > 0.8
    assert found["brown nuclei"][70:].max() < 0.1
    assert found["blue nuclei"][70:][nuclei[70:]].mean() > 0.8
    assert not found["brown"].any()


def test_what_a_picture_hardly_has_is_no_compartment(exemplar: Exemplar) -> None:
    stroma = np.ascontiguousarray(HE[:, 74:])
    found = start_of(stroma, MPP, exemplar, 0).compartments
    assert not found["brown"].any()
    assert found["pale"].any()


def test_finer_pixels_keep_the_detail_of_the_tissue(exemplar: Exemplar, start: Start) -> None:
    """Of an H&E at half the pixel size with grain that shows there alone."""
    rng = np.random.default_rng(1)
    fine = resize(HE, (256, 256))
    grain = gaussian_filter(rng.normal(size=fine.shape[:2]), 0.5)[..., None]
    fine = (fine * (1 + 0.15 * grain)).clip(0, 255).astype(np.uint8)
    made = start_of(fine, MPP / 2, exemplar, 0)
    assert made.picture.shape == fine.shape
    assert made.compartments["pale"].shape == fine.shape[:2]
    again = resize(made.picture, (128, 128)).astype(int)
    assert np.abs(again - start.picture).mean() < 8
    detail = [x - gaussian_filter(x, 2) for x in (-image.mean(axis=2)[:, 8:92] for image in (fine, made.picture))]
    assert np.corrcoef(detail[0].ravel(), detail[1].ravel())[0, 1] > 0.7


def test_pixel_sizes_that_hardly_differ_are_left_alone(exemplar: Exemplar, start: Start) -> None:
    assert np.array_equal(start_of(HE, 0.499, exemplar, 0).picture, start.picture)


def test_windows_agree_with_one_piece(exemplar: Exemplar, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nuclei at a window's border are seen otherwise, and so is the tissue round them."""
    monkeypatch.setattr(module, "WINDOW_PX", 96)
    monkeypatch.setattr(module, "BLEND_PX", 48)
    parts = start_of(HE, MPP, exemplar, 0).picture
    assert np.corrcoef(parts.ravel(), start.picture.ravel())[0, 1] > 0.9


def test_the_most_tissue_of_a_large_picture_is_its_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SAMPLED_PX", 64)
    sample = module._sample(HE)
    assert sample.shape == (64, 64, 3)
    assert sample.mean() < HE.mean()


def test_pixels_that_show_no_nuclei_and_exemplars_without_dab_are_refused(exemplar: Exemplar) -> None:
    with pytest.raises(ValueError, match="`mpp`"):
        start_of(HE, 4.0, exemplar, 0)
    with pytest.raises(ValueError, match=r"hardly any second stain.*; choose a field that the marker stains"):
        measured_exemplars([np.ascontiguousarray(IHC[:, 70:])], MPP, "cytoplasm")


def test_the_record_says_how_and_by_which_source_of_where(exemplar: Exemplar) -> None:
    said = start_record(exemplar, 3)["start"]
    assert (said["from"], said["where"], said["site"], said["seed"]) == (
        "where times how",
        "tissue",
        "cytoplasm",
        3,
    )
    assert "share" not in said
    nuclear = start_record(replace(exemplar, site="nuclear", share=0.2), 3)["start"]
    assert (nuclear["where"], nuclear["share"]) == ("share", 0.2)
    assert nuclear["exemplar_sha256"] != said["exemplar_sha256"]
    chosen = start_record(replace(exemplar, site="nuclear", share=0.2), 3, 0.6)["start"]
    assert (chosen["where"], chosen["share"]) == ("share", 0.6)


def test_a_share_is_that_of_brown_nuclei() -> None:
    nuclear = load_look("nuclear").exemplar
    few, many = (start_of(HE, MPP, nuclear, 0, share).compartments[BROWN_NUCLEI].mean() for share in (0.1, 0.9))
    assert many > 3 * few


def test_a_share_of_a_marker_of_cytoplasm_is_refused(exemplar: Exemplar) -> None:
    with pytest.raises(ValueError, match="`share` to be left out for a marker of cytoplasm, got 0.3"):
        start_of(HE, MPP, exemplar, 0, 0.3)
