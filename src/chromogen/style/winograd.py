"""3 x 3 convolutions by Winograd's minimal filtering: a quarter of the multiplications, in fp32 on a processor.

Squares of 4 x 4 results are made of patches of 6 x 6: kernel and patch are seen at 36 points, where a convolution
is a product of matrices over channels (Lavin & Gray 2016, F(4 x 4, 3 x 3), points 0, 1, -1, 2, -2 and infinity).
All of it is matrix products, on bands of rows that stay in the cache. Results differ from a direct convolution's
by rounding, about 2e-6 of their size, which fp32 affords and bf16 would not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

STEP_PX = 4  # a tile's side
PATCH_PX = STEP_PX + 2  # what a tile sees
POINTS = PATCH_PX**2
TILES_PER_BAND = 256
CHANNELS_PER_PART = 8
MIN_PAIRS = 128 * 256  # of channels, in and out
MIN_PX = 32 * 32

_PATCH = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float32,
)
_KERNEL = torch.tensor(
    [[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], dtype=torch.float64
).div(24)
_TILE = torch.tensor(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]], dtype=torch.float32
)
TO_POINTS = torch.kron(_PATCH, _PATCH)  # (36, 36): a patch, row by row, at the points
FROM_POINTS = torch.kron(_TILE, _TILE)  # (16, 36): back to a tile


def pays(x: Tensor, kernel: Tensor) -> bool:
    """Whether this is the faster way for (B, C, H, W) and a kernel (out, in, 3, 3): wide, not tiny, in fp32."""
    fit = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.mkl.is_available()
    return fit and kernel.shape[0] * kernel.shape[1] >= MIN_PAIRS and x.shape[2] * x.shape[3] >= MIN_PX


def transformed(kernel: Tensor) -> Tensor:
    """A kernel (out, in, 3, 3) at the points: (36, in, out), float32."""
    at_points = torch.einsum("ai,bj,ocij->abco", _KERNEL, _KERNEL, kernel.double())
    return at_points.float().flatten(0, 1).contiguous()


def convolve(x: Tensor, kernel: Tensor, finish: Callable[[Tensor], Tensor]) -> Tensor:
    """The convolution, with padding 1, of (B, C, H, W) by a `transformed` kernel, channels-last.

    `finish` is what is done to each band of results (rows, columns, out) while it is in the cache.
    """
    batch, _, height, width = x.shape
    result = x.new_empty(batch, height, width, kernel.shape[2])
    across, down = -(-width // STEP_PX), -(-height // STEP_PX)
    tiles = min(down, max(1, TILES_PER_BAND // across))
    work = _Workspace.of(x, kernel, tiles, across)
    for image, rows in zip(x.permute(0, 2, 3, 1).contiguous(), result, strict=True):
        for top in range(0, down * STEP_PX, tiles * STEP_PX):
            into = rows[top : top + tiles * STEP_PX]
            into.copy_(finish(work.convolve(image, top, kernel))[: len(into), :width])
    return result.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Workspace:
    """Memory for one band, the same for all: new memory costs as much as the sums it is for."""

    rows: Tensor  # (rows + 2, columns + 2, C), its first and last column 0
    patches: Tensor  # (6, 6, down, across, C)
    at_points: Tensor  # (36, tiles, C)
    products: Tensor  # (36, tiles, out)
    found: Tensor  # (4, 4, down, across, out)
    band: Tensor  # (down, 4, across, 4, out)

    @classmethod
    def of(cls, x: Tensor, kernel: Tensor, down: int, across: int) -> _Workspace:
        channels, out = kernel.shape[1:]
        new, tiles = x.new_empty, down * across
        return cls(
            x.new_zeros(down * STEP_PX + 2, across * STEP_PX + 2, channels),
            new(PATCH_PX, PATCH_PX, down, across, channels),
            new(POINTS, tiles, channels),
            new(POINTS, tiles, out),
            new(STEP_PX, STEP_PX, down, across, out),
            new(down, STEP_PX, across, STEP_PX, out),
        )

    def convolve(self, image: Tensor, top: int, kernel: Tensor) -> Tensor:
        """Results (rows, columns, out) from row `top` of an image (H, W, C) on."""
        height, width, _ = image.shape
        first, last = max(top - 1, 0), min(top - 1 + len(self.rows), height)
        begin, end = first - top + 1, last - top + 1
        self.rows[:begin].zero_()
        self.rows[begin:end, 1 : width + 1] = image[first:last]
        self.rows[end:].zero_()
        self.patches.copy_(_patches(self.rows, self.patches.shape))
        _multiply(TO_POINTS, self.patches.view(POINTS, -1, self.patches.shape[-1]), self.at_points)
        torch.bmm(self.at_points, kernel, out=self.products)
        _multiply(FROM_POINTS, self.products, self.found)
        self.band.copy_(self.found.permute(2, 0, 3, 1, 4))
        return self.band.view(-1, self.band.shape[2] * STEP_PX, self.band.shape[4])


def _multiply(matrix: Tensor, x: Tensor, out: Tensor) -> None:
    """Of x, seen as (rows, everything else), by a matrix; in parts, which stay in the cache."""
    parts = x.shape[-1] // CHANNELS_PER_PART
    x, out = (
        t.view(rows, parts, -1).transpose(0, 1) for t, rows in ((x, matrix.shape[1]), (out, matrix.shape[0]))
    )
    torch.bmm(matrix.expand(parts, -1, -1), x, out=out)


def _patches(rows: Tensor, shape: torch.Size) -> Tensor:
    """Overlapping patches (6, 6, down, across, C) of rows (H, W, C), without a copy."""
    row, column, _ = rows.stride()
    return rows.as_strided(shape, (row, column, STEP_PX * row, STEP_PX * column, 1))
