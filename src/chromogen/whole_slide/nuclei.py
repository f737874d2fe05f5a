"""The nuclei of a slide or picture, found and measured window by window, and kept on disk until all are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np

from chromogen.compute.memory import FRUGAL, give_back_scattered_memory
from chromogen.compute.tiles import GridTile, Window
from chromogen.errors import choose
from chromogen.files import written_beside
from chromogen.nuclei import find, outlines
from chromogen.nuclei.find import check_visible, in_core, nuclei_seen, nuclei_windows
from chromogen.nuclei.outlines import NETWORK_MPP, Network, Nuclei, no_nuclei
from chromogen.nuclei.positivity import Measurements, Stains, joined_measurements, measure
from chromogen.nuclei.scores import Pixels, added, pixel_histograms
from chromogen.provenance import __version__, sha256_of
from chromogen.slides.slide import Slide
from chromogen.slides.store import BLOCKS, claimed, forget, planned
from chromogen.stains.appearance import appearance
from chromogen.stains.deconvolution import VECTORS, Array
from chromogen.whole_slide.survey import Survey, survey
from chromogen.whole_slide.view import View, read_around_damage, view_at

LAYOUT = 1  # of what is kept of a window: another number is another plan
SMALLEST_DAMAGE_PX = 64
STAINS = ("auto", "h-dab", "h-e")

OnWindow: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class NamedNetwork:
    """A network that sees nuclei, its name, and the hash of its weights."""

    run: Network
    name: str
    sha256: str


def named_built_in() -> NamedNetwork:
    """The network that comes with Chromogen."""
    return NamedNetwork(find.built_in(), "built-in", sha256_of(outlines.WEIGHTS))


@dataclass(frozen=True)
class StainVectors:
    """How a slide is stained: "h-dab" or "h-e", the evidence, the colour of glass (3,), the stain matrix."""

    name: Stains
    evidence: str
    white: Array
    matrix: Array

    @property
    def has_dab(self) -> bool:
        """Whether positive nuclei can be told from negative ones."""
        return self.name == "h-dab"


@dataclass(frozen=True)
class NucleiPart:
    """The nuclei of a window in level-0 pixels, what was measured of each, and the number of the first."""

    nuclei: Nuclei
    measured: Measurements
    first: int


@dataclass(frozen=True)
class InWindow:
    """What is kept of a window: nuclei in pixels of the view, measurements, tissue by DAB, damaged pixels."""

    nuclei: Nuclei
    measured: Measurements
    pixels: Pixels
    lost_px: int


NOTHING = InWindow(no_nuclei(NETWORK_MPP), joined_measurements([]), {}, 0)


@dataclass(frozen=True)
class SlideNuclei:
    """What was found on a slide: kept in a folder, window by window, and read from there."""

    folder: Path
    slide: Slide
    view_size: tuple[int, int]
    stains: StainVectors
    tissue_mm2: float
    windows: int
    skipped: int

    def parts(self) -> Iterator[NucleiPart]:
        """The nuclei window by window, always in the same order; windows without nuclei are left out."""
        first = 0
        for index in range(self.windows):
            kept = self._kept(index)
            if len(kept.nuclei):
                yield NucleiPart(at_level_0(kept.nuclei, self.slide, self.view_size), kept.measured, first)
            first += len(kept.nuclei)

    @cached_property
    def measured(self) -> Measurements:
        """Of all nuclei, in the order of `parts`."""
        return joined_measurements([part.measured for part in self.parts()])

    @cached_property
    def places(self) -> Nuclei:
        """All nuclei in the same order by their centres alone, as outlines of a whole slide take much memory."""
        parts = [part.nuclei for part in self.parts()]
        centres = np.concatenate([np.zeros((0, 2), np.float32), *(part.centres_px for part in parts)])
        confidence = np.concatenate([np.zeros(0, np.float32), *(part.confidence for part in parts)])
        return Nuclei(centres, np.zeros((len(centres), 0, 2), np.float32), confidence, self.slide.need_mpp())

    @cached_property
    def pixels(self) -> Pixels:
        """How many pixels of tissue have how much of the second stain, by field."""
        return added(self._kept(index).pixels for index in range(self.windows))

    @cached_property
    def damaged_mm2(self) -> float:
        """How much of the slide cannot be read."""
        return sum(self._kept(index).lost_px for index in range(self.windows)) * NETWORK_MPP**2 / 1e6

    def _kept(self, index: int) -> InWindow:
        """What was kept of a window; nothing of a window without tissue."""
        file = _file(self.folder, index)
        return _read(file) if file.exists() else NOTHING


@contextmanager
def slide_nuclei(
    slide: Slide, folder: Path, network: NamedNetwork, stains: str = "auto", on_window: OnWindow | None = None
) -> Iterator[SlideNuclei]:
    """All nuclei of a slide or picture, as long as the `with` statement lasts.

    `folder` keeps what is found and is removed at the end. It stays where anything stops the work; the same call
    then goes on behind the last window, and gives the same nuclei. With other settings, or another slide, it
    starts afresh. Raises: ValueError for pixels too large to show nuclei; SlideError or OSError where the slide
    cannot be read.
    """
    check_visible(slide.need_mpp())
    choose("stains", stains, STAINS)
    view = view_at(slide, NETWORK_MPP)
    with claimed(folder):
        _begin_or_go_on(folder, _plan(view, network, stains))
        seen = survey(view)
        found = stain_vectors(seen, stains)
        windows = nuclei_windows(view.size)
        skipped = 0
        for index, window in enumerate(windows):
            if on_window:
                on_window(index, len(windows))
            file = _file(folder, index)
            if not has_tissue(seen, window):
                skipped += 1
            elif not _is_kept(file):
                _keep(file, in_window(view, window, seen, found, network.run))
                give_back_scattered_memory(*FRUGAL)
        width, height = view.size
        mm2 = seen.tissue_fraction * width * height * NETWORK_MPP**2 / 1e6
        yield SlideNuclei(folder, slide, view.size, found, mm2, len(windows), skipped)
        forget(folder)


def stain_vectors(seen: Survey, wanted: str = "auto") -> StainVectors:
    """How a slide is stained, by a sample of its tissue, or as `wanted` has it.

    The vectors are QuPath's. A slide's own (Macenko et al. 2009) would split haematoxylin in two where there is
    hardly any DAB, and call a third of its nuclei brown.
    """
    look = appearance(seen.sample, NETWORK_MPP)
    name: Stains = look.stains if wanted == "auto" else "h-e" if wanted == "h-e" else "h-dab"
    return StainVectors(name, look.why, np.asarray(seen.white, np.float64), VECTORS[name])


def _plan(view: View, network: NamedNetwork, stains: str) -> dict[str, Any]:
    """All that decides what is found in a window, as plain data."""
    return {
        "layout": LAYOUT,
        "chromogen": __version__,
        "slide": view.slide.quickhash,
        "slide_mpp": view.slide.mpp,
        "network": network.sha256,
        "stains": stains,
        "least_confidence": outlines.MIN_CONFIDENCE,
        "core_px": find.CORE_PX,
        "halo_px": find.HALO_PX,
    }


def _begin_or_go_on(folder: Path, plan: dict[str, Any]) -> None:
    try:
        planned(folder, plan, restart=False)
    except ValueError:  # what lies there is of other settings
        planned(folder, plan, restart=True)
    (folder / BLOCKS).mkdir(exist_ok=True)


def has_tissue(seen: Survey, window: GridTile) -> bool:
    """Whether a window shows tissue."""
    return seen.share is None or bool(seen.share.at(window.outer).any())


def in_window(view: View, window: GridTile, seen: Survey, stains: StainVectors, network: Network) -> InWindow:
    """What is found in a window's core.

    All nuclei that the window sees are measured together, as rings keep out of neighbours beyond the core.
    """
    image, damaged = read_around_damage(view, window.outer, SMALLEST_DAMAGE_PX)
    found = nuclei_seen(image, stains.white, network)
    measured = measure(found, image, NETWORK_MPP, stains.white, stains.matrix)
    found = found.moved(window.outer.location)
    kept = in_core(found, window)
    lost_px = sum(window.core.common(part).area_px for part in damaged)
    pixels = {}
    if stains.has_dab:
        at = window.inner.at
        tissue = seen.background.tissue(image, NETWORK_MPP, _share_of_view(window.outer, view))[at]
        pixels = pixel_histograms(
            image[at], tissue, NETWORK_MPP, stains.white, stains.matrix, window.core.location
        )
    return InWindow(found.take(kept), measured.take(kept), pixels, lost_px)


def _share_of_view(rectangle: Window, view: View) -> tuple[float, float, float, float]:
    """Left, top, right and bottom as shares of the view."""
    width, height = view.size
    return rectangle.left / width, rectangle.top / height, rectangle.right / width, rectangle.bottom / height


def at_level_0(nuclei: Nuclei, slide: Slide, view_size: tuple[int, int]) -> Nuclei:
    """From pixels of the view, whose sides were rounded each on its own; outlines end where the slide does."""
    scale = (np.asarray(slide.size) / np.asarray(view_size)).astype(np.float32)
    outlines = (nuclei.outlines_px * scale).clip(0, np.asarray(slide.size, np.float32))
    return Nuclei(nuclei.centres_px * scale, outlines, nuclei.confidence, slide.need_mpp())


def _file(folder: Path, index: int) -> Path:
    return folder / BLOCKS / f"{index}.npz"


def _keep(file: Path, found: InWindow) -> None:
    """Whole or not at all."""
    measured = {f"measured_{name}": values for name, values in vars(found.measured).items()}
    fields_at = np.array(sorted(found.pixels), np.int64).reshape(-1, 2)
    counts = [found.pixels[(int(column), int(row))] for column, row in fields_at]
    with written_beside(file) as temporary, temporary.open("wb") as opened:
        np.savez(
            opened,
            centres=found.nuclei.centres_px,
            outlines=found.nuclei.outlines_px,
            confidence=found.nuclei.confidence,
            fields=fields_at,
            counts=np.array(counts, np.int64),
            lost_px=found.lost_px,
            **measured,
        )


def _is_kept(file: Path) -> bool:
    """Whether a window is finished; a file that a broken disk has left is not."""
    try:
        _read(file)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return False
    return True


def _read(file: Path) -> InWindow:
    with file.open("rb") as opened, np.load(opened, allow_pickle=False) as kept:
        nuclei = Nuclei(kept["centres"], kept["outlines"], kept["confidence"], NETWORK_MPP)
        measured = Measurements(**{field.name: kept[f"measured_{field.name}"] for field in fields(Measurements)})
        places = [(int(column), int(row)) for column, row in kept["fields"]]
        pixels = dict(zip(places, kept["counts"], strict=True))
        return InWindow(nuclei, measured, pixels, int(kept["lost_px"]))
