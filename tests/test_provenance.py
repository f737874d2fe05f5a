import hashlib
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from chromogen import __version__
from chromogen.provenance import NOTICE, sha256_of, versions


def test_versions_name_what_decides_the_numbers() -> None:
    found = versions()
    assert found["chromogen"] == __version__
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr("chromogen.provenance.version", version)
    assert versions().keys() == {"chromogen", "python", "numpy", "pillow"}


def test_sha256_of_is_that_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"tissue")
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"tissue").hexdigest()


def test_peak_memory_grows_with_what_is_held() -> None:
    held = "held = bytearray(100_000_000); held[::4096] = b'x' * len(held[::4096])"
    code = f"from chromogen.provenance import peak_rss_mb as mb; before = mb(); {held}; print(mb() - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 50 < float(done.stdout) < 150


def test_the_notice_says_what_every_output_must() -> None:
    assert "research use only" in NOTICE
    assert "not for diagnosis" in NOTICE


def test_memory_of_the_process_that_started_it_does_not_count() -> None:
    code = "from chromogen.provenance import peak_rss_mb; print(peak_rss_mb())"
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300
    assert len(held) == 400_000_000
