"""Beer-Lambert for gradients: densities, concentrations and rendered pictures as float tensors (B, C, H, W)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def density_of(picture: Tensor) -> Tensor:
    """Natural optical density -ln((255 x + 1) / 256) of a picture x in [0, 1]: as `optical_density` has it."""
    return -((255 * picture + 1) / 256).log()


def concentrations_of(picture: Tensor, matrix: NDArray[Any]) -> Tensor:
    """Concentrations (B, 3, H, W) of a picture (B, 3, H, W) in [0, 1], unclipped (Ruifrok & Johnston 2001)."""
    import torch

    inverse = torch.linalg.inv(_tensor(matrix, picture))
    return torch.einsum("bchw,cs->bshw", density_of(picture), inverse)


def rendered(concentrations: Tensor, matrix: NDArray[Any]) -> Tensor:
    """The picture (B, 3, H, W) in [0, 1], not rounded, of concentrations of the first S stains (B, S, H, W)."""
    import torch

    rows = _tensor(matrix, concentrations)[: concentrations.shape[1]]
    density = torch.einsum("bshw,sc->bchw", concentrations, rows)
    return ((256 * (-density).exp() - 1) / 255).clamp(0, 1)


def _tensor(matrix: NDArray[Any], like: Tensor) -> Tensor:
    import torch

    return torch.as_tensor(matrix, dtype=like.dtype, device=like.device)
