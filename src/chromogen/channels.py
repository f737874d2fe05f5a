"""Which colour each channel of a file is, by name or colour, and which channels are no brightfield image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from chromogen.errors import ImageError, sentence

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
