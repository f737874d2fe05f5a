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


def smallest_side_px(layers: Collection[str]) -> int:
    """The image side that the deepest of `layers` needs to be one position wide.

    >>> smallest_side_px({"relu1_1", "relu5_1"})
    16
    """
    name = deepest(layers)
    return 1 if name == "image" else 2 ** (int(name[4]) - 1)
