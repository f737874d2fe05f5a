"""What the panel does in a thread: stain a part of a slide, or all of it, and find nuclei; nothing of Qt."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from chromogen.errors import expected
from chromogen.image import Image
from chromogen.nuclei.scores import Scores, scores
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.slides.slide import open_slide
from chromogen.staining.confidence import SQUARE_PX
from chromogen.staining.stainer import Stainer, is_look, load_look, look_where, stainer_of_look
from chromogen.staining.where import BY_TISSUE
from chromogen.whole_slide.job import Output, SlideJob, stain_part_in_steps
from chromogen.whole_slide.measured_looks import measure_look
from chromogen.whole_slide.nuclei import named_built_in, slide_nuclei
from chromogen.whole_slide.nuclei_files import COLUMNS, judged, label_image, threshold_for
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.survey import survey
from chromogen.whole_slide.view import SlideFile, held_slide, view_at

MAX_VIEW_PX = 16_000_000
Steps: TypeAlias = Generator[tuple[int, int], None, Any]  # done, of how many


@dataclass(frozen=True)
class Choice:
    """What a person chose: a stainer's name or file, or an IHC whose look to give; and the dials of looks."""

    stainer: str
    share: float | None = None
    intensity: float = 1.0
    counterstain: float = 1.0
    seed: int = 0

    def load(self) -> Stainer:
        """The stainer. Raises: ValueError, FileNotFoundError or OSError."""
        file = Path(self.stainer)
        is_ihc = file.suffix.lower() not in {"", ".json", ".safetensors", ".onnx"}
        if not is_ihc and not is_look(self.stainer):
            return Stainer.from_pretrained(self.stainer)
        look = measure_look(file) if is_ihc else load_look(self.stainer)
        where = (None if is_ihc else look_where(self.stainer)) or BY_TISSUE  # a model of pairs says where as well
        has_share = look.exemplar.site == "nuclear" and not where.gives_shares
        share = self.share if has_share else None
        return stainer_of_look(look, share, self.seed, where, self.intensity, self.counterstain)


@dataclass(frozen=True)
class StainedRegion:
    """Pixels uint8 (H, W, 3) of `mpp` um, and how sure the stainer was, by squares, where it says.

    Confidence goes from 0, unlike any tissue of the exemplar, to 1, in equal steps of its logarithm.
    """

    stainer: str
    pixels: Image
    mpp: float
    origin_um: tuple[float, float]
    confidence: NDArray[np.float32] | None

    @property
    def square_um(self) -> float:
        """The side of a square of confidence."""
        return self.mpp * SQUARE_PX


def stain_region(path: Path, mpp: float | None, region: tuple[int, int, int, int], choice: Choice) -> Steps:
    """Stain a region (x, y, w, h) in level-0 pixels, as the whole slide becomes there; returns a `StainedRegion`.

    Raises: ValueError for a region that is too large; SlideError, OSError.
    """
    stainer = choice.load()
    job = SlideJob(SlideFile(path, mpp), stainer, region)
    with held_slide(job.file) as slide:
        view = view_at(slide, stainer.mpp)
        window, made_mpp = job.window(view), view.mpp or slide.need_mpp()
        width, height = window.size
        if width * height > MAX_VIEW_PX:
            most, got = f"at most {MAX_VIEW_PX / 1e6:g} Mpx", f"{width * height / 1e6:.0f} Mpx"
            raise expected("view", most, got, "zoom in, or stain the whole slide")
        seen = survey(view)
        painted = yield from stain_part_in_steps(job, view, seen, stainer.fit(seen.sample))
    levels = None if painted.levels is None else painted.levels.astype(np.float32) / np.float32(255)
    origin_um = window.left * made_mpp, window.top * made_mpp
    return StainedRegion(stainer.name, painted.pixels, made_mpp, origin_um, levels)


def stain_whole(path: Path, mpp: float | None, out: Path, choice: Choice) -> Steps:
    """Stain the whole slide into a file; returns its path. Closed early, the same call continues."""
    job = SlideJob(SlideFile(path, mpp), choice.load())
    told: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
    stopped, failed = Event(), []

    def on_block(done: int, of: int) -> None:
        told.put((done, of))
        if stopped.is_set():
            raise InterruptedError

    def work() -> None:
        try:
            stain_slide(job, Output(out), on_block=on_block)
        except Exception as error:  # for whoever waits in the other thread
            failed.append(error)
        told.put(None)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while (step := told.get()) is not None:
            yield step
    finally:
        stopped.set()
        thread.join()
    if failed:
        raise failed[0]
    return out


@dataclass(frozen=True)
class CountedNuclei:
    """A label image int32 (H, W), what the table says of each nucleus by column, and the scores of all."""

    labels: NDArray[np.int32]
    columns: dict[str, list[Any]]
    scored: Scores

    def __str__(self) -> str:
        count = len(self.columns["label"])
        positive, h_score = self.scored.positive_percent, self.scored.h_score
        if positive is None or h_score is None:
            return f"{count:,} nuclei"
        return f"{count:,} nuclei, {positive.value:.1f} % positive, H-score {h_score.value:.0f}"


def count_nuclei(pixels: Image, mpp: float | None, stains: str = "auto") -> Steps:
    """Find, measure and score the nuclei of an image, uint8 (H, W, 3); returns `CountedNuclei`.

    Raises: ValueError for pixels too large to show nuclei.
    """
    yield 0, 1
    with (
        TemporaryDirectory() as folder,
        open_slide(pixels, mpp or ASSUMED_MPP) as slide,
        slide_nuclei(slide, Path(folder) / "nuclei", named_built_in(), stains) as found,
    ):
        threshold = threshold_for(found)
        rows = [judged(part, slide.quickhash, threshold) for part in found.parts()]
        scored = scores(found.places, found.measured, threshold, found.pixels)
        labels = label_image(slide, rows).astype(np.int32)
    columns = {name: [value for part in rows for value in part.columns[name]] for name in COLUMNS}
    yield 1, 1
    return CountedNuclei(labels, columns, scored)
