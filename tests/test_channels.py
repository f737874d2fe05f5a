"""Which colour a channel is, and which channels are refused."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from chromogen.errors import ImageError
from chromogen.formats.ome_metadata import Channel, check_all_read, check_grey, color_order

PATH = Path("slide.tif")
UINT8, UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)
COLORS = {"Red": "FF0000", "Green": "00FF00", "Blue": "0000FF"}


@pytest.mark.parametrize("order", list(permutations(COLORS)))
@pytest.mark.parametrize("dtype", [UINT8, UINT16])
def test_the_order_by_names_and_by_colours(order: tuple[str, ...], dtype: object) -> None:
    expected = tuple(order.index(color) for color in COLORS)
    assert color_order(PATH, [Channel(name) for name in order], dtype) == expected
    assert color_order(PATH, [Channel(name[0].lower()) for name in order], dtype) == expected
    assert color_order(PATH, [Channel(f"Channel {n}: {name}") for n, name in enumerate(order)], dtype) == expected
    assert color_order(PATH, [Channel(color=COLORS[name]) for name in order], dtype) == expected


def test_names_count_more_than_colours() -> None:
    channels = [Channel("blue", "FF0000"), Channel("green", "00FF00"), Channel("red", "0000FF")]
    assert color_order(PATH, channels, UINT8) == (2, 1, 0)


@pytest.mark.parametrize("names", [[], ["", "", ""], ["Channel:0", "C 1", "ch2"], ["RGB"], ["Brightfield"]])
def test_channels_of_a_camera(names: list[str]) -> None:
    channels = [Channel(name) for name in names]
    assert color_order(PATH, channels, UINT8) == (0, 1, 2)
    with pytest.raises(ImageError, match="uint16 channels that nothing calls RGB"):
        color_order(PATH, channels, UINT16)


@pytest.mark.parametrize(
    "names",
    [
        ["H&E-B", "H&E-R", "H&E-G"],
        ["sRGB b", "sRGB r", "sRGB g"],
        ["he_blue", "he_red", "he_green"],
    ],
)
def test_names_that_are_alike_but_for_their_colour(names: list[str]) -> None:
    assert color_order(PATH, [Channel(name) for name in names], UINT16) == (1, 2, 0)


@pytest.mark.parametrize(
    "names",
    [["Band 1", "Band 2", "Band 3"], ["c:1/3 - Müller.svs #1", "c:2/3 - Müller.svs #1", "c:3/3 - Müller.svs #1"]],
)
def test_names_that_say_no_more_than_a_place(names: list[str]) -> None:
    channels = [Channel(name, color) for name, color in zip(names, COLORS.values(), strict=True)]
    assert color_order(PATH, channels, UINT16) == (0, 1, 2)


def test_dyes_that_are_shown_in_red_green_and_blue() -> None:
    dyes = [Channel(name, color) for name, color in zip(("Cy5", "FITC", "DAPI"), COLORS.values(), strict=True)]
    flagged = [Channel("", color, is_fluorescence=True) for color in COLORS.values()]
    for channels in (dyes, flagged):
        with pytest.raises(ImageError, match="fluorescence or multiplex"):
            color_order(PATH, channels, UINT8)


@pytest.mark.parametrize("names", [["DAPI"], ["Red", "Green", "Cy5"], ["Ch 405", "Alexa 488", "Ch 594"]])
def test_channels_of_stains(names: list[str]) -> None:
    shown = f"brightfield image, got 'slide.tif' with the channels {', '.join(names)}"
    with pytest.raises(ImageError, match=shown):
        color_order(PATH, [Channel(name) for name in names], UINT8)


def test_colours_of_a_multiplex() -> None:
    with pytest.raises(ImageError, match="of colour FF00FF, of colour 00FFFF"):
        color_order(PATH, [Channel(color=color) for color in ("FF00FF", "00FFFF", "FFFF00")], UINT8)


@pytest.mark.parametrize("name", ["", "Channel 0", "brightfield", "Grey", "TL", "T-PMT", "ESID", "H&E", "he.tif"])
def test_one_grey_channel(name: str) -> None:
    check_grey(PATH, Channel(name, "FFFFFF"))


def test_one_channel_of_transmitted_light_may_have_any_name() -> None:
    check_grey(PATH, Channel("Müller 7", is_transmitted=True))


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        (Channel("DAPI"), "DAPI (fluorescence"),
        (Channel("Green"), "Green (a single colour)"),
        (Channel(color="0000FF"), "of colour 0000FF (a single colour)"),
        (Channel(is_fluorescence=True), "unnamed (fluorescence"),
    ],
)
def test_one_channel_that_is_no_brightfield_image(channel: Channel, said: str) -> None:
    with pytest.raises(ImageError) as error:
        check_grey(PATH, channel)
    assert said in str(error.value)


def test_a_channel_that_lies_elsewhere() -> None:
    check_all_read(PATH, 3, 3)
    with pytest.raises(ImageError, match=r"1 of the 3 channels of its image; others are in green.tif, blue.tif"):
        check_all_read(PATH, 1, 3, ["green.tif", "blue.tif"])
