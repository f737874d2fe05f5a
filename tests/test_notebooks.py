"""The notebooks of examples/ run from the first cell to the last, and are kept with small outputs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from chromogen.image import write_image
from synthetic import drawn
from synthetic_slides import write_svs

ROOT = Path(__file__).resolve().parents[1]
MAX_CHARACTERS = 400_000
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_with_small_outputs(path: Path) -> None:
    text = path.read_text("utf-8")
    cells = json.loads(text)["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1)), "run it from its first cell"
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {"error", "stream-stderr"}.isdisjoint(f"{o['output_type']}-{o.get('name')}" for o in outputs)
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 2
    assert len(text) < MAX_CHARACTERS
    assert not re.search(r"/(?:tmp|root|home|Users)/", text), "no path of a machine"
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
    assert sum("image/jpeg" in output.get("data", {}) for outputs in printed for output in outputs) >= 2
