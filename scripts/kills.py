"""Kill the commands at random moments, go on, and see whether anything was lost, half-written or left behind.

    python scripts/kills.py [--out FOLDER] [--kills 200] [--only stylize,train,stain,dask,server]

A round has one command and one fresh folder: the command is killed several times (SIGTERM or SIGKILL, after a time
drawn up to what it takes undisturbed), each time begun again, and at last left to end. After every kill each file
under an output's name must be whole; at the end all files must be those of an undisturbed run, with the same
content, no others, and no process may be left. Stopped at any moment, the same command goes on: finished rounds
stand in FOLDER/rounds.jsonl. Exit status 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile

from chromogen.data import demo_slide
from chromogen.files import scratch_folder
from chromogen.image import read_image, write_image
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import Stainer, builtin_ihc
from chromogen.staining.where_network import read_model
from serving import Serving

SIGNALS = (signal.SIGTERM, signal.SIGKILL)
READ_AHEAD = ("chromogen.app.jobs", "chromogen.app.training", "chromogen.app.staining", "chromogen.regions.guides")
NOT_OURS = (".chromogen-", "torchinductor_")  # by name alone; ours must have gone when looked for the second time
MAX_S = 600.0
SETTLE_S = 180.0  # until workers must have noticed that they are alone


@dataclass(frozen=True)
class Kind:
    """A command, its share of the kills, and whether it must be a process from its very start."""

    arguments: Callable[[Path], list[str]]
    kills: int
    started: bool = False


def _stylize(given: Path) -> list[str]:
    quick = "--steps 5 --set scales=1 --set style.layers=relu1_1,relu2_1 --precision fp32"
    return [
        "stylize",
        str(given / "tiles"),
        str(given / "ihc.png"),
        "-o",
        ".",
        *quick.split(),
        "--trace",
        "trace.jsonl",
    ]


def _train(given: Path) -> list[str]:
    quick = "--steps 200 --batch 1 --validate-every 50 --site cytoplasm"
    return ["train", "--paired", str(given / "pairs"), "-o", "m.safetensors", *quick.split()]


def _stain(given: Path) -> list[str]:
    return ["stain", str(given / "slide.tif"), "--stainer", "color-transfer", "-o", "out.ome.tif"]


def _dask(given: Path) -> list[str]:
    return [*_stain(given), "--workers", "2"]


KINDS = {
    "stain": Kind(_stain, 100),
    "stylize": Kind(_stylize, 35),
    "train": Kind(_train, 35),
    "dask": Kind(_dask, 8, started=True),
}
SERVER_KILLS = 22


@dataclass
class Round:
    """What one round came to."""

    kind: str
    seed: int
    kills: list[tuple[str, float]] = field(default_factory=list)
    ended_before: int = 0
    problems: list[str] = field(default_factory=list)


def make_inputs(folder: Path) -> None:
    """Small real pictures, a region of the demo slide, and tiles of it with what a look makes of them as pairs."""
    if (folder / "slide.tif").exists():
        return
    for name in ("tiles", "pairs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with open_slide(demo_slide()) as slide:
        for number in range(2):
            tile = slide.read_region((900 + 100 * number, 1200), (160, 160))
            write_image(folder / "tiles" / f"{number}.png", tile[:40, :48])
            large = slide.read_region((700 + 300 * number, 1000), (288, 288))
            write_image(folder / "pairs" / f"{number}_he.png", large)
            write_image(folder / "pairs" / f"{number}_ihc.png", Stainer.from_pretrained("epithelial")(large))
        region = slide.read_region((700, 900), (768, 640))
    write_image(folder / "ihc.png", builtin_ihc()[:96, :96])
    per_cm = (20_000.0, 20_000.0)
    how: dict[str, Any] = {"photometric": "rgb", "resolution": per_cm, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "slide.tif", region, tile=(128, 128), compression="deflate", **how)


# --- a command, begun and killed ---


def read_ahead() -> None:
    """Modules and weights, which every fork has then."""
    for module in READ_AHEAD:
        import_module(module)
    encoder: Any = import_module("chromogen.style.encoder")
    encoder.load_weights = cache(encoder.load_weights)
    encoder.load_weights(), encoder.load_weights(None)


def run_here(arguments: Sequence[str]) -> int:
    """The command line in this process, in small blocks and with a checkpoint after every step."""
    import torch

    from chromogen.app.cli import main
    from chromogen.style.checkpoint import Checkpoint
    from chromogen.whole_slide import stain

    torch.set_num_threads(1)
    stain.BLOCK_PX = 128
    (Checkpoint.__init__.__kwdefaults__ or {})["every_s"] = 0.0
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def begin(kind: Kind, arguments: Sequence[str], out: Path, said: Path) -> psutil.Process:
    """Begin a command in the folder `out`: by a fork of this process, which has read all modules already."""
    environment = {"TMPDIR": str(said.parent / "tmp"), "XDG_CACHE_HOME": str(said.parent / "cache")}
    if kind.started:
        command = [sys.executable, __file__, "--run", *arguments]
        with said.open("ab") as file:
            child = subprocess.Popen(command, cwd=out, env=os.environ | environment, stdout=file, stderr=file)
        return psutil.Process(child.pid)
    child_pid = os.fork()
    if child_pid:
        return psutil.Process(child_pid)
    status = 1
    try:
        os.environ.update(environment)
        tempfile.tempdir = None
        os.chdir(out)
        for stream in (1, 2):
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), stream)
        status = run_here(arguments)
    finally:
        os._exit(status)


def ended(process: psutil.Process, timeout_s: float) -> int | None:
    """The exit status, or None where it has not ended in time."""
    try:
        return int(process.wait(timeout_s) or 0)
    except psutil.TimeoutExpired:
        return None


# --- what is there ---


def names(folder: Path) -> set[str]:
    """All files, by their names from the folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def differs(file: Path, wanted: Path) -> str:
    """How a file differs from that of an undisturbed run; empty where it does not."""
    try:
        if file.suffix == ".png":
            same = file.name.startswith("m.") or np.array_equal(read_image(file), read_image(wanted))
        elif file.name.endswith(".ome.tif"):
            same = np.array_equal(_pixels(file), _pixels(wanted))
        elif file.suffix == ".safetensors":
            ours, theirs = read_model(file).weights, read_model(wanted).weights
            same = all(np.allclose(ours[name], theirs[name], rtol=1e-2, atol=1e-3) for name in theirs)
        else:
            same = [line["index"] for line in _lines(file)] == [line["index"] for line in _lines(wanted)]
    except (OSError, ValueError) as error:
        return f"{file.name} is broken: {error}"
    return "" if same else f"{file.name} differs from an undisturbed run"


def _pixels(slide: Path) -> np.ndarray:
    with open_slide(slide) as opened:
        return opened.read_region((0, 0), opened.size)


def _lines(file: Path) -> list[dict[str, int]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def after_a_kill(out: Path, wanted: Path) -> list[str]:
    """What must not be there now."""
    found = []
    for name in sorted(names(out)):
        path = out / name
        is_ours = path.name.startswith(".chromogen-") or ".chromogen" in path.parent.name or "/" in name
        if (wanted / name).exists():
            if path.suffix != ".jsonl":  # grows
                found.append(differs(path, wanted / name))
        elif not is_ours and path.suffix != ".checkpoint":
            found.append(f"{name} is there")
    return [problem for problem in found if problem]


def at_the_end(out: Path, wanted: Path, temporary: Path) -> list[str]:
    """What differs from an undisturbed run."""
    os.environ["TMPDIR"], tempfile.tempdir = str(temporary), None
    with scratch_folder():  # the next that works there
        left = {f"tmp/{path.name}" for path in temporary.iterdir() if not path.name.startswith(NOT_OURS)}
    left |= {f"tmp/{path.name}" for path in temporary.iterdir() if path.name.startswith(".chromogen-")}
    odd = sorted((names(out) ^ names(wanted)) - {"trace.jsonl"} | left)
    same = names(out) & names(wanted) - {"trace.jsonl"}  # has what the last run did
    differences = [differs(out / name, wanted / name) for name in sorted(same)]
    return [f"{name} is left, or missing" for name in odd] + [problem for problem in differences if problem]


def left_alone(marker: Path) -> list[str]:
    """Processes that outlive what began them, known by their environment."""
    until = time.monotonic() + SETTLE_S
    while found := [process.pid for process in psutil.process_iter() if _is_of(process, marker)]:
        if time.monotonic() > until:
            return [f"processes {found} are left"]
        time.sleep(0.2)
    return []


def _is_of(process: psutil.Process, marker: Path) -> bool:
    try:
        return bool(process.environ().get("TMPDIR") == str(marker) and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


# --- rounds ---


def new_folder(folder: Path) -> Path:
    """An empty folder with `out` and `tmp` in it."""
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("out", "tmp"):
        (folder / name).mkdir(parents=True)
    return folder


def undisturbed(name: str, base: Path) -> float:
    """Seconds that a command takes, the shortest so far; its outputs lie in wanted/NAME/out."""
    folder, record = base / "wanted" / name, _record(name, base)
    if record.exists():
        return float(json.loads(record.read_text()))
    new_folder(folder)
    began = time.monotonic()
    status = ended(begin(KINDS[name], KINDS[name].arguments(base / "in"), folder / "out", folder / "said"), MAX_S)
    if status != 0:
        raise RuntimeError(f"{name} ends with {status}: {(folder / 'said').read_text()[-500:]}")
    record.write_text(json.dumps(time.monotonic() - began))
    return float(json.loads(record.read_text()))


def _record(name: str, base: Path) -> Path:
    return base / "wanted" / f"{name}.json"


def play(name: str, seed: int, base: Path) -> Round:
    """One round of a command."""
    rng, kind, takes_s = random.Random(f"{name} {seed}"), KINDS[name], undisturbed(name, base)  # noqa: S311
    folder, wanted, found = new_folder(base / "round"), base / "wanted" / name / "out", Round(name, seed)
    out, said = folder / "out", folder / "said"
    for _ in range(rng.randint(3, 6)):
        process, how, after_s = begin(kind, kind.arguments(base / "in"), out, said), rng.choice(SIGNALS), 0.0
        after_s, began = rng.uniform(0, takes_s * 0.7), time.monotonic()
        if (status := ended(process, after_s)) is not None:
            found.ended_before += 1
            found.problems += [f"ended with {status}"] if status else []
            _record(name, base).write_text(json.dumps(time.monotonic() - began))  # the machine has more time now
            break
        process.send_signal(how)
        found.kills.append((how.name, round(after_s, 3)))
        if ended(process, 20) is None:
            found.problems.append(f"{how.name} does not end it")
            process.kill()
        found.problems += left_alone(folder / "tmp") if kind.started else []
        found.problems += after_a_kill(out, wanted)
    status = ended(begin(kind, kind.arguments(base / "in"), out, said), MAX_S)
    found.problems += [f"the last run ends with {status}"] if status != 0 else []
    found.problems += at_the_end(out, wanted, folder / "tmp") + left_alone(folder / "tmp")
    found.problems += ["a traceback"] if "Traceback" in said.read_text() else []
    return found


def play_server(seed: int, base: Path) -> Round:
    """One round of a server with a trial and a stain, where the server or the job is killed."""
    rng, found = random.Random(f"server {seed}"), Round("server", seed)  # noqa: S311
    folder = new_folder(base / "round")
    serving = Serving([base / "in"], folder / "out", folder / "tmp")
    try:
        jobs = serving.ask_for_both()
        for _ in range(rng.randint(2, 4)):
            time.sleep(rng.uniform(0, 8))
            victim, how = rng.choice(("server", "job")), rng.choice(SIGNALS)
            if serving.kill(victim, how):
                found.kills.append((f"{how.name} {victim}", 0.0))
            serving.go_on(jobs)
        states = serving.wait_for(jobs, MAX_S)
        found.problems += [f"{job} is {state} at the end" for job, state in states.items() if state != "done"]
    finally:
        serving.stop()
    found.problems += left_alone(folder / "tmp") + _unlike_before(folder / "out", base / "wanted" / "server")
    left = [name for name in names(folder / "out") if "/.chromogen-" in f"/{name}" or ".ome.tif.chromogen" in name]
    found.problems += [f"{name} is left" for name in left]
    return found


def _unlike_before(out: Path, wanted: Path) -> list[str]:
    """How results differ from those of the first round."""
    wanted.mkdir(exist_ok=True)
    results = [*out.glob("*/result.png"), *out.glob("*/*.ome.tif")]
    for file in results:
        if not (wanted / file.name).exists():
            shutil.copy(file, wanted / file.name)
    return [problem for file in results if (problem := differs(file, wanted / file.name))]


def known_rounds(log: Path) -> list[Round]:
    """Those of earlier runs."""
    return [Round(**json.loads(line)) for line in log.read_text().splitlines()] if log.exists() else []


def main() -> int:
    """Play rounds until there are enough kills; say what they found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("kills"))
    parser.add_argument("--kills", type=int, default=sum(kind.kills for kind in KINDS.values()) + SERVER_KILLS)
    parser.add_argument("--only", default=",".join([*KINDS, "server"]))
    given = parser.parse_args()
    base = given.out.absolute()
    base.mkdir(parents=True, exist_ok=True)
    make_inputs(base / "in")
    read_ahead()
    log, shares = (
        base / "rounds.jsonl",
        {**{name: kind.kills for name, kind in KINDS.items()}, "server": SERVER_KILLS},
    )
    rounds = known_rounds(log)
    for name in given.only.split(","):
        share, seed = shares[name] * given.kills / sum(shares.values()), sum(r.kind == name for r in rounds)
        while sum(len(r.kills) for r in rounds if r.kind == name) < share:
            rounds.append(play_server(seed, base) if name == "server" else play(name, seed, base))
            seed += 1
            with log.open("a") as lines:
                lines.write(json.dumps(asdict(rounds[-1])) + "\n")
            print(rounds[-1], flush=True)
    return report(rounds)


def report(rounds: Sequence[Round]) -> int:
    """Say what was done and found."""
    for name in sorted({r.kind for r in rounds}):
        ours = [r for r in rounds if r.kind == name]
        how = Counter(signal_name for r in ours for signal_name, _ in r.kills)
        bad = [r.seed for r in ours if r.problems]
        print(f"{name}: {len(ours)} rounds, kills {dict(how)}, seeds with problems {bad}")
    return 1 if any(r.problems for r in rounds) else 0


if __name__ == "__main__":
    raise SystemExit(run_here(sys.argv[2:]) if sys.argv[1:2] == ["--run"] else main())
