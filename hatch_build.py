"""Builds the web page (TypeScript, by Vite) into src/chromogen/web/dist when the package is built or installed.

Without Node.js, or where npm cannot get what it needs, the installation goes on without the page; `chromogen view`
then says what is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = Path("src/chromogen/web/dist/index.html")
SOURCES = ("index.html", "package-lock.json", "vite.config.ts", "tsconfig.json", "src/*", "public/*")


class PageHook(BuildHookInterface[Any]):
    """Runs npm before files are collected."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the page, unless what is there is newer than its sources."""
        root = Path(self.root)
        web, npm = root / "web", shutil.which("npm")
        if not web.is_dir() or os.environ.get("CHROMOGEN_NO_PAGE") or _is_new(root / BUILT, web):
            return
        if npm is None:
            self.app.display_warning("No npm here: installing without the page of `chromogen view`.")
            return
        for command in ([npm, "ci"], [npm, "run", "build"]):
            done = subprocess.run(command, cwd=web, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stdout + done.stderr)[-2000:]
                self.app.display_warning(f"The page was not built, `{' '.join(command)}` failed:\n{said}")
                return


def _is_new(built: Path, web: Path) -> bool:
    if not built.is_file():
        return False
    newest = max(file.stat().st_mtime for pattern in SOURCES for file in web.glob(pattern))
    return built.stat().st_mtime > newest
