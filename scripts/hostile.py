"""Broken and hostile files, made from real ones, each by a name alone, FORMAT/HOW/NUMBER, as often as wanted."""

from __future__ import annotations

import json
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tifffile
import torch

import hostile_onnx
from chromogen.compute.tiles import Window
from chromogen.image import Image, encode_image
from chromogen.slides.facts import Facts
from chromogen.slides.store import LOCK, BlockStore, planned
from chromogen.slides.writer import write_ome_tiff, write_ome_zarr
from chromogen.staining.looks import write_look
from chromogen.staining.stainer import builtin_ihc, load_look
from chromogen.staining.where_network import Architecture, Model, WhereNetwork, trained_weights, write_model
from chromogen.style.checkpoint import Checkpoint

Maker = Callable[[Path], None]
Rng = random.Random

TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8, 13: 4, 16: 8}
NUMBERS = (0, 1, 2, 3, 7, 8, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 10**9, 2**63 - 1, 2**64 - 1)
ODD_JSON: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    10**9,
    10**30,
    0.5,
    1e308,
    "NaN",
    float("nan"),
    float("inf"),
    "",
    "../../etc",
    [],
    {},
)
TINY = 96
LARGEST = (12_000, 12_000)  # that is an image still


def small() -> Image:
    """A corner of scikit-image's IHC."""
    return builtin_ihc()[:TINY, : TINY + 20]


# --- whole files ---


def _pillow(path: Path, mode: str = "RGB", **options: Any) -> None:
    PIL.Image.fromarray(small()).convert(mode).save(path, **options)


def _tiff(path: Path, *, dtype: str = "uint8", **options: Any) -> None:
    white = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    tifffile.imwrite(path, (small() * (white / 255)).astype(dtype), **{"photometric": "rgb", **options})


def _planes(path: Path) -> None:
    tifffile.imwrite(path, np.moveaxis(small(), 2, 0), photometric="rgb", planarconfig="separate", rowsperstrip=16)


def _png16(path: Path) -> None:
    import imagecodecs

    path.write_bytes(imagecodecs.png_encode(small().astype(np.uint16) * 257))


class _Picture:
    """`Pixels` of a picture in memory."""

    def __init__(self, image: Image) -> None:
        self.image, self.size = image, (image.shape[1], image.shape[0])

    def read(self, window: Window, /) -> Image:
        return self.image[window.at]


def _ours(path: Path, compression: str = "jpeg") -> None:
    write_ome_tiff(path, _Picture(builtin_ihc()), Facts(mpp=0.5, stainer="none"), compression=compression)


def _zarr(path: Path) -> None:
    write_ome_zarr(path, _Picture(builtin_ihc()[:300, :300]), Facts(mpp=0.5, stainer="none"))


def _svs(path: Path) -> None:
    said = "Aperio Image Library v11.2.1\r\n116x96 JPEG/RGB|AppMag = 20|MPP = 0.4990"
    tifffile.imwrite(
        path, small(), tile=(64, 64), photometric="rgb", compression="jpeg", description=said, metadata=None
    )


def _pyramid(path: Path) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 2, 4):
            tiff.write(
                small()[::step, ::step], tile=(32, 32), photometric="rgb", compression="deflate", metadata=None
            )


def _model(path: Path) -> None:
    torch.manual_seed(0)
    network = WhereNetwork(Architecture())
    weights = trained_weights(network)
    write_model(path, Model(path.stem, network.architecture, weights, load_look("nuclear")))


def _look(path: Path) -> None:
    write_look(path, load_look("nuclear"))


def _checkpoint(path: Path) -> None:
    Checkpoint(path, {"size": [1, 1]}).save({"index": 3, "parameters": [torch.ones(8, 8)], "losses": {"a": 0.5}})


def _geojson(path: Path) -> None:
    ring = [[5, 5], [80, 10], [60, 70], [5, 5]]
    hole = [[20, 15], [30, 15], [30, 25], [20, 15]]
    named = {"classification": {"name": "Tumor"}}
    features = [
        {"type": "Feature", "properties": named, "geometry": {"type": "Polygon", "coordinates": [ring, hole]}},
        {"type": "Feature", "properties": {}, "geometry": {"type": "MultiPolygon", "coordinates": [[ring]]}},
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def _ours_image(path: Path) -> None:
    path.write_bytes(encode_image(small(), path.suffix, {"notice": "x", "recipe": {"a": [1, 2]}}))


def _store(path: Path) -> None:
    path.mkdir()
    (path / LOCK).touch()
    planned(path, {"size": [200, 150], "stainer": "x"}, restart=False)
    store = BlockStore(path, (200, 150), (64, 64))
    store.create()
    for index in store.indices():
        store.write(index, np.full((*store.window(index).size[::-1], 3), 200, np.uint8), [Window(0, 0, 5, 5)])


FORMATS: Mapping[str, tuple[str, Maker]] = {
    "png": (".png", _pillow),
    "png-alpha": (".png", partial(_pillow, mode="RGBA")),
    "png-palette": (".png", partial(_pillow, mode="P")),
    "png-16": (".png", _png16),
    "png-ours": (".png", _ours_image),
    "jpeg": (".jpg", partial(_pillow, quality=80)),
    "jpeg-ours": (".jpg", _ours_image),
    "jpeg-progressive": (".jpg", partial(_pillow, progressive=True)),
    "jpeg-cmyk": (".jpg", partial(_pillow, mode="CMYK")),
    "bmp": (".bmp", _pillow),
    "gif": (".gif", _pillow),
    "webp": (".webp", _pillow),
    "tiff": (".tif", _tiff),
    "tiff-deflate": (".tif", partial(_tiff, compression="deflate", rowsperstrip=16, predictor=True)),
    "tiff-lzw": (".tif", partial(_tiff, compression="lzw")),
    "tiff-jpeg": (".tif", partial(_tiff, compression="jpeg", tile=(32, 32))),
    "tiff-jpeg2000": (".tif", partial(_tiff, compression="jpeg2000", tile=(32, 32))),
    "tiff-webp": (".tif", partial(_tiff, compression="webp", tile=(32, 32))),
    "tiff-zstd": (".tif", partial(_tiff, compression="zstd", tile=(32, 32))),
    "tiff-float": (".tif", partial(_tiff, dtype="float32")),
    "tiff-16": (".tif", partial(_tiff, dtype="uint16")),
    "tiff-planes": (".tif", _planes),
    "tiff-imagej": (".tif", partial(_tiff, imagej=True, photometric=None)),
    "tiff-big": (".tif", partial(_tiff, bigtiff=True)),
    "pyramid": (".tif", _pyramid),
    "ome-tiff": (".ome.tif", partial(_tiff, ome=True, metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})),
    "ours": (".ome.tif", _ours),
    "ours-jpeg2000": (".ome.tif", partial(_ours, compression="jpeg2000")),
    "svs": (".svs", _svs),
    "zarr": (".ome.zarr", _zarr),
    "model": (".safetensors", _model),
    "look": (".json", _look),
    "checkpoint": (".checkpoint", _checkpoint),
    "geojson": (".geojson", _geojson),
    "store": (".chromogen", _store),
    "onnx": (".onnx", hostile_onnx.generator),
    "onnx-ours": (".onnx", hostile_onnx.as_ours),
}


# --- ways to break any file ---


def flip(data: bytearray, rng: Rng) -> None:
    """A few bits, half of the time in the first 512 bytes."""
    most = min(len(data), 512) if rng.random() < 0.5 else len(data)
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(most)] ^= 1 << rng.randrange(8)


def cut(data: bytearray, rng: Rng) -> None:
    """The end is missing."""
    del data[rng.randrange(len(data)) :]


def fill(data: bytearray, rng: Rng) -> None:
    """A stretch is zeros, ones or noise."""
    start = rng.randrange(len(data))
    count = min(rng.choice((4, 64, 1024)), len(data) - start)
    data[start : start + count] = rng.choice((bytes(count), b"\xff" * count, rng.randbytes(count)))


def shift(data: bytearray, rng: Rng) -> None:
    """Bytes too many, or a stretch twice or not at all."""
    start, count = rng.randrange(len(data)), rng.choice((1, 3, 16, 300))
    match rng.randrange(3):
        case 0:
            data[start:start] = rng.randbytes(count)
        case 1:
            data[start:start] = data[start : start + count]
        case _:
            del data[start : start + count]


def lie(data: bytearray, rng: Rng) -> None:
    """Numbers that are not so, at even places mostly of the header."""
    for _ in range(rng.randint(1, 4)):
        size, order = rng.choice((2, 4, 8)), rng.choice((">", "<"))
        most = min(len(data), rng.choice((64, 600, len(data))))
        number = rng.choice(NUMBERS) % 2 ** (8 * size)
        at = 2 * rng.randrange(max(1, (most - size) // 2))
        data[at : at + size] = struct.pack(order + {2: "H", 4: "I", 8: "Q"}[size], number)


WAYS: Mapping[str, Callable[[bytearray, Rng], None]] = {f.__name__: f for f in (flip, cut, fill, shift, lie)}


# --- ways to break what is inside ---


def tags_lie(data: bytearray, rng: Rng) -> None:
    """Tags of a TIFF with other types, counts, values, or another place for the next page, itself among them."""
    try:
        entries, ends = _tags(bytes(data))
    except (struct.error, IndexError):
        return
    if ends and rng.random() < 0.2:
        struct.pack_into("<I", data, rng.choice(ends), rng.choice((8, entries[0] - 2 if entries else 8, 2**31)))
        return
    for _ in range(rng.randint(1, 3)):
        at = rng.choice(entries)
        what, form = rng.choice(((2, "<H"), (4, "<I"), (8, "<I"), (8, "<H"), (0, "<H")))
        number = rng.choice((*NUMBERS, *TIFF_TYPES, 254, 256, 257, 259, 262, 273, 277, 279, 322, 330, 347))
        struct.pack_into(form, data, at + what, number % 2 ** (8 * struct.calcsize(form)))


def _tags(data: bytes) -> tuple[list[int], list[int]]:
    """Where tags begin, and where next pages are named, in a classic little-endian TIFF without its SubIFDs."""
    entries: list[int] = []
    ends: list[int] = []
    (at,) = struct.unpack_from("<I", data, 4)
    while at and len(ends) < 20:
        (count,) = struct.unpack_from("<H", data, at)
        entries += [at + 2 + 12 * index for index in range(count)]
        ends.append(at + 2 + 12 * count)
        (at,) = struct.unpack_from("<I", data, ends[-1])
    return entries, ends


def odd_json(value: Any, rng: Rng) -> Any:
    """JSON with one value, somewhere, that does not belong there."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        changed = {**value, key: odd_json(value[key], rng)}
        return {name: part for name, part in changed.items() if name != key} if rng.random() < 0.1 else changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], odd_json(value[at], rng), *value[at + 1 :]]
    return rng.choice((*ODD_JSON, "x" * 100_000, [value] * 3, {"a": value}))


def json_lies(data: bytearray, rng: Rng) -> None:
    """A JSON file with odd values, or nested deeper than anyone can follow."""
    if rng.random() < 0.1:
        data[:] = rng.choice((b"[" * 200_000, b'{"a":' * 200_000, b"[1e999]", b"\xff\xfe{", b"nul"))
        return
    try:
        value = json.loads(bytes(data))
    except ValueError:  # a text of a header that is none
        value = bytes(data).decode("latin-1")
    for _ in range(rng.randint(1, 3)):
        value = odd_json(value, rng)
    data[:] = json.dumps(value).encode()


def header_lies(data: bytearray, rng: Rng) -> None:
    """A safetensors file whose JSON header has odd values, the JSON inside its texts too."""
    (length,) = struct.unpack_from("<Q", data)
    header, rest = json.loads(bytes(data[8 : 8 + length])), bytes(data[8 + length :])
    if rng.random() < 0.7:
        name = rng.choice(sorted(header["__metadata__"]))
        text = bytearray(header["__metadata__"][name].encode())
        json_lies(text, rng)
        header["__metadata__"][name] = text.decode("latin-1")
    else:
        header = odd_json(header, rng)
    said = json.dumps(header).encode()
    data[:] = struct.pack("<Q", len(said)) + said + rest


def numbers_lie(data: bytearray, rng: Rng) -> None:
    """A safetensors file whose numbers are NaN, infinite or huge."""
    (length,) = struct.unpack_from("<Q", data)
    start = 8 + length + 4 * rng.randrange(max(1, (len(data) - 8 - length) // 4))
    struct.pack_into("<f", data, min(start, len(data) - 4), rng.choice((float("nan"), float("inf"), 1e38)))


def png_lies(data: bytearray, rng: Rng) -> None:
    """A PNG that claims another size or depth, its checksum right; or has a chunk that unpacks to a gigabyte."""
    if rng.random() < 0.5:
        width, height = rng.choice(((31_623, 31_623), (10**9, 1), (1, 10**9), (0, 5), (2**31 - 1,) * 2, LARGEST))
        ihdr = struct.pack(">II", width, height) + bytes(data[24:29])
        data[16:33] = ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr))
        return
    bomb = zlib.compress(bytes(rng.choice((10**6, 10**8))), 9)
    kind, before = rng.choice(
        (
            (b"zTXt", b"chromogen\0\0"),
            (b"iTXt", b"chromogen\0\1\0\0\0"),
            (b"iCCP", b"x\0\0"),
            (b"IDAT", b""),
            (b"eXIf", b""),
        )
    )
    body = before + bomb
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    data[33:33] = chunk


def said_lies(data: bytearray, rng: Rng) -> None:
    """A TIFF with hostile OME-XML: entities that multiply or name files, depth, sizes that cannot be."""
    data[:] = _with_description(rng.choice(OME_XML))


LOL = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
PIXELS = '<Image><Pixels SizeX="116" SizeY="96" SizeC="3" SizeT="1" SizeZ="1" Type="uint8" DimensionOrder="XYCZT"'
ENDED = '><Channel SamplesPerPixel="3"/><TiffData/></Pixels></Image></OME>'
OME_XML = (
    f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY l0 "lol">{LOL}]><OME>&l11;{PIXELS}{ENDED}',
    f'<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY x SYSTEM "file:///etc/passwd">]><OME>&x;{PIXELS}{ENDED}',
    "<OME>" + "<Image>" * 100_000,
    "<OME>" + "<Image>" * 50_000 + "</Image>" * 50_000 + "</OME>",
    *(
        f'<OME>{PIXELS} PhysicalSizeX="{size}" PhysicalSizeY="0.5"{ENDED}'
        for size in ("NaN", "inf", "-1", "1e999", "x", "")
    ),
    *(
        f"<OME>{PIXELS}{ENDED}".replace('SizeC="3"', f'SizeC="{number}"').replace(
            'SizeX="116"', f'SizeX="{number}"'
        )
        for number in (0, -1, 10**9, 10**20)
    ),
    f'<OME>{PIXELS}><TiffData IFD="0"><UUID FileName="../../../etc/passwd">urn:uuid:1</UUID></TiffData>'
    "</Pixels></Image></OME>",
    f"<OME>{PIXELS}" + "><Channel/>" * 50_000 + "</Pixels></Image></OME>",
)


def _with_description(text: str) -> bytes:
    import io

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, small(), photometric="rgb", description=text, metadata=None)
    return buffer.getvalue()


def jpeg_lies(data: bytearray, rng: Rng) -> None:
    """A JPEG that claims another size."""
    at = next((data.find(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if data.find(mark) > 0), -1)
    if at > 0:
        sides = (65535, 65535), (0, 1), (1, 0), (65535, 1), (3000, 3000)
        struct.pack_into(">HH", data, at + 5, *(rng.choice(sides) if rng.random() < 0.98 else LARGEST))


def places_lie(data: bytearray, rng: Rng) -> None:
    """GeoJSON with places that no image has, or more of them than anyone draws."""
    far = rng.choice((1e308, -1e308, 1e15, float("nan"), float("inf"), 1e-308, 10**30))
    ring: list[Any] = [[0, 0], [far, 0], [far, 90], [0, 0]]
    match rng.randrange(5):
        case 0:
            ring = [[rng.uniform(-50, 150), rng.uniform(-50, 150)] for _ in range(3000)]
            ring.append(ring[0])
        case 1:
            ring = [[1, 1]] * rng.choice((1, 2, 4, 1000))
        case 2:
            ring = [[0, 0, 0], [90, 0, far], [90, 90], [0, 0]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    data[:] = json.dumps([feature] * (200 if len(ring) < 10 and rng.random() < 0.3 else 1)).encode()


INSIDE: Mapping[str, tuple[Callable[[bytearray, Rng], None], tuple[str, ...]]] = {
    "tags": (
        tags_lie,
        tuple(name for name in FORMATS if name.startswith(("tiff", "pyramid", "ome", "ours", "svs"))),
    ),
    "claims": (png_lies, ("png", "png-alpha", "png-palette", "png-16", "png-ours")),
    "frames": (jpeg_lies, ("jpeg", "jpeg-progressive", "jpeg-cmyk")),
    "xml": (said_lies, ("ome-tiff",)),
    "json": (json_lies, ("geojson", "zarr", "store", "look")),
    "header": (header_lies, ("model", "checkpoint")),
    "numbers": (numbers_lie, ("model", "checkpoint")),
    "places": (places_lie, ("geojson",)),
    "graph": (hostile_onnx.graph_lies, ("onnx", "onnx-ours")),
}


# --- a case ---


def case_names(each: int) -> Iterator[str]:
    """So many of every way to break every format; what lies inside counts three times."""
    for number in range(3 * each):
        for name in FORMATS:
            if number < each:
                yield from (f"{name}/{how}/{number}" for how in WAYS)
            yield from (f"{name}/{how}/{number}" for how, (_, formats) in INSIDE.items() if name in formats)


def make_whole(folder: Path) -> None:
    """The files that are broken, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (suffix, make) in FORMATS.items():
        if not (folder / f"{name}{suffix}").exists():
            make(folder / f"{name}{suffix}")


def make_broken(case: str, whole: Path, folder: Path) -> Path:
    """The file (or folder) of a case, in a folder."""
    name, how, _ = case.split("/")
    rng, suffix = Rng(case), FORMATS[name][0]
    source, target = whole / f"{name}{suffix}", folder / f"broken{suffix}"
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)
    victim = _victim(target, how, rng)
    data = bytearray(victim.read_bytes())
    (WAYS[how] if how in WAYS else INSIDE[how][0])(data, rng)
    victim.write_bytes(data)
    return target


def _victim(target: Path, how: str, rng: Rng) -> Path:
    """The file itself, or one of a folder."""
    if target.is_file():
        return target
    files = sorted(file for file in target.rglob("*") if file.is_file() and file.stat().st_size)
    told = [file for file in files if file.suffix == ".json"]
    return rng.choice(told if how == "json" or rng.random() < 0.3 else files)
