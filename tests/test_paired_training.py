"""Training on pairs: the IHC goes with its H&E, and where the brown goes is learnt as style cannot tell it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from chromogen.stains.deconvolution import H_DAB, separate_stains
from chromogen.stains.light import picture_from
from chromogen.style.encoder import Encoder
from chromogen.style.recipes import with_pairs
from chromogen.style.stainer_network import HALO_PX, slide_look, stain
from chromogen.style.statistics import PYRAMID_PX
from chromogen.training.batch import dab_correlation, paired_references, references_of, statistics_of
from chromogen.training.fields import Content, Field, PairedIhc, drawn_tile, fields_of
from chromogen.training.pairs import TissuePair, check_pair, contents_of
from chromogen.training.train import train_stainer
from chromogen.training.wanted import target_of
from drawn_pairs import drawn_pair
from test_train import CONTENTS, IHC, QUICK, SMALL, drawn

pytestmark = pytest.mark.filterwarnings("ignore:The stainer has collapsed")
SHIFT = (20.0, -8.0)
PAIR = drawn_pair(0, "pink", 240, SHIFT, 0.01)
TRUST = (0.6, 0.6, 0.5)
MASKS = {"tissue", "octiles", "paired"}


def paired_field(shift: tuple[float, float] = SHIFT) -> Field:
    (field,) = fields_of([Content("", (PAIR.he,), "", PairedIhc(PAIR.ihc, shift, TRUST))], MASKS, 0.5, 48)
    return field


def dab_of(density: torch.Tensor) -> np.ndarray:
    return (density[0].permute(1, 2, 0).double().numpy() @ np.linalg.inv(H_DAB))[..., 1]


def test_the_ihc_is_brought_onto_its_he() -> None:
    field = paired_field()
    assert field.ihc is not None
    core = np.s_[20:-30, 10:-40]
    inner = dab_of(field.ihc)[HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
    assert np.corrcoef(inner[core].ravel(), PAIR.dab[core].ravel())[0, 1] > 0.9
    still = paired_field((0.0, 0.0)).ihc
    assert still is not None
    apart = dab_of(still)[HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
    assert np.corrcoef(apart[core].ravel(), PAIR.dab[core].ravel())[0, 1] < 0.6


def test_nothing_is_trusted_where_the_ihc_ends() -> None:
    trust = paired_field().masks["paired"][0, :, HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
    assert trust.shape == (len(PYRAMID_PX), 240, 240)
    inside = torch.zeros(240, 240, dtype=torch.bool)
    inside[8:, :220] = True
    for level, value in zip(trust, TRUST, strict=True):
        assert torch.equal(level > 0, inside)
        assert float(level.max()) == pytest.approx(value)


def test_an_ihc_turns_with_its_he(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the H&E itself as its IHC, both tiles stay the same, whatever is done to them."""
    monkeypatch.setattr("chromogen.training.fields._restained", lambda density, _rng: density)
    he = drawn(140, 1)
    content = Content("", (he,), "", PairedIhc(he, (0.0, 0.0), TRUST))
    fields = fields_of([content], MASKS, 0.5, 48)
    for seed in range(6):
        tile = drawn_tile(fields, 48, np.random.default_rng(seed))
        core = tile.density[..., HALO_PX:-HALO_PX, HALO_PX:-HALO_PX]
        inside = np.s_[..., 2:-2, 2:-2]  # a scaled field's outermost pixels know what is beyond
        torch.testing.assert_close(tile.ihc[inside], core[inside], atol=2e-3, rtol=0)


def test_a_perfect_picture_loses_nothing(encoder: Encoder) -> None:
    objective = with_pairs(SMALL)[-1:]
    tiles = [drawn_tile([paired_field()], 160, np.random.default_rng(seed), plain=True) for seed in range(2)]
    scale = paired_references(tiles, objective, encoder)
    target = target_of([PAIR.ihc])
    references = references_of(tiles, target, objective, encoder, scale)
    masks = [tile.masks for tile in tiles]

    def loss(pictures: list[torch.Tensor]) -> float:
        from chromogen.style.objective import term_values

        measured = statistics_of(pictures, masks, objective, encoder)
        return term_values(objective, measured, references, "relative")["paired"].item()

    real = [picture_from(tile.ihc) for tile in tiles]
    assert loss(real) == pytest.approx(0, abs=1e-8)
    assert loss([torch.ones_like(x) for x in real]) == pytest.approx(1, rel=1e-4)
    assert 0 < loss([x.roll(6, 3) for x in real]) < loss([x.roll(24, 3) for x in real])
    assert dab_correlation(real, tiles) == pytest.approx(1)
    assert dab_correlation([torch.ones_like(x) for x in real], tiles) is None


def test_tissue_without_a_pair_says_nothing(encoder: Encoder) -> None:
    objective = with_pairs(SMALL)[-1:]
    fields = fields_of(CONTENTS, MASKS, 0.5, 48)
    tiles = [drawn_tile(fields, 48, np.random.default_rng(0))]
    found = statistics_of([torch.rand(1, 3, 48, 48)], [tiles[0].masks], objective, encoder)
    assert not found["dab_pyramid", "image", "paired"].any()
    assert not paired_references(tiles, objective, encoder)["paired", "image"].measured.any()
    assert dab_correlation([torch.rand(1, 3, 48, 48)], tiles) is None


def test_pairs_and_other_tissue_in_one_training(encoder: Encoder) -> None:
    contents = [*CONTENTS, *contents_of([check_pair(TissuePair("p", "p", PAIR.he, PAIR.ihc), 0.5)])]
    training = replace(QUICK, objective=with_pairs(SMALL), steps=3)
    trained = train_stainer(contents, IHC, training, encoder=encoder)
    assert trained.validated_on == "the only pair, which was trained on"
    assert -1 <= trained.validation["dab_r"] <= 1
    assert np.isfinite([step.terms["paired"] for step in trained.trace]).all()


def test_a_training_begins_from_a_network(encoder: Encoder) -> None:
    first = train_stainer(CONTENTS, IHC, QUICK, encoder=encoder).network
    still = replace(QUICK, steps=1, learning_rate=1e-9, ema=0.0, width=4)
    again = train_stainer(CONTENTS, IHC, still, encoder=encoder, start=first).network
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(weight, again.state_dict()[name], atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_pairs_teach_where_the_brown_goes_and_style_does_not(encoder: Encoder) -> None:
    """Of two rules whose IHC look alike, style alone cannot answer both; pairs tell them apart."""
    training = replace(QUICK, steps=40, tile_px=96, width=32, depth=2, learning_rate=0.03, validate_every=20)
    found: dict[tuple[str, bool], float] = {}
    for rule in ("pink", "pale"):
        made = [drawn_pair(seed, rule, 256) for seed in range(4)]
        pairs = [TissuePair(str(i), str(i), pair.he, pair.ihc) for i, pair in enumerate(made)]
        contents = contents_of([check_pair(pair, 0.5) for pair in pairs])
        for paired in (True, False):
            asked = replace(training, objective=with_pairs(SMALL)) if paired else training
            given = contents if paired else [replace(content, paired=None) for content in contents]
            network = train_stainer(given, [pair.ihc for pair in pairs], asked, encoder=encoder).network
            found[rule, paired] = float(np.mean([_agreement(network, rule, seed) for seed in (50, 51)]))
    assert min(found["pink", True], found["pale", True]) > 0.6, found
    assert min(found["pink", False], found["pale", False]) < 0.2, found


def _agreement(network: torch.nn.Module, rule: str, seed: int) -> float:
    unseen = drawn_pair(seed, rule, 256)
    ours = separate_stains(stain(network, unseen.he, slide_look(unseen.he)), H_DAB)[..., 1].clip(0)  # type: ignore[arg-type]
    both = [ndimage.gaussian_filter(x, 8).ravel() for x in (ours, unseen.dab)]
    return float(np.corrcoef(*both)[0, 1])
