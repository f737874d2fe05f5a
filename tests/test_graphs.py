"""What an exported model computes is what the network paints; here still in torch, which is quick."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from chromogen.image import Image
from chromogen.onnx_models.graphs import Graph, graph_of
from chromogen.style.kinds import Look, PlainNetwork, kind_of
from chromogen.style.marker_network import blend_of, chosen, markers_of
from chromogen.style.rgb_network import MOST_SAMPLED_PX, RgbLook, RgbNetwork, rgb_look
from chromogen.style.stainer_network import slide_look, stain
from synthetic import tissue_like
from test_kinds import ARCHITECTURES, MARKER
from test_kinds import network as of_kind
from test_stainer_network import network as stain_network

HE = tissue_like(100, 118, seed=3)


def plain(name: str) -> PlainNetwork:
    made = of_kind(name)
    return chosen(made, blend_of(MARKER[name], markers_of(made.architecture)))


@torch.inference_mode()
def painted(graph: Graph, images: NDArray[np.uint8], look: Look | None = None) -> tuple[Image, ...]:
    """What comes out, by names of inputs."""
    fields = {} if look is None else vars(look)
    given = {
        name: value if look is None else torch.tensor(np.atleast_1d(np.array(fields[name], np.float32)))
        for name, value in graph.look.items()
    }
    made = graph.module(torch.from_numpy(np.ascontiguousarray(images)), *given.values())
    return tuple(x.numpy() for x in (made if isinstance(made, tuple) else (made,)))


def farthest(made: Image, wanted: Image) -> int:
    return int(np.abs(made.astype(int) - wanted).max())


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 1), (15, 33), (80, 112)])
def test_the_same_picture_within_one_level_at_any_size(name: str, shape: tuple[int, int]) -> None:
    network = plain(name)
    kind, graph, image = kind_of(network.architecture), graph_of(network), HE[: shape[0], : shape[1]]
    look = kind.look(network, HE)
    made, *others = painted(graph, image[None], look)
    assert farthest(made[0], kind.stain(network, image, look)) <= 1
    assert (graph.halo_px, len(graph.outputs)) == (kind.halo_px, 1 + len(others))


@pytest.mark.parametrize("offset", [0.2, -0.15])
def test_a_calibrated_dab(offset: float) -> None:
    """A lab's offset, above and below 0, is in the graph."""
    network = stain_network("any")
    plain, look = stain(network, HE, slide_look(HE)), slide_look(HE)
    network.target = replace(network.target, dab_offset=offset)
    wanted = stain(network, HE, look)
    assert farthest(wanted, plain) > 5
    assert farthest(painted(graph_of(network), HE[None], look)[0][0], wanted) <= 1


def test_moments_are_each_pictures_own_where_none_are_given() -> None:
    """And come out, so that those of a sample serve all tiles of a slide."""
    network = plain("rgb")
    assert isinstance(network, RgbNetwork)
    graph = graph_of(network)
    images = np.stack([HE, HE[::-1] // 2 + 90])
    made, moments = painted(graph, images)
    for image, one, found in zip(images, made, moments, strict=True):
        own = RgbLook((255.0, 255.0, 255.0), found)
        assert farthest(one, kind_of(network.architecture).stain(network, image, own)) <= 1
    assert np.abs(moments[0] - moments[1]).max() > 0.01
    look = rgb_look(network, HE)
    _, used = painted(graph, HE[None], RgbLook(look.white, np.zeros_like(look.moments)))
    np.testing.assert_allclose(used[0], look.moments, atol=1e-4)
    assert max(HE.shape) < MOST_SAMPLED_PX
