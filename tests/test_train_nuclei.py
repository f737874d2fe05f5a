"""The script that trains the network which finds nuclei: its fields, its stains, and what it writes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import train_nuclei
from chromogen.nuclei.network import NucleusNetwork, network_from
from chromogen.nuclei.outlines import RAYS
from nucleus_exemplars import exemplar
from nucleus_fields import FIELD_PX, Drawn, outlines_at, painted_tissue
from nucleus_stains import restained, stained, under_foreign_matter
from nucleus_views import VIEWS, inverse, turned, turned_radii


@pytest.fixture(scope="module")
def fields() -> list[Drawn]:
    rng = np.random.default_rng(7)
    amount, labels = painted_tissue(rng)
    return [Drawn(amount, labels, "painted")]


def test_the_same_number_is_the_same_example(fields: list[Drawn]) -> None:
    one, again, other = (train_nuclei.example(seed, fields, []) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one[1:], again[1:], strict=True))
    assert not np.array_equal(one.labels, other.labels)


@pytest.mark.parametrize("seed", range(6))
def test_a_field_of_any_stain_is_densities(fields: list[Drawn], seed: int) -> None:
    rng = np.random.default_rng(seed)
    example = train_nuclei.example(seed, fields, [])
    for stain in (stained, lambda *given: restained("h-dab", *given)):
        densities = stain(rng, example.amounts.astype(np.float32), example.labels)
        assert densities.shape == (3, FIELD_PX, FIELD_PX)
        assert np.isfinite(densities).all()
        assert densities.min() >= -1e-6


def test_radii_reach_the_border_of_the_nucleus() -> None:
    y, x = np.indices((64, 64))
    labels = (np.hypot(y + 0.5 - 33, x + 0.5 - 33) <= 10).astype(np.int32)
    depth, radii = outlines_at(labels)
    assert depth.shape == (32, 32)
    assert radii.shape == (RAYS, 32, 32)
    np.testing.assert_allclose(radii[:, 16, 16], 10, atol=0.75)
    assert depth.max() == pytest.approx(1, abs=0.15)
    assert radii[0, 16, 18] == pytest.approx(6, abs=0.75)  # to the right of a place 4 px right of the centre


@pytest.mark.parametrize("view", range(VIEWS))
def test_a_view_of_labels_has_the_views_of_their_radii(fields: list[Drawn], view: int) -> None:
    labels = fields[0].labels
    depth, radii = outlines_at(labels)
    depth_seen, radii_seen = outlines_at(turned(labels, view))
    np.testing.assert_allclose(depth_seen, turned(depth, view), atol=1e-6)
    difference = abs(radii_seen - turned_radii(radii, view))[:, depth_seen > 0.5]
    assert np.quantile(difference, 0.97) < 0.6  # rays along the edge between two rows of pixels follow either
    np.testing.assert_array_equal(turned(turned(labels, view), inverse(view)), labels)
    np.testing.assert_array_equal(turned_radii(turned_radii(radii, view), inverse(view)), radii)


def test_what_lies_under_a_pen_is_no_nucleus() -> None:
    hidden = [under_foreign_matter(np.random.default_rng(seed), np.zeros((3, 160, 160)))[1] for seed in range(8)]
    assert any(mask.any() for mask in hidden)
    assert not all(mask.all() for mask in hidden)


def test_a_step_learns_and_the_file_gives_the_network_back(
    fields: list[Drawn], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_nuclei, "BATCH", 2)
    torch.manual_seed(0)
    pool = [train_nuclei.example(seed, fields, []) for seed in range(2)]
    network = NucleusNetwork((8, 8, 8))
    before = [weight.clone() for weight in network.parameters()]
    train_nuclei.train(network, pool, steps=2, seed=0)
    assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    full = NucleusNetwork()
    train_nuclei.write(full, tmp_path / "n.safetensors")
    given = np.random.default_rng(0).uniform(0, 1, (1, 3, 32, 48)).astype(np.float32)
    read = network_from(load_file(tmp_path / "n.safetensors"))(given)
    with torch.inference_mode():
        once, turned = (full.eval()(torch.from_numpy(x.copy())).numpy() for x in (given, given[:, :, ::-1, ::-1]))
    depths = 1 / (1 + np.exp(-np.stack([once[:, 0], turned[:, 0, ::-1, ::-1]])))
    rays = (np.arange(RAYS) + RAYS // 2) % RAYS
    np.testing.assert_allclose(read.depth, depths.mean(0)[0], atol=0.02)
    places = np.indices(read.depth.shape).reshape(2, -1)
    radii = read.radii_px(places[0], places[1]).T.reshape(RAYS, *read.depth.shape)
    np.testing.assert_allclose(radii, ((once[:, 1:] + turned[:, 1:][:, rays, ::-1, ::-1]) / 2)[0], rtol=0.03)


def test_an_exemplar_is_labelled_where_the_network_is_sure(data: Path) -> None:
    from chromogen.nuclei.network import built_in_network

    found = exemplar(data / "exemplars" / "OS-1-detail.ome.tif", built_in_network())
    assert found.stains == "h-e"
    assert found.amounts.shape == (3, *found.labels.shape)
    assert 200 < len(np.unique(found.labels)) < 400
    assert not (found.unsure & (found.labels > 0)).any()
