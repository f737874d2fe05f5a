"""Which files a command reads, and whether it may write where it is told to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chromogen.errors import expected
from chromogen.files import by_stem, check_apart, check_folder, check_there, make_folder
from chromogen.image import WRITE_SUFFIXES, list_images
from chromogen.plots import PLOT_SUFFIXES
from chromogen.slides.zarr_reader import is_zarr


def plan(contents: Sequence[Path], out: Path, styles: Sequence[Path]) -> list[tuple[Path, Path]]:
    """What is read and where its result goes: `out` itself, or NAME.png in the folder `out` for several contents.

    Raises: ValueError or FileNotFoundError where an input is missing, an output would overwrite an input or
    another output, or its folder cannot be written to. Makes the folder `out` if only it is missing.
    """
    if not contents:
        raise expected("paths", "at least one CONTENT and one STYLE", f"{len(styles)} path")
    image_files(styles)
    files = image_files(contents)
    into_folder = len(files) > 1 or contents[0].is_dir() or out.is_dir()
    if not into_folder and out.suffix.lower() not in WRITE_SUFFIXES:
        raise expected("out", f"a file ending in {', '.join(WRITE_SUFFIXES)}", out)
    outputs = in_folder(files, out) if into_folder else [out]
    check_apart(outputs, [*files, *styles])
    if into_folder:
        make_folder(out)
    check_folder(outputs[0].parent)
    return list(zip(files, outputs, strict=True))


@dataclass(frozen=True)
class SideOutputs:
    """What is written beside pictures: a trace of steps, a plot of losses, and every so many steps a preview."""

    trace: Path | None = None
    plot: Path | None = None
    preview: Path | None = None
    preview_every: int = 10

    @property
    def are_there(self) -> bool:
        """Whether an earlier run has written them."""
        return all(path is None or path.exists() for path in (self.trace, self.plot))


def check_side_outputs(
    jobs: Sequence[tuple[Path, Path]], styles: Sequence[Path], side: SideOutputs, *, resume: bool = False
) -> None:
    """The same care for what is written beside the result; makes the preview folder.

    Begins a new trace file, but where a run is resumed, whose earlier steps it holds. Raises: ValueError.
    """
    files = [file for file in (side.trace, side.plot) if file]
    taken = [path for job in jobs for path in job] + list(styles)
    for file in files:
        check_apart([file], taken)
        if file.is_dir():
            raise expected("trace or plot", "a file", f"the folder {file}", "add a file name")
        check_folder(file.parent)
        taken.append(file)
    if side.plot and side.plot.suffix.lower() not in PLOT_SUFFIXES:
        raise expected("plot", f"a file ending in {', '.join(PLOT_SUFFIXES)}", side.plot)
    if side.preview:
        make_folder(side.preview)
    if side.trace and not resume:
        side.trace.unlink(missing_ok=True)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The images that paths name, folders opened; FileNotFoundError where one is missing."""
    check_there("paths", paths, "an existing image")
    return [
        file for path in paths for file in (list_images(path) if path.is_dir() and not is_zarr(path) else [path])
    ]


def in_folder(files: Sequence[Path], out: Path) -> list[Path]:
    """NAME.png in a folder for each of the files, by their `stem_of`; ValueError for two of one name."""
    return [out / f"{name}.png" for name in by_stem("content", files)]
