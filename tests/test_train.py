"""Training of the network that says where: what pairs teach, the way down, and going on."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage, stats

from chromogen.image import Image
from chromogen.staining.exemplar import ReferenceTissue, reference_tissue
from chromogen.staining.where_network import level_map, slide_stains
from chromogen.style.checkpoint import Checkpoint
from chromogen.training import train as train_module
from chromogen.training.fields import (
    BLURS_CELLS,
    MIN_COVER,
    CheckedPair,
    Field,
    TissuePair,
    check_pair,
    fields_of,
    in_cells,
    split,
    trust_of,
)
from chromogen.training.train import (
    FIGURES,
    Training,
    TrainingRun,
    TrainStep,
    expected_levels,
    rate_at,
    train_where,
    validation_agreement,
)
from drawn_pairs import drawn_pair

MPP = 0.5
SHIFT = (16.0, -8.0)
QUICK = Training("cytoplasm", steps=6, batch=2, validate_every=3, width=8, depth=1)


def checked(count: int, rule: str = "pink", side: int = 192) -> list[CheckedPair]:
    made = [drawn_pair(seed, rule, side, SHIFT, 0.01) for seed in range(count)]
    return [check_pair(TissuePair(f"p{i}", f"s{i}", pair.he, pair.ihc), MPP) for i, pair in enumerate(made)]


PAIRS = checked(2)
SEEN: dict[bytes, ReferenceTissue] = {}


def seen_once(ihc: Image) -> ReferenceTissue:
    key = ihc.tobytes()
    if key not in SEEN:
        SEEN[key] = reference_tissue(ihc)
    return SEEN[key]


@pytest.fixture(autouse=True)
def _ihc_is_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finding nuclei takes longer than a few steps."""
    monkeypatch.setattr("chromogen.training.fields.reference_tissue", seen_once)


@pytest.fixture
def fields() -> list[Field]:
    train, held, *_ = fields_of(PAIRS, "cytoplasm")
    return [*train, *held]


def test_levels_are_those_of_the_ihc_brought_onto_its_he(fields: list[Field]) -> None:
    """By the rule's own DAB, in the H&E's place."""
    truth = drawn_pair(0, "pink", 192, SHIFT, 0.01).dab
    trusted = fields[0].weights[0] > 0
    for level, inside, sigma in zip(fields[0].levels[0], trusted, BLURS_CELLS, strict=True):
        wanted = ndimage.gaussian_filter(in_cells(truth), sigma)
        found = np.corrcoef(level[inside].numpy(), wanted[inside.numpy()])[0, 1]
        assert found > 0.8, sigma
    assert float(fields[0].levels.max()) > 0.7
    assert float(fields[0].levels.min()) < 0.1


def test_nothing_is_trusted_where_the_ihc_ends(fields: list[Field]) -> None:
    """The H&E's tissue at the right lies beyond the IHC, and what lies above its first rows."""
    found = PAIRS[0].found
    assert found.shift_px == pytest.approx(SHIFT, abs=4)
    right, below = round(found.shift_px[0] / 4), round(-found.shift_px[1] / 4)
    for level, trust in zip(fields[0].weights[0], trust_of(found), strict=True):
        assert not level[:, -right + 1 :].any()
        assert not level[: below - 1].any()
        middle = level[12:-12, 12:-12]
        assert 0 < float(middle.max()) <= trust**2 + 1e-6


def test_a_marker_of_nuclei_is_compared_over_nuclei(fields: list[Field]) -> None:
    """What can be stained is less, and so a level is the share of nuclei and not of tissue."""
    nuclear = fields_of(PAIRS, "nuclear")[0][0]
    assert 0 < float(nuclear.stainable.mean()) < 0.7 * float(fields[0].stainable.mean())


def test_the_look_is_that_of_the_ihc_trained_on() -> None:
    train, held, words, exemplar = fields_of(PAIRS)
    assert (len(train), len(held)) == (1, 1)
    assert words == "1 of 2 pairs, not trained on"
    assert exemplar.site in ("nuclear", "cytoplasm")
    assert exemplar.stained_od10[32] > exemplar.unstained_od10[32] + 0.1


def test_pairs_without_tissue_or_stain_are_refused() -> None:
    pair = PAIRS[0].pair
    glass = np.full_like(pair.he, 245)
    with pytest.raises(ValueError, match="Expected `pairs` to be H&E with tissue"):
        fields_of([replace(PAIRS[0], pair=replace(pair, he=glass))])
    with pytest.raises(ValueError, match="at least one IHC, of those trained on, with stained and unstained"):
        fields_of([replace(PAIRS[0], pair=replace(pair, ihc=glass))])


def test_a_negative_ihc_beside_a_stained_one_teaches_too() -> None:
    """A slide that the marker does not stain is no exemplar; its levels are 0."""
    he = drawn_pair(3, "pink", 192).he
    from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains

    amounts = separate_stains(he, H_E).clip(0) * (0.7, 0, 0)
    negative = replace(PAIRS[1], pair=TissuePair("n", "n", he, combine_stains(amounts, H_DAB)))
    train, held, _, _ = fields_of([PAIRS[0], negative], "cytoplasm")
    assert float(train[0].levels.max()) > 0.7
    assert float(held[0].levels.max()) < 0.15


@pytest.mark.parametrize("count", [1, 2, 3, 6, 11])
@pytest.mark.parametrize("slides", [1, 2, 11])
def test_what_is_validated_on_is_not_trained_on(count: int, slides: int) -> None:
    named = [str(at % slides) for at in range(count)]
    train, held, words = split(named)
    assert train
    assert held
    if count == 1:
        assert words == "the only pair, which was trained on"
        return
    assert not set(train) & set(held)
    assert sorted([*train, *held]) == list(range(count))
    if len(set(named)) > 1:
        assert not {named[at] for at in train} & {named[at] for at in held}
    assert ("only slide" in words) == (len(set(named)) == 1)


def test_expected_levels_are_means_over_what_can_be_stained(fields: list[Field]) -> None:
    """A map that is the same everywhere stays so; blurs are SciPy's."""
    field = fields[0]

    class Known(torch.nn.Module):
        mean = torch.zeros(1)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            height, width = features.shape[2:]
            return torch.arange(height * width // 16).view(1, 1, height // 4, width // 4) / 144

    found = expected_levels(Known(), field, field.features)[0].numpy()  # type: ignore[arg-type]
    coarse = Known()(field.features)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear")[0, 0].numpy()
    part = field.stainable[0, 0].numpy()
    for ours, sigma in zip(found, BLURS_CELLS, strict=True):
        radius = max(1, round(3 * sigma))
        over, cover = (
            ndimage.gaussian_filter(x, sigma, mode="nearest", radius=radius) for x in (fine * part, part)
        )
        np.testing.assert_allclose(ours, over / np.maximum(cover, MIN_COVER), atol=1e-4)


def test_figures_are_scipys(fields: list[Field]) -> None:
    rng = np.random.default_rng(0)
    noisy = [f.levels + torch.from_numpy(rng.normal(0, 0.2, f.levels.shape).astype(np.float32)) for f in fields]
    found = validation_agreement(noisy, fields)
    assert set(found) == {*FIGURES, "dab_rank_r"}
    assert FIGURES == ("dab_r_1um", "dab_r_4um", "dab_r_12um")
    inside = [f.weights[0, 1] > 0 for f in fields]
    ours = np.concatenate([x[0, 1][at].numpy() for x, at in zip(noisy, inside, strict=True)])
    real = np.concatenate([f.levels[0, 1][at].numpy() for f, at in zip(fields, inside, strict=True)])
    assert found["dab_r_4um"] == pytest.approx(stats.pearsonr(ours, real)[0], abs=1e-4)
    assert found["dab_rank_r"] == pytest.approx(stats.spearmanr(ours, real)[0], abs=1e-4)
    perfect = validation_agreement([f.levels for f in fields], fields)
    assert all(value == pytest.approx(1) for value in perfect.values())
    assert validation_agreement([torch.ones_like(f.levels) for f in fields], fields) == {}


def test_rates_rise_and_fall() -> None:
    rates = [rate_at(i, 200) for i in range(200)]
    assert max(rates) == 1
    assert all(a < b for a, b in pairwise(rates[:20]))
    assert all(a > b for a, b in pairwise(rates[20:]))


def test_it_learns_and_keeps_the_best() -> None:
    seen: list[TrainStep] = []
    found = train_where(
        PAIRS, replace(QUICK, steps=30, validate_every=10), on_step=lambda step, _: seen.append(step)
    )
    assert [step.index for step in seen] == list(range(1, 31))
    looks = [step.validation for step in seen if step.validation]
    assert len(looks) == 3
    assert found.validation == min(looks, key=lambda look: look["loss"])
    assert seen[-1].loss < 0.7 * seen[0].loss


def test_the_same_seed_gives_the_same_network_and_another_another() -> None:
    found = [
        train_where(PAIRS, replace(QUICK, seed=seed)).network.state_dict()["body.0.weight"] for seed in (0, 0, 1)
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_stopped_it_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(step: TrainStep, _shown: object) -> None:
        if step.index == 4:
            raise StopError

    whole = train_where(PAIRS, QUICK)
    file = tmp_path / "c"
    with pytest.raises(StopError):
        train_where(PAIRS, QUICK, on_step=stop, checkpoint=Checkpoint(file, {"a": 1}, every_s=0))
    resumed = train_where(PAIRS, QUICK, checkpoint=Checkpoint(file, {"a": 1}, resume=True, every_s=0))
    for name, weight in whole.network.state_dict().items():
        torch.testing.assert_close(weight, resumed.network.state_dict()[name], rtol=0, atol=1e-6)
    assert [step.loss for step in resumed.trace] == pytest.approx([step.loss for step in whole.trace], abs=1e-7)
    assert resumed.validation == pytest.approx(whole.validation, abs=1e-6)


def test_it_ends_when_nothing_gets_better() -> None:
    still = replace(QUICK, steps=50, validate_every=1, patience=3, learning_rate=1e-12)
    assert train_where(PAIRS, still).steps < 20


def test_it_goes_on_from_a_network() -> None:
    first = train_where(PAIRS, QUICK).network
    still = replace(QUICK, steps=1, learning_rate=1e-9, width=4)
    again = train_where(PAIRS, still, start=first).network
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(weight, again.state_dict()[name], atol=1e-6, rtol=1e-5)
    assert first is not again


def test_losses_that_are_no_numbers_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TrainingRun, "_loss", lambda self, field, _: self.network.body[0].weight.sum() * torch.nan)
    with pytest.raises(ArithmeticError, match="The loss is nan at step 1; lower the learning rate"):
        train_where(PAIRS, QUICK)


def test_what_is_shown_is_h_and_e_expected_and_real() -> None:
    shown: list[object] = []
    train_where(PAIRS, replace(QUICK, steps=1, validate_every=1), on_step=lambda _, show: shown.extend(show()))
    ((he, ours, real),) = shown  # type: ignore[misc]
    assert he.shape == ours.shape == real.shape == (48, 48, 3)
    assert he.dtype == ours.dtype == np.uint8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"site": "membrane"}, "`site`"),
        ({"steps": 0}, "`steps`"),
        ({"batch": 0}, "`batch`"),
        ({"learning_rate": 1.5}, "`learning_rate`"),
        ({"width": 0}, "`network`"),
    ],
)
def test_wrong_trainings(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"Expected {said}"):
        Training(**wrong)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["pink", "pale"])
def test_pairs_teach_where_the_brown_lies(rule: str) -> None:
    """Of two rules whose IHC look alike, on tissue that no training has seen."""
    pairs = [one for one in checked(12, rule, 256) if one.problem is None]
    network = train_where(pairs, replace(QUICK, steps=200, batch=4, width=32, depth=2, validate_every=25)).network
    for seed in (50, 51):
        found = {name: drawn_pair(seed, name, 256) for name in ("pink", "pale")}
        he = found[rule].he
        level = level_map(network, he, slide_stains(he)).repeat(16, 0).repeat(16, 1)
        r = {name: dab_r(level, pair.dab) for name, pair in found.items()}
        assert r.pop(rule) > 0.5
        assert max(r.values()) < 0.1, "not where the other rule has it, in the same tissue"


def dab_r(level: NDArray[Any], dab: NDArray[Any]) -> float:
    """Correlation over 4 um."""
    both = [ndimage.gaussian_filter(x, 8).ravel() for x in (level, dab)]
    return float(np.corrcoef(*both)[0, 1])


def test_the_module_names_no_vgg() -> None:
    assert "vgg" not in Path(train_module.__file__).read_text(encoding="utf-8").lower()
