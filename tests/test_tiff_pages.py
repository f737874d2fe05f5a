"""Files as other tools write them, by every reader: which image is the slide, its colours, bits and pixel size."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL.TiffImagePlugin import IFDRational

from chromogen.image import Image, read_image, read_image_and_facts
from chromogen.pixel_size import plausible_mpp
from chromogen.slides.slide import open_slide
from chromogen.slides.source import DamagedRegionError
from synthetic import tissue_like

TRUTH = tissue_like(96, 120, seed=3)
PLANES = np.moveaxis(TRUTH, 2, 0).copy()
MACRO = np.full((60, 80, 3), 250, np.uint8)
LARGER_LABEL = np.full((400, 300, 3), 200, np.uint8)
TILED = {"tile": (64, 64)}
Write = Callable[[Path], None]


def by_slide(path: Path) -> Image:
    with open_slide(path) as slide:
        return slide.read_region((0, 0), slide.size)


def readers_of(path: Path) -> list[Callable[[Path], Image]]:
    """A folder is an OME-Zarr, which is no image file."""
    return [by_slide] if path.is_dir() else [by_slide, read_image]


def tiff(pixels: NDArray[Any], **how: Any) -> Write:
    return lambda path: tifffile.imwrite(path, pixels, **({"photometric": "rgb"} | how))


def pages(*writes: tuple[NDArray[Any], dict[str, Any]], ome: bool = False) -> Write:
    def write(path: Path) -> None:
        with tifffile.TiffWriter(path, ome=ome) as file:
            for pixels, how in writes:
                file.write(pixels, **({"photometric": "rgb", "metadata": None} | how))

    return write


def ramp(color: list[int]) -> NDArray[np.uint8]:
    return np.outer(color, np.arange(256)).astype(np.uint8)


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"axes": "YXS", "Name": name, **more}}


def multiscale(name: str, path: str = "0") -> dict[str, Any]:
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1, 0.5, 0.5]}]
    return {"name": name, "axes": axes, "datasets": [{"path": path, "coordinateTransformations": scale}]}


def zarr_of(planes: NDArray[Any], channels: list[dict[str, Any]]) -> Write:
    def write(path: Path) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=3)
        group.create_array("0", data=planes)
        group.attrs.update({"ome": {"multiscales": [multiscale("s")], "omero": {"channels": channels}}})

    return write


def zarr_series(images: list[tuple[str, Image]], xml: str = "") -> Write:
    """As Bio-Formats lays out the images of a file."""

    def write(path: Path) -> None:
        root = zarr.open_group(path, mode="w", zarr_format=2)
        for number, (name, image) in enumerate(images):
            group = root.create_group(str(number))
            group.create_array("0", data=np.moveaxis(image, 2, 0).copy())
            group.attrs.update({"multiscales": [{"version": "0.4", **multiscale(name)}]})
        if xml:
            (path / "OME").mkdir()
            (path / "OME" / "METADATA.ome.xml").write_text(xml)

    return write


def zarr_of_two(path: Path) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.create_array("a", data=np.moveaxis(LARGER_LABEL, 2, 0).copy())
    group.create_array("b", data=PLANES)
    group.attrs.update({"ome": {"multiscales": [multiscale("thumbnail", "a"), multiscale("he", "b")]}})


GREY = {"photometric": "minisblack"}
XML_NAMES = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">' + "".join(
    f'<Image Name="{name}"><Pixels SizeX="1" SizeY="1" SizeC="3"/></Image>' for name in ("macro image", "tissue")
)

SLIDE_AMONG_OTHERS: dict[str, Write] = {
    "macro_marked.tif": pages((MACRO, {"subfiletype": 9}), (TRUTH, TILED), (TRUTH[::2, ::2].copy(), TILED)),
    "reduced_first.tif": pages((TRUTH[::2, ::2].copy(), {"subfiletype": 1}), (TRUTH, TILED)),
    "label_described.tif": pages((LARGER_LABEL, {"description": "label 300x400"}), (TRUTH, TILED)),
    "aperio_like.tif": pages((LARGER_LABEL, {"description": "A Library v1\r\nmacro 300x400"}), (TRUTH, TILED)),
    "page_name.tif": pages((LARGER_LABEL, {"extratags": [(285, 2, None, "Macro", True)]}), (TRUTH, TILED)),
    "size_alone.tif": pages((MACRO, {}), (TRUTH, TILED)),
    "in_strips.tif": pages((MACRO, {}), (TRUTH, {})),
    "macro_first.ome.tif": pages((MACRO, named("macro")), (TRUTH, TILED | named("Image 1")), ome=True),
    "label_larger.ome.tif": pages(
        (LARGER_LABEL, named("label image")),
        (TRUTH, TILED | named("case 7")),
        (LARGER_LABEL, named("case 7.scn [macro image]")),
        ome=True,
    ),
    "planes_second.ome.tif": pages(
        (MACRO, named("overview")),
        (PLANES[::-1].copy(), GREY | {"metadata": {"axes": "CYX", "Channel": {"Name": ["b", "g", "r"]}}}),
        ome=True,
    ),
    "label_free.ome.tif": tiff(TRUTH, **named("label-free stain 3")),
    "overview_by_name.ome.tif": tiff(TRUTH, **named("he overview")),
    "camel_case.ome.tif": pages((LARGER_LABEL, named("SlidePreview")), (TRUTH, TILED | named("a")), ome=True),
    "akoya.tif": pages((LARGER_LABEL, {"description": "<ImageType>Overview</ImageType>"}), (TRUTH, TILED)),
    "by_size.zarr": zarr_series([("0", MACRO), ("1", TRUTH)]),
    "by_name.zarr": zarr_series([("label", LARGER_LABEL), ("tissue", TRUTH), ("macro", LARGER_LABEL)]),
    "by_xml.zarr": zarr_series([("0", LARGER_LABEL), ("1", TRUTH)], XML_NAMES + "</OME>"),
    "two_images.zarr": zarr_of_two,
}


def channels_named(*names: str) -> dict[str, Any]:
    return GREY | {"metadata": {"axes": "CYX", "Channel": {"Name": list(names)}}}


def imagej(**metadata: Any) -> dict[str, Any]:
    return GREY | {"imagej": True, "metadata": {"axes": "CYX", "mode": "composite", **metadata}}


OME_BLUE_GREEN_RED = [65535, 16711935, -16776961]

COLORS: dict[str, Write] = {
    "names.ome.tif": tiff(PLANES[[1, 2, 0]], **channels_named("G", "B", "R")),
    "colours.ome.tif": tiff(
        PLANES[::-1].copy(), **GREY, metadata={"axes": "CYX", "Channel": {"Color": OME_BLUE_GREEN_RED}}
    ),
    "tables.tif": tiff(PLANES[[1, 0, 2]], **imagej(LUTs=[ramp(c) for c in ([0, 1, 0], [1, 0, 0], [0, 0, 1])])),
    "labels.tif": tiff(PLANES[::-1].copy(), **imagej(Labels=["Blue", "Green", "Red"])),
    "colours.zarr": zarr_of(PLANES[[2, 0, 1]], [{"color": c} for c in ("0000FF", "FF0000", "00FF00")]),
    "named_alike.ome.tif": tiff(PLANES[::-1].copy(), **channels_named("H&E-B", "H&E-G", "H&E-R")),
    "slices.tif": tiff(PLANES, **GREY, imagej=True, metadata={"axes": "ZYX", "Labels": ["Red", "Green", "Blue"]}),
    "file_names.tif": tiff(PLANES, **imagej(Labels=[f"c:{n}/3 - HE_20x.svs #1" for n in (1, 2, 3)])),
    "bands.ome.tif": tiff(PLANES, **channels_named("Band 1", "Band 2", "Band 3")),
    "nulls.zarr": zarr_of(PLANES, [{"label": None, "color": None, "window": None}] * 3),
    "labels.zarr": zarr_of(PLANES[::-1].copy(), [{"label": c} for c in ("Blue", "Green", "Red")]),
}


def of_bits(image: Image, bits: int) -> NDArray[np.uint16]:
    return np.rint(image / 255 * (2**bits - 1)).astype(np.uint16)


def called_grey(path: Path) -> None:
    """Samples of 16 bits that lie together, as a channel, in a page that says it is grey."""
    tiff(of_bits(TRUTH, 16), metadata={"axes": "YXS"})(path)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(1)


STATED_BITS: dict[str, Write] = {
    **{
        f"{bits}.ome.tif": tiff(of_bits(TRUTH, bits), **TILED, metadata={"axes": "YXS", "SignificantBits": bits})
        for bits in (10, 12, 14, 16)
    },
    "together.ome.tif": called_grey,
    "opaque.ome.tif": tiff(
        np.dstack([of_bits(TRUTH, 12), np.full(TRUTH.shape[:2], 65535, np.uint16)]),
        extrasamples=["unassalpha"],
        metadata={"axes": "YXS", "SignificantBits": 12},
        **TILED,
    ),
    "big_endian.zarr": zarr_of(of_bits(PLANES, 16).astype(">u2"), [{"label": c} for c in "RGB"]),
    "strips.ome.tif": tiff(of_bits(TRUTH, 12), metadata={"axes": "YXS", "SignificantBits": 12}),
    "window.zarr": zarr_of(of_bits(PLANES, 12), [{"label": c, "window": {"max": 4095}} for c in "RGB"]),
}
UNSTATED_BITS: dict[str, Write] = {
    "tiles.tif": tiff(of_bits(TRUTH, 12), **TILED),
    "strips.tif": tiff(of_bits(TRUTH, 14)),
    "12.png": lambda path: path.write_bytes(imagecodecs.png_encode(of_bits(TRUTH, 12))) and None,
    "14.zarr": zarr_of(of_bits(PLANES, 14), [{"label": c} for c in "RGB"]),
}


@pytest.mark.parametrize("name", [*SLIDE_AMONG_OTHERS, *COLORS, *STATED_BITS])
def test_the_slide_as_it_is(name: str, tmp_path: Path) -> None:
    (SLIDE_AMONG_OTHERS | COLORS | STATED_BITS)[name](tmp_path / name)
    for read in readers_of(tmp_path / name):
        np.testing.assert_array_equal(read(tmp_path / name), TRUTH)


@pytest.mark.parametrize("name", UNSTATED_BITS)
def test_bits_that_nothing_states(name: str, tmp_path: Path) -> None:
    UNSTATED_BITS[name](tmp_path / name)
    for read in readers_of(tmp_path / name):
        with pytest.warns(UserWarning, match=f"{name} has samples of 16 bits"):
            np.testing.assert_array_equal(read(tmp_path / name), TRUTH)


def one_plane(**channel: Any) -> Write:
    return tiff(PLANES[0], **GREY, metadata={"axes": "YX", "Channel": channel})


def one_of_several_files(path: Path) -> None:
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0"><UUID FileName="{c}.tif">u{c}</UUID></TiffData>' for c in range(3)
    )
    sizes = 'SizeX="120" SizeY="96" SizeC="3" SizeZ="1" SizeT="1" Type="uint8" DimensionOrder="XYCZT"'
    schema = 'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
    pixels = f"<Pixels {sizes}><Channel/><Channel/><Channel/>{data}</Pixels>"
    xml = f'<OME {schema} UUID="u1"><Image>{pixels}</Image></OME>'
    tifffile.imwrite(path, PLANES[1], **GREY, metadata=None, description=xml)


REFUSED: dict[str, tuple[Write, str]] = {
    "part.ome.tif": (one_of_several_files, "1 of the 3 channels of its image; others are in 0.tif, 2.tif"),
    "dapi.ome.tif": (one_plane(Name="DAPI"), "the one channel DAPI"),
    "emission.ome.tif": (one_plane(EmissionWavelength=461.0), "the one channel unnamed"),
    "red.ome.tif": (one_plane(Name="Red"), r"Red \(a single colour\)"),
    "stains.tif": (tiff(PLANES, **imagej(Labels=["DAPI", "FITC", "Cy5"])), "the channels DAPI, FITC, Cy5"),
    "shown_in_rgb.ome.tif": (
        tiff(
            PLANES,
            **GREY,
            metadata={
                "axes": "CYX",
                "Channel": {"Name": ["Cy5", "FITC", "DAPI"], "Color": OME_BLUE_GREEN_RED[::-1]},
            },
        ),
        "the channels Cy5, FITC, DAPI",
    ),
    "shown_in_rgb.zarr": (
        zarr_of(
            PLANES,
            [{"label": n, "color": c} for n, c in (("TRITC", "FF0000"), ("GFP", "00FF00"), ("Hoechst", "0000FF"))],
        ),
        "the channels TRITC, GFP, Hoechst",
    ),
    "rendered.ome.tif": (
        tiff(TRUTH, **named("a", Channel={"IlluminationType": "Epifluorescence"})),
        "fluorescence",
    ),
    "one_label.tif": (tiff(PLANES[0], **GREY, imagej=True, metadata={"Labels": ["DAPI"]}), "the one channel DAPI"),
    "planes.tif": (tiff(PLANES, **GREY), "three grey planes, of which nothing says"),
    "planes_without_words.tif": (tiff(PLANES, **GREY, metadata=None), "three grey planes"),
    "dapi.zarr": (zarr_of(PLANES[:1], [{"label": "DAPI"}]), "the one channel DAPI"),
    "stains.zarr": (
        zarr_of(PLANES, [{"label": n} for n in ("DAPI", "CD3", "CD8")]),
        "the channels DAPI, CD3, CD8",
    ),
    "label.ome.tif": (tiff(TRUTH, **named("label")), "with label alone"),
    "macro.tif": (tiff(TRUTH, description="macro", metadata=None), "with macro alone"),
    "label.zarr": (zarr_series([("label image", TRUTH)]), "with label image alone"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_brightfield_slide(name: str, tmp_path: Path) -> None:
    write, said = REFUSED[name]
    write(tmp_path / name)
    for read in readers_of(tmp_path / name):
        with pytest.raises(ValueError, match=said):
            read(tmp_path / name)


def test_grey_channels_that_are_brightfield(tmp_path: Path) -> None:
    for name, write in {"a.ome.tif": one_plane(Name="Brightfield"), "b.tif": tiff(PLANES[0], **GREY)}.items():
        write(tmp_path / name)
        for read in readers_of(tmp_path / name):
            np.testing.assert_array_equal(read(tmp_path / name)[..., 1], PLANES[0])


def dots(**how: Any) -> Write:
    return lambda path: PIL.Image.fromarray(TRUTH).save(path, **how)


def with_exif_resolution(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[282], exif[283], exif[296] = IFDRational(20_000, 1), IFDRational(20_000, 1), 3
    PIL.Image.fromarray(TRUTH).save(path, exif=exif)


CM = {"resolution": (20_000, 20_000), "resolutionunit": "CENTIMETER"}
OF_HALF_A_MICRON: dict[str, Write] = {
    "foot.ome.tif": tiff(TRUTH, **named("a", PhysicalSizeX=0.5 / 304_800, PhysicalSizeXUnit="ft",
                                       PhysicalSizeY=500.0, PhysicalSizeYUnit="nm")),
    "zero.ome.tif": tiff(TRUTH, **CM, **named("a", PhysicalSizeX=0.0, PhysicalSizeY=0.0)),
    "pixel.ome.tif": tiff(TRUTH, **CM, **named("a", PhysicalSizeX=1.0, PhysicalSizeXUnit="pixel")),
    "imagej.tif": tiff(TRUTH, imagej=True, resolution=(2, 2), metadata={"unit": "micron", "axes": "YXS"}),
    "inch.tif": tiff(TRUTH, imagej=True, resolution=(50_800, 50_800), metadata={"unit": "inch", "axes": "YXS"}),
    "mm.tif": tiff(TRUTH, resolution=(2000, 2000), resolutionunit=4),
    "scanner.tif": tiff(TRUTH, description="Exported|AppMag = 20|MPP = 0.5000", metadata=None),
    "float.tif": tiff((TRUTH / 255).astype(np.float32), **CM),
    "turned.tif": tiff(TRUTH, resolution=(40_000, 20_000), resolutionunit="CENTIMETER",
                       extratags=[(274, 3, 1, 6, True)]),
    "a.png": dots(dpi=(50_800, 50_800)),
    "a.jpg": dots(dpi=(50_800, 50_800)),
    "a.bmp": dots(dpi=(50_800, 50_800)),
    "exif.jpg": with_exif_resolution,
    "exif.webp": with_exif_resolution,
}  # fmt: skip


@pytest.mark.parametrize("name", OF_HALF_A_MICRON)
def test_the_pixel_size_wherever_it_stands(name: str, tmp_path: Path) -> None:
    OF_HALF_A_MICRON[name](tmp_path / name)
    facts = read_image_and_facts(tmp_path / name)[1]
    with open_slide(tmp_path / name) as slide:
        assert slide.stated_mpp == pytest.approx(facts.mpp)
    expected = (0.5, 0.25) if name == "turned.tif" else (0.5, 0.5)  # (x, y), after turning
    assert facts.mpp == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dpi", [72, 300, 2400, 0])
def test_dots_of_print_are_no_pixel_size(dpi: int, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.bmp"):
        PIL.Image.fromarray(TRUTH).save(tmp_path / name, dpi=(dpi, dpi))
        assert plausible_mpp(read_image_and_facts(tmp_path / name)[1].mpp) is None


@pytest.mark.parametrize("changed", ["ImageWidth", "ImageLength", "BitsPerSample"])
def test_channels_that_differ(changed: str, tmp_path: Path) -> None:
    tiff(PLANES, **imagej())(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        tag = file.pages[1].tags[changed]
        tag.overwrite(tag.value // 2)
    for read in readers_of(tmp_path / "a.tif"):
        with pytest.raises(ValueError, match="its channels differ in size or type|incompatible keyframe"):
            read(tmp_path / "a.tif")


def test_strips_that_are_missing(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", TRUTH, photometric="rgb", rowsperstrip=8, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags["RowsPerStrip"].overwrite(4)
    for read in readers_of(tmp_path / "a.tif"):
        with pytest.raises(ValueError, match="cut short|without all its tiles or strips"):
            read(tmp_path / "a.tif")


def test_other_images_of_a_file_are_no_levels(tmp_path: Path) -> None:
    other = np.full((48, 60, 3), (0, 200, 0), np.uint8)
    pages((TRUTH, TILED | named("roi 1")), (other, TILED | named("roi 2")), ome=True)(tmp_path / "a.ome.tif")
    with open_slide(tmp_path / "a.ome.tif") as slide:
        assert slide.level_sizes == ((120, 96),)
        assert slide.about.associated == ("roi 2",)


def test_pixel_size_by_the_xml_beside_an_ngff(tmp_path: Path) -> None:
    sizes = 'SizeX="120" SizeY="96" SizeC="3" PhysicalSizeX="0.5" PhysicalSizeY="0.5"'
    xml = f'<OME><Image Name="a"><Pixels {sizes}/></Image></OME>'
    zarr_series([("0", TRUTH)], xml)(tmp_path / "a.zarr")
    group = zarr.open_group(tmp_path / "a.zarr", path="0", mode="r+")
    said = group.attrs.asdict()
    said["multiscales"][0]["axes"] = [{"name": name} for name in "cyx"]
    group.attrs.update(said)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.mpp == 0.5


@pytest.mark.parametrize("words", ["MPP = 0.5", "mpp: 5e-1", '{"mpp": 0.5}', "MPP = 0,5", "openslide.mpp-x = 0.5",
                                   "<PixelSizeMicrons>0.5</PixelSizeMicrons>"])  # fmt: skip
def test_pixel_size_in_words(words: str, tmp_path: Path) -> None:
    tiff(TRUTH, description=words, metadata=None)(tmp_path / "a.tif")
    assert read_image_and_facts(tmp_path / "a.tif")[1].mpp == (0.5, 0.5)


def test_pages_after_a_broken_one_do_not_matter(tmp_path: Path) -> None:
    pages((TRUTH, {}), (MACRO, {}))(tmp_path / "a.tif")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[1].offset
    data[offset + 2 : offset + 14] = b"\xff" * 12
    (tmp_path / "b.tif").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(tmp_path / "b.tif"), TRUTH)


@pytest.mark.parametrize("name", ["a.tif", "a.zarr"])
def test_bits_of_a_slide_whose_last_tile_is_damaged(name: str, tmp_path: Path) -> None:
    if name == "a.tif":
        tiff(of_bits(TRUTH, 12), tile=(64, 64), compression="zlib")(tmp_path / name)
        with tifffile.TiffFile(tmp_path / name) as file:
            offset = file.pages[0].dataoffsets[-1]
        file_with_tile = tmp_path / name
    else:
        zarr_of(of_bits(PLANES, 12), [{"label": c} for c in "RGB"])(tmp_path / name)
        file_with_tile, offset = next(p for p in sorted((tmp_path / name).rglob("c/0/*/*")) if p.is_file()), 0
    data = bytearray(file_with_tile.read_bytes())
    data[offset : offset + 20] = b"\0" * 20
    file_with_tile.write_bytes(data)
    with open_slide(tmp_path / name) as slide, pytest.raises(DamagedRegionError):
        slide.read_region((0, 0), slide.size)
