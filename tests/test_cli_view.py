"""`chromogen view` from the command line."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from chromogen.app import begin_commands
from chromogen.app.begin_commands import _names
from test_cli import refused
from test_slide_catalog import picture


def test_it_serves_until_it_is_stopped(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    view = [sys.executable, "-m", "chromogen", "view", str(tmp_path), "--port", "0", "--no-browser", "--json"]
    process = subprocess.Popen(
        [*view, "--results", str(tmp_path / "r")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        assert said["address"].startswith("http://127.0.0.1:")
        assert [line["name"] for line in httpx.get(f"{said['address']}api/slides", timeout=120).json()] == [
            "a.png"
        ]
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=120)
        assert b"Traceback" not in complaint
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="another loopback address is only there on Linux")
def test_another_address_needs_the_token_that_is_printed(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    view = f"-m chromogen view {tmp_path} --host 0.0.0.0 --port 0 --no-browser --json --results {tmp_path / 'r'}"
    process = subprocess.Popen([sys.executable, *view.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        address, _, token = json.loads(process.stdout.readline())["address"].partition("#token=")
        here = address.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        with httpx.Client(timeout=120) as client:
            assert client.get(f"{here}api/slides").status_code == 401
            assert client.post(f"{here}api/login", json={"token": token}).status_code == 204
            assert client.get(f"{here}api/slides").status_code == 200
            ours = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
            foreign = "; ".join(f"c{number}={'x' * 4000}" for number in range(180))
            crowded = {"cookie": f"{foreign}; {ours}"}
            assert client.get(f"{here}api/slides", headers=crowded).status_code == 200, "as many as browsers send"
        process.send_signal(signal.SIGTERM)
        out, complaint = process.communicate(timeout=120)
        assert token.encode() not in out + complaint
    finally:
        process.kill()
        process.wait()


def test_wrong_requests_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "existing slide or folder" in refused(capsys, "view", tmp_path / "nothing")
    for address in ("slides.example", "https://slides.example/path", "ftp://slides.example"):
        assert "without a path" in refused(capsys, "view", tmp_path, "--behind", address)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert "an address that is free" in refused(capsys, "view", tmp_path, "--port", port, "--no-browser")
    assert "an address that is free" in refused(capsys, "view", tmp_path, "--host", "no.such.invalid")


def test_without_the_extra_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(begin_commands, "find_spec", lambda _name: None)
    assert "pip install 'chromogen[view]'" in refused(capsys, "view", tmp_path)


def test_a_server_for_others_knows_its_names() -> None:
    assert "192.168.1.20" in _names("192.168.1.20")
    assert socket.gethostname() in _names("0.0.0.0")  # noqa: S104
    assert socket.gethostname() not in _names("127.0.0.1")
