"""Work on files: one after the other from reading to writing, in one style, with its provenance."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from chromogen.allocator import give_back_freed_memory, keep_freed_memory
from chromogen.app.listeners import together
from chromogen.app.regions import Regions, resized
from chromogen.app.style_cache import measure_style_once
from chromogen.decoders import MAX_PIXELS
from chromogen.errors import expected
from chromogen.files import named_beside
from chromogen.grid import outer_px
from chromogen.image import (
    SUPPOSED_MPP,
    Image,
    list_images,
    read_image,
    read_provenance,
    resize,
    write_image,
)
from chromogen.provenance import NOTICE, run_facts, sha256_of, versions
from chromogen.stains.appearance import doubts
from chromogen.style.adapt import adapted, check_adaptable
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.guides import NO_GUIDES, Guides
from chromogen.style.kinds import PlainNetwork
from chromogen.style.measured_style import OnMeasured, Style
from chromogen.style.memory import BLOCK_BYTES, Limits, Need, need_within
from chromogen.style.recipes import Recipe, as_record, guided
from chromogen.style.run import OnStep
from chromogen.style.stylize import CanvasOf, Stylized, canvas_of_recipe, stylize
from chromogen.style.tiled import halo_px


def read_sized(path: Path, longest_px: int | None) -> Image:
    """An image from a file, uint8 (H, W, 3), its longer side brought to `longest_px`; None leaves it.

    Raises: ImageError or FileNotFoundError, and as `scaled`.
    """
    image = read_image(path)
    if longest_px is None:
        return image
    return scaled(image, longest_px / max(image.shape[:2]))


def scaled(image: Image, factor: float) -> Image:
    """The image, uint8 (H, W, 3), enlarged by `factor`, at least 1 px wide and high.

    Raises: ValueError above the size that any image may have.
    """
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    if height * width > MAX_PIXELS:
        raise expected(
            "size", f"at most {MAX_PIXELS:,} px in all", f"{width:,} x {height:,} px", "choose a smaller one"
        )
    return resize(image, (width, height))


@dataclass(frozen=True)
class Styles:
    """Style files or folders with their weights; `mpp` and `longest_px` bring them to a scale, as far as known."""

    paths: tuple[Path, ...]
    mix: tuple[float, ...] | None = None
    mpp: float | None = None
    longest_px: int | None = None

    def __post_init__(self) -> None:
        _check_mpp("style_mpp", self.mpp)
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
        return [list_images(path) if path.is_dir() else [path] for path in self.paths]


def _check_mpp(name: str, mpp: float | None) -> None:
    """ValueError for a pixel size in um that no microscope has."""
    if mpp is not None and not 0.01 <= mpp <= 100:
        raise expected(name, "from 0.01 to 100 um per pixel", mpp)


NO_LIMITS = Limits()


class Stylist:
    """Stylizes file after file in one style: keeps the encoder, and the styles as measured for each pixel size.

    Contents are brought to `longest_px` on their longer side; `content_mpp` is their pixel size in um. `regions`
    are drawn on the one content and the one style there are then. Pictures are tiled within `limits`.
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
        _check_mpp("mpp", content_mpp)
        self.styles, self.recipe, self.encoder = styles, recipe, encoder
        self.on_measured = on_measured
        self.longest_px, self.content_mpp = longest_px, content_mpp
        self.limits = limits
        self.style_images = [read_sized(path, styles.longest_px) for path in styles.files]
        for path, style in zip(styles.files, self.style_images, strict=True):
            self._doubt(style, "style", path)
        self.style_sha256 = [sha256_of(path) for path in styles.files]
        self.content_regions: Guides = NO_GUIDES
        self._style_regions: Guides = NO_GUIDES
        if regions:
            self.content_regions, self._style_regions = regions
            self.recipe = guided(recipe, sorted(regions[0]))
        self._measured: dict[tuple[float, float], Style] = {}  # by how much enlarged, and the content's mpp
        self._canvas_of: CanvasOf = canvas_of_recipe
        self._started_from: dict[str, str] = {}
        if self.limits != Limits():  # what is kept of freed memory counts against them
            give_back_freed_memory()
        if longest_px is None or self.style_factor(content_mpp) == 1:
            self.style(content_mpp)  # what is wrong with the styles shows here, before the first content

    def start_from(self, network: PlainNetwork, identity: str) -> None:
        """Adapt a trained network to every content, instead of beginning anew. Raises: as `check_adaptable`."""
        check_adaptable(network, self.recipe, self.limits.tile_px)
        self._canvas_of, self._started_from = adapted(network), {"from": identity}

    def style_factor(self, content_mpp: float | None) -> float:
        """How much the styles are enlarged to have the content's pixel size in um; 1 where one is not known."""
        return 1.0 if content_mpp is None or self.styles.mpp is None else self.styles.mpp / content_mpp

    def style(self, content_mpp: float | None) -> Style:
        """The styles as measured for contents of this pixel size in um; once."""
        factor, mpp = self.style_factor(content_mpp), content_mpp or SUPPOSED_MPP
        if (factor, mpp) not in self._measured:
            images = [scaled(image, factor) for image in self.style_images]
            self._measured[factor, mpp] = measure_style_once(
                images,
                self.recipe,
                self.encoder,
                self.styles.file_mix,
                self.on_measured,
                mpp,
                resized(self._style_regions, images[0]),
            )
        return self._measured[factor, mpp]

    def read(self, content: Path) -> tuple[Image, float | None]:
        """A content at the size it is stylized in, and the size of its pixels in um, if known."""
        original = read_image(content)
        self._doubt(original, "content", content)
        factor = 1.0 if self.longest_px is None else self.longest_px / max(original.shape[:2])
        mpp = None if self.content_mpp is None else self.content_mpp / factor
        return scaled(original, factor), mpp

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

        Long runs leave a checkpoint beside the output until they are done; `resume` goes on from one.
        """
        began = time.perf_counter()
        image, mpp = self.read(content)
        guides = resized(self.content_regions, image)
        style, need = self.measured(image, mpp)
        decisive = self._inputs(image, content, mpp, guides)
        checkpoint = Checkpoint(named_beside(output, ".checkpoint"), decisive, resume=resume)
        result = stylize(
            image,
            style,
            self.recipe,
            encoder=self.encoder,
            on_step=together(*listeners),
            guides=guides,
            tile_px=need.tile_px,
            checkpoint=checkpoint,
            canvas_of=self._canvas_of,
        )
        facts = decisive | self._facts(result) | {"tile_px": need.tile_px}
        write_image(output, result.image, facts)
        checkpoint.forget()
        seconds = time.perf_counter() - began
        return result, {"output": str(output), **facts, "seconds": seconds, **run_facts()}

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

    def _doubt(self, image: Image, role: str, path: Path) -> None:
        """Warn of what does not look like what it is given as, where colours have a meaning."""
        why = doubts(image, role) if self.recipe.space == "stain" else None
        if why:
            warnings.warn(f"The {role} {path.name} {why}.", stacklevel=3)

    def _inputs(self, image: Image, content: Path, mpp: float | None, guides: Guides) -> dict[str, Any]:
        """What decides the picture; hashes for names, which may identify a patient."""
        height, width = image.shape[:2]
        drawn = {name: hashlib.sha256(mask.tobytes()).hexdigest() for name, mask in guides.items()}
        return {
            "notice": NOTICE,
            "size": [width, height],
            "mpp": mpp,
            "content_sha256": sha256_of(content),
            "style_sha256": self.style_sha256,
            "style_mix": list(self.style(mpp).mix),
            "style_mpp": self.styles.mpp,
            "regions": sorted(self.content_regions),
            "drawn": drawn,
            "recipe": as_record(self.recipe),
            "encoder": self.encoder.record(),
            **self._started_from,
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
