"""The network of nuclei: its own ways to do what torch does, and what it keeps of its features."""

import numpy as np
import torch
from torch import Tensor, nn

from chromogen.nuclei.network import NucleusNetwork, _beside, _halved, _prediction, radii_of
from chromogen.nuclei.outlines import MIN_CONFIDENCE, MIN_LIKELY


def features(channels: int, side: int) -> Tensor:
    made = torch.randn((1, channels, side, side + 4), generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last)


def test_halving_and_joining_maps_are_torchs_own() -> None:
    fine, coarse = features(3, 12), features(5, 12)[:, :, :6, :8]
    assert torch.equal(_halved(fine), nn.functional.max_pool2d(fine, 2))
    joined = _beside(fine, coarse)
    assert torch.equal(joined, torch.cat([fine, nn.functional.interpolate(coarse, scale_factor=2)], dim=1))
    assert joined.is_contiguous(memory_format=torch.channels_last)


def test_radii_are_those_of_the_head_wherever_a_nucleus_may_lie() -> None:
    assert 2 * MIN_CONFIDENCE - 1 >= MIN_LIKELY - 1e-9  # of two views, the other at its most
    torch.manual_seed(0)
    network = NucleusNetwork((8, 8, 8)).eval()
    given = features(16, 20)
    with torch.inference_mode():
        made = network.head(given)[0].numpy()
        found = _prediction(network, given)
    depth = 1 / (1 + np.exp(-made[0]))
    np.testing.assert_allclose(found.depth, depth, atol=1e-6)
    rows, columns = np.nonzero(found.depth > MIN_LIKELY)
    rows, columns = rows[::-3].copy(), columns[::-3].copy()
    wanted = radii_of(torch.from_numpy(made[1:, rows, columns])).numpy().T
    np.testing.assert_allclose(found.radii_px(rows, columns), wanted, rtol=1e-5)
    assert (found.depth < MIN_LIKELY).any() or len(rows) > 100


def test_a_network_may_be_trained_through_both() -> None:
    network = NucleusNetwork((4, 4, 4))
    network(torch.rand((1, 3, 32, 32))).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())
