"""The names of VGG19's activations, without loading it."""

from __future__ import annotations

from collections.abc import Collection

from chromogen.errors import choose

CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)
CONVOLUTIONS = tuple(
    f"{block}_{i}" for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, 1) for i in range(1, count + 1)
)
LAYERS = ("image", *(f"relu{name}" for name in CONVOLUTIONS))


def check_layers(layers: Collection[str]) -> None:
    """ValueError with the nearest valid name for a layer that VGG19 does not have."""
    for layer in layers:
        choose("layer", layer, LAYERS)


def deepest(layers: Collection[str]) -> str:
    """The deepest of `layers`.

    >>> deepest({"relu1_1", "image", "relu4_2"})
    'relu4_2'
    """
    return max(layers, key=LAYERS.index)


def stride_px(layer: str) -> int:
    """How many pixels lie between neighbouring positions of a layer.

    >>> stride_px("image"), stride_px("relu1_2"), stride_px("relu5_1")
    (1, 1, 16)
    """
    return 1 if layer == "image" else 2 ** (int(layer[4]) - 1)


def reach_px(layer: str) -> int:
    """How far beyond the pixels it stands for a position of a layer sees, on every side.

    >>> reach_px("relu1_1"), reach_px("relu3_1"), reach_px("relu5_1")
    (1, 10, 70)
    """
    return sum(stride_px(below) for below in LAYERS[1 : LAYERS.index(layer) + 1])


def smallest_side_px(layers: Collection[str]) -> int:
    """The image side that the deepest of `layers` needs to be one position wide.

    >>> smallest_side_px({"relu1_1", "relu5_1"})
    16
    """
    return stride_px(deepest(layers))
