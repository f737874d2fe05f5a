"""The notebooks of examples/ run from the first cell to the last, and are kept without what they print."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from chromogen.image import write_image
from synthetic import drawn
from synthetic_slides import write_svs

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_output(path: Path) -> None:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 3
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert any("never for diagnosis" in "".join(cell["source"]) for cell in cells)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    cache = tmp_path / "cache" / "chromogen"
    for folder in (cache, tmp_path / "demo"):
        folder.mkdir(parents=True)
    write_svs(cache / "cmu_small_region.svs", drawn(512, 3))
    write_image(tmp_path / "demo" / "he.png", drawn(128, 1))
    write_image(tmp_path / "demo" / "ihc_style.png", drawn(128, 2, 0.9))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    work: Any = nbformat.read(shutil.copy(path, tmp_path), as_version=4)
    NotebookClient(work, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = [cell.outputs for cell in work.cells if cell.cell_type == "code"]
    assert all(printed[1:])
    assert sum("image/png" in output.get("data", {}) for outputs in printed for output in outputs) >= 2
