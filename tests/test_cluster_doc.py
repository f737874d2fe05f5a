"""The recipes of docs/how-to/cluster.md are run as they stand there, as far as one machine can."""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromogen.slides.slide import open_slide
from synthetic_slides import SyntheticSource, write_pyramid

pytest.importorskip("distributed")

DOC = (Path(__file__).resolve().parents[1] / "docs" / "how-to" / "cluster.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
WAIT_S = 300


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOC, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
def test_the_slurm_recipe_asks_for_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    jobqueue = pytest.importorskip("dask_jobqueue")
    (recipe,) = blocks("python")
    made: list[Any] = []
    really = jobqueue.SLURMCluster

    def kept(**options: Any) -> Any:
        made.append(really(**options))
        made[-1].adapt = lambda **_limits: None
        return made[-1]

    commands: list[list[str]] = []

    def ran(command: list[str]) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(jobqueue, "SLURMCluster", kept)
    monkeypatch.setattr(subprocess, "run", ran)
    monkeypatch.setattr(sys, "argv", ["slurm.py", "slides/", "-o", "out/"])
    with pytest.raises(SystemExit) as ended:
        exec(compile(recipe, "slurm.py", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own document
    assert ended.value.code == 0
    (cluster,) = made
    script, address = cluster.job_script(), cluster.scheduler_address
    cluster.close()
    assert commands == [["chromogen", "stain", "slides/", "-o", "out/", "--scheduler", address]]
    for line in ("#SBATCH -J chromogen", "#SBATCH -p normal", "#SBATCH --cpus-per-task=8", "#SBATCH -t 04:00:00"):
        assert line in script
    assert "#SBATCH --mem=15G" in script
    assert script.index("OMP_NUM_THREADS=1") < script.index("distributed.cli.dask_worker")
    assert "--nthreads 1 " in script
    assert "--nworkers 8 " in script
    assert "--lifetime 230m" in script
    assert address in script


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


@contextmanager
def started(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.parametrize("by_file", [False, True])
def test_scheduler_and_workers_as_started_by_hand(by_file: bool, tmp_path: Path) -> None:
    """The LAN's two commands, and those of the job script with a scheduler file, on the loopback."""
    image = SyntheticSource((1500, 1200)).read(0, (0, 0), (1500, 1200))
    slide = write_pyramid(tmp_path / "slide.tif", image, (4,))
    file, port = str(tmp_path / "scheduler.json"), free_port()
    address = f"tcp://127.0.0.1:{port}"
    _, lan, slurm = blocks("sh")
    lines = slurm if by_file else lan
    given = [line.strip().removesuffix("&").split() for line in lines.splitlines()]
    commands = [line[line.index("dask") :] for line in given if "dask" in line]
    known = {
        "/shared/scheduler.json": file,
        "tcp://10.0.0.5:8786": address,
        "10.0.0.5": "127.0.0.1",
        "8786": port,
    }
    local = [[str(BIN / "dask"), *(known.get(word, word) for word in command[1:])] for command in commands]
    local = [["2" if word == "8" else word for word in command] for command in local]
    assert [command[1] for command in local] == ["scheduler", "worker"]
    with ExitStack() as stack:
        for command in local:
            stack.enter_context(started(command))
            until = time.monotonic() + WAIT_S
            while by_file and not Path(file).exists() and time.monotonic() < until:
                time.sleep(0.1)
        out = tmp_path / "out.ome.tif"
        stain = [str(BIN / "chromogen"), "stain", str(slide), "-o", str(out), "--stainer", "identity"]
        options = ["--no-tissue-mask", "--compression", "deflate", "--scheduler", file if by_file else address]
        ended = subprocess.run([*stain, *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    with open_slide(out) as made:
        np.testing.assert_array_equal(made.read_region((0, 0), made.size), image)
