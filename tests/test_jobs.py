import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from chromogen.app import jobs
from chromogen.app.jobs import Styles, Stylist
from chromogen.app.paths import SideOutputs, check_side_outputs, plan
from chromogen.image import Image, read_image, read_provenance, write_image
from chromogen.provenance import NOTICE, sha256_of
from chromogen.style.encoder import Encoder
from chromogen.style.memory import Limits
from chromogen.style.recipes import Recipe, content_term, from_record, style_term

QUICK = Recipe((content_term(), style_term(layers=("relu1_1",))), steps=(3,))
Files = tuple[Path, Path]


def folder_of(tmp_path: Path, content: Image, *names: str) -> Path:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for name in names:
        write_image(folder / name, content)
    return folder


# --- plan ---


def test_one_content_goes_to_the_file_named(files: Files, tmp_path: Path) -> None:
    assert plan([files[0]], tmp_path / "out.png", [files[1]]) == [(files[0], tmp_path / "out.png")]


def test_one_content_goes_into_a_folder_that_is_there(files: Files, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert plan([files[0]], tmp_path / "out", [files[1]]) == [(files[0], tmp_path / "out/content.png")]


def test_a_folder_stands_for_its_images_and_makes_a_folder(files: Files, tmp_path: Path, content: Image) -> None:
    folder = folder_of(tmp_path, content, "b.jpg", "a.png")
    (folder / "notes.txt").write_text("not an image")
    jobs = plan([folder], tmp_path / "out", [files[1]])
    assert [(read.name, written.name) for read, written in jobs] == [("a.png", "a.png"), ("b.jpg", "b.png")]
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("content.png", "`out` to be another file than the inputs"),
        ("style.png", "`out` to be another file than the inputs"),
        ("./x/../content.png", "another file than the inputs"),
        ("out.xyz", "a file ending in .png"),
        ("missing/out.png", "in a folder that exists"),
    ],
)
def test_outputs_that_cannot_be(files: Files, tmp_path: Path, out: str, message: str) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(ValueError, match=message):
        plan([files[0]], tmp_path / out, [files[1]])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content.png", "style.png", "x"]


def test_a_link_to_an_input_is_that_input(files: Files, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(files[0])
    with pytest.raises(ValueError, match="another file"):
        plan([files[0]], tmp_path / "link.png", [files[1]])


def test_results_may_not_land_on_a_content_in_another_unicode_form(
    files: Files, tmp_path: Path, content: Image
) -> None:
    folder = folder_of(tmp_path, content, "\u00e9.png")
    with pytest.raises(ValueError, match="another file"):
        plan([folder / "\u00e9.png"], folder / "e\u0301.png", [files[1]])


def test_results_are_named_as_evaluate_matches_them(files: Files, tmp_path: Path, content: Image) -> None:
    folder = folder_of(tmp_path, content, "a.b.tif", "c.ome.tif", "e\u0301.PNG")
    outs = [out.name for _, out in plan([folder], tmp_path / "out", [files[1]])]
    assert outs == ["a.b.png", "c.png", "\u00e9.png"]


def test_results_may_not_land_on_the_contents(files: Files, tmp_path: Path, content: Image) -> None:
    folder = folder_of(tmp_path, content, "a.png")
    with pytest.raises(ValueError, match="another file"):
        plan([folder], folder, [files[1]])


def test_two_contents_of_one_name(files: Files, tmp_path: Path, content: Image) -> None:
    folder = folder_of(tmp_path, content, "a.png", "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png, both called a; rename one"):
        plan([folder], tmp_path / "out", [files[1]])
    assert not (tmp_path / "out").exists()


def test_several_contents_need_a_folder(files: Files, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ValueError, match="a folder that is there or can be made"):
        plan(list(files), tmp_path / "out", [files[1]])


@pytest.mark.parametrize("missing", [0, 1])
def test_missing_inputs(files: Files, tmp_path: Path, missing: int) -> None:
    files[missing].unlink()
    with pytest.raises(FileNotFoundError, match=f"got .*{files[missing].name}'; check the spelling"):
        plan([files[0]], tmp_path / "out.png", [files[1]])


def test_no_content(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one CONTENT and one STYLE, got 1 path"):
        plan([], tmp_path / "out.png", [files[1]])


def test_a_folder_without_images(files: Files, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty"):
        plan([tmp_path / "empty"], tmp_path / "out", [files[1]])


def test_a_folder_nobody_can_write_in(files: Files) -> None:
    with pytest.raises(ValueError, match="in a folder that can be written to"):
        plan([files[0]], Path("/proc/out.png"), [files[1]])


# --- what is written beside ---


def test_side_outputs_are_checked_before_anything_runs(files: Files, tmp_path: Path) -> None:
    jobs = [(files[0], tmp_path / "out.png")]

    def check(trace: Path | None = None, plot: Path | None = None, preview: Path | None = None) -> None:
        check_side_outputs(jobs, [files[1]], SideOutputs(trace, plot, preview))

    with pytest.raises(ValueError, match="another file"):
        check(trace=files[1])
    with pytest.raises(ValueError, match="another file"):
        check(plot=tmp_path / "out.png")
    with pytest.raises(ValueError, match="another file"):
        check(trace=tmp_path / "both.svg", plot=tmp_path / "both.svg")
    with pytest.raises(ValueError, match="to be a file, got the folder"):
        check(trace=tmp_path)
    with pytest.raises(ValueError, match="in a folder that exists"):
        check(trace=tmp_path / "no/trace.jsonl")
    with pytest.raises(ValueError, match="ending in .png, .svg, .pdf"):
        check(plot=tmp_path / "plot.bmp")
    (tmp_path / "old.jsonl").write_text("old")
    check(trace=tmp_path / "old.jsonl", preview=tmp_path / "previews")
    assert not (tmp_path / "old.jsonl").exists()
    assert (tmp_path / "previews").is_dir()


# --- styles ---


def test_styles_are_resampled_to_the_contents_pixel_size(files: Files, encoder: Encoder) -> None:
    stylist = Stylist(Styles((files[1],), mpp=0.25), QUICK, encoder)
    assert stylist.style(0.5).images[0].shape == (32, 32, 3)
    assert stylist.style(0.125).images[0].shape == (128, 128, 3)
    assert stylist.style(None).images[0].shape == (64, 64, 3)
    assert Stylist(Styles((files[1],)), QUICK, encoder).style(0.5).images[0].shape == (64, 64, 3)


def test_styles_brought_to_a_size(files: Files, encoder: Encoder) -> None:
    stylist = Stylist(Styles((files[1],), longest_px=72), QUICK, encoder)
    assert stylist.style(None).images[0].shape == (72, 72, 3)


def test_a_bad_style_shows_before_the_first_content(files: Files, encoder: Encoder) -> None:
    files[1].write_bytes(b"not an image")
    with pytest.raises(ValueError, match="style.png"):
        Stylist(Styles((files[1],)), QUICK, encoder)


@pytest.mark.parametrize("mpp", [0.0, -1.0, 1000.0, float("nan")])
def test_pixel_sizes_that_no_microscope_has(files: Files, encoder: Encoder, mpp: float) -> None:
    with pytest.raises(ValueError, match="`style_mpp` to be from 0.05 to 20 um"):
        Styles((files[1],), mpp=mpp)
    with pytest.raises(ValueError, match="`mpp` to be from 0.05 to 20 um"):
        Stylist(Styles((files[1],)), QUICK, encoder, content_mpp=mpp)


def test_a_style_size_beside_a_pixel_size(files: Files) -> None:
    with pytest.raises(ValueError, match="`style_size` to be left out"):
        Styles((files[1],), mpp=0.5, longest_px=100)


# --- one file ---


def test_a_stylized_file_carries_how_it_was_made(files: Files, tmp_path: Path, encoder: Encoder) -> None:
    recipe = replace(QUICK, seed=5)
    result, facts = Stylist(Styles((files[1],)), recipe, encoder).stylize_file(files[0], tmp_path / "out.png")
    assert np.array_equal(read_image(tmp_path / "out.png"), result.image)
    kept = read_provenance(tmp_path / "out.png")
    assert kept is not None
    assert kept["notice"] == NOTICE
    assert kept["content_sha256"] == sha256_of(files[0])
    assert kept["style_sha256"] == [sha256_of(files[1])]
    assert from_record(kept["recipe"]) == recipe
    assert kept["encoder"]["weights_sha256"] == encoder.weights.sha256
    assert {key: facts[key] for key in kept} == kept
    assert json.loads(json.dumps(facts)) == facts
    assert "content.png" not in json.dumps(kept), "file names can identify a patient"


def test_a_content_that_changes_meanwhile_is_not_what_the_file_says(
    files: Files, tmp_path: Path, encoder: Encoder
) -> None:
    read = sha256_of(files[0])

    def change(_step: object, _picture: object) -> None:
        files[0].write_bytes(b"another by now")

    Stylist(Styles((files[1],)), QUICK, encoder).stylize_file(files[0], tmp_path / "out.png", [change])
    kept = read_provenance(tmp_path / "out.png")
    assert kept is not None
    assert kept["content_sha256"] == read


def test_the_longer_side_is_brought_to_size(files: Files, tmp_path: Path, encoder: Encoder) -> None:
    stylist = Stylist(Styles((files[1],)), QUICK, encoder, longest_px=24, content_mpp=0.5)
    _, facts = stylist.stylize_file(files[0], tmp_path / "out.png")
    assert read_image(tmp_path / "out.png").shape == (20, 24, 3)
    assert (facts["size"], facts["mpp"]) == ([24, 20], 1.0)


def test_sizes_beyond_any_image_are_refused(files: Files, tmp_path: Path, encoder: Encoder) -> None:
    huge = Stylist(Styles((files[1],)), QUICK, encoder, longest_px=1_000_000)
    with pytest.raises(
        ValueError, match=r"`size` to be at most 178,956,970 px in all, got 1,000,000 x 833,333 px"
    ):
        huge.stylize_file(files[0], tmp_path / "out.png")
    with pytest.raises(ValueError, match="px in all"):
        Stylist(Styles((files[1],), mpp=20), QUICK, encoder, content_mpp=0.05, longest_px=None).style(0.001)


def test_styles_are_measured_once(files: Files, tmp_path: Path, encoder: Encoder) -> None:
    plain = Stylist(Styles((files[1],)), QUICK, encoder)
    assert plain.style(0.5) is plain.style(None)
    by_mpp = Stylist(Styles((files[1],), mpp=0.5), QUICK, encoder)
    assert by_mpp.style(0.5) is by_mpp.style(0.5)


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        (Limits(), []),
        (Limits(tile_px=512), ["back", "back", "back"]),
        (Limits(max_memory_bytes=10**12), ["back", "back", "keep"]),
        (Limits(max_memory_bytes=-1), ["back", "back", "back from"]),
    ],
)
def test_freed_memory_is_given_back_before_the_style_is_measured_where_there_are_limits(
    files: Files,
    content: Image,
    encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    limits: Limits,
    wanted: list[str],
) -> None:
    """A limit of -1 stands for two gigabytes more than is taken: for tiles."""
    if limits.max_memory_bytes == -1:
        limits = Limits(max_memory_bytes=int((psutil.Process().memory_info().rss + 2e9) / 0.9))
    image, done = np.full((1200, 1400, 3), 200, np.uint8), []
    monkeypatch.setattr(jobs, "give_back_freed_memory", lambda *size: done.append("back from" if size else "back"))
    monkeypatch.setattr(jobs, "keep_freed_memory", lambda: done.append("keep"))
    monkeypatch.setattr(Stylist, "style", lambda *_: done.append("style"))
    _, need = Stylist(Styles((files[1],)), QUICK, encoder, limits=limits).measured(image, 0.5)
    assert [what for what in done if what != "style"] == wanted
    assert done[0] == (wanted or ["style"])[0]
    assert done[-1] == (wanted or ["style"])[-1]
    assert (need.tile_px is not None) == (bool(wanted) and wanted[-1] != "keep")
