"""Channels: which colour each is, and what OME-XML says of the images of a file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from chromogen.errors import ImageError, sentence
from chromogen.pixel_size import stated_mpp

# Which colour each channel of a file is, by name or colour, and which channels are no brightfield image.

RGB = (0, 1, 2)
_WORDS = {"r": "red", "red": "red", "g": "green", "green": "green", "b": "blue", "blue": "blue"}
_PURE = {"FF0000": "red", "00FF00": "green", "0000FF": "blue"}
_WHITE = {"", "FFFFFF", "000000", "808080"}
# What people and programs call channels of a camera, or parts of files' names.
_NEUTRAL = {
    "",
    *"c ch chan channel rgb rgba srgb color colour image img camera cam band layer component".split(),
    *"brightfield bright field bf transmitted transmission trans tl t pmt tpmt esid dia dic".split(),
    *"ph phase contrast default unknown".split(),
    *"light white whitelight gray grey grayscale greyscale mono luminance luminosity intensity".split(),
    *"he h e tif tiff ome png jpg jpeg svs ndpi".split(),
}
_PLACE = re.compile(r"^\s*(?:[czt]:\d+/\d+[;,\s-]*)+", re.IGNORECASE)  # "c:1/3 - HE.svs", by Bio-Formats
_FLUOROPHORES = re.compile(
    r"dapi|hoechst|fitc|tritc|alexa|\bcy ?[2357]\b|\baf ?\d{3}|[gryc]fp\b|cherry|tomato|te?xa?s? ?red|opal|fluor",
    re.IGNORECASE,
)


class Channel(NamedTuple):
    """What a file says of a channel; `color` is RRGGBB, "" where it says none."""

    name: str = ""
    color: str = ""
    is_fluorescence: bool = False
    is_transmitted: bool = False


def color_order(path: Path, channels: Sequence[Channel], dtype: object) -> tuple[int, ...]:
    """Where red, green and blue are among three channels, by their names, else by their colours.

    Channels that say nothing are in this order already, if they are of 8 bits.
    Raises: ImageError, with the names, for channels that are not red, green and blue.
    """
    if named := named_order(channels):
        return named
    if not _say_nothing(channels):
        raise not_brightfield(path, f"with the channels {_shown(channels)} (fluorescence or multiplex)")
    if colored := _order_of([_PURE.get(channel.color) for channel in channels]):
        return colored
    if any(channel.color not in _WHITE for channel in channels):
        raise not_brightfield(path, f"with the channels {_shown(channels)} (fluorescence or multiplex)")
    if dtype != np.uint8:
        raise not_brightfield(path, f"with {dtype} channels that nothing calls RGB (fluorescence or multiplex)")
    return RGB


def named_order(channels: Sequence[Channel]) -> tuple[int, ...] | None:
    """Where red, green and blue are by the names of channels; None where these do not name all three."""
    return _order_of(_named_colors([channel.name for channel in channels]))


def _order_of(colors: Sequence[str | None]) -> tuple[int, ...] | None:
    if sorted(filter(None, colors)) != ["blue", "green", "red"]:
        return None
    return tuple(colors.index(color) for color in ("red", "green", "blue"))


def _named_colors(names: Sequence[str]) -> list[str | None]:
    """The colour in each name, where the names are the same but for it: "H&E-R", "H&E-G", "H&E-B"."""
    words = [_words(name) for name in names]
    rests = {tuple(word for word in these if word not in _WORDS) for these in words}
    colors = [{_WORDS[word] for word in these if word in _WORDS} for these in words]
    return [found.pop() if len(found) == 1 and len(rests) == 1 else None for found in colors]


def _say_nothing(channels: Sequence[Channel]) -> bool:
    """Whether names are neutral, or the same but for their number: files' names, as ImageJ labels planes with."""
    if any(channel.is_fluorescence for channel in channels):
        return False
    names = [_PLACE.sub("", channel.name) for channel in channels]
    alike = len(set(names)) == 1 and len(names) > 1 and not _FLUOROPHORES.search(names[0])
    return alike or all(_is_neutral(channel) for channel in channels)


def check_grey(path: Path, channel: Channel) -> None:
    """Refuse the one channel of a file as brightfield, if it is fluorescence or a single colour.

    Raises: ImageError, with its name.
    """
    if not _is_neutral(channel) or channel.color not in _WHITE:
        single = channel.color in _PURE or any(word in _WORDS for word in _words(channel.name))
        what = "a single colour" if single else "fluorescence or multiplex"
        raise not_brightfield(path, f"with the one channel {_shown([channel])} ({what})")


def names_fluorescence(name: str) -> bool:
    """Whether a name has that of a dye in it.

    >>> [names_fluorescence(name) for name in ("DAPI", "Alexa 488", "he_20x.tif")]
    [True, True, False]
    """
    return _FLUOROPHORES.search(name) is not None


def check_all_read(path: Path, read: int, stated: int, elsewhere: Sequence[str] = ()) -> None:
    """Refuse a file that holds fewer channels than its image has. Raises: ImageError."""
    if read < stated:
        where = f"; others are in {', '.join(elsewhere[:3])}" if elsewhere else ""
        problem = f"with {read} of the {stated} channels of its image{where}"
        message = sentence("path", "a brightfield image", f"{str(path)!r} {problem}", "join them in one RGB file")
        raise ImageError(message)


def not_brightfield(path: Path, problem: str) -> ImageError:
    """For an image whose channels are not red, green and blue."""
    return ImageError(sentence("path", "a brightfield image", f"{str(path)!r} {problem}", "export it as RGB"))


def _words(name: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", name.casefold())


def _is_neutral(channel: Channel) -> bool:
    known = channel.is_transmitted or set(_words(channel.name)) <= _NEUTRAL
    return known and not channel.is_fluorescence


def _shown(channels: Sequence[Channel]) -> str:
    names = [
        channel.name or (f"of colour {channel.color}" if channel.color else "unnamed") for channel in channels
    ]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


# What the OME-XML in a TIFF says of each of its images (the schema of 2016-06 and older ones).

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
