import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image as Pillow

from chromogen.app.cli import SHOWN, app, main
from chromogen.app.terminal import verdict
from chromogen.image import Image, read_image, read_provenance, to_tensor, write_image
from chromogen.provenance import sha256_of
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import DEFAULT_PRESET, PRESETS, preset
from synthetic import drawn

# Pictures made up of two stains at random may look like anything.
pytestmark = pytest.mark.filterwarnings("ignore:The (style|content) .* (looks like|shows hardly):UserWarning")
QUICK = "--steps 3 --set scales=1 --set style.layers=relu1_1,relu2_1 --set content.layers=relu2_2".split()
Files = tuple[Path, Path]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a wrong request gets."""
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


# --- what works ---


def test_in_tiles_the_picture_is_the_same(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    for name, more in (("whole", []), ("tiled", ["--tile", 32])):
        status, out, err = run(capsys, "stylize", *files, "-o", tmp_path / f"{name}.png", *QUICK, "--json", *more)
        assert status == 0, err
        assert json.loads(out)["tile_px"] == (32 if more else None)
    whole, tiled = (read_image(tmp_path / f"{name}.png").astype(int) for name in ("whole", "tiled"))
    assert np.abs(whole - tiled).max() <= 1


def test_a_dry_run_foretells_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    before = sorted(tmp_path.iterdir())
    command = ["stylize", *files, "-o", tmp_path / "out.png", *QUICK, "--dry-run", "--trace", tmp_path / "t.jsonl"]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    assert "48 x 40 px in one piece, about" in out
    status, out, _ = run(capsys, *command, "--tile", 32, "--json")
    facts = json.loads(out)
    assert (status, facts["tile_px"], facts["tiles"]) == (0, 32, 4)
    assert facts["seconds"] > 0
    assert sorted(tmp_path.iterdir()) == before


def test_too_little_memory_is_said_before_anything_is_done(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    err = refused(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK, "--max-memory", "1M")
    assert "`max_memory` to be at least" in err
    assert "got 0.0 GB" in err
    assert not (tmp_path / "out.png").exists()
    assert "like 2G" in refused(capsys, "stylize", *files, "-o", tmp_path / "o.png", "--max-memory", "much")


def test_stylize_writes_the_picture_and_says_so(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    status, out, err = run(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK)
    assert status == 0, err
    assert read_image(tmp_path / "out.png").shape == (40, 48, 3)
    assert "out.png: 48 x 40 px, 3 steps in" in out
    assert "not for diagnosis" in out


def test_json_is_one_object_with_everything(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    status, out, _ = run(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK, "--json")
    assert status == 0
    facts = json.loads(out)
    wanted = "output seconds peak_rss_mb precision threads steps initial final recipe versions size notice"
    assert set(wanted.split()) <= set(facts)
    assert facts["output"] == str(tmp_path / "out.png")
    assert facts["steps"] == 3
    for losses in (facts["initial"], facts["final"]):
        terms, weights = losses["terms"], {t["name"]: t["weight"] for t in facts["recipe"]["objective"]}
        assert losses["total"] == pytest.approx(sum(weights[name] * terms[name] for name in terms), rel=1e-5)
    assert facts["final"]["total"] < facts["initial"]["total"]


def test_the_paper_presets_initial_style_value_is_the_reports_formula(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, encoder: Encoder
) -> None:
    """Recomputed from raw Grams in float64: sum_l 1/5 * 1/(4 N^2 M^2) * sum (G - A * M_g / M_s)^2."""
    command = ["stylize", *files, "-o", tmp_path / "out.png", "--preset", "paper", "--set", "loss_scale=paper"]
    status, out, _ = run(capsys, *command, "--steps", "1", "--precision", "fp32", "--json")
    assert status == 0
    wanted = 0.0
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"):
        f, a = (encoder(to_tensor(read_image(path)), [layer])[layer][0].double().flatten(1) for path in files)
        n, m = f.shape
        difference = f @ f.T - a @ a.T * (m / a.shape[1])
        wanted += (difference.square().sum() / (4 * n**2 * m**2)).item() / 5
    assert json.loads(out)["initial"]["terms"]["style"] == pytest.approx(wanted, rel=1e-4)
    assert json.loads(out)["initial"]["terms"]["content"] == 0


def test_several_contents_become_a_folder(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, content: Image
) -> None:
    write_image(tmp_path / "second.jpg", content[:24])
    command = ["stylize", files[0], tmp_path / "second.jpg", files[1], "-o", tmp_path / "out", *QUICK, "--json"]
    status, out, _ = run(capsys, *command)
    assert status == 0
    assert [Path(r["output"]).name for r in json.loads(out)["results"]] == ["content.png", "second.png"]
    assert read_image(tmp_path / "out/second.png").shape == (24, 48, 3)


def test_a_folder_of_styles(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    styles, ihc = tmp_path / "ihc", read_image(files[1])
    styles.mkdir()
    for name in ("b.png", "a.png"):
        write_image(styles / name, ihc if name == "a.png" else ihc[:, ::-1].copy())
    status, out, err = run(capsys, "stylize", files[0], styles, "-o", tmp_path / "out.png", *QUICK, "--json")
    assert status == 0, err
    facts = json.loads(out)
    assert facts["style_sha256"] == [sha256_of(styles / name) for name in ("a.png", "b.png")]
    assert facts["style_mix"] == [0.5, 0.5]
    status, _, err = run(capsys, "stylize", files[0], styles, "-o", styles / "a.png", *QUICK)
    assert status != 0
    assert "another file than the inputs" in err
    empty = tmp_path / "empty"
    empty.mkdir()
    status, _, err = run(capsys, "stylize", files[0], empty, "-o", tmp_path / "out.png", *QUICK)
    assert status != 0
    assert "Expected `folder` to be a folder of images" in err


def test_one_bad_file_among_many_does_not_stop_the_rest(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, content: Image
) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    (folder / "a.png").write_bytes(files[0].read_bytes()[:500])
    write_image(folder / "b.png", content)
    status, out, err = run(capsys, "stylize", folder, files[1], "-o", tmp_path / "out", *QUICK, "--json")
    assert status == 1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]
    assert "a.png" in err
    assert list(json.loads(out)["errors"]) == [str(folder / "a.png")]


def test_trace_plot_and_previews(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    beside = ["--trace", tmp_path / "t.jsonl", "--plot", tmp_path / "loss.png", "--preview", tmp_path / "pre"]
    status, _, err = run(
        capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK, *beside, "--preview-every", 2
    )
    assert status == 0, err
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == [1, 2, 3]
    terms = {term.name for term in PRESETS[DEFAULT_PRESET].objective}
    assert {"content"} < set(lines[0]["losses"]["terms"]) <= terms | {"content"}
    assert [path.name for path in (tmp_path / "pre").iterdir()] == ["content_step_0002.png"]
    with Pillow.open(tmp_path / "loss.png") as plot:
        assert plot.width > 500


def test_a_plot_of_several_contents(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, content: Image
) -> None:
    write_image(tmp_path / "second.png", content)
    command = ["stylize", files[0], tmp_path / "second.png", files[1], "-o", tmp_path / "out", *QUICK]
    assert run(capsys, *command, "--plot", tmp_path / "loss.svg")[0] == 0
    assert "second.png" in (tmp_path / "loss.svg").read_text()


def test_every_loss_setting_reaches_the_recipe(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    settings = (
        "scales=0.5,1",
        "init=noise",
        "content.layers=relu1_2",
        "content.distance=mae",
        "content.weight=0.3",
        "style.weight=2",
        "style.layers=relu1_1=0.25,relu2_1=0.75",
        "loss_scale=paper",
        "optimizer=adam",
        "tv.weight=0.01",
        "plateau=0.2",
        "preconditioned_steps=3",
    )
    given = "--preset best --size 32 --steps 2 --seed 3 --precision fp32 --device cpu --pooling average".split()
    given += "--mpp 0.5 --style-mpp 0.4 --style-mix 1,3".split()
    given += [word for setting in settings for word in ("--set", setting)]
    extra = ["--extra-style", files[0]]
    status, out, err = run(capsys, "stylize", *files, "-o", tmp_path / "o.png", *given, *extra, "--json")
    assert status == 0, err
    facts = json.loads(out)
    recipe, (content, style, tv) = facts["recipe"], facts["recipe"]["objective"]
    assert (recipe["scales"], recipe["seed"], recipe["init"]) == ([0.5, 1.0], 3, "noise")
    assert recipe["preconditioned_steps"] == 3
    assert (recipe["optimizer"], recipe["plateau"], recipe["loss_scale"]) == ("adam", 0.2, "paper")
    assert (content["layers"], content["distance"], content["weight"]) == ({"relu1_2": 1.0}, "mae", 0.3)
    assert (style["layers"], style["weight"]) == ({"relu1_1": 0.25, "relu2_1": 0.75}, 2.0)
    assert tv["weight"] == 0.01
    assert (facts["size"], facts["mpp"], facts["style_mpp"]) == ([32, 27], 0.75, [0.4, 0.4])
    assert (facts["encoder"]["pooling"], facts["precision"], facts["style_mix"]) == (
        "average",
        "fp32",
        [0.25, 0.75],
    )


def test_the_picture_file_says_how_it_was_made(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    run(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK)
    kept = read_provenance(tmp_path / "out.png")
    assert kept is not None
    assert "not for diagnosis" in kept["notice"]


def test_own_weights(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, encoder: Encoder) -> None:
    state = {f"conv{n}.weight": k.contiguous() for n, (k, _) in encoder.weights.convolutions.items()}
    state |= {f"conv{n}.bias": b for n, (_, b) in encoder.weights.convolutions.items()}
    torch.save(state, tmp_path / "w.pth")
    command = ["stylize", *files, "-o", tmp_path / "o.png", *QUICK, "--weights", tmp_path / "w.pth", "--json"]
    assert json.loads(run(capsys, *command)[1])["encoder"]["weights"] == "caffe"


def test_help_teaches(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    status, out, _ = run(capsys, "stylize", "--help")
    assert status == 0
    assert "--set content.layers=relu4_2" in out
    assert "chromogen stylize he.png ihc.png -o virtual.png" in out
    for name in PRESETS:
        assert name in out


@pytest.mark.parametrize("command", SHOWN)
def test_help_shows_what_most_people_use_and_help_all_every_option(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    short, full = (run(capsys, command, option)[1] for option in ("--help", "--help-all"))
    options = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
    names = {option.name: max(option.opts, key=len) for option in options if option.opts[0].startswith("-")}
    shown = {name for name in names if re.search(rf"^│[ *]+{names[name]}\b", short, re.M)}
    assert shown == {*SHOWN[command].split(), "help"} & names.keys()
    assert {*SHOWN[command].split()} <= names.keys()
    assert f"{len(names) - len(SHOWN[command].split())} more options: chromogen {command} --help-all" in short
    assert all(re.search(rf"^│[ *]+{name}\b", full, re.M) for name in names.values())


def test_without_a_word_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys)
    assert (status, err) == (0, "")
    assert "stylize" in out
    assert "demo" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from chromogen import __version__

    assert run(capsys, "--version")[:2] == (0, f"chromogen {__version__}\n")


# --- what is refused, with one line, exit 2 and no output file ---

WRONG_OPTIONS = {
    "unknown preset": (["--preset", "papr"], "did you mean paper"),
    "unknown layer": (["--set", "content.layers=conv4_2"], "did you mean relu4_2"),
    "unknown style layer": (["--set", "style.layers=relu1_1,relu6_1"], "did you mean relu"),
    "no style layer": (["--set", "style.layers="], "FIELD=VALUE"),
    "no content layer": (["--set", "content.layers=,"], "at least one layer"),
    "unknown loss": (["--set", "content.distance=mea"], "mse, mae, huber"),
    "unknown loss scale": (["--set", "loss_scale=absolute"], "relative, paper"),
    "unknown init": (["--set", "init=contents"], "did you mean content"),
    "unknown optimizer": (["--set", "optimizer=lbgfs"], "did you mean lbfgs"),
    "unknown pooling": (["--pooling", "mean"], "max, average"),
    "unknown precision": (["--precision", "fp16"], "auto, fp32, bf16"),
    "unknown device": (["--device", "tpu"], "did you mean"),
    "absent device": (["--device", "cuda:9"], "cuda:9"),
    "negative content weight": (["--set", "content.weight=-1"], "at least 0, got -1"),
    "negative style weight": (["--set", "style.weight=-1"], "at least 0, got -1"),
    "negative layer weight": (["--set", "style.layers=relu1_1=-1"], "at least 0, got -1"),
    "weight not a number": (["--set", "content.weight=nan"], "got nan"),
    "no style term": (["--preset", "paper", "--set", "style.weight=0"], "at least one style term"),
    "no steps": (["--steps", "0"], "at least 1"),
    "steps not a number": (["--steps", "many"], "whole numbers"),
    "scales that fall": (["--set", "scales=1,0.5"], "rising fractions"),
    "negative seed": (["--seed", "-1"], "at least 0"),
    "no size": (["--size", "0"], "greater than or equal to 1"),
    "size too small": (["--size", "8"], "at least 16 px"),
    "no pixel size": (["--mpp", "0"], "0.05 to 20"),
    "mix of another length": (["--style-mix", "1,2"], "each of 1 styles"),
    "missing weights": (["--weights", "no.pth"], "an existing file"),
    "missing extra style": (["--extra-style", "no.png"], "check the spelling"),
    "plot of unknown kind": (["--plot", "loss.bmp"], ".png, .svg, .pdf"),
    "trace in no folder": (["--trace", "no/such/trace"], "folder that exists"),
    "preview in no folder": (["--preview", "no/such/folder"], "can be made"),
    "unknown option": (["--presets", "paper"], "No such option"),
    "option without value": (["--preset"], "requires an argument"),
}


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS.values(), ids=WRONG_OPTIONS)
def test_wrong_options(
    capsys: pytest.CaptureFixture[str],
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert message in refused(capsys, "stylize", *files, "-o", "out.png", *options)
    assert sorted(tmp_path.rglob("*")) == before


def bad_images(tmp_path: Path, good: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    whole = good.read_bytes()
    (tmp_path / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("not an image at all")
    Pillow.fromarray(np.zeros((1, 40, 3), np.uint8)).save(tmp_path / "flat.png")
    Pillow.fromarray(np.zeros((40, 1, 3), np.uint8)).save(tmp_path / "thin.png")
    import tifffile

    tifffile.imwrite(tmp_path / "nan.tif", np.full((40, 40, 3), np.nan, np.float32), photometric="rgb")
    inf = rng.random((40, 40, 3)).astype(np.float32)
    inf[3, 4] = np.inf
    tifffile.imwrite(tmp_path / "inf.tif", inf, photometric="rgb")
    names = ["truncated.png", "empty.png", "text.png", "flat.png", "thin.png", "nan.tif", "inf.tif", "missing.png"]
    return {name: tmp_path / name for name in names} | {"a folder": tmp_path / "folder"}


BAD = ["truncated.png", "empty.png", "text.png", "flat.png", "thin.png", "nan.tif", "inf.tif", "missing.png"]


@pytest.mark.parametrize("role", ["content", "style"])
@pytest.mark.parametrize("name", [*BAD, "a folder"])
def test_bad_images(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, name: str, role: str
) -> None:
    (tmp_path / "folder").mkdir()
    bad = bad_images(tmp_path, files[0])[name]
    pair = (bad, files[1]) if role == "content" else (files[0], bad)
    refused(capsys, "stylize", *pair, "-o", tmp_path / "out.png", "--steps", "1")
    assert not (tmp_path / "out.png").exists()


def test_a_claim_of_a_billion_pixels_is_not_believed(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )
    (tmp_path / "huge.png").write_bytes(data)
    refused(capsys, "stylize", tmp_path / "huge.png", files[1], "-o", tmp_path / "out.png")


@pytest.mark.parametrize("out", ["content.png", "style.png", "no/out.png", "out.svg", "/proc/out.png"])
def test_bad_outputs(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, out: str) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused(capsys, "stylize", *files, "-o", tmp_path / out, *QUICK)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "arguments", [["stylize", "-o", "x.png"], ["stylize", "a.png", "-o", "x.png"], ["stilize"]]
)
def test_requests_that_are_not_whole(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    refused(capsys, *arguments)


def test_errors_as_json(capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path) -> None:
    status, out, err = run(capsys, "stylize", *files, "-o", tmp_path / "o.png", "--preset", "x", "--json")
    assert status == 2
    assert json.loads(out)["error"] in err


# --- what fails while running ---


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("Expected\n`x`"), 2, "Expected `x`"),
        (FileNotFoundError("no file"), 2, "no file"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (MemoryError(), 1, "use smaller pictures"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "use smaller pictures"),
        (RuntimeError("the slide could not be had"), 1, "the slide could not be had"),
        (ArithmeticError("The loss is nan"), 1, "The loss is nan"),
        (KeyError("x"), 1, "Internal error, KeyError: 'x'; --debug shows where."),
    ],
)
def test_verdicts(error: Exception, status: int, message: str) -> None:
    line, found = verdict(error)
    assert found == status
    assert message in line
    assert "\n" not in line


def test_a_full_disk_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    status, out, err = run(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK)
    assert (status, out) == (1, "")
    assert "No space left" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["content.png", "style.png"]


def test_debug_shows_the_traceback(files: Files, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean paper"):
        main(["stylize", *map(str, files), "-o", str(tmp_path / "o.png"), "--preset", "papr", "--debug"])


def test_warnings_are_one_line(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import warnings

    from chromogen.app import jobs

    original = jobs.stylized

    def warning(*given, **named):
        warnings.warn("The loss was not finite in bf16; going on in fp32.", stacklevel=1)
        return original(*given, **named)

    monkeypatch.setattr(jobs, "stylized", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        status, _, err = run(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK)
    assert status == 0
    assert "Warning: The loss was not finite in bf16; going on in fp32.\n" in err


# --- as a process of its own ---


def test_ctrl_c_writes_nothing_half_and_says_how_to_go_on(files: Files, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chromogen", "stylize", *map(str, files), "-o", str(tmp_path / "out.png")]
    trace = tmp_path / "trace.jsonl"
    process = subprocess.Popen(
        [*command, "--steps", "100000", "--set", "plateau=0", "--trace", str(trace)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # background jobs inherit it ignored
    )
    for _ in range(3000):
        if trace.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Stopped by Ctrl-C" in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "out.png").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_picture(files: Files, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import chromogen.style.checkpoint as c; c.Checkpoint.is_due = True; "]
    command[-1] += "from chromogen.app.cli import main; main()"
    arguments = [*map(str, files), *QUICK, "--steps", "300", "--set", "plateau=0", "--preset", "fast"]
    arguments += ["--precision", "fp32"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def stylized(name: str, *more: str) -> subprocess.Popen[str]:
        given = [*command, "stylize", *arguments, "-o", str(tmp_path / name), *more]
        return subprocess.Popen(given, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    trace = tmp_path / "trace.jsonl"
    process = stylized("out.png", "--trace", str(trace))
    for _ in range(3000):
        if (trace.exists() and trace.read_text().count("\n") > 20) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert not (tmp_path / "out.png").exists()
    assert (tmp_path / "out.png.checkpoint").exists()
    for name, more in (("out.png", ["--trace", str(trace)]), ("whole.png", [])):
        process = stylized(name, "--json", *more)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert json.loads(out)["steps"] == 300
    assert [json.loads(line)["index"] for line in trace.read_text().splitlines()] == list(range(1, 301))
    assert np.array_equal(read_image(tmp_path / "out.png"), read_image(tmp_path / "whole.png"))
    assert not list(tmp_path.glob("*.checkpoint"))


def test_a_batch_that_goes_on_leaves_out_what_is_done(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, content: Image
) -> None:
    (tmp_path / "tiles").mkdir()
    for number in (1, 2):
        write_image(tmp_path / "tiles" / f"{number}.png", content[number:])
    command = ["stylize", tmp_path / "tiles", files[1], "-o", tmp_path / "out", *QUICK, "--json"]
    status, out, err = run(capsys, *command)
    assert status == 0, err
    made = [(tmp_path / "out" / name).stat().st_ino for name in ("1.png", "2.png")]
    (tmp_path / "out" / "2.png").unlink()
    status, out, err = run(capsys, *command)
    assert status == 0, err
    first, second = json.loads(out)["results"]
    assert (first["already_done"], "already_done" in second) == (True, False)
    assert (tmp_path / "out" / "1.png").stat().st_ino == made[0]
    _, out, _ = run(capsys, *command[:-1])
    assert out.count("already up to date; skipped") == 2
    for change in (["--seed", "1"], ["--precision", "fp32", "--pooling", "average"]):
        status, out, _ = run(capsys, *command, *change)
        assert not [facts for facts in json.loads(out)["results"] if "already_done" in facts]
    write_image(tmp_path / "tiles" / "1.png", content[3:])
    _, out, _ = run(capsys, *command, *change)
    assert ["already_done" in facts for facts in json.loads(out)["results"]] == [False, True]


def test_restart_makes_it_again_and_so_does_a_plot_that_is_missing(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    command = ["stylize", *files, "-o", tmp_path / "out.png", *QUICK, "--json"]
    made = [
        json.loads(run(capsys, *command, *more)[1])
        for more in ([], [], ["--restart"], ["--plot", tmp_path / "l.png"])
    ]
    assert ["already_done" in facts for facts in made] == [False, True, False, False]
    assert (tmp_path / "l.png").exists()


def test_a_checkpoint_of_another_command_is_refused(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "out.png.checkpoint"
    Checkpoint(checkpoint, {"size": [1, 1]}).save({})
    err = refused(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK)
    assert "of this very picture" in err
    assert "or --restart" in err
    assert checkpoint.exists()
    assert run(capsys, "stylize", *files, "-o", tmp_path / "out.png", *QUICK, "--restart")[0] == 0
    assert not checkpoint.exists()


def test_presets_named_in_help_are_presets() -> None:
    assert DEFAULT_PRESET in PRESETS
    assert preset(DEFAULT_PRESET)


def test_an_he_as_style_is_doubted_and_refused_where_the_start_needs_dab(files: Files, tmp_path: Path) -> None:
    write_image(tmp_path / "pink.png", combine_stains(np.full((48, 48, 3), (0.3, 0.8, 0.0)), H_E))
    command = ["stylize", str(files[0]), str(tmp_path / "pink.png"), "-o", str(tmp_path / "o.png"), *QUICK]
    done = subprocess.run(
        [sys.executable, "-m", "chromogen", *command], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert "The style pink.png looks like an H&E" in done.stderr
    assert "IHC with stained and unstained tissue" in done.stderr
    assert not (tmp_path / "o.png").exists()


def test_a_swapped_pair_is_noticed_whatever_the_preset(tmp_path: Path) -> None:
    write_image(tmp_path / "he.png", drawn(64, 1), mpp=0.5)
    write_image(tmp_path / "ihc.png", drawn(64, 1, 0.9, H_DAB), mpp=0.5)
    swapped = ["stylize", "ihc.png", "he.png", "-o", "o.png", "--preset", "paper", *QUICK]
    command = [sys.executable, "-m", "chromogen", *swapped]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=tmp_path)
    said = done.stderr
    assert "The style he.png looks like an H&E" in said
    assert "The content ihc.png looks like an IHC" in said


def test_regions_from_files(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path, content: Image
) -> None:
    square = [[0, 0], [20, 0], [20, 20], [0, 20], [0, 0]]
    shape = {"type": "Polygon", "coordinates": [square]}
    feature = {"type": "Feature", "geometry": shape, "properties": {"classification": {"name": "Tumor"}}}
    drawn = tmp_path / "drawn.geojson"
    drawn.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    out, masks = tmp_path / "out.png", ["--content-mask", drawn, "--style-mask", drawn]
    plot = tmp_path / "loss.svg"
    status, printed, err = run(capsys, "stylize", *files, "-o", out, *QUICK, *masks, "--plot", plot, "--json")
    assert status == 0, err
    assert "style in Tumor" in plot.read_text()
    facts = json.loads(printed)
    assert facts["regions"] == ["Tumor", "elsewhere"]
    assert {"style in Tumor", "style in elsewhere"} <= set(facts["final"]["terms"])
    status, _, err = run(capsys, "stylize", *files, "-o", out, *QUICK, "--content-mask", drawn)
    assert (status, "given with the other mask" in err) == (2, True)
    write_image(tmp_path / "second.png", content)
    several = [files[0], tmp_path / "second.png", files[1]]
    status, _, err = run(capsys, "stylize", *several, "-o", tmp_path / "folder", *QUICK, *masks)
    assert (status, "one CONTENT and one STYLE" in err) == (2, True)


def test_a_marker_has_its_site_and_a_dial_and_the_file_says_what_it_started_from(
    capsys: pytest.CaptureFixture[str], files: Files, tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    chosen = ["--preset", "cytoplasm", "--dab-amount", "1.5", "--seed", "4"]
    status, printed, err = run(capsys, "stylize", *files, "-o", out, *chosen, *QUICK, "--json")
    assert status == 0, err
    facts = json.loads(printed)
    assert (facts["recipe"]["site"], facts["recipe"]["dab_amount"]) == ("cytoplasm", 1.5)
    start = read_provenance(out)["start"]
    assert start == facts["start"]
    assert (start["from"], start["where"], start["site"], start["seed"]) == (
        "where times how",
        "tissue",
        "cytoplasm",
        4,
    )
    err = refused(capsys, "stylize", *files, "-o", out, "--preset", "nuclear", *QUICK)
    assert "unstained nuclei, got none stained; choose another field" in err
