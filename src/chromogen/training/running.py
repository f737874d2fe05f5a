"""What the last batches looked like together: a few tiles may be all stroma, as no IHC of glands is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from chromogen.style.objective import Seen, Statistics
from chromogen.style.statistics import ADDITIVE

KEPT = 0.8  # of what was, at every step: about five batches count


class Running:
    """Statistics that add up over tiles, averaged over batches with weights that fall off."""

    def __init__(self) -> None:
        self._known: dict[Seen, Tensor] = {}

    def joined(self, measured: Statistics) -> Statistics:
        """A batch's statistics, the summed ones as of all batches: with the whole gradient of this one."""
        return {seen: self._moved(seen, one) if seen[0] in ADDITIVE else one for seen, one in measured.items()}

    def _moved(self, seen: Seen, now: Tensor) -> Tensor:
        own = now.detach()
        self._known[seen] = torch.lerp(own, self._known[seen], KEPT) if seen in self._known else own.clone()
        return now + (self._known[seen] - own)

    def state(self) -> list[tuple[list[str | None], Tensor]]:
        """As plain data and tensors."""
        return [(list(seen), value) for seen, value in self._known.items()]

    def go_on(self, state: list[tuple[list[Any], Tensor]]) -> None:
        """Take up a state."""
        self._known = {(statistic, layer, mask): value for (statistic, layer, mask), value in state}
