"""Whole slides from end to end, and all that may come between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import immunohistochemistry

from chromogen.compute.memory import LruCache
from chromogen.compute.tiles import SlidingWindow, whole
from chromogen.image import Image, read_image, read_provenance
from chromogen.slides import store as store_module
from chromogen.slides import writer as writer_module
from chromogen.slides.facts import read_facts
from chromogen.slides.pyramid import COMPRESSIONS
from chromogen.slides.slide import open_slide
from chromogen.slides.source import SlideError, out_of_reach
from chromogen.staining.confidence import heat_map
from chromogen.staining.stainer import LOOK_WINDOW_PX, STAINERS, Stainer
from chromogen.whole_slide import blocks as blocks_module
from chromogen.whole_slide import job as output_module
from chromogen.whole_slide import stain as stain_module
from chromogen.whole_slide import survey as survey_module
from chromogen.whole_slide import view as view_module
from chromogen.whole_slide.blocks import Block, Done, in_threads
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import DamageError, SlideFile, View
from synthetic_slides import GLASS, SyntheticSource, coordinates, paint_coordinates, synthetic_slide, write_pyramid
from test_stainer import brighter_around

SIZE = (700, 500)
BLOCK_PX = 128

Opened = Callable[..., Any]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks in a small picture."""
    monkeypatch.setattr(stain_module, "BLOCK_PX", BLOCK_PX)
    monkeypatch.setattr(survey_module, "OVERVIEW_PX", 300)


@pytest.fixture
def tissue(monkeypatch: pytest.MonkeyPatch) -> SyntheticSource:
    """A slide of tissue that is opened whatever the path, until a file of our own is."""
    source = SyntheticSource(SIZE)
    really = view_module.open_slide

    def opened(path: Path, **options: Any) -> Any:
        if Path(path).name != "synthetic":
            return really(path, **options)
        slide = synthetic_slide(source.size, source.paint, broken=source.broken, factors=source.factors)
        slide.path = Path(path)
        return slide

    monkeypatch.setattr(view_module, "open_slide", opened)
    return source


def job(stainer: str | Stainer = "identity", **more: Any) -> SlideJob:
    made = Stainer.from_pretrained(stainer) if isinstance(stainer, str) else stainer
    return SlideJob(SlideFile(Path("synthetic")), made, **more)


def lossless(folder: Path, name: str = "out.ome.tif") -> Output:
    return Output(folder / name, "deflate")


def pixels(path: Path) -> Image:
    with open_slide(path) as slide:
        return slide.read_region((0, 0), slide.size)


def seen(source: SyntheticSource) -> Image:
    return source.read(0, (0, 0), source.size)


# --- what comes out ---


@pytest.mark.usefixtures("tissue")
@pytest.mark.parametrize("stainer", STAINERS)
def test_tiled_equals_untiled_whatever_the_blocks(
    stainer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for block_px in (2048, 80):
        monkeypatch.setattr(stain_module, "BLOCK_PX", block_px)
        output = lossless(tmp_path, f"{block_px}.ome.tif")
        facts = stain_slide(job(stainer), output)
        assert facts["tiles"] == -(-SIZE[0] // block_px) * -(-SIZE[1] // block_px)
        made.append(pixels(output.path))
    np.testing.assert_array_equal(made[0], made[1])


def test_tissue_is_stained_and_glass_is_glass(tissue: SyntheticSource, tmp_path: Path) -> None:
    facts = stain_slide(job("color-transfer"), lossless(tmp_path))
    made = pixels(tmp_path / "out.ome.tif")
    fitted = Stainer.from_pretrained("color-transfer").fit(seen(tissue))
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    inside = ((x - 350) / 310) ** 2 + ((y - 250) / 220) ** 2 <= 1
    np.testing.assert_array_equal(made[inside], fitted(seen(tissue))[inside])
    assert (made[:3] == GLASS).all()
    assert facts["seam_score"] == pytest.approx(1, abs=0.1)
    # Strips of glass of up to 16 um between the ellipse and the slide's border count as gaps.
    assert facts["tissue_fraction"] == pytest.approx(0.81 * np.pi / 4, abs=0.045)
    assert not (tmp_path / "out.ome.tif.chromogen").exists()


def test_without_a_mask_every_pixel_is_stained(tissue: SyntheticSource, tmp_path: Path) -> None:
    facts = stain_slide(job("identity", mask_tissue=False), lossless(tmp_path))
    np.testing.assert_array_equal(pixels(tmp_path / "out.ome.tif"), seen(tissue))
    assert facts["tiles_stained"] == facts["tiles"]


def test_glass_is_not_even_read(tissue: SyntheticSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stain_module, "BLOCK_PX", 32)
    facts = stain_slide(job("identity"), lossless(tmp_path))
    assert 0.1 < 1 - facts["tiles_stained"] / facts["tiles"] < 0.36


@pytest.mark.usefixtures("tissue")
def test_halos_reach_into_the_neighbours(tmp_path: Path) -> None:
    blur = Stainer("blur", "as it is", brighter_around, "blur 1", halo_px=3)
    stain_slide(job(blur, mask_tissue=False), lossless(tmp_path))
    with view_module.open_slide("synthetic") as slide:
        expected = blur(slide.read_region((0, 0), SIZE))
    np.testing.assert_array_equal(pixels(tmp_path / "out.ome.tif"), expected)


@pytest.mark.usefixtures("tissue")
def test_a_region_is_cut_out_of_the_whole(tmp_path: Path) -> None:
    blur = Stainer("blur", "as it is", brighter_around, "blur 1", halo_px=3)
    stain_slide(job(blur), lossless(tmp_path, "whole.ome.tif"))
    stain_slide(job(blur, region=(101, 57, 333, 222)), lossless(tmp_path, "part.ome.tif"))
    expected = pixels(tmp_path / "whole.ome.tif")[57 : 57 + 222, 101 : 101 + 333]
    np.testing.assert_array_equal(pixels(tmp_path / "part.ome.tif"), expected)


@pytest.mark.filterwarnings("ignore:.* looks like an IHC:UserWarning")  # coordinates as colours
def test_the_output_has_the_stainers_mpp_and_says_how_it_was_made(tissue: SyntheticSource, tmp_path: Path) -> None:
    tissue.paint = paint_coordinates
    coarse = Stainer("half", "as it is", lambda image, *_: image, "half 1", mpp=1.0)
    facts = stain_slide(job(coarse, mask_tissue=False), lossless(tmp_path))
    with open_slide(tmp_path / "out.ome.tif") as slide, view_module.open_slide("synthetic") as source:
        assert slide.size == (350, 250)
        assert slide.mpp == pytest.approx(1.0)
        np.testing.assert_array_equal(
            slide.read_region((0, 0), slide.size), View(source, 1.0).read(whole((350, 250)))
        )
    said = read_facts(tmp_path / "out.ome.tif")
    assert said is not None
    assert said.stainer_hash == "half 1"
    assert said.source_quickhash == facts["settings"]["slide"]
    assert said.source_mpp == 0.5
    assert said.settings["tissue_mask"] is False
    assert said.made


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (1023, 1)])
def test_any_size(size: tuple[int, int], tissue: SyntheticSource, tmp_path: Path) -> None:
    tissue.size, tissue.factors = size, (1,)
    stain_slide(job("identity", mask_tissue=False), lossless(tmp_path))
    np.testing.assert_array_equal(pixels(tmp_path / "out.ome.tif"), seen(tissue))


@pytest.mark.usefixtures("tissue")
def test_torch_has_its_threads_back_and_one_in_a_block(tmp_path: Path) -> None:
    before, within = torch.get_num_threads(), set()

    def paint(image: Image, _statistics: object, _location: object) -> Image:
        within.add(torch.get_num_threads())
        return image

    try:
        torch.set_num_threads(2)
        stain_slide(job(Stainer("spy", "as it is", paint, "spy 1")), lossless(tmp_path))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert within == {1}


@pytest.mark.usefixtures("tissue")
def test_zarr_holds_the_same(tmp_path: Path) -> None:
    stain_slide(job(), lossless(tmp_path))
    for _ in range(2):  # the second takes the place of the first
        stain_slide(job(), Output(tmp_path / "out.ome.zarr"), restart=True)
        np.testing.assert_array_equal(pixels(tmp_path / "out.ome.zarr"), pixels(tmp_path / "out.ome.tif"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.ome.tif", "out.ome.zarr"]


@pytest.mark.usefixtures("tissue")
def test_anonymous_leaves_out_when(tmp_path: Path) -> None:
    stain_slide(job(), Output(tmp_path / "out.ome.tif", "deflate", anonymous=True))
    said = read_facts(tmp_path / "out.ome.tif")
    assert said is not None
    assert said.made is None
    assert said.settings["stainer"] == "identity 1"


# --- nothing is lost ---


def stopping_after(count: int, error: Exception) -> Any:
    """A run that ends like a crash after some blocks."""

    def run(function: Callable[[Block], Done], blocks: Iterable[Block]) -> Iterator[Done]:
        for number, block in enumerate(blocks):
            if number == count:
                raise error
            yield function(block)

    return run


@pytest.mark.usefixtures("tissue")
@pytest.mark.parametrize(("count", "stainer"), [(0, "identity"), (1, "identity"), (7, "color-transfer")])
def test_a_stopped_job_goes_on_to_the_same_pixels(count: int, stainer: str, tmp_path: Path) -> None:
    stain_slide(job(stainer), lossless(tmp_path, "once.ome.tif"))
    output = lossless(tmp_path)
    with pytest.raises(OSError, match="No space"):
        stain_slide(job(stainer), output, run=stopping_after(count, OSError(28, "No space left on device")))
    assert not output.path.exists()
    facts = stain_slide(job(stainer), output)
    assert facts["tiles_found"] == count
    np.testing.assert_array_equal(pixels(output.path), pixels(tmp_path / "once.ome.tif"))
    assert not output.store.exists()


@pytest.mark.usefixtures("tissue")
def test_other_settings_are_refused_until_told_to_begin_anew(tmp_path: Path) -> None:
    output = lossless(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        stain_slide(job(), output, run=stopping_after(5, KeyboardInterrupt()))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r'stainer "identity 1" then and "normalize 1" now; add --restart'):
        stain_slide(job("normalize"), output)
    assert stain_slide(job("normalize"), output, restart=True)["tiles_found"] == 0


def test_another_slide_of_the_same_name_is_noticed(tissue: SyntheticSource, tmp_path: Path) -> None:
    output = lossless(tmp_path)
    with pytest.raises(OSError, match="full"):
        stain_slide(job(), output, run=stopping_after(5, OSError("full")))
    tissue.size = (701, 500)
    with pytest.raises(ValueError, match="slide"):
        stain_slide(job(), output)


@pytest.mark.usefixtures("tissue")
def test_what_is_done_is_left_as_it_is(tmp_path: Path) -> None:
    output = lossless(tmp_path)
    stain_slide(job(), output)
    before = output.path.stat().st_mtime_ns
    assert stain_slide(job(), output)["already_done"]
    assert output.path.stat().st_mtime_ns == before
    assert "already_done" not in stain_slide(job(), Output(output.path, "jpeg"))
    assert "already_done" not in stain_slide(job(), Output(output.path, "jpeg"), restart=True)
    assert "already_done" not in stain_slide(job(mask_tissue=False), Output(output.path, "jpeg"))


@pytest.mark.usefixtures("tissue")
def test_a_block_broken_since_is_made_again(tmp_path: Path) -> None:
    stain_slide(job(), lossless(tmp_path, "once.ome.tif"))
    output = lossless(tmp_path)
    with pytest.raises(OSError, match="full"):
        stain_slide(job(), output, run=stopping_after(6, OSError("full")))
    chunks = sorted((output.store / "blocks" / "c").glob("*/*/0"))
    chunks[1].write_bytes(chunks[1].read_bytes()[:40])
    assert stain_slide(job(), output)["tiles_found"] == 5
    np.testing.assert_array_equal(pixels(output.path), pixels(tmp_path / "once.ome.tif"))


@pytest.mark.usefixtures("tissue")
def test_a_second_job_on_the_same_output_is_refused(tmp_path: Path) -> None:
    output = lossless(tmp_path)
    refused: list[str] = []

    def meanwhile(_done: int, _of: int) -> None:
        if not refused:
            with pytest.raises(OSError, match="another job") as caught, store_module.claimed(output.store):
                pass
            refused.append(str(caught.value))

    stain_slide(job(), output, on_block=meanwhile)
    assert refused
    assert output.path.exists()


@pytest.mark.usefixtures("tissue")
def test_two_jobs_of_one_process_share_a_slide(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        made = pool.map(lambda n: stain_slide(job(), lossless(tmp_path, f"{n}.ome.tif")), range(2))
    assert [facts["tiles"] for facts in made] == [24, 24]
    np.testing.assert_array_equal(pixels(tmp_path / "0.ome.tif"), pixels(tmp_path / "1.ome.tif"))


@pytest.mark.usefixtures("tissue")
def test_a_disk_that_is_nearly_full_is_seen_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(OSError, match=r"GB free while it is made, got 0.0 GB"):
        stain_slide(job(), lossless(tmp_path))


def noisy(kind: str, width: int, height: int) -> Image:
    """Tissue as a camera sees it, or the worst there can be."""
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    tissue = np.asarray(immunohistochemistry())[:, :, :3]
    tiled = np.tile(tissue, (-(-height // 512), -(-width // 512), 1))[:height, :width]
    return (tiled + rng.normal(0, 8, tiled.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("kind", "name", "compression", "quality"),
    [
        ("tissue", "out.ome.tif", "jpeg", None),
        ("tissue", "out.ome.tif", "jpeg", 95),
        ("tissue", "out.ome.tif", "jpeg", 100),
        ("tissue", "out.ome.tif", "jpeg2000", None),
        ("tissue", "out.ome.tif", "jpeg2000", 60),
        ("tissue", "out.ome.tif", "deflate", None),
        ("tissue", "out.ome.zarr", "jpeg", None),
        ("noise", "out.ome.tif", "deflate", None),
        ("noise", "out.ome.zarr", "jpeg", None),
    ],
)
def test_what_is_asked_of_the_disk_is_what_is_written(
    kind: str, name: str, compression: str, quality: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Store, spool and output at their peak, of tissue as scanners see it, and of the worst there can be."""
    monkeypatch.setattr(stain_module, "BLOCK_PX", 512)
    slide = write_pyramid(tmp_path / "slide.tif", noisy(kind, 512, 600))
    asked, peak = [], [0]
    most_bytes, write_tiff, verify = stain_module._most_bytes, writer_module._write_tiff, output_module.verify
    folder = tmp_path / "out"
    folder.mkdir()

    def note(more: int = 0) -> None:
        peak[0] = max(peak[0], more + sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()))

    def write_and_note(path: Path, spool: Any, *more: Any) -> None:
        write_tiff(path, spool, *more)
        note(spool.size_bytes)

    monkeypatch.setattr(stain_module, "_most_bytes", lambda making: asked.append(most_bytes(making)) or 0)
    monkeypatch.setattr(writer_module, "_write_tiff", write_and_note)
    monkeypatch.setattr(output_module, "verify", lambda *given: (note(), verify(*given)))
    job = SlideJob(SlideFile(slide), Stainer.from_pretrained("identity"), mask_tissue=False)
    stain_slide(job, Output(folder / name, compression, quality))
    assert peak[0] <= asked[0] < 2.5 * peak[0]


def test_what_is_asked_of_the_disk_counts_glass_and_what_is_there(
    tissue: SyntheticSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    most_bytes = stain_module._most_bytes
    monkeypatch.setattr(stain_module, "_most_bytes", lambda making: asked.append(most_bytes(making)) or 0)
    tissue.size = (1000, 750)
    for mask in (False, True):
        stain_slide(job(mask_tissue=mask), lossless(tmp_path, f"{mask}.ome.tif"))
    with pytest.raises(OSError, match="full"):
        stain_slide(job(), lossless(tmp_path, "again.ome.tif"), run=stopping_after(30, OSError("full")))
    stain_slide(job(), lossless(tmp_path, "again.ome.tif"))
    whole, masked, again, resumed = asked
    assert masked == again < whole
    assert resumed < masked - 15 * 3 * BLOCK_PX**2


def test_glass_takes_no_more_than_is_counted() -> None:
    glass = np.full((512, 512, 3), (243, 240, 246), np.uint8)
    for how in COMPRESSIONS.values():
        for quality in {how.quality, *how.qualities[-1:]}:
            assert 4 / 3 * len(how.encode(glass, quality)) <= output_module.GLASS_BYTES * 512**2


@pytest.mark.usefixtures("tissue")
def test_a_disk_that_fills_up_while_the_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever block of the output it is that does not fit: blocks are kept, and nothing half-written is left."""
    output = lossless(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(
            "chromogen.slides.writer._write_tiff",
            lambda *_args, **_options: (_ for _ in ()).throw(OSError(28, "No space left on device")),
        )
        with pytest.raises(OSError, match="No space"):
            stain_slide(job(), output)
    assert not output.path.exists()
    facts = stain_slide(job(), output)
    assert facts["tiles_found"] == facts["tiles"]


@pytest.mark.usefixtures("tissue")
def test_every_block_may_be_the_one_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stain_slide(job(), lossless(tmp_path, "once.ome.tif"))
    output, really = lossless(tmp_path), store_module.BlockStore.write
    for number in range(3):
        left = iter(range(5))

        def write(*given: Any, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise OSError(28, "No space left on device")
            really(*given)

        with monkeypatch.context() as full:
            full.setattr(store_module.BlockStore, "write", write)
            with pytest.raises(OSError, match="No space"):
                stain_slide(job(), output, run=in_threads(1))
        assert len(list((output.store / "blocks" / "c").glob("*/*/0"))) == 5 * (number + 1)
    stain_slide(job(), output)
    np.testing.assert_array_equal(pixels(output.path), pixels(tmp_path / "once.ome.tif"))


# --- slides that are damaged ---


def test_a_broken_tile_is_left_white_and_listed(tissue: SyntheticSource, tmp_path: Path) -> None:
    stain_slide(job(), lossless(tmp_path, "sound.ome.tif"))
    tissue.broken, tissue.factors = [(300, 200, 40, 40)], (1, 4, 16, 64)
    facts = stain_slide(job(), lossless(tmp_path))
    lost = np.zeros(SIZE[::-1], bool)
    for x, y, w, h in facts["unreadable"]:
        lost[y : y + h, x : x + w] = True
    assert lost[200:240, 300:340].all()
    assert lost.mean() < 0.25
    made = pixels(tmp_path / "out.ome.tif")
    assert (made[lost] >= GLASS).all()
    said = read_facts(tmp_path / "out.ome.tif")
    assert said is not None
    assert sorted(said.statistics["unreadable"]) == sorted(facts["unreadable"])


def test_what_was_found_broken_is_listed_after_a_crash_too(tissue: SyntheticSource, tmp_path: Path) -> None:
    tissue.broken = [(10 * 32, 7 * 32, 8, 8)]
    output = lossless(tmp_path)
    with pytest.raises(OSError, match="full"):
        stain_slide(job(), output, run=stopping_after(23, OSError("full")))
    assert stain_slide(job(), output)["unreadable"]


def test_strict_stops_at_damage(tissue: SyntheticSource, tmp_path: Path) -> None:
    tissue.broken = [(300, 200, 40, 40)]
    with pytest.raises(DamageError, match="cannot be read"):
        stain_slide(job(), lossless(tmp_path), strict=True)
    assert not (tmp_path / "out.ome.tif").exists()


def test_a_slide_of_which_nothing_can_be_read_is_no_white_slide(tissue: SyntheticSource, tmp_path: Path) -> None:
    tissue.broken = [(0, 0, *SIZE)]
    with pytest.raises(DamageError, match="Nothing"):
        stain_slide(job(), lossless(tmp_path))
    assert not (tmp_path / "out.ome.tif").exists()


def test_a_slide_that_vanishes_stops_the_job_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_pyramid(tmp_path / "slide.tif", coordinates(*SIZE))
    away, output = tmp_path / "away.tif", lossless(tmp_path)
    vanishing = SlideJob(SlideFile(slide), Stainer.from_pretrained("identity"), mask_tissue=False)

    def gone(*_asked: object) -> Image:
        raise out_of_reach(slide, "No such file or directory")

    def run(function: Callable[[Block], Done], blocks: Iterable[Block]) -> Iterator[Done]:
        for number, block in enumerate(blocks):
            if number == 5:
                slide.rename(away)
                with view_module.shared_slide(SlideFile(slide)) as opened:
                    monkeypatch.setattr(opened._source, "read", gone)
            yield function(block)

    with pytest.raises(OSError, match=r"slide\.tif"):
        stain_slide(vanishing, output, run=run)
    away.rename(slide)
    assert stain_slide(vanishing, output)["tiles_found"] == 5
    np.testing.assert_array_equal(pixels(output.path), coordinates(*SIZE))


def test_no_slide_at_all(tmp_path: Path) -> None:
    (tmp_path / "text.svs").write_text("not a slide")
    with pytest.raises(SlideError):
        stain_slide(
            SlideJob(SlideFile(tmp_path / "text.svs"), Stainer.from_pretrained("identity")), lossless(tmp_path)
        )
    assert [p.name for p in tmp_path.iterdir()] == ["text.svs"]


@pytest.mark.parametrize("name", ["out.png", "out", "out.tif"])
def test_a_slides_name_is_needed(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ending in \.ome\.tif"):
        Output(tmp_path / name)


# --- killed at any moment ---

KILLED = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide import stain, survey
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.job import Output
from chromogen.whole_slide.view import SlideFile

if __name__ == "__main__":
    stain.BLOCK_PX, survey.OVERVIEW_PX = 128, 300
    job = SlideJob(SlideFile(Path(sys.argv[1])), Stainer.from_pretrained("color-transfer"))
    output = Output(Path(sys.argv[2]), "deflate")
    stain.stain_slide(job, output, on_block=lambda done, of: print(done, flush=True))
"""


@pytest.mark.slow
def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """At the start, between blocks, while the output is written, and again and again."""
    image = SyntheticSource((1500, 1200)).read(0, (0, 0), (1500, 1200))
    slide = write_pyramid(tmp_path / "slide.tif", image, (4,))
    made = SlideJob(SlideFile(slide), Stainer.from_pretrained("color-transfer"))
    stain_slide(made, lossless(tmp_path, "once.ome.tif"))
    blocks = 12 * 10
    done, output = 0, tmp_path / "out.ome.tif"
    for after in (0, 1, 20, 60, blocks):
        command = [sys.executable, "-c", KILLED, str(slide), str(output)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if int(line) >= after:
                    break
            process.send_signal(signal.SIGKILL)
        assert process.wait() in {-signal.SIGKILL, 0}
        if output.exists():
            break
        there = len(list((tmp_path / "out.ome.tif.chromogen" / "blocks" / "c").glob("*/*/0")))
        assert there >= max(done, after)
        done = there
    stain_slide(made, lossless(tmp_path))
    np.testing.assert_array_equal(pixels(output), pixels(tmp_path / "once.ome.tif"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["once.ome.tif", "out.ome.tif", "slide.tif"]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    from chromogen.whole_slide.blocks import local_cluster, on_cluster

    image = SyntheticSource((1500, 1200)).read(0, (0, 0), (1500, 1200))
    made = SlideJob(
        SlideFile(write_pyramid(tmp_path / "slide.tif", image, (4,))), Stainer.from_pretrained("color-transfer")
    )
    stain_slide(made, lossless(tmp_path, "here.ome.tif"))
    with local_cluster(2) as client:
        victims = iter(client.run(os.getpid).values())

        def kill(done: int, _of: int) -> None:
            if done in {10, 60}:
                os.kill(next(victims), signal.SIGKILL)

        facts = stain_slide(made, lossless(tmp_path), run=on_cluster(client), on_block=kill)
    assert next(victims, None) is None
    assert facts["tiles_found"] == 0
    np.testing.assert_array_equal(pixels(tmp_path / "out.ome.tif"), pixels(tmp_path / "here.ome.tif"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no limits of this kind")
def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The operating system refuses to write more than so many bytes of one file."""
    image = SyntheticSource((1500, 1200)).read(0, (0, 0), (1500, 1200))
    slide = write_pyramid(tmp_path / "slide.tif", image, (4,))
    limited = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    for limit in (20_000, 200_000):
        code = limited + f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n" + KILLED
        command = [sys.executable, "-c", code, str(slide), str(tmp_path / "out.ome.tif")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 1
        assert "File too large" in ended.stderr
        assert not (tmp_path / "out.ome.tif").exists()
    made = SlideJob(SlideFile(slide), Stainer.from_pretrained("color-transfer"))
    assert stain_slide(made, lossless(tmp_path))["tiles_found"] > 0


def test_blocks_know_their_place_in_the_order_of_the_pyramid() -> None:
    order = sorted(((row, column) for row in range(4) for column in range(4)), key=blocks_module._depth_first)
    assert order[:4] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert order[4:6] == [(0, 2), (0, 3)]
    assert order[8] == (2, 0)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_window_of_a_lattice_is_read_and_painted_once(
    tissue: SyntheticSource, tmp_path: Path, threads: int
) -> None:
    """However many blocks share it, in however many threads; and blended they are the whole picture's."""
    painted: list[tuple[int, int]] = []

    def leveled(image: Image, _statistics: object, location: tuple[int, int]) -> Image:
        painted.append(location)
        return np.asarray(255 - image // 2 - location[0] % 7, np.uint8)

    sliding_window = SlidingWindow(BLOCK_PX + 32, 32, fixed=False)
    stainer = Stainer(
        "leveled", "grey", leveled, f"1 {threads}", None, 0.5, 10**6, BLOCK_PX, sliding_window=sliding_window
    )
    out = lossless(tmp_path)
    stain_slide(job(stainer, mask_tissue=False), out, run=in_threads(threads))
    assert sorted(painted) == [(x, y) for x in range(0, 668, BLOCK_PX) for y in range(0, 468, BLOCK_PX)]
    with open_slide(out.path) as made:
        pixels = made.read_region((0, 0), SIZE)
    seen = synthetic_slide(SIZE, tissue.paint).read_region((0, 0), SIZE)
    np.testing.assert_array_equal(pixels, stainer(seen))


def test_blocks_of_a_lattice_come_row_by_row_in_bands() -> None:
    order = sorted(
        ((row, column) for row in range(2) for column in range(blocks_module.BAND + 1)),
        key=blocks_module._in_bands,
    )
    assert order[: blocks_module.BAND] == [(0, column) for column in range(blocks_module.BAND)]
    assert order[blocks_module.BAND] == (1, 0)
    assert order[-2:] == [(0, blocks_module.BAND), (1, blocks_module.BAND)]


def test_hardly_a_window_of_a_look_is_painted_twice() -> None:
    """On a slide of many blocks across: windows are kept until the row below has taken its part."""
    order = sorted(((row, column) for row in range(31) for column in range(31)), key=blocks_module._in_bands)
    kept: LruCache[np.ndarray] = LruCache(blocks_module.MAX_KEPT_BYTES, lambda window: window.nbytes)
    painted: list[tuple[int, int]] = []

    def paint(at: tuple[int, int]) -> np.ndarray:
        painted.append(at)
        return np.empty((LOOK_WINDOW_PX, LOOK_WINDOW_PX, 4), np.uint8)

    for row, column in order:
        for at in product((row, row - 1), (column, column - 1)):
            if min(at) >= 0:
                kept.get(at, partial(paint, at))
    assert len(painted) <= 1.15 * len(order)


MEMORY = """
import json, sys
from pathlib import Path
from chromogen.staining.stainer import Stainer
from chromogen.whole_slide import view
from chromogen.whole_slide.job import SlideJob
from chromogen.whole_slide.job import Output
from chromogen.whole_slide.blocks import in_threads
from chromogen.whole_slide.stain import stain_slide
from synthetic_slides import synthetic_slide

side = int(sys.argv[1])
view.open_slide = lambda path, **_options: synthetic_slide((side, side))
job = SlideJob(view.SlideFile(Path("synthetic")), Stainer.from_pretrained("color-transfer"))
facts = stain_slide(job, Output(Path(sys.argv[2])), run=in_threads(2))
print(json.dumps(facts))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_slide(tmp_path: Path) -> None:
    found = []
    for side in (6000, 12_000):
        command = [sys.executable, "-c", MEMORY, str(side), str(tmp_path / f"{side}.ome.tif")]
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        ended = subprocess.run(command, capture_output=True, text=True, check=True, env=here)
        found.append(json.loads(ended.stdout)["peak_rss_mb"])
    assert found[1] < 1.1 * found[0]
    assert found[1] < 1500


@pytest.mark.parametrize("region", [None, (33, 21, 400, 300)])
def test_a_network_is_seamless_wherever_a_region_begins(
    tissue: SyntheticSource, tmp_path: Path, region: tuple[int, int, int, int] | None
) -> None:
    """Its windows begin at fixed places, seen from the slide and not from the region."""
    from chromogen.staining.where_network import write_model
    from test_where_file import model

    write_model(tmp_path / "model.safetensors", model())
    stainer = Stainer.from_pretrained(tmp_path / "model.safetensors")
    view = synthetic_slide(SIZE, tissue.paint).read_region((0, 0), SIZE)
    fitted = stainer.fit(view)
    stain_slide(job(fitted_by(fitted), region=region, mask_tissue=False), lossless(tmp_path))
    x, y, width, height = region or (0, 0, *SIZE)
    np.testing.assert_array_equal(pixels(tmp_path / "out.ome.tif"), fitted(view)[y : y + height, x : x + width])


def fitted_by(stainer: Stainer) -> Stainer:
    """With statistics that a slide's sample does not change."""
    from dataclasses import replace

    return replace(stainer, measure=None)


def painted_surely(image: Image, _statistics: object, location: tuple[int, int]) -> Image:
    """The image as it is, by a stainer that is sure from x = 256 on."""
    at = location[0] + np.arange(image.shape[1])
    levels = np.broadcast_to(np.where(at < 256, 1, 255), image.shape[:2])
    return np.dstack([image, levels]).astype(np.uint8)


SURE = Stainer("sure", "test", painted_surely, "sure 1")


@pytest.mark.usefixtures("tissue")
def test_how_sure_a_stainer_was_is_written_beside(tmp_path: Path) -> None:
    sure = job(SURE, mask_tissue=False)
    found = stain_slide(sure, lossless(tmp_path), confidence=tmp_path / "sure.png")
    assert found["unlike_fraction"] == pytest.approx(16 / 44, abs=1e-6)  # of squares of 16 px
    facts = read_facts(tmp_path / "out.ome.tif")
    assert facts is not None
    assert facts.statistics["confidence"] == {"unlike_fraction": found["unlike_fraction"]}
    picture = read_image(tmp_path / "sure.png")
    assert picture.shape == (32, 44, 3)
    unlike, like = heat_map(np.array([[1, 255]], np.uint8))[0]
    assert (picture[:, :16] == unlike).all()
    assert (picture[:, 16:] == like).all()
    said = read_provenance(tmp_path / "sure.png") or {}
    assert (said["mpp"], said["stainer"]) == (16 * found["mpp"], "sure")
    assert "violet unlike" in said["shows"]


@pytest.mark.usefixtures("tissue")
def test_a_map_that_is_missing_is_made_though_the_slide_is_there(tmp_path: Path) -> None:
    sure, picture = job(SURE, mask_tissue=False), tmp_path / "sure.png"
    stain_slide(sure, lossless(tmp_path))
    assert "already_done" not in stain_slide(sure, lossless(tmp_path), confidence=picture)
    assert picture.exists()
    assert "already_done" in stain_slide(sure, lossless(tmp_path), confidence=picture)


@pytest.mark.usefixtures("tissue")
def test_a_stopped_job_has_the_same_map(tmp_path: Path) -> None:
    sure = job(SURE)
    whole_map = stain_slide(sure, lossless(tmp_path, "a.ome.tif"), confidence=tmp_path / "a.png")
    with pytest.raises(OSError, match="No space"):
        stain_slide(sure, lossless(tmp_path), run=stopping_after(7, OSError(28, "No space left on device")))
    again = stain_slide(sure, lossless(tmp_path), confidence=tmp_path / "b.png")
    assert again["tiles_found"] > 0
    assert again["unlike_fraction"] == whole_map["unlike_fraction"]
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


@pytest.mark.usefixtures("tissue")
def test_a_stainer_that_does_not_say_how_sure_it_is(tmp_path: Path) -> None:
    assert stain_slide(job(), lossless(tmp_path))["unlike_fraction"] is None
