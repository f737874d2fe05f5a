"""The eight views of a square field: quarter turns and mirrors of pictures, and of radii with them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chromogen.nuclei.outlines import RAYS

VIEWS = 8
TURNS = 4  # the views from here on are mirrored first


def turned(picture: NDArray[Any], view: int) -> NDArray[Any]:
    """A picture (..., H, W), mirrored left to right or not, then turned counter-clockwise by quarter turns."""
    mirrored = picture[..., ::-1] if view >= TURNS else picture
    return np.rot90(mirrored, view % TURNS, axes=(-2, -1))


def turned_radii(radii: NDArray[Any], view: int) -> NDArray[Any]:
    """Radii (RAYS, H, W), clockwise from +x, in a view: the rays turn with the picture."""
    rays = radii[(RAYS // 2 - np.arange(RAYS)) % RAYS] if view >= TURNS else radii
    return turned(np.roll(rays, -(view % TURNS) * RAYS // TURNS, axis=0), view)


def inverse(view: int) -> int:
    """The view that undoes a view: a mirrored one undoes itself."""
    return view if view >= TURNS else -view % TURNS
