"""Where a slide's pixels lie in the viewer, and which of them it shows: for any layer of one colour picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from chromogen.image import Image as Pixels
from chromogen.plugins.layers import ABOUT

Region: TypeAlias = tuple[int, int, int, int]  # x, y, width and height in level-0 pixels
MAX_COPIED_PX = 100_000_000  # of a layer without a file, which is stained from memory
MAX_FIELD_PX = 16_000_000  # in which nuclei are counted at once


@dataclass(frozen=True)
class Grid:
    """A grid of pixels on a picture: its corner (x, y), and the sides of its pixels, in the picture's pixels."""

    corner_px: tuple[float, float] = (0.0, 0.0)
    step_px: tuple[float, float] = (1.0, 1.0)

    def coarser(self, times: int) -> Grid:
        """The grid of squares of so many pixels, from the same corner."""
        x, y = self.step_px
        return Grid(self.corner_px, (x * times, y * times))


def placed(layer: Any, grid: Grid) -> dict[str, Any]:
    """Scale, rotation, place and units of a new layer that lies by its grid on a layer, however that was moved.

    napari places the middles of pixels, so the middle of the new layer's first pixel is found.
    """
    step = np.array(grid.step_px[::-1])
    middle = np.array(grid.corner_px[::-1]) + (step - 1) / 2
    moved = np.asarray(layer.data_to_world(middle)) - layer.data_to_world(np.zeros(2))
    offset = np.linalg.solve(layer.affine.linear_matrix, moved)
    kept = {name: getattr(layer, name) for name in ("rotate", "shear", "affine", "units")}
    return {"scale": layer.scale * step, "translate": layer.translate + offset, **kept}


def mpp_of(layer: Any) -> float | None:
    """The pixel size of a layer in um, by its scale; None where its unit is no length."""
    unit = layer.units[-1]
    if not unit.is_compatible_with("micrometer"):
        return None
    return float((layer.scale[-1] * unit).to("micrometer").magnitude)


def is_picture(layer: Any) -> bool:
    """Whether a layer is one colour picture."""
    return bool(getattr(layer, "rgb", False)) and layer.ndim == 2


def shown_of(layer: Any) -> Region:
    """What the viewer shows of a layer, in its finest pixels. Raises: ValueError where it shows nothing of it."""
    finer = np.asarray(layer.downsample_factors[layer.data_level] if layer.multiscale else (1, 1))[:2]
    corners = np.asarray(layer.corner_pixels)[:, :2]
    height, width = _finest(layer).shape[:2]
    (top, left), (bottom, right) = np.rint([corners[0] * finer, (corners[1] + 1) * finer]).astype(int)
    left, top, right, bottom = max(0, left), max(0, top), min(width, right), min(height, bottom)
    if right - left < 2 or bottom - top < 2:
        raise ValueError("The view shows nothing of this layer. Move to it, or press the home button.")
    return int(left), int(top), int(right - left), int(bottom - top)


def source_of(layer: Any) -> Path | Pixels:
    """The file that Chromogen read a layer from; of other layers their pixels, uint8 (H, W, 3).

    Raises: ValueError where these are no bytes, or too many.
    """
    if path := layer.metadata.get(ABOUT, {}).get("path"):
        return Path(path)
    height, width = _finest(layer).shape[:2]
    if height * width > MAX_COPIED_PX:
        raise ValueError("This layer is too large to stain from memory. Open its file by Chromogen's reader.")
    return _bytes_of(layer, (0, 0, width, height))


def field_of(layer: Any, region: Region) -> Pixels:
    """The finest pixels of a region of a layer, uint8 (H, W, 3). Raises: ValueError for no bytes, or too many."""
    megapixels = region[2] * region[3] / 1e6
    if megapixels > MAX_FIELD_PX / 1e6:
        raise ValueError(f"The view has {megapixels:.0f} Mpx. Zoom in to at most {MAX_FIELD_PX / 1e6:.0f} Mpx.")
    return _bytes_of(layer, region)


def _bytes_of(layer: Any, region: Region) -> Pixels:
    x, y, width, height = region
    finest = _finest(layer)
    if finest.dtype != np.uint8:
        advice = "Convert it to 8 bits (uint8), 0 to 255"
        raise ValueError(f"This layer holds {finest.dtype} numbers. {advice}.")
    return np.ascontiguousarray(np.asarray(finest[y : y + height, x : x + width])[..., :3])


def _finest(layer: Any) -> Any:
    """The array of the finest level."""
    return layer.data[0] if layer.multiscale else layer.data
