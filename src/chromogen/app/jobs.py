"""Work on files: one after the other from reading to writing, in one style, with its provenance."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from chromogen.app.paths import SideOutputs, image_files
from chromogen.compute.memory import give_back_freed_memory, keep_freed_memory
from chromogen.compute.tiles import outer_px
from chromogen.errors import expected
from chromogen.files import CHECKPOINT_ENDING, json_lines_to, named_beside, stem_of
from chromogen.image import Image, read_provenance, scaled, shrunk, write_image
from chromogen.pixel_size import ASSUMED_MPP, check_mpp
from chromogen.provenance import NOTICE, run_facts, sha256_of, versions
from chromogen.regions.guides import Regions, resized
from chromogen.slides.slide import Picture, read_picture
from chromogen.stains.appearance import DOUBTS, appearance
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.loss import halo_px, tiles_of
from chromogen.style.measured_style import OnMeasured, Style, measure_style, style_cache_folder
from chromogen.style.memory import BLOCK_BYTES, Limits, Need, need_within
from chromogen.style.recipes import Recipe, as_record, guided_recipe
from chromogen.style.start import NO_GUIDES, Guides, start_record
from chromogen.style.stylize import OnStep, Step, Stylized, stylized

NO_LIMITS = Limits()
SAMPLE_PX = 384
SAMPLE_STEPS = 3
WORK_IN_TILES = 1.45  # of a tile's pixel, halo and all, against one of the sample: the forward pass runs twice
OTHER_STEPS = 1.5  # what is done once takes about as long as so many steps


def listeners_of(side: SideOutputs, content: Path, index: int) -> list[OnStep]:
    """What writes down the steps of one content, the `index`-th from 0."""
    traces = [trace_to(side.trace, index)] if side.trace else []
    return traces + ([previews_to(side.preview, stem_of(content), side.preview_every)] if side.preview else [])


def trace_to(path: Path, content_index: int) -> OnStep:
    """Append every step as one line of JSON; `content` counts the run's contents from 0."""
    append = json_lines_to(path, lambda old, new: old["content"] != content_index or old["index"] < new["index"])
    return lambda step, _picture: append({"content": content_index, **asdict(step)})


def previews_to(folder: Path, stem: str, every: int) -> OnStep:
    """Write the picture as STEM_step_0010.png after every so many steps."""

    def write(step: Step, picture: Callable[[], Image]) -> None:
        if step.index % every == 0:
            write_image(folder / f"{stem}_step_{step.index:04d}.png", picture(), {"notice": NOTICE})

    return write


def together(*listeners: OnStep) -> OnStep:
    """One listener that passes every step on to several."""

    def tell(step: Step, picture: Callable[[], Image]) -> None:
        for listener in listeners:
            listener(step, picture)

    return tell


def read_sized(path: Path, longest_px: int | None, mpp: float | None = None) -> Picture:
    """An image or slide from a file, its longer side brought to `longest_px`; None leaves it.

    `mpp` is the size of the file's pixels in um, where it states none or a wrong one.
    Raises: as `read_picture` and `scaled`.
    """
    picture = read_picture(path, mpp)
    if longest_px is None:
        return picture
    factor = longest_px / max(picture.pixels.shape[:2])
    return Picture(scaled(picture.pixels, factor), picture.mpp and picture.mpp / factor)


def has_begun(output: Path) -> bool:
    """Whether an earlier run has left this output or its checkpoint."""
    return output.exists() or named_beside(output, CHECKPOINT_ENDING).exists()


@dataclass(frozen=True)
class Styles:
    """Style files or folders with their weights.

    `mpp` is the size of their pixels in um, where files state none or a wrong one; they are resampled to that of
    the content. With `longest_px` they have this size instead, whatever their pixels are.
    """

    paths: tuple[Path, ...]
    mix: tuple[float, ...] | None = None
    mpp: float | None = None
    longest_px: int | None = None

    def __post_init__(self) -> None:
        check_mpp("style_mpp", self.mpp)
        if self.mpp is not None and self.longest_px is not None:
            raise expected("style_size", "left out when style_mpp is given", self.longest_px)

    @cached_property
    def files(self) -> list[Path]:
        """Every image; FileNotFoundError or ValueError for a path that is none."""
        return [file for group in self._groups for file in group]

    @property
    def file_mix(self) -> list[float] | None:
        """The weight of each file: a folder's is shared by its images. None: all files weigh the same."""
        if self.mix is None:
            return None
        if len(self.mix) != len(self.paths):
            raise expected("mix", f"one weight for each of {len(self.paths)} styles", f"{len(self.mix)} weights")
        weighted = zip(self.mix, self._groups, strict=True)
        return [weight / len(group) for weight, group in weighted for _ in group]

    @cached_property
    def _groups(self) -> list[list[Path]]:
        return [image_files([path]) for path in self.paths]


class Stylist:
    """Stylizes file after file in one style: keeps the encoder, and the styles as measured for each pixel size.

    Contents are brought to `longest_px` on their longer side; `content_mpp` is the size of their pixels in um,
    where files state none or a wrong one. `regions` are drawn on the one content and the one style there are then.
    Pictures are tiled within `limits`.
    `on_measured(done, of)` follows the measuring of styles that were not measured before.
    """

    def __init__(
        self,
        styles: Styles,
        recipe: Recipe,
        encoder: Encoder,
        *,
        longest_px: int | None = None,
        content_mpp: float | None = None,
        on_measured: OnMeasured | None = None,
        regions: Regions | None = None,
        limits: Limits = NO_LIMITS,
    ) -> None:
        check_mpp("mpp", content_mpp)
        self.styles, self.recipe, self.encoder = styles, recipe, encoder
        self.on_measured = on_measured
        self.longest_px, self.content_mpp = longest_px, content_mpp
        self.limits = limits
        self._styles = [read_sized(path, styles.longest_px, styles.mpp) for path in styles.files]
        for path, style in zip(styles.files, self._styles, strict=True):
            self._doubt(style, "style", path)
        self.style_sha256 = [sha256_of(path) for path in styles.files]
        self.content_regions: Guides = NO_GUIDES
        self._style_regions: Guides = NO_GUIDES
        if regions:
            self.content_regions, self._style_regions = regions
            self.recipe = guided_recipe(recipe, sorted(regions[0]))
        self._measured: dict[tuple[float, ...], Style] = {}
        if self.limits != Limits():  # what is kept of freed memory counts against them
            give_back_freed_memory()
        if content_mpp and longest_px is None:
            self.style(content_mpp)  # what is wrong with the styles shows here, before the first content

    @property
    def style_mpps(self) -> list[float | None]:
        """The size of each style's pixels in um; None where it is not known or its longer side is given."""
        return [None if self.styles.longest_px else style.mpp for style in self._styles]

    def assumed_mpp(self) -> float:
        """The pixel size in um of a content that states none: the styles', else `ASSUMED_MPP`."""
        return next(filter(None, self.style_mpps), ASSUMED_MPP)

    def style(self, content_mpp: float | None) -> Style:
        """The styles as measured for contents of this pixel size in um, resampled to it where theirs is known."""
        mpp = content_mpp or self.assumed_mpp()
        factors = [own / mpp if own else 1.0 for own in self.style_mpps]
        if (mpp, *factors) not in self._measured:
            images = [scaled(style.pixels, factor) for style, factor in zip(self._styles, factors, strict=True)]
            self._measured[mpp, *factors] = measure_style(
                images,
                self.recipe,
                self.encoder,
                self.styles.file_mix,
                self.on_measured,
                mpp,
                resized(self._style_regions, images[0]),
                kept_in=style_cache_folder(),
            )
        return self._measured[mpp, *factors]

    def read(self, content: Path) -> Picture:
        """A content at the size it is stylized in, and the size of its pixels in um, if known."""
        picture = read_sized(content, self.longest_px, self.content_mpp)
        self._doubt(picture, "content", content)
        return picture

    def measured(self, image: Image, mpp: float | None) -> tuple[Style, Need]:
        """The style, and the tiles that an image takes; freed memory is given back where these are several."""
        style = self.style(mpp)
        if self.limits != Limits():
            give_back_freed_memory()
        need = need_within(self.limits, (image.shape[1], image.shape[0]), self.recipe, self.encoder)
        if need.tile_px is not None and self.limits.max_memory_bytes is not None:
            give_back_freed_memory(BLOCK_BYTES * outer_px(need.tile_px, halo_px(self.recipe.objective)) ** 2)
        elif need.tile_px is not None:
            give_back_freed_memory()
        elif self.limits != Limits():
            keep_freed_memory()
        return style, need

    def stylize_file(
        self, content: Path, output: Path, listeners: Sequence[OnStep] = (), *, resume: bool = False
    ) -> tuple[Stylized, dict[str, Any]]:
        """Read, stylize, write; the result and the facts about it as plain data.

        Long runs leave a checkpoint beside the output until they are done, and so do runs that are interrupted;
        `resume` goes on from one. Raises: KeyboardInterrupt.
        """
        began = time.perf_counter()
        image, mpp = self.read(content)
        guides = resized(self.content_regions, image)
        style, need = self.measured(image, mpp)
        decisive = self._inputs(image, content, mpp, guides)
        checkpoint = Checkpoint(named_beside(output, CHECKPOINT_ENDING), decisive, resume=resume)
        with checkpoint.interrupts:
            result = stylized(
                image,
                style,
                self.recipe,
                encoder=self.encoder,
                on_step=together(*listeners),
                guides=guides,
                tile_px=need.tile_px,
                checkpoint=checkpoint,
            )
            facts = decisive | self._facts(result) | {"tile_px": need.tile_px}
            write_image(output, result.image, facts, mpp)
            checkpoint.forget()
        seconds = time.perf_counter() - began
        return result, {"output": str(output), **facts, **self._assumed(mpp), "seconds": seconds, **run_facts()}

    def finished(self, content: Path, output: Path) -> dict[str, Any] | None:
        """The facts in an output of these very inputs, recipe and versions; None where it is to be made."""
        if not output.is_file():
            return None
        image, mpp = self.read(content)
        known = read_provenance(output) or {}
        wanted = self._inputs(image, content, mpp, resized(self.content_regions, image)) | {"versions": versions()}
        if any(known.get(name) != fact for name, fact in json.loads(json.dumps(wanted)).items()):
            return None
        return {"output": str(output), "already_done": True, **known}

    def _doubt(self, picture: Picture, role: str, path: Path) -> None:
        """Warn of an IHC as content and an H&E as style; in stain space, of all that is no such slide."""
        seen = appearance(picture.pixels, picture.mpp or ASSUMED_MPP)
        why = seen.doubt_as(role) if self.recipe.space == "stain" else DOUBTS[role].get(seen.kind)
        if why:
            warnings.warn(f"The {role} {path.name} {why}.", stacklevel=3)

    def _assumed(self, content_mpp: float | None) -> dict[str, Any]:
        """The pixel sizes in um that are assumed, where files state none: of a content, and of each such style."""
        mpp = content_mpp or self.assumed_mpp()
        styles = [] if self.styles.longest_px else [mpp] * self.style_mpps.count(None)
        return ({} if content_mpp else {"mpp_assumed": mpp}) | ({"style_mpp_assumed": styles} if styles else {})

    def _inputs(self, image: Image, content: Path, mpp: float | None, guides: Guides) -> dict[str, Any]:
        """What decides the picture; hashes for names, which may identify a patient."""
        height, width = image.shape[:2]
        style = self.style(mpp)
        start = start_record(style.exemplar, self.recipe.seed, self.recipe.share) if style.exemplar else {}
        drawn = {name: hashlib.sha256(mask.tobytes()).hexdigest() for name, mask in guides.items()}
        return {
            "notice": NOTICE,
            "size": [width, height],
            "mpp": mpp,
            "content_sha256": sha256_of(content),
            "style_sha256": self.style_sha256,
            "style_mix": list(style.mix),
            "style_mpp": self.style_mpps,
            "regions": sorted(self.content_regions),
            "drawn": drawn,
            "recipe": as_record(self.recipe),
            "encoder": self.encoder.record(),
            **start,
        }

    def _facts(self, result: Stylized) -> dict[str, Any]:
        """What the picture's file says of how it was made, besides."""
        return {
            "precision": result.precision,
            "steps": len(result.trace),
            "initial": asdict(result.initial),
            "final": asdict(result.final),
            "versions": versions(),
        }


def forecast(stylist: Stylist, content: Path) -> dict[str, Any]:
    """Of a content file: size, tiles, recipe, about how much memory and time, by a few steps on a small copy."""
    image, mpp = stylist.read(content)
    size = image.shape[1], image.shape[0]
    style, need = stylist.measured(image, mpp)
    taken = psutil.Process().memory_info().rss  # before the sample, whose memory may be kept
    pace = _seconds_per_pixel(stylist, image, style)
    work = _pixels_seen(size, stylist.recipe, need.tile_px)
    return {
        "content": str(content),
        "size": list(size),
        "tile_px": need.tile_px,
        "tiles": len(tiles_of(size, stylist.recipe.objective, need.tile_px)),
        "peak_mb": round((taken + need.bytes) / 1e6),
        "seconds": round(pace * work, 1),
        "recipe": as_record(stylist.recipe),
    }


def _seconds_per_pixel(stylist: Stylist, image: Image, style: Style) -> float:
    """Of one step in one piece."""
    small = shrunk(image, SAMPLE_PX)
    recipe = replace(stylist.recipe, scales=(1.0,), steps=(SAMPLE_STEPS,), plateau=0.0, stop_at_floor=False)
    guides = resized(stylist.content_regions, small)
    trace = stylized(small, style, recipe, encoder=stylist.encoder, guides=guides).trace
    seconds = (trace[-1].seconds - trace[0].seconds) / (len(trace) - 1)
    return seconds / float(small.shape[0] * small.shape[1])


def _pixels_seen(size: tuple[int, int], recipe: Recipe, tile_px: int | None) -> float:
    """Pixels of all steps together, at the cost that they have in one piece."""
    return sum(
        _pixels_at((round(size[0] * scale), round(size[1] * scale)), recipe, tile_px)
        * (steps + (OTHER_STEPS if scale == 1 else 0))
        for scale, steps in zip(recipe.scales, recipe.steps, strict=True)
    )


def _pixels_at(size: tuple[int, int], recipe: Recipe, tile_px: int | None) -> float:
    grid = tiles_of(size, recipe.objective, tile_px)
    work = 1 if len(grid) == 1 else WORK_IN_TILES
    return work * sum(tile.outer.size[0] * tile.outer.size[1] for tile in grid)
