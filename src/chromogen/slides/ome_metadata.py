"""What the OME-XML in a TIFF says of its first picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

UM_PER_UNIT = {
    "micrometer": 1.0,
    "micron": 1.0,
    "µm": 1.0,  # the micro sign
    "μm": 1.0,  # the Greek letter
    "um": 1.0,
    "nanometer": 1e-3,
    "nm": 1e-3,
    "millimeter": 1e3,
    "mm": 1e3,
    "centimeter": 1e4,
    "cm": 1e4,
    "inch": 25_400.0,
    "in": 25_400.0,
}


@dataclass(frozen=True)
class OmeFacts:
    """`mpp` is (x, y) in um, None without a unit of length; `others` names the other pictures."""

    mpp: tuple[float, float] | None
    objective: float | None
    channels: tuple[str, ...]
    others: tuple[str, ...]
    properties: Mapping[str, str]


def ome_facts(xml: str) -> OmeFacts | None:
    """The facts in OME-XML (the 2016 schema and older ones); None where it cannot be understood."""
    import tifffile

    try:
        ome = tifffile.xml2dict(xml)["OME"]
        first, *others = _all(ome, "Image")
        (pixels, *_) = _all(first, "Pixels")
        return OmeFacts(
            mpp=_mpp(pixels),
            objective=next(_objectives(ome), None),
            channels=tuple(str(channel.get("Name", "")) for channel in _all(pixels, "Channel")),
            others=tuple(str(image.get("Name", "unnamed")) for image in others),
            properties={f"ome.{name}": str(value) for name, value in pixels.items() if not _is_node(value)},
        )
    except Exception:  # other people's metadata breaks in every way there is
        return None


def _all(node: Mapping[str, Any], name: str) -> list[Any]:
    """The children of a name, of which `xml2dict` makes a list only where there are several."""
    children = node.get(name, [])
    return children if isinstance(children, list) else [children]


def _is_node(value: object) -> bool:
    return isinstance(value, dict | list)


def _mpp(pixels: Mapping[str, Any]) -> tuple[float, float] | None:
    sizes = []
    for axis in "XY":
        unit_um = UM_PER_UNIT.get(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        size = pixels.get(f"PhysicalSize{axis}")
        if size is None or unit_um is None:
            return None
        sizes.append(float(size) * unit_um)
    return sizes[0], sizes[1]


def _objectives(ome: Mapping[str, Any]) -> Iterator[float]:
    for instrument in _all(ome, "Instrument"):
        for objective in _all(instrument, "Objective"):
            if "NominalMagnification" in objective:
                yield float(objective["NominalMagnification"])
