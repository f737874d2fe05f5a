"""Processes that train one network together, on one machine or several, through Lightning Fabric.

Every process works on its share of a batch, and their gradients are summed: the gradient of one process, up to
rounding. All draw the same batches and follow the same steps.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from chromogen.compute.devices import choose_device
from chromogen.errors import choose, expected

T = TypeVar("T")
STRATEGIES = ("ddp",)


def _as_it_is(x: T) -> T:
    return x


@dataclass(frozen=True)
class Ranks:
    """Which process this is, of how many; how tensors are summed over all, and how all hear the first."""

    rank: int = 0
    count: int = 1
    summed: Callable[[Tensor], Tensor] = _as_it_is
    of_first: Callable[[Any], Any] = _as_it_is

    @property
    def is_first(self) -> bool:
        """Whether it is this process that writes and speaks."""
        return self.rank == 0

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """What of a batch is for this process."""
        return items[self.rank :: self.count]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Over all processes, in place."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        together = self.summed(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = together.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


ALONE = Ranks()


def launched(devices: int, nodes: int, strategy: str, device: str) -> tuple[Ranks, str]:
    """Which process this is among `devices` on each of `nodes` machines, and its device.

    All run the same command: on one machine they are started here and meet on its loopback; on several it
    is given on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK set, or by SLURM or torchrun. Raises: ValueError.
    """
    choose("strategy", strategy, STRATEGIES)
    for name, value in {"devices": devices, "nodes": nodes}.items():
        if value < 1:
            raise expected(name, "at least 1", value)
    if devices * nodes == 1:
        return ALONE, device
    kind = choose_device(device).type
    if kind == "mps" or (kind == "cuda" and devices > torch.cuda.device_count()):
        raise expected("devices", "as many as this machine has", f"{devices} of {kind}")
    return _through_fabric(devices, nodes, strategy, kind)


def _through_fabric(devices: int, nodes: int, strategy: str, kind: str) -> tuple[Ranks, str]:
    from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if nodes == 1 and "LOCAL_RANK" not in os.environ:
        _meet_on_loopback()
    fabric = Fabric(accelerator=kind, devices=devices, num_nodes=nodes, strategy=strategy)
    fabric.launch()

    def summed(mine: Tensor) -> Tensor:
        whole = fabric.all_reduce(mine, reduce_op="sum")
        assert isinstance(whole, Tensor)  # noqa: S101 - of a tensor it is one
        return whole

    return Ranks(fabric.global_rank, fabric.world_size, summed, fabric.broadcast), str(fabric.device)


_MEETING_POINTS: list[Any] = []  # they must live as long as the process


def _meet_on_loopback() -> None:
    """A store for the processes of this machine, where torch's own would listen to the whole network."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    os.environ.update(told)
    made = torch.distributed.TCPStore  # type: ignore[attr-defined]
    listening = server.detach()
    store = made("127.0.0.1", port, is_master=True, wait_for_workers=False, master_listen_fd=listening)
    _MEETING_POINTS.append(store)
