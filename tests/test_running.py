"""Statistics of the last batches."""

from __future__ import annotations

import numpy as np
import torch

from chromogen.training.running import KEPT, Running

GRAM, LOCAL = ("gram", "relu1_1", "tissue"), ("hematoxylin", "image", None)


def test_summed_statistics_are_a_mean_that_falls_off() -> None:
    rng = np.random.default_rng(0)
    batches = rng.normal(size=(6, 2, 3))
    running, by_hand = Running(), batches[0]
    for number, batch in enumerate(batches):
        found = running.joined({GRAM: torch.tensor(batch), LOCAL: torch.tensor(batch)})
        by_hand = batch if number == 0 else KEPT * by_hand + (1 - KEPT) * batch
        np.testing.assert_allclose(found[GRAM], by_hand)
        np.testing.assert_array_equal(found[LOCAL], batch)


def test_a_batch_keeps_its_whole_gradient() -> None:
    running = Running()
    running.joined({GRAM: torch.ones(3)})
    now = torch.zeros(3, requires_grad=True)
    running.joined({GRAM: now})[GRAM].sum().backward()
    np.testing.assert_array_equal(now.grad, np.ones(3))


def test_going_on_is_the_same() -> None:
    one, other = Running(), Running()
    one.joined({GRAM: torch.ones(3)})
    other.go_on(one.state())
    now = {GRAM: torch.full((3,), 2.0)}
    np.testing.assert_array_equal(one.joined(now)[GRAM], other.joined(now)[GRAM])
