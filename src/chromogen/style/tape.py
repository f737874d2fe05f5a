"""What the way back through the convolutions asks of the way there, and how it is packed to be put away.

Where a loss looks, the way back multiplies with activations. Everywhere else it asks one bit of a value: is it
above zero; and two of a max pool: which of four values won. So packed, a pixel of VGG19 down to relu5_1 takes
0.25 kB in fp32 instead of 0.8 kB, and comes back without having lost anything that counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from chromogen.spill import Spill

GramOf: TypeAlias = tuple[str, str | None]  # of what, and through which mask
Pooled: TypeAlias = "tuple[torch.Size, Tensor | None]"  # of which shape, and which position won (not of averages)


@dataclass
class Tape:
    """One way through the convolutions: empty, it is written on the way there; the way back empties it.

    By the names of convolutions: `activations` where a loss looks, `signs` where only counts whether values are
    above zero (of a pool's output, if the pool hides the rest), `pools` behind them. A written tape stands for the
    way there, which need not be gone again.
    """

    activations: dict[str, Tensor] = field(default_factory=dict)
    signs: dict[str, Tensor] = field(default_factory=dict)
    pools: dict[str, Pooled] = field(default_factory=dict)
    grams: dict[GramOf, Tensor] = field(default_factory=dict)

    @property
    def is_written(self) -> bool:
        """Whether anything is."""
        return bool(self.activations or self.signs or self.grams)

    def take(self, name: str) -> Tensor | None:
        """The activations of a convolution, or what has their signs; not kept any longer."""
        activations, signs = self.activations.pop(name, None), self.signs.pop(name, None)
        return signs if activations is None else activations


def packed(tape: Tape) -> dict[str, Tensor]:
    """A tape as plain tensors by name, channels last; numbers of channels must be multiples of 8."""
    parts = {f"activations\t{name}": _channels_last(x) for name, x in tape.activations.items()}
    parts |= {f"signs\t{name}": _bits(_channels_last(x > 0)) for name, x in tape.signs.items()}
    for name, (shape, winners) in tape.pools.items():
        parts[f"shape\t{name}"] = torch.tensor(shape)
        if winners is not None:
            parts[f"winners\t{name}"] = _bits(_right_and_below(_channels_last(winners), shape[3]))
    return parts | {f"gram\t{name}\t{mask or ''}": gram for (name, mask), gram in tape.grams.items()}


def unpacked(parts: Mapping[str, Tensor], like: Tensor) -> Tape:
    """Undo `packed`, for the device and dtype of `like`."""
    tape = Tape()
    for key, part in parts.items():
        kind, name, *mask = key.split("\t")
        if kind == "activations":
            tape.activations[name] = _channels_second(part.to(like.device))
        elif kind == "signs":
            tape.signs[name] = _channels_second(_flags(part).to(like))
        elif kind == "shape":
            shape, winners = torch.Size(part.tolist()), parts.get(f"winners\t{name}")
            won = None if winners is None else _winners(_flags(winners).to(like.device), shape[3])
            tape.pools[name] = shape, None if won is None else _channels_second(won)
        elif kind == "gram":
            tape.grams[name, mask[0] or None] = part.to(like.device)
    return tape


def _channels_last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()


def _channels_second(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)


def _bits(flags: Tensor) -> Tensor:
    """Booleans (..., 8 n) as uint8 (..., n)."""
    packed_bits = np.packbits(flags.cpu().numpy())
    return torch.from_numpy(packed_bits).view(*flags.shape[:-1], -1)


def _flags(bits: Tensor) -> Tensor:
    """Undo `_bits`, as uint8, 0 or 1."""
    flags = np.unpackbits(bits.numpy())
    return torch.from_numpy(flags).view(*bits.shape[:-1], -1)


def _right_and_below(winners: Tensor, width: int) -> Tensor:
    """Which of its window's four values won, (2, B, h, w, C): whether a right one, whether a lower one.

    `winners` (B, h, w, C) as torch counts them: row by row through an input of `width`.
    """
    offsets = winners - _corners(winners, width)
    return torch.stack([(offsets == 1) | (offsets == width + 1), offsets >= width])


def _winners(right_and_below: Tensor, width: int) -> Tensor:
    """Undo `_right_and_below`."""
    right, below = right_and_below.long()
    winners: Tensor = _corners(right, width) + right + below * width
    return winners


def _corners(windows: Tensor, width: int) -> Tensor:
    """The first position of every window (h, w, 1), in windows (B, h, w, C) of an input of `width`."""
    rows, columns = (torch.arange(0, 2 * side, 2, device=windows.device) for side in windows.shape[1:3])
    return (rows[:, None] * width + columns)[..., None]


class Tapes:
    """Tapes of tiles on disk, from the pass that writes them to the one that reads them.

    Where there is no room, none is kept, and tiles are looked at twice; where it ends before it was expected to,
    with a warning.
    """

    def __init__(self, *, has_room: bool = False) -> None:
        self._spill = Spill()
        self._has_room = has_room

    def keep(self, number: int, tape: Tape) -> None:
        """Put the tape of a tile away."""
        if not self._has_room:
            return
        try:
            self._spill.keep(number, packed(tape))
        except OSError as error:
            self._has_room = False
            self._spill.forget(number)
            warnings.warn(f"Every tile is looked at twice from here on, which is slower: {error}", stacklevel=2)

    def of(self, number: int, like: Tensor) -> Tape:
        """The tape of a tile in device and dtype of `like`; an empty one where it was not kept."""
        return unpacked(self._spill.of(number), like)

    def forget(self, number: int) -> None:
        """Make room; what the system has not written yet never goes to the disk."""
        self._spill.forget(number)
