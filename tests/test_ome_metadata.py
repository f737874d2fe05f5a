"""OME-XML as tools write it, and as they break it."""

import pytest

from chromogen.formats.ome_metadata import Channel, OmeImage, is_associated, main_of, ome_facts

XML = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
  <Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="20.0"/></Instrument>
  <Image ID="Image:0" Name="label"><Pixels ID="Pixels:1" SizeX="900" SizeY="900"/></Image>
  <Image ID="Image:1" Name="tissue">
    <Pixels ID="Pixels:0" SizeX="300" SizeY="200" PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25"
            SignificantBits="12" SizeC="2">
      <Channel ID="Channel:0:0" Name="Red" SamplesPerPixel="1" Color="-16776961"/>
      <Channel ID="Channel:0:1" Name="7" Color="-1" EmissionWavelength="461"/>
    </Pixels>
  </Image>
  <Image ID="Image:2" Name="macro"><Pixels ID="Pixels:2" SizeX="1" SizeY="1"/></Image>
</OME>"""
PLANES = """<OME {own}><Image><Pixels DimensionOrder="{order}" SizeC="3" SizeZ="2" SizeT="1">
<Channel/><Channel/><Channel/>{data}</Pixels></Image></OME>"""


def slide_in(xml: str, file_name: str = "") -> OmeImage:
    facts = ome_facts(xml, file_name)
    assert facts
    slide = main_of(facts.images)
    assert slide
    return slide


def test_facts() -> None:
    slide = slide_in(XML)
    assert (slide.name, slide.size, slide.size_c, slide.mpp) == ("tissue", (300, 200), 2, (0.25, 0.25))
    assert slide.significant_bits == 12
    assert slide.channels == (Channel("Red", "FF0000"), Channel("7", "", is_fluorescence=True))
    assert slide.properties["ome.SizeX"] == "300"
    facts = ome_facts(XML)
    assert facts
    assert facts.objective == 20


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "nonsense"])
def test_units_that_are_no_length(unit: str) -> None:
    assert slide_in(XML.replace('"nm"', f'"{unit}"')).mpp is None


def test_sizes_that_are_no_numbers_or_not_there() -> None:
    assert slide_in(XML.replace('"0.25"', '"0,25"')).mpp is None
    assert slide_in(XML.replace("PhysicalSizeX=", "Other=")).mpp is None
    assert slide_in(XML.replace("PhysicalSizeY=", "Other=")).mpp == (0.25, 0.25)
    assert slide_in(XML.replace('PhysicalSizeXUnit="nm"', 'PhysicalSizeXUnit=""')).mpp == (250, 0.25)


def test_what_is_broken_does_not_hide_the_rest() -> None:
    broken = XML.replace('"20.0"', '"many"').replace('SignificantBits="12"', 'SignificantBits="12.5"')
    facts = ome_facts(broken)
    assert facts
    assert facts.objective is None
    assert slide_in(broken).significant_bits is None
    assert slide_in(broken).mpp == (0.25, 0.25)


@pytest.mark.parametrize("xml", ["", "<", "<OME/>", "<OME><Image/></OME>", "<a>1</a>"])
def test_what_cannot_be_understood(xml: str) -> None:
    assert ome_facts(xml) is None


def test_a_part_whose_xml_lies_elsewhere() -> None:
    facts = ome_facts('<OME><BinaryOnly MetadataFile="a.companion.ome"/></OME>')
    assert facts
    assert not facts.images


@pytest.mark.parametrize(("order", "pages"), [("XYCZT", (0, 1, 2)), ("XYZCT", (0, 2, 4)), ("XYZTC", (0, 2, 4))])
def test_the_pages_of_channels(order: str, pages: tuple[int, ...]) -> None:
    assert slide_in(PLANES.format(own="", order=order, data="")).planes == pages
    assert slide_in(PLANES.format(own="", order=order, data="<TiffData/>")).planes == pages


def test_pages_in_another_order() -> None:
    data = "".join(
        f'<TiffData FirstC="{c}" FirstZ="{z}" IFD="{5 - c - 3 * z}"/>' for c in range(3) for z in range(2)
    )
    assert slide_in(PLANES.format(own="", order="XYCZT", data=data)).planes == (5, 4, 3)


def test_planes_in_other_files() -> None:
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="{c}.tif">u{c}</UUID></TiffData>'
        for c in range(3)
    )
    for own, name in (('UUID="u1"', "x.tif"), ("", "1.tif")):
        slide = slide_in(PLANES.format(own=own, order="XYCZT", data=data), name)
        assert slide.planes == (None, 0, None)
        assert slide.elsewhere == ("0.tif", "2.tif")


def test_a_renamed_file_has_its_own_planes() -> None:
    data = '<TiffData IFD="0" PlaneCount="6"><UUID FileName="old.tif">u</UUID></TiffData>'
    assert slide_in(PLANES.format(own="", order="XYCZT", data=data), "new.tif").planes == (0, 1, 2)


def test_a_depth_of_its_own_in_each_file() -> None:
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="3"><UUID FileName="{z}.tif">u{z}</UUID></TiffData>'
        for z in range(2)
    )
    assert slide_in(PLANES.format(own='UUID="u1"', order="XYCZT", data=data)).planes == (0, 1, 2)


@pytest.mark.parametrize(
    "name",
    [
        *("label", "Macro", "label image", "macro image", "Slide label", "THUMBNAIL", "overview", "barcode"),
        *("a.svs [label]", "case 7.scn - macro", "scan.vsi #2 macro image", "Label Image 1", "macro mask image"),
    ],
)
def test_names_of_labels_and_macros(name: str) -> None:
    assert is_associated(name)


@pytest.mark.parametrize(
    "name", ["", "tissue", "label-free H&E", "macrophages", "Image 1", "CD68 macrophage", "labelled", "unnamed"]
)
def test_names_of_slides(name: str) -> None:
    assert not is_associated(name)
