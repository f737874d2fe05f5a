"""Every block of code in README and docs is run, or says why not and is parsed; no figure is without a source."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from starlette.testclient import TestClient

from chromogen import data
from chromogen.app import demo, looks
from chromogen.app.cli import app, main
from chromogen.app.server import create_app
from chromogen.image import write_image
from chromogen.models import LOOK_SUFFIX
from chromogen.staining.stainer import builtin_ihc
from chromogen.stains.deconvolution import H_DAB
from chromogen.study import experiments
from documentation import BLOCKS, FENCE, LANGUAGES, PAGES, ROOT, Block, inline_code
from synthetic import drawn, tissue_like
from synthetic_slides import write_svs

# Pictures of so few pixels, and of so few steps, are warned of.
pytestmark = pytest.mark.filterwarnings("default")

COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# What is run is run as it stands, but for this: sizes and steps are those of a test.
SHORTER = {
    "stylize": ["--steps", "2", "--size", "64"],
    "train": ["--steps", "1", "--batch", "1"],
    "study": ["--steps", "1", "--crops", "1", "--size", "64"],
}
HE, IHC, IHC_OF_HE = drawn(128, 1), builtin_ihc()[200:328, 200:328], drawn(128, 1, 0.9, H_DAB)
MAX_PICTURE_BYTES = 300_000
DOCS = ROOT / "docs"
FOR_DOING = [page for page in PAGES if page.parent.name in ("tutorials", "how-to")]
FOR_USERS = [page for page in PAGES if DOCS in page.parents and page.parent.name != "development"]
NO_TIMES = ("troubleshooting.md", "viewer.md")  # neither is one task
PICTURES = sorted(path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png", ".svg"))
TUMOUR = {
    "type": "Feature",
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [60, 0], [60, 90], [0, 90], [0, 0]]]},
    "properties": {"classification": {"name": "Tumor"}},
}


def chosen(language: str, *, run: bool) -> list[Any]:
    """Blocks of a language that are run, or that say why not, by the place where they stand."""
    found = [block for block in BLOCKS if block.language == language and (block.mark in ("", "slow")) == run]
    return [pytest.param(block, id=block.place, marks=[pytest.mark.slow] * is_slow(block)) for block in found]


def is_slow(block: Block) -> bool:
    """Commands beside those of the README take too long together."""
    return block.mark == "slow" or (block.language == "sh" and not block.mark and block.page.name != "README.md")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, model_file: Path) -> Path:
    """What the documentation's files are called, as small as they may be."""
    root = tmp_path_factory.mktemp("documentation")
    folders = ("demo", "tiles", "stained", "ihc", "ihc_exemplars", "pairs", "few_pairs", "slides")
    for folder in (*folders, "home/.cache/chromogen"):
        (root / folder).mkdir(parents=True)
    hes = (
        "he",
        "paper",
        "photo",
        "virtual",
        "demo/he",
        "pairs/a_he",
        "few_pairs/a_he",
        "tiles/slide1_a",
        "tiles/slide2_a",
    )
    ihcs = ("ihc", "ihc_a", "ihc_b", "er", "ck", "demo/ihc_style", "ihc/slide1_a", "ihc/slide2_a")
    more = ("stained/slide1_a", "stained/slide2_a", "ihc_exemplars/a", "ihc_exemplars/b")
    for name in hes:
        write_image(root / f"{name}.png", HE)
    for name in (*ihcs, *more):
        write_image(root / f"{name}.png", IHC)
    for name in ("pairs/a_ihc", "few_pairs/a_ihc"):
        write_image(root / f"{name}.png", IHC_OF_HE)
    for name in ("photo", "painting", "starry_night"):
        write_image(root / f"{name}.jpg", tissue_like(128, 128, seed=len(name)))
    for name in ("slide", "slides/a", "home/.cache/chromogen/cmu_small_region"):
        write_svs(root / f"{name}.svs", drawn(512, 3))
    for name in ("he", "ihc", "ck"):
        (root / f"{name}.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [TUMOUR]}))
    shutil.copy(model_file, root / "my_marker.safetensors")
    return root


@pytest.fixture
def workshop(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these files to work in, also as home."""
    place = tmp_path / "workshop"
    shutil.copytree(files, place)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HOME", str(place / "home"))
    for module in (data, demo, looks):
        monkeypatch.setattr(module, "demo_slide", lambda: place / "slide.svs")
    monkeypatch.setattr(demo, "builtin_photo", lambda: HE)
    short = replace(experiments.painting_recipe(), steps=(1, 1))
    monkeypatch.setattr(experiments, "painting_recipe", lambda: short)
    return place


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    for block in BLOCKS:
        assert block.language in LANGUAGES, f"{block.place}: a block of what? There are {sorted(LANGUAGES)}"
        if block.mark.startswith("run by "):
            test = ROOT / block.mark.removeprefix("run by ")
            assert block.page.name in test.read_text("utf-8"), f"{block.place}: {test} does not run this page"
    assert len(BLOCKS) > 40


@pytest.mark.parametrize("block", chosen("sh", run=True))
@pytest.mark.usefixtures("workshop")
def test_commands_do_what_they_say(block: Block) -> None:
    for words in block.commands:
        assert words[0] == "chromogen", f"{block.place}: only chromogen is run; mark the block as not run"
        arguments = [str(Path(word).expanduser()) if word.startswith("~") else word for word in words[1:]]
        is_look = any(word.endswith(LOOK_SUFFIX) for word in words)  # measured at once, in no steps
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *([] if is_look else SHORTER.get(arguments[0], []))])
        assert not ended.value.code, f"{block.place}: {' '.join(words)}"


@pytest.mark.parametrize("block", chosen("python", run=True))
def test_python_runs(block: Block, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that it asks is there."""

    def client(base_url: str, timeout: float) -> TestClient:
        return TestClient(create_app([workshop / "slides"], workshop / "results"), base_url=base_url)

    monkeypatch.setattr("httpx2.Client", client)
    exec(compile(block.text, block.place, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own documentation


@pytest.mark.parametrize("block", chosen("python", run=False))
def test_python_that_is_not_run_compiles(block: Block) -> None:
    compile(block.text, block.place, "exec")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "sh"], ids=lambda b: b.place)
def test_commands_exist_and_have_these_options(block: Block) -> None:
    """Of those that are not run, nothing else is tested."""
    if not block.mark.startswith("run by "):
        for words in block.commands:
            check_command(words, block.place)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_evaluated_was_not_made_smaller(page: Path) -> None:
    """A prediction must be as large as its H&E: no page evaluates what it made with --size."""
    commands = [words for block in BLOCKS if block.page == page for words in block.commands]
    smaller = {words[words.index("-o") + 1] for words in commands if {"stylize", "--size", "-o"} <= set(words)}
    assert not [words for words in commands if words[1:2] == ["evaluate"] and smaller & set(words)]


def visible(page: Path) -> str:
    """The text of a page without comments and blocks."""
    return re.sub(r"<!--.*?-->", "", FENCE.sub("", page.read_text("utf-8")), flags=re.DOTALL)


@pytest.mark.parametrize("page", FOR_DOING, ids=lambda page: page.name)
def test_pages_for_doing_have_a_picture_and_a_time(page: Path) -> None:
    text = visible(page)
    assert re.search(r"^!\[", text, re.MULTILINE), f"{page.name} has no picture"
    if page.name not in NO_TIMES:
        assert re.search(r"\b([Tt]ime|minutes)\b", text), f"{page.name}: how long does it take?"


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: page.name)
def test_pages_for_users_carry_no_diary(page: Path) -> None:
    found = re.findall(r"\b20\d\d-\d\d-\d\d\b|tests/test_\w+|\b(?:Xeon|EPYC|AMX|AVX)\b", visible(page))
    assert not found, f"{page.name}: {found} belong to docs/development"


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_pictures_are_small_and_shown(picture: Path) -> None:
    assert picture.stat().st_size < MAX_PICTURE_BYTES
    shown = re.compile(rf"[(/]{re.escape(picture.name)}\)")
    assert any(shown.search(page.read_text("utf-8")) for page in PAGES), "no page shows it"


def check_command(words: list[str], place: str) -> None:
    """Programs of ours are there and know the options; extras and targets exist; others are few."""
    match words:
        case ["chromogen", command, *arguments] if command in COMMANDS:
            COMMANDS[command].make_context(command, arguments)
        case ["chromogen", "--version"]:
            pass
        case ["make", *targets]:
            made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
            assert set(targets) <= set(made), place
        case ["python", script, *arguments]:
            text = (ROOT / script).read_text("utf-8")
            options = [word for word in arguments if word.startswith("--")]
            assert all(f'"{option}"' in text for option in options), f"{place}: {options}"
        case ["pip", "install", *names]:
            assert extras_in(names) <= EXTRAS, place
        case _:
            assert words[0] in OTHERS, f"{place}: {words[0]} is not known here"


PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = set(PYPROJECT["project"]["optional-dependencies"])
# In blocks that are not run.
OTHERS = {".", "QuPath", "cd", "conda", "docker", "export", "git", "napari", "npm", "python", "python3"}


def extras_in(names: list[str]) -> set[str]:
    return {
        extra
        for name in names
        for part in re.findall(r"(?:chromogen|\.)\[(.*?)\]", name)
        for extra in part.split(",")
    }


# --- code in sentences ---


def all_options() -> set[str]:
    """Of every command, and of the programs that are said to be ours."""
    ours = {name for command in COMMANDS.values() for option in command.params for name in names_of(option)}
    scripts = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*")]
    asked = {name for script in scripts for name in re.findall(r'"(--[a-z-]+)"', script.read_text("utf-8"))}
    return ours | asked | {"--help", "--help-all", "--version", "--install-completion", "--show-completion"}


def names_of(option: Any) -> list[str]:
    return [*option.opts, *option.secondary_opts]


OF_OTHERS = {"--lifetime", "--host", "--hypothesis-profile"}  # of Dask's programs and of pytest


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_sentences_exist(page: Path) -> None:
    known = all_options() | OF_OTHERS
    for code in inline_code(page):
        words = code.split()
        if words[0].startswith("--"):
            assert words[0].split("=")[0] in known, f"{page.name}: {code}"
        if words[0] == "chromogen" and len(words) > 1 and words[1] in COMMANDS:
            of_command = {name for option in COMMANDS[words[1]].params for name in names_of(option)}
            of_command |= {"--help", "--help-all"}
            asked = {word.split("=")[0] for word in words[2:] if word.startswith("-")}
            assert asked <= of_command, f"{page.name}: {code}"
