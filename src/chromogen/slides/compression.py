"""How tiles of a TIFF file are compressed: what encodes them, and the tags that say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chromogen.errors import choose, expected
from chromogen.image import Image


@dataclass(frozen=True)
class Compression:
    """`encode(tile, quality)` compresses uint8 (H, W, 3); `tags` are what tifffile needs to know to say how.

    `most_bytes` is what a pixel of tissue takes at most, with its share in all levels: at the default quality, and
    at the highest. It was measured on real tissue with the noise of a camera (sigma 8 of 255).
    """

    encode: Callable[[Image, int], bytes]
    tags: Mapping[str, Any]
    most_bytes: tuple[float, float]
    quality: int = 0
    qualities: range = field(default=range(0))  # none: lossless

    def most_bytes_at(self, quality: int | None) -> float:
        """What a pixel of tissue takes at most at a quality. Raises: as `quality_or_default`."""
        wanted = self.quality_or_default(quality)
        highest = self.qualities[-1] if self.qualities else self.quality
        return float(np.interp(wanted, (self.quality, highest), self.most_bytes))

    def quality_or_default(self, quality: int | None) -> int:
        """Raises: ValueError if the quality is none of this compression's."""
        if quality is None or quality in self.qualities:
            return self.quality if quality is None else quality
        if not self.qualities:
            raise expected("quality", "left out for a lossless compression", quality, "leave it out")
        between = f"from {self.qualities[0]} to {self.qualities[-1]}"
        raise expected("quality", between, quality, f"leave it out for {self.quality}")


def _jpeg(tile: Image, quality: int) -> bytes:
    """Colour at full resolution: at equal size better for stains than at half, and white stays white."""
    import imagecodecs

    encode = imagecodecs.jpeg8_encode
    return bytes(encode(tile, quality, colorspace="RGB", outcolorspace="YCBCR", subsampling=(1, 1)))


def _jpeg2000(tile: Image, quality: int) -> bytes:
    import imagecodecs

    encode = imagecodecs.jpeg2k_encode
    return bytes(encode(tile, quality, codecformat="J2K", colorspace="SRGB", reversible=False, numthreads=1))


def _deflate(tile: Image, _quality: int) -> bytes:
    """Without differencing, so a quarter larger: Bio-Formats undoes it by the picture's width, not a tile's."""
    import imagecodecs

    return bytes(imagecodecs.deflate_encode(tile.tobytes(), 6))


LOSSLESS_BYTES = 4.0  # 3 colours, and a third more for the coarser levels: noise is hardly compressed
COMPRESSIONS: dict[str, Compression] = {
    "jpeg": Compression(_jpeg, {"compression": 7, "subsampling": (1, 1)}, (1.0, 3.2), 90, range(50, 101)),
    "jpeg2000": Compression(_jpeg2000, {"compression": 34712}, (1.3, 2.6), 40, range(35, 61)),  # PSNR in dB
    "deflate": Compression(_deflate, {"compression": 8}, (LOSSLESS_BYTES, LOSSLESS_BYTES)),
}


def compression_named(name: str) -> Compression:
    """By its name. Raises: ValueError, with the nearest name, for another."""
    return COMPRESSIONS[choose("compression", name, COMPRESSIONS)]
