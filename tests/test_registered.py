"""Real IHC brought to the prediction before it judges it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from chromogen.evaluation.registered_reals import registered_reals
from chromogen.image import read_image, write_image
from chromogen.registration.transform import read_transform
from chromogen.stains.deconvolution import H_DAB
from synthetic import drawn
from test_cli import run
from test_register import MPP, error_px, section, turned
from test_registered_pairs import pairs

__all__ = ["pairs"]


@pytest.mark.parametrize("side", [128, 64])
def test_the_real_ihc_is_written_in_the_frame_of_the_prediction(pairs: Path, tmp_path: Path, side: int) -> None:
    virtual = tmp_path / "virtual.png"
    write_image(virtual, drawn(side, 3), mpp=0.5 * 128 / side)
    folder = registered_reals(virtual, pairs / "a_he.png", pairs / "a_ihc.png", pairs.parent / "a.json", tmp_path)
    assert [file.name for file in folder.iterdir()] == ["virtual.png"]
    truth = drawn(128, 1, 0.9, H_DAB)
    if side < 128:
        truth = np.asarray(Pillow.fromarray(truth).resize((side, side), Pillow.Resampling.BOX))
    found = read_image(folder / "virtual.png").astype(float)
    assert found.shape == truth.shape
    assert np.abs(found - truth).mean() < 1


def test_another_h_and_e_is_refused(pairs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    write_image(other, drawn(128, 9))
    with pytest.raises(ValueError, match="Expected `he` to be the slide that the transform was made of"):
        registered_reals(other, other, pairs / "a_ihc.png", pairs.parent / "a.json", tmp_path)


def test_a_prediction_of_a_part_is_refused(pairs: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.png"
    write_image(part, drawn(128, 9)[:90])
    with pytest.raises(ValueError, match="Expected `prediction` to be of the whole H&E that was registered"):
        registered_reals(part, None, pairs / "a_ihc.png", pairs.parent / "a.json", tmp_path)


def test_registration_without_an_h_and_e_is_refused(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name the H&E of each prediction with --content"):
        registered_reals(pairs / "a_he.png", None, pairs / "a_ihc.png", None, tmp_path)


def test_pairs_are_registered_where_no_transform_is_named(tmp_path: Path) -> None:
    image, affine = turned(section(5, 64, "ihc", 1), 20, mirror=False)
    files = [tmp_path / name for name in ("he.png", "ihc.png")]
    for file, pixels in zip(files, (section(5, 64, "he"), image), strict=True):
        write_image(file, pixels)
    folder = registered_reals(files[0], files[0], files[1], None, tmp_path, MPP)
    assert error_px(read_transform(folder / "he.json"), affine, 64) < 1
    assert read_image(folder / "he.png").shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--register", "-o", "report"], "Expected `register` to be given with --real and -o"),
        (["--transform", "a.json", "-o", "report"], "Expected `transform` to be given with --real and -o"),
        (["--real", "x.png", "--transform", "a", "--register", "-o", "report"], "without --register, got both"),
    ],
)
def test_options_that_do_not_go_together(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    status, _, err = run(capsys, "evaluate", "virtual.png", *options)
    assert status == 2
    assert message in " ".join(err.split())
