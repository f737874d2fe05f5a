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
_NEUTRAL = {
    *(
        "",
        "c",
        "ch",
        "chan",
        "channel",
        "rgb",
        "rgba",
        "color",
        "colour",
        "image",
        "camera",
        "cam",
        "tl",
        "bf",
        "t",
    ),
    *("brightfield", "bright", "field", "transmitted", "transmission", "light", "white", "whitelight"),
    *("gray", "grey", "grayscale", "greyscale", "mono", "luminance", "intensity", "default", "dia", "unknown"),
}


class Channel(NamedTuple):
    """What a file says of a channel; `color` is RRGGBB, "" where it says none."""

    name: str = ""
    color: str = ""
    is_fluorescence: bool = False


def color_order(path: Path, channels: Sequence[Channel], dtype: object) -> tuple[int, ...]:
    """Where red, green and blue are among three channels, by their names, else by their colours.

    Channels that say nothing are in this order already, if they are of 8 bits.
    Raises: ImageError, with the names, for channels that are not red, green and blue.
    """
    for said in ([_colors_in(channel.name) for channel in channels], [_PURE.get(c.color) for c in channels]):
        if sorted(filter(None, said)) == ["blue", "green", "red"]:
            return tuple(said.index(color) for color in ("red", "green", "blue"))
    if any(not _is_neutral(channel) or channel.color not in _WHITE for channel in channels):
        raise not_brightfield(path, f"with the channels {_shown(channels)} (fluorescence or multiplex)")
    if dtype != np.uint8:
        raise not_brightfield(path, f"with {dtype} channels that nothing calls RGB (fluorescence or multiplex)")
    return RGB


def check_grey(path: Path, channel: Channel) -> None:
    """Refuse the one channel of a file as brightfield, if it is fluorescence or a single colour.

    Raises: ImageError, with its name.
    """
    if not _is_neutral(channel) or channel.color not in _WHITE:
        what = (
            "a single colour"
            if _colors_in(channel.name) or channel.color in _PURE
            else "fluorescence or multiplex"
        )
        raise not_brightfield(path, f"with the one channel {_shown([channel])} ({what})")


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


def _colors_in(name: str) -> str | None:
    """The one colour that a name names."""
    named = {_WORDS[word] for word in _words(name) if word in _WORDS}
    return named.pop() if len(named) == 1 and set(_words(name)) <= {*_WORDS, *_NEUTRAL} else None


def _is_neutral(channel: Channel) -> bool:
    return not channel.is_fluorescence and set(_words(channel.name)) <= _NEUTRAL


def _shown(channels: Sequence[Channel]) -> str:
    names = [
        channel.name or (f"of colour {channel.color}" if channel.color else "unnamed") for channel in channels
    ]
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
