"""OME-XML as tools write it, and as they break it."""

import pytest

from chromogen.slides.ome_metadata import ome_facts

XML = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">
  <Instrument ID="Instrument:0"><Objective ID="Objective:0" NominalMagnification="20.0"/></Instrument>
  <Image ID="Image:0" Name="tissue">
    <Pixels ID="Pixels:0" SizeX="300" SizeY="200" PhysicalSizeX="250" PhysicalSizeXUnit="nm" PhysicalSizeY="0.25">
      <Channel ID="Channel:0:0" Name="Red" SamplesPerPixel="1"/><Channel ID="Channel:0:1" Name="7"/>
    </Pixels>
  </Image>
  <Image ID="Image:1" Name="label"><Pixels ID="Pixels:1" SizeX="1" SizeY="1"/></Image>
  <Image ID="Image:2" Name="macro"><Pixels ID="Pixels:2" SizeX="1" SizeY="1"/></Image>
</OME>"""


def test_facts() -> None:
    facts = ome_facts(XML)
    assert facts
    assert facts.mpp == (0.25, 0.25)
    assert facts.objective == 20
    assert facts.channels == ("Red", "7")
    assert facts.others == ("label", "macro")
    assert facts.properties["ome.SizeX"] == "300"


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "parsec"])
def test_units_that_are_no_length(unit: str) -> None:
    facts = ome_facts(XML.replace('"nm"', f'"{unit}"'))
    assert facts
    assert facts.mpp is None


def test_no_size() -> None:
    facts = ome_facts(XML.replace("PhysicalSizeY=", "Other="))
    assert facts
    assert facts.mpp is None


@pytest.mark.parametrize(
    "xml", ["", "<", "<OME/>", "<OME><Image/></OME>", XML.replace('"20.0"', '"many"'), "<a>1</a>"]
)
def test_what_cannot_be_understood(xml: str) -> None:
    assert ome_facts(xml) is None
