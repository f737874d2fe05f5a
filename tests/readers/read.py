"""What a reader of others reads of a file: `python read.py READER FILE FOLDER`; run in an environment of its own.

Prints as BioFormats.java does, and writes the pixels of each level, RGB, to FOLDER.
"""

import sys
from pathlib import Path

import numpy as np


def of_bioio(file: Path) -> tuple[float, list[np.ndarray]]:
    from bioio import BioImage

    image = BioImage(file)
    levels = []
    for level in image.resolution_levels:
        image.set_resolution_level(level)
        order = "YXS" if "S" in image.dims.order else "YXC"
        levels.append(image.get_image_data(order))
    image.set_resolution_level(0)
    return float(image.physical_pixel_sizes.X), levels


def of_ome_zarr(file: Path) -> tuple[float, list[np.ndarray]]:
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    node = next(iter(Reader(parse_url(file))()))
    scales = node.metadata["coordinateTransformations"][0][0]["scale"]
    return float(scales[-1]), [np.moveaxis(np.asarray(level), 0, 2) for level in node.data]


def of_openslide(file: Path) -> tuple[float, list[np.ndarray]]:
    from openslide import OpenSlide

    with OpenSlide(file) as slide:
        levels = [
            np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))
            for level, size in enumerate(slide.level_dimensions)
        ]
        return float(slide.properties["openslide.mpp-x"]), levels


def of_tifffile(file: Path) -> tuple[float, list[np.ndarray]]:
    from xml.etree import ElementTree

    from tifffile import TiffFile

    with TiffFile(file) as tiff:
        pixels = ElementTree.fromstring(tiff.ome_metadata).find(".//{*}Pixels")
        return float(pixels.get("PhysicalSizeX")), [level.asarray() for level in tiff.series[0].levels]


READERS = {"bioio": of_bioio, "ome-zarr": of_ome_zarr, "openslide": of_openslide, "tifffile": of_tifffile}

if __name__ == "__main__":
    name, file, folder = sys.argv[1:]
    mpp, levels = READERS[name](Path(file))
    print(f"> {name}\n> {mpp}")
    for index, level in enumerate(levels):
        print(">", level.shape[1], level.shape[0], level.shape[2])
        np.ascontiguousarray(level, np.uint8).tofile(Path(folder) / f"{index}.raw")
