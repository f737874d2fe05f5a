"""The web app's OpenAPI by schemathesis: what it makes of the schema is answered as the schema says.

    pip install schemathesis     (best in an environment of its own)
    python scripts/fuzz_server.py [--schemathesis PROGRAM] [--examples 50] [--out FOLDER]

A server over one small slide is asked for a trial and a stain, and then for what schemathesis thinks up: values
within the schema and outside of it, other methods, ids of one answer in the next request. Then again within the
schema, with the ids of the slide, the trial and the stain. Exit status 1 where an answer is a crash, is not as its
route says or takes more than two minutes, or where the server does not live in the end. What failed, and how to
ask it again, stands in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import tifffile

from chromogen.staining.stainer import builtin_ihc
from serving import Jobs, Serving

MAX_ANSWER_S = 120  # a machine that others use gives an upload a minute to be decoded
DONE_WITHIN_S = 600.0
# What no schema says: that bytes are an image, that a region lies within a slide or is a polygon.
NOT_ALL_VALID = ("/api/exemplars", "/api/trials", "/api/stains", "/api/numbers")


def make_slide(folder: Path) -> None:
    """A slide with a pixel size."""
    folder.mkdir(parents=True, exist_ok=True)
    per_cm = (20_000.0, 20_000.0)
    how: dict[str, Any] = {"photometric": "rgb", "resolution": per_cm, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(folder / "slide.tif", builtin_ihc(), tile=(128, 128), **how)


def exceptions() -> str:
    """What is not asked for, as schemathesis' configuration."""
    off = "checks.positive_data_acceptance.enabled = false"
    return "".join(f'[[operations]]\ninclude-path = "{path}"\n{off}\n' for path in NOT_ALL_VALID)


def with_ids(slide: str, jobs: Jobs) -> str:
    """The ids of what is there, likewise."""
    lines = [f'[parameters]\nslide_id = "{slide}"\nother_id = "{slide}"']
    job = jobs["trials"]
    lines.append(f'[[operations]]\ninclude-path-regex = "/api/jobs/.job_id"\nparameters = {{ job_id = "{job}" }}')
    return "\n".join(lines) + "\n"


def run(program: str, address: str, examples: int, config: str, mode: str, out: Path) -> dict[str, int]:
    """Run schemathesis, and count its cases and what failed."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "schemathesis.toml").write_text(config)
    options = f"--mode {mode} --max-examples {examples} --request-timeout {MAX_ANSWER_S} --seed 1"
    always = "--continue-on-failure --no-color --suppress-health-check all"
    report = "--report json --report-json-path report.json"
    command = [program, "--config-file", "schemathesis.toml", "run", f"{address}api/openapi.json"]
    command += " ".join((options, always, report)).split()
    with (out / "said.txt").open("w") as said:
        subprocess.run(command, cwd=out, stdout=said, stderr=said, check=False)
    found = json.loads((out / "report.json").read_text())
    cases = found["test_cases"]
    return {
        "asked": cases["generated"],
        "failed": cases["unique_failures"] + cases["errored"],
        "status": found["exit_code"],
    }


def main() -> int:
    """Both runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schemathesis", default="schemathesis", help="the program")
    parser.add_argument("--examples", type=int, default=50, help="of each operation and phase, at most")
    parser.add_argument("--out", type=Path, default=Path("fuzz-server"))
    given = parser.parse_args()
    out = given.out.absolute()
    make_slide(out / "slides")
    (out / "tmp").mkdir(exist_ok=True)
    serving = Serving([out / "slides"], out / "results", out / "tmp")
    try:
        slide, jobs, first = serving.slide("slide.tif"), serving.ask_for_both(), serving.process
        serving.wait_for(jobs, DONE_WITHIN_S)
        asked = {"made_up": (exceptions(), "all"), "there": (with_ids(slide, jobs) + exceptions(), "positive")}
        found = {
            name: run(given.schemathesis, serving.address, given.examples, config, mode, out / name)
            for name, (config, mode) in asked.items()
        }
        lives = first.is_running() and serving.slide("slide.tif") == slide
    finally:
        serving.stop()
    for name, counts in found.items():
        print(f"{name}: {counts} ({out / name / 'said.txt'})")
    print("the server lives" if lives else "the server died")
    return 0 if lives and not any(counts["failed"] or counts["status"] for counts in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
