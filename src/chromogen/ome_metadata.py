"""What the OME-XML in a TIFF says of each of its images (the schema of 2016-06 and older ones)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.etree import ElementTree

from chromogen.channels import Channel
from chromogen.pixel_size import stated_mpp

_FLUORESCENCE = {"ContrastMethod": "Fluorescence", "IlluminationType": "Epifluorescence"}
_TRANSMITTED = {"ContrastMethod": "Brightfield", "IlluminationType": "Transmitted"}
_EMITS = ("Fluor", "EmissionWavelength")


@dataclass(frozen=True)
class OmeImage:
    """One image: `mpp` is (x, y) in um, None without a unit of length.

    `planes` has the page of the first plane of each channel, or of all where samples lie together: None where it
    is in another file, one of `elsewhere`.
    """

    name: str
    size: tuple[int, int]
    size_c: int
    mpp: tuple[float, float] | None
    significant_bits: int | None
    channels: tuple[Channel, ...]
    planes: tuple[int | None, ...]
    elsewhere: tuple[str, ...]
    properties: dict[str, str]


@dataclass(frozen=True)
class OmeFacts:
    """All images of a file, and its objective; none where the XML lies in another file."""

    images: tuple[OmeImage, ...]
    objective: float | None


def ome_facts(xml: str, file_name: str = "") -> OmeFacts | None:
    """The facts in the OME-XML of a file of a name; None where it cannot be understood."""
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - expat from 2.4.1 on stops entities that explode
        found = [(image, pixels) for image in root.findall("{*}Image") for pixels in image.findall("{*}Pixels")]
        own = _own_uuid(root, file_name)
        images = tuple(_image(own, image, pixels) for image, pixels in found)
        is_part = root.find("{*}BinaryOnly") is not None
        return OmeFacts(images, next(_objectives(root), None)) if images or is_part else None
    except Exception:  # other people's metadata breaks in every way there is
        return None


def _own_uuid(root: Any, file_name: str) -> str | None:
    """What names this file among those that planes lie in; None where all lie here."""
    if root.get("UUID"):
        return str(root.get("UUID")).strip()
    files = {
        (uuid.text or "").strip(): uuid.get("FileName", "") for uuid in root.iterfind(".//{*}TiffData/{*}UUID")
    }
    named = [text for text, name in files.items() if name.casefold() == file_name.casefold()]
    return next(iter(named), "none of them") if len(files) > 1 else None


def _image(own: str | None, image: Any, pixels: Any) -> OmeImage:
    planes, elsewhere = _planes(own, pixels)
    return OmeImage(
        name=image.get("Name") or "unnamed",
        size=(int(pixels.get("SizeX", 0)), int(pixels.get("SizeY", 0))),
        size_c=int(pixels.get("SizeC", 1)),
        mpp=_mpp(pixels),
        significant_bits=_whole(pixels.get("SignificantBits")),
        channels=tuple(_channel(channel) for channel in pixels.findall("{*}Channel")),
        planes=planes,
        elsewhere=elsewhere,
        properties={f"ome.{name}": value for name, value in pixels.attrib.items()},
    )


def _mpp(pixels: Any) -> tuple[float, float] | None:
    """Where only the width is stated, pixels are square."""
    x, y = (pixels.get(f"PhysicalSize{axis}") for axis in "XY")
    x_unit, y_unit = (pixels.get(f"PhysicalSize{axis}Unit") or "µm" for axis in "XY")
    wide = stated_mpp(x, x, x_unit)
    high = wide if y is None else stated_mpp(y, y, y_unit)
    return None if wide is None or high is None else (wide[0], high[1])


def _channel(channel: Any) -> Channel:
    emits, passes = (
        any(channel.get(name) == value for name, value in said.items()) for said in (_FLUORESCENCE, _TRANSMITTED)
    )
    emits |= not passes and any(map(channel.get, _EMITS))
    return Channel(channel.get("Name", ""), _color(channel.get("Color")), emits, passes)


def _color(rgba: str | None) -> str:
    """RRGGBB of what OME writes as a signed number of 32 bits."""
    number = _whole(rgba)
    return "" if number is None or number == -1 else f"{number & 0xFFFFFFFF:08X}"[:6]


def _planes(own: str | None, pixels: Any) -> tuple[tuple[int | None, ...], tuple[str, ...]]:
    """Pages of the first plane of each channel in this file, and the names of other files that have some."""
    order, counts = _order(pixels)
    runs, elsewhere = [], dict[str, None]()
    for data in pixels.findall("{*}TiffData"):
        if there := _other_file(own, data):
            elsewhere[there] = None
        else:
            runs.append(_run(order, counts, data))
    place = _place(order, counts, min((run.begin for run in runs), default=0))
    wanted = [_number(order, counts, place | {"C": channel}) for channel in range(counts["C"])]
    if not runs and not elsewhere:
        runs = [_Run(0, 0, 0)]
    return tuple(_page_in(runs, plane) for plane in wanted), tuple(elsewhere)


class _Run(NamedTuple):
    """Planes that follow each other in a file: number of the first, its page, how many; 0: to the end."""

    begin: int
    page: int
    planes: int


def _run(order: str, counts: dict[str, int], data: Any) -> _Run:
    begin = _number(order, counts, {axis: int(data.get(f"First{axis}", 0)) for axis in "CZT"})
    count = data.get("PlaneCount", data.get("NumPlanes", 1 if "IFD" in data.attrib else 0))
    return _Run(begin, int(data.get("IFD", 0)), int(count))


def _page_in(runs: Sequence[_Run], plane: int) -> int | None:
    within = (run for run in runs if run.begin <= plane and (not run.planes or plane < run.begin + run.planes))
    return next((run.page + plane - run.begin for run in within), None)


def _order(pixels: Any) -> tuple[str, dict[str, int]]:
    """The axes of planes, fastest first, and the length of each; samples that lie together are one channel."""
    samples = [_whole(channel.get("SamplesPerPixel")) or 1 for channel in pixels.findall("{*}Channel")]
    counts = {axis: max(1, int(pixels.get(f"Size{axis}", 1))) for axis in "CZT"}
    counts["C"] = max(1, counts["C"] // (samples[0] if samples else 1))
    return pixels.get("DimensionOrder", "XYCZT")[2:], counts


def _number(order: str, counts: dict[str, int], place: dict[str, int]) -> int:
    """Of a plane, from its place along each axis."""
    number, step = 0, 1
    for axis in order:
        number += step * place.get(axis, 0)
        step *= counts[axis]
    return number


def _place(order: str, counts: dict[str, int], number: int) -> dict[str, int]:
    """Along each axis, of a plane."""
    place = {}
    for axis in order:
        number, place[axis] = divmod(number, counts[axis])
    return place


def _other_file(own: str | None, data: Any) -> str | None:
    """The name of the file that planes are in, if it is not this one."""
    uuid = data.find("{*}UUID")
    if uuid is None or own is None or not uuid.text or uuid.text.strip() == own:
        return None
    return str(uuid.get("FileName") or uuid.text)


def _objectives(root: Any) -> Iterator[float]:
    for objective in root.iterfind("{*}Instrument/{*}Objective"):
        found = re.fullmatch(r"\s*([0-9.]+)\s*", objective.get("NominalMagnification", ""))
        if found:
            yield float(found[1])


def _whole(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else None


_WORD = r"(?:slide[\s_-]*)?(?:label|macro|thumbnail|thumb|overview|barcode|navigation|preview)"
_MORE = r"(?:[\s_-]*(?:image|picture|mask))*(?:\.\w{2,4})?[\s\[\](){}#0-9]*$"
ASSOCIATED = re.compile(rf"(?:^|[\s\[(/:#_-]){_WORD}{_MORE}", re.IGNORECASE)
_NOTHING_ELSE = re.compile(rf"^{_WORD}{_MORE}", re.IGNORECASE)


def is_associated(name: str) -> bool:
    """Whether an image's name says that it is a label, macro or thumbnail, as scanners and converters write it.

    >>> [is_associated(name) for name in ("macro", "label image", "a.scn [Macro image]", "tissue", "label-free")]
    [True, True, True, False, False]
    """
    return ASSOCIATED.search(_spaced(name)) is not None


def is_associated_alone(name: str) -> bool:
    """The same of the only image of a file, which people give names of their own: the word must be all of it.

    >>> [is_associated_alone(name) for name in ("Macro image", "he overview")]
    [True, False]
    """
    return _NOTHING_ELSE.search(_spaced(name)) is not None


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.strip())


def main_of(images: Sequence[OmeImage]) -> OmeImage | None:
    """The slide among the images of a file: the largest that is not a label or macro, the first of equals."""
    says_so = is_associated if len(images) > 1 else is_associated_alone
    slides = [image for image in images if not says_so(image.name)]
    return max(slides, key=lambda image: image.size[0] * image.size[1], default=None)
