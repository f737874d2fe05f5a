"""What the panel does in a thread: stain a part of a slide, or all of it, and find nuclei; nothing of Qt."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from chromogen.compute.tiles import Window
from chromogen.errors import expected
from chromogen.files import named_beside
from chromogen.image import Image, read_image
from chromogen.models import LOOK_SUFFIX, MODEL_SUFFIX, ONNX_SUFFIX
from chromogen.nuclei.scores import Score, Scores, scores
from chromogen.plugins.places import Grid, Region
from chromogen.slides.slide import Slide, open_slide
from chromogen.staining.confidence import SQUARE_PX, Levels, confidence_of, levels_in
from chromogen.staining.stainer import Stainer, is_look, load_look, look_where, stainer_of_look
from chromogen.staining.where import BY_TISSUE, Where
from chromogen.whole_slide.job import Output, SlideJob, stain_part_in_steps
from chromogen.whole_slide.kept_views import fitted_to, kept_survey, kept_view, look_fitted_to, showing
from chromogen.whole_slide.measured_looks import measure_look
from chromogen.whole_slide.nuclei import named_built_in, slide_nuclei
from chromogen.whole_slide.nuclei_files import COLUMNS, judged, label_image, threshold_for
from chromogen.whole_slide.stain import OnBlock, stain_slide
from chromogen.whole_slide.view import SlideFile, held_slide

# Work that tells how far it is, and can be ended between two blocks.

MAX_VIEW_PX = 16_000_000
Steps: TypeAlias = Generator[tuple[int, int], None, Any]  # done, of how many
T = TypeVar("T")


def ended_by(stopped: Event, steps: Steps) -> Steps:
    """The same steps, closed behind the first that comes once `stopped` is set; returns None then.

    They are closed in the thread that runs them, so that nothing works on when this is over.
    """
    try:
        while True:
            step = next(steps)
            if stopped.is_set():
                steps.close()
                return None
            yield step
    except StopIteration as end:
        return end.value


def in_steps(work: Callable[[OnBlock], T]) -> Generator[tuple[int, int], None, T]:
    """The steps of work that calls back for every block; closed early, the work ends there."""
    told: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
    stopped, made, failed = Event(), list[T](), list[Exception]()

    def on_block(done: int, of: int) -> None:
        told.put((done, of))
        if stopped.is_set():
            raise InterruptedError

    def run() -> None:
        try:
            made.append(work(on_block))
        except Exception as error:  # for whoever waits in the other thread
            failed.append(error)
        told.put(None)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while (step := told.get()) is not None:
            yield step
    finally:
        stopped.set()
        thread.join()
    if failed:
        raise failed[0]
    return made[0]


# Stainers as a person chooses them.


@dataclass(frozen=True)
class Choice:
    """What a person chose: a stainer's name or file, or an IHC whose look to give; and the dials of looks."""

    stainer: str
    share: float | None = None
    intensity: float = 1.0
    counterstain: float = 1.0
    seed: int = 0

    @property
    def is_ihc(self) -> bool:
        """Whether it is an IHC, whose look is measured."""
        return Path(self.stainer).suffix.lower() not in {"", LOOK_SUFFIX, MODEL_SUFFIX, ONNX_SUFFIX}

    @property
    def has_dials(self) -> bool:
        """Whether intensity, counterstain and seed change anything."""
        return self.is_ihc or is_look(self.stainer)

    @property
    def has_share(self) -> bool:
        """Whether a share of positive nuclei may be asked for; an IHC that was not measured yet may have it."""
        if not is_look(self.stainer):
            return self.is_ihc
        return not self.where.gives_shares and load_look(self.stainer).exemplar.site == "nuclear"

    @property
    def where(self) -> Where:
        """What says where the stain lies: a model of pairs is both, else it is the slide's tissue."""
        return (look_where(self.stainer) if is_look(self.stainer) else None) or BY_TISSUE

    def load(self) -> Stainer:
        """The stainer. Raises: ValueError, FileNotFoundError or OSError."""
        if not self.has_dials:
            return Stainer.from_pretrained(self.stainer)
        look = measure_look(Path(self.stainer)) if self.is_ihc else load_look(self.stainer)
        where = self.where
        share = self.share if look.exemplar.site == "nuclear" and not where.gives_shares else None
        return stainer_of_look(look, share, self.seed, where, self.intensity, self.counterstain)


# A view, stained as the whole slide would be there.


@dataclass(frozen=True)
class Confidence:
    """How sure a stainer was, by squares: the logarithm of base 10, -5 to 0, NaN on glass; and their grid."""

    log10: NDArray[np.float32]
    grid: Grid


@dataclass(frozen=True)
class StainedRegion:
    """Pixels, uint8 (H, W, 3), and their grid on the slide; `doubt` says why the slide may be no H&E."""

    stainer: str
    pixels: Image
    mpp: float
    grid: Grid
    confidence: Confidence | None
    doubt: str = ""


def stain_region(source: Path | Image, mpp: float | None, region: Region, choice: Choice) -> Steps:
    """Stain a region (x, y, w, h) in level-0 pixels, as the whole slide becomes there; returns a `StainedRegion`.

    `source` is the slide's file, or a whole picture, uint8 (H, W, 3). Raises: ValueError for a region that is too
    large; SlideError, OSError.
    """
    stainer = choice.load()
    with _opened(source, mpp) as slide:
        job = SlideJob(SlideFile(slide.path, mpp), stainer, region)
        view = kept_view(slide, stainer.mpp)
        window = job.window(view)
        _check_size(window)
        seen = kept_survey(view)
        if choice.has_dials:
            paints = showing(look_fitted_to(stainer, view, seen, choice.seed, choice.where), window)
        else:
            paints = fitted_to(stainer, view, seen)
        painted = yield from stain_part_in_steps(job, view, seen, paints)
        grid = _grid(slide, view.size, window)
        made_mpp = view.mpp or slide.need_mpp()
    sure = None if painted.levels is None else _confidence(painted.levels, grid)
    doubt = f"{slide.path.name} {seen.doubt}" if seen.doubt else ""
    return StainedRegion(stainer.name, painted.pixels, made_mpp, grid, sure, doubt)


@contextmanager
def _opened(source: Path | Image, mpp: float | None) -> Iterator[Slide]:
    """A slide by its file, or a picture as one."""
    if isinstance(source, Path):
        with held_slide(SlideFile(source, mpp)) as slide:
            yield slide
        return
    with open_slide(source, mpp) as slide:
        yield slide


def _check_size(window: Window) -> None:
    width, height = window.size
    if width * height > MAX_VIEW_PX:
        most, got = f"at most {MAX_VIEW_PX / 1e6:g} Mpx", f"{width * height / 1e6:.0f} Mpx"
        raise expected("view", most, got, "zoom in, or stain the whole slide")


def _grid(slide: Slide, size: tuple[int, int], window: Window) -> Grid:
    """Where a window of a view of `size` (w, h) lies in level-0 pixels."""
    across, down = (full / seen for full, seen in zip(slide.size, size, strict=True))
    return Grid((window.left * across, window.top * down), (across, down))


def _confidence(levels: Levels, grid: Grid) -> Confidence:
    return Confidence(np.log10(confidence_of(levels)), grid.coarser(SQUARE_PX))


# A whole slide, stained into a file.


@dataclass(frozen=True)
class StainedSlide:
    """The file that was written, its grid on the H&E, and how sure the stainer was, if it says."""

    file: Path
    grid: Grid
    confidence: Confidence | None


def stain_whole(path: Path, mpp: float | None, out: Path, choice: Choice) -> Steps:
    """Stain the whole slide into a file; returns a `StainedSlide`. Closed early, the same call continues.

    How sure the stainer was is written beside it, as OUT.confidence.png. Raises: as `stain_slide`.
    """
    map_file = named_beside(out, ".confidence.png") if choice.has_dials else None
    job = SlideJob(SlideFile(path, mpp), choice.load())
    yield from in_steps(lambda on_block: stain_slide(job, Output(out), confidence=map_file, on_block=on_block))
    with held_slide(job.file) as slide, open_slide(out) as made:
        grid = _grid(slide, made.size, Window(0, 0, *made.size))
    sure = _confidence(levels_in(read_image(map_file)), grid) if map_file else None
    return StainedSlide(out, grid, sure)


# Nuclei of a picture.


@dataclass(frozen=True)
class CountedNuclei:
    """A label image int32 (H, W), what the table says of each nucleus by column, and the scores of all."""

    labels: NDArray[np.int32]
    columns: dict[str, list[Any]]
    scored: Scores

    def __str__(self) -> str:
        """How many there are and what they score, each with its interval of 95 %, and what speaks against it."""
        count = len(self.columns["label"])
        counted = f"{count:,} {'nucleus' if count == 1 else 'nuclei'}"
        share, h_score, threshold = self.scored.positive_percent, self.scored.h_score, self.scored.threshold
        if share is None or h_score is None or threshold.positive_od10 is None:
            return f"{counted}."
        whence = "found from these nuclei" if threshold.source == "found" else "fixed"
        scored = f"{counted}, {_in_words(share, 1)} % positive, H-score {_in_words(h_score, 0)}."
        doubts = f" In doubt: {'; '.join(self.scored.doubts)}." if self.scored.doubts else ""
        return f"{scored} Positive: DAB above {threshold.positive_od10:.2f}, {whence}.{doubts}"


def _in_words(score: Score, digits: int) -> str:
    """A score with its interval."""
    ends = "" if score.interval is None else " to ".join(f"{end:.{digits}f}" for end in score.interval)
    return f"{score.value:.{digits}f}{f' ({ends})' if ends else ''}"


def count_nuclei(pixels: Image, mpp: float, stains: str = "auto") -> Steps:
    """Find, measure and score the nuclei of an image, uint8 (H, W, 3); returns `CountedNuclei`.

    Raises: ValueError for pixels too large to show nuclei.
    """
    return in_steps(partial(_counted, pixels, mpp, stains))


def _counted(pixels: Image, mpp: float, stains: str, on_window: OnBlock) -> CountedNuclei:
    with (
        TemporaryDirectory() as folder,
        open_slide(pixels, mpp) as slide,
        slide_nuclei(slide, Path(folder) / "nuclei", named_built_in(), stains, on_window) as found,
    ):
        threshold = threshold_for(found)
        rows = [judged(part, slide.quickhash, threshold) for part in found.parts()]
        scored = scores(found.places, found.measured, threshold, found.pixels)
        labels = label_image(slide, rows).astype(np.int32)
    columns = {name: [value for part in rows for value in part.columns[name]] for name in COLUMNS}
    return CountedNuclei(labels, columns, scored)
