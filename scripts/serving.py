"""A server in a process of its own, asked for work and killed: for scripts that want to know what it outlives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

UNDER_WAY = ("waiting", "running")
Jobs = Mapping[str, str]  # "trials" or "stains" to an id


class Serving:
    """`chromogen view` over `paths` on any port; results lie in `results`, temporary files in `temporary`."""

    def __init__(self, paths: Sequence[Path], results: Path, temporary: Path) -> None:
        self._command = [sys.executable, "-m", "chromogen", "view", *map(str, paths), "--port", "0"]
        self._command += ["--results", str(results), "--no-browser", "--json"]
        self._environment = os.environ | {
            "TMPDIR": str(temporary),
            "XDG_CACHE_HOME": str(temporary.parent / "cache"),
        }
        self._begin()

    def _begin(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self._environment
        )
        assert self._process.stdout is not None  # noqa: S101
        self.address = json.loads(self._process.stdout.readline())["address"]

    @property
    def process(self) -> psutil.Process:
        """Its process."""
        return psutil.Process(self._process.pid)

    def ask(self, path: str, body: object = None, method: str = "") -> Any:
        """The answer: decoded JSON, or bytes."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - our own address
            f"{self.address}api/{path}",
            data,
            {"content-type": "application/json"},
            method=method or ("GET" if data is None else "POST"),
        )
        with urllib.request.urlopen(request, timeout=300) as answer:  # noqa: S310
            said = answer.read()
            return json.loads(said) if answer.headers["content-type"] == "application/json" else said

    def slide(self, name: str) -> str:
        """The id of a slide whose name ends so."""
        return next(str(line["id"]) for line in self.ask("slides") if line["name"].endswith(name))

    def ask_for_both(self, seed: int = 0) -> Jobs:
        """A trial on a region of `slide.tif`, and a stain of the whole."""
        slide = self.slide("slide.tif")
        region = {"slide": slide, "location": [300, 300], "size": [96, 80]}
        trial = self.ask("trials", {**region, "preset": "fast", "steps": 10, "seed": seed})
        stain = self.ask("stains", {"slide": slide, "stainer": "color-transfer"})
        return {"trials": trial["id"], "stains": stain["id"]}

    def kill(self, victim: str, how: signal.Signals) -> bool:
        """Kill the server, and begin it again, or a job of its; False where there is none to kill."""
        if victim == "server":
            self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._begin()
            return True
        children = [child for child in self.process.children() if "--trace" in child.cmdline()]
        with suppress(psutil.NoSuchProcess):
            for child in children[:1]:
                child.send_signal(how)
                return True
        return False

    def go_on(self, jobs: Jobs) -> None:
        """Resume what was stopped."""
        for job in jobs.values():
            if self.ask(f"jobs/{job}")["state"] not in (*UNDER_WAY, "done"):
                with suppress(urllib.error.HTTPError):  # it may be under way by now
                    self.ask(f"jobs/{job}/resume", {})

    def wait_for(self, jobs: Jobs, timeout_s: float) -> dict[str, str]:
        """The states of jobs when they are done; what fails meanwhile is resumed."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            states = {kind: str(self.ask(f"jobs/{job}")["state"]) for kind, job in jobs.items()}
            if set(states.values()) == {"done"}:
                break
            self.go_on(jobs)
            time.sleep(0.3)
        return states

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
