"""Training of stainers: tiles, the losses of a batch, the way down."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from chromogen.image import Image
from chromogen.stains.deconvolution import H_DAB, H_E, combine_stains, separate_stains
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.marker_network import MarkerNetwork
from chromogen.style.objective import Objective, Term
from chromogen.style.recipes import hematoxylin_term, profile_term
from chromogen.style.rgb_network import RgbNetwork
from chromogen.style.slide_densities import STRIDE_PX, mixed
from chromogen.style.stainer_network import HALO_PX, stain
from chromogen.training import train as train_module
from chromogen.training.batch import collapse_of, measured_styles, positive_share, statistics_of
from chromogen.training.fields import (
    Content,
    Field,
    drawn_tile,
    fields_of,
    least_side_px,
    split,
)
from chromogen.training.train import Training, TrainStep, rate_at, train_stainer
from chromogen.training.wanted import target_of

# A few steps leave the stain as pale as it began.
pytestmark = pytest.mark.filterwarnings("ignore:The stainer has collapsed")


def drawn(side: int, seed: int, second: float = 0.6, matrix: np.ndarray = H_E) -> Image:
    """Nuclei in tissue, and a strip of glass."""
    rng = np.random.default_rng(seed)
    amounts = np.zeros((side, side, 3))
    amounts[..., 1] = second * rng.uniform(0.8, 1.2, (side, side))
    y, x = np.mgrid[:side, :side]
    for row, column in rng.uniform(0, side, (side * side // 500, 2)):
        amounts[(y - row) ** 2 + (x - column) ** 2 < 36] = (1.4, 0.3 * second, 0)
    amounts[: side // 3] = 0
    return combine_stains(amounts, matrix)


GRAM = Term("style", 1.0, {"relu1_1": 1.0}, "gram", "gram_mse", "style", "tissue")
SMALL: Objective = (GRAM, profile_term(0.2), hematoxylin_term(0.2))
QUICK = Training(SMALL, steps=6, batch=2, tile_px=48, validate_every=3, width=8, depth=1)
CONTENTS = [Content(str(seed), (drawn(140, seed),)) for seed in range(3)]
IHC = [drawn(128, 9, 0.9, H_DAB)]


def fields() -> list[Field]:
    return fields_of(CONTENTS, {"tissue", "octiles"}, 0.5, 48)


def test_a_plain_tile_is_a_crop_of_a_field() -> None:
    field = fields()[0]
    tile = drawn_tile([field], 48, np.random.default_rng(0), plain=True)
    side = 48 + 2 * HALO_PX
    windows = field.density.unfold(2, side, 1).unfold(3, side, 1)[0].permute(1, 2, 0, 3, 4)
    found = [
        (r, c)
        for r in range(windows.shape[0])
        for c in range(windows.shape[1])
        if torch.equal(windows[r, c], tile.density[0])
    ]
    assert len(found) == 1
    row, column = found[0]
    core = slice(row + HALO_PX, row + HALO_PX + 48), slice(column + HALO_PX, column + HALO_PX + 48)
    assert all(torch.equal(tile.masks[name], field.masks[name][..., *core]) for name in field.masks)


def test_masks_are_turned_with_the_tissue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chromogen.training.fields.SCALES", (1.0, 1.0))
    field = fields()[0]
    red = field.density[:, :1]
    marked = replace(field, masks={"tissue": field.masks["tissue"], "dark": red > 0.5})
    core = slice(HALO_PX, HALO_PX + 48)
    monkeypatch.setattr("chromogen.training.fields._restained", lambda density, _rng: density)
    for seed in range(8):
        tile = drawn_tile([marked], 48, np.random.default_rng(seed))
        assert torch.equal(tile.masks["dark"], (tile.density[:, :1] > 0.5)[..., core, core])


def test_stains_are_made_stronger_and_weaker_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from chromogen.training.fields import _restained

    density = fields()[0].density
    changed = _restained(density, np.random.default_rng(3))
    before, after = (mixed(x, np.linalg.inv(H_E)) for x in (density, changed))
    there = before[0] > 0.3
    factors = (after[0] / before[0])[there]
    assert float(factors.std()) < 1e-3
    assert abs(float(factors.mean()) - 1) > 0.01
    np.testing.assert_allclose(after[2], before[2], atol=1e-5)


def test_scaled_tiles_have_the_asked_size() -> None:
    rng = np.random.default_rng(1)
    for _ in range(5):
        tile = drawn_tile(fields(), 48, rng)
        assert tile.density.shape == (1, 3, 48 + 2 * HALO_PX, 48 + 2 * HALO_PX)
        assert {mask.shape[2:] for mask in tile.masks.values()} == {(48, 48)}


def test_glass_and_small_images_are_no_fields() -> None:
    blank = Content("blank", (np.full((140, 140, 3), 245, np.uint8),))
    for contents in ([blank], [Content("small", (drawn(40, 0),))]):
        with pytest.raises(ValueError, match=r"images with tissue, at least 60 px"):
            fields_of(contents, set(), 0.5, 60)
    assert len(fields_of([blank, *CONTENTS], set(), 0.5, 60)) == 3


def test_every_scale_fits_into_the_smallest_field() -> None:
    for tile_px in (32, 48, 128, 256):
        least = least_side_px(tile_px)
        (field,) = fields_of([Content("", (drawn(least, 1),))], set(), 0.5, least)
        rng = np.random.default_rng(0)
        for _ in range(6):
            drawn_tile([field], tile_px, rng)


def test_what_is_validated_on_is_not_trained_on() -> None:
    for count in (2, 3, 6, 11):
        contents = [Content(str(i), (IHC[0],)) for i in range(count)]
        train, held, words = split(contents)
        assert {c.name for c in train}.isdisjoint(c.name for c in held)
        assert len(train) + len(held) == count
        assert words.startswith(f"{len(held)} of {count}")
    slide = [Content("slide", tuple(drawn(64, i) for i in range(6)))]
    train, held, words = split(slide)
    assert (len(train[0].fields), len(held[0].fields), "fields" in words) == (5, 1, True)
    assert "was trained on" in split(CONTENTS[:1])[2]


def test_a_batch_is_measured_as_one_picture(encoder: Encoder) -> None:
    """Of pixels themselves: Gram matrices and profiles of tiles together are those of the tiles side by side."""
    torch.manual_seed(0)
    pictures = [torch.rand(1, 3, 32, 32) for _ in range(3)]
    masks = [{"tissue": torch.rand(1, 1, 32, 32), "octiles": torch.rand(1, 8, 32, 32) > 0.5} for _ in pictures]
    gram = Term("style", 1.0, {"image": 1.0}, "gram", "gram_mse", "style", "tissue")
    objective = (gram, profile_term(1.0), hematoxylin_term(1.0))
    found = statistics_of(pictures, masks, objective, encoder)
    side_by_side = torch.cat(pictures, 3)
    joined = {name: torch.cat([mask[name] for mask in masks], 3) for name in masks[0]}
    whole = statistics_of([side_by_side], [joined], objective, encoder)
    for seen in (("gram", "image", "tissue"), ("dab_profile", "image", "octiles")):
        torch.testing.assert_close(found[seen], whole[seen], rtol=1e-4, atol=1e-5)
    assert found["hematoxylin", "image", None].shape[0] == 3


def test_styles_count_alike(encoder: Encoder) -> None:
    one, other = (measured_styles((GRAM,), [drawn(96, s, 0.9, H_DAB)], encoder, 0.5) for s in (1, 2))
    both = measured_styles((GRAM,), [drawn(96, s, 0.9, H_DAB) for s in (1, 2)], encoder, 0.5)
    key = "style", "relu1_1"
    torch.testing.assert_close(both[key].measured, (one[key].measured + other[key].measured) / 2)


def test_the_targets_vectors_and_strengths_are_the_styles() -> None:
    target = target_of(IHC)
    np.testing.assert_allclose(np.array(target.matrix)[:2], H_DAB[:2], atol=0.1)
    assert 1.2 < target.hematoxylin < 1.8
    assert 0.9 < target.dab < 1.5


def test_stained_share() -> None:
    amounts = np.zeros((40, 40, 3))
    amounts[:10, :, 1] = 1.0
    picture = torch.from_numpy(combine_stains(amounts, H_DAB) / 255.0).permute(2, 0, 1)[None].float()
    assert positive_share([picture], [torch.ones(1, 1, 40, 40)]) == 0.25
    assert positive_share([picture], [torch.zeros(1, 1, 40, 40)]) == 0.0


@pytest.mark.parametrize(
    ("share", "styles", "named"),
    [
        (0.0, 0.3, "no DAB anywhere"),
        (0.99, 0.3, "DAB everywhere"),
        (0.2, 0.3, None),
        (0.0, 0.0, None),
        (1.0, 0.9, None),
    ],
)
def test_collapse_is_named(share: float, styles: float, named: str | None) -> None:
    assert collapse_of(share, styles) == named


def test_training_goes_down_and_stains(encoder: Encoder) -> None:
    training = replace(QUICK, steps=40, learning_rate=0.03, validate_every=10)
    trained = train_stainer(CONTENTS, IHC, training, encoder=encoder)
    looks = [step.validation["total"] for step in trained.trace if step.validation]
    assert min(looks) < 0.6 * looks[0]
    assert trained.validation["total"] == min(looks)
    assert trained.collapse is None
    he = drawn(96, 7)
    made = stain(trained.network, he, fields()[0].look)
    dab = separate_stains(made[60:], H_DAB)[..., 1]
    assert dab.mean() > 0.2
    assert dab[:, 20:].std() > 0.05


def test_several_markers_are_trained_by_turns(encoder: Encoder) -> None:
    """One whose style is brown and one whose style is blue, by one network."""
    styles = {"brown": IHC, "blue": [drawn(128, 9, 0.02, H_DAB)]}
    training = replace(QUICK, steps=60, learning_rate=0.03, validate_every=20)
    trained = train_stainer(CONTENTS, styles, training, encoder=encoder)
    assert isinstance(trained.network, MarkerNetwork)
    he, look = drawn(96, 7), fields()[0].look
    dab = [
        separate_stains(stain(trained.network.at(blend), he, look)[30:], H_DAB)[..., 1].mean()
        for blend in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))
    ]
    assert dab[0] > dab[1] > dab[2]
    assert dab[0] > 2 * dab[2]
    found = trained.validation
    assert found["total"] == pytest.approx((found["brown total"] + found["blue total"]) / 2)


def test_an_rgb_network_goes_down(encoder: Encoder) -> None:
    training = replace(QUICK, steps=12, learning_rate=0.02, validate_every=6, network="rgb")
    trained = train_stainer(CONTENTS, IHC, training, encoder=encoder)
    assert isinstance(trained.network, RgbNetwork)
    assert trained.trace[-1].loss < 0.8 * trained.trace[0].loss
    assert trained.validation["total"] < trained.trace[0].loss


def test_a_resumed_training_is_the_same(encoder: Encoder, tmp_path: Path) -> None:
    straight = train_stainer(CONTENTS, IHC, QUICK, encoder=encoder)

    def stop(step: TrainStep, _seen: object) -> None:
        if step.index == 4:
            raise KeyboardInterrupt

    def checkpoint() -> Checkpoint:
        return Checkpoint(tmp_path / "c", {"a": 1}, resume=True, every_s=0)

    with pytest.raises(KeyboardInterrupt):
        train_stainer(CONTENTS, IHC, QUICK, encoder=encoder, checkpoint=checkpoint(), on_step=stop)
    indices: list[int] = []
    resumed = train_stainer(
        CONTENTS,
        IHC,
        QUICK,
        encoder=encoder,
        checkpoint=checkpoint(),
        on_step=lambda s, _: indices.append(s.index),
    )
    assert indices == [4, 5, 6]
    for name, weight in straight.network.state_dict().items():
        torch.testing.assert_close(weight, resumed.network.state_dict()[name], rtol=1e-3, atol=1e-4)
    losses = [[step.loss for step in trained.trace] for trained in (straight, resumed)]
    np.testing.assert_allclose(*losses, rtol=1e-4)


def test_a_full_disk_stops_checkpoints_and_not_training(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_given: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoint, "save", full)
    checkpoint = Checkpoint(tmp_path / "c", {}, every_s=1e9)
    with pytest.warns(UserWarning, match="No space left on device; going on without"):
        assert (
            train_stainer(CONTENTS, IHC, replace(QUICK, steps=2), encoder=encoder, checkpoint=checkpoint).steps
            == 2
        )


def test_training_ends_when_it_gets_no_better(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "rate_at", lambda _index, _steps: 0.0)
    training = replace(QUICK, steps=50, validate_every=1, patience=2)
    assert train_stainer(CONTENTS, IHC, training, encoder=encoder).steps == 3


def test_a_loss_that_is_no_number_is_an_error(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "total", lambda _objective, values: values["style"] * torch.nan)
    with pytest.raises(ArithmeticError, match="The loss is nan at step 1; lower the learning rate"):
        train_stainer(CONTENTS, IHC, QUICK, encoder=encoder)


def test_a_collapse_is_warned_of(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        train_module, "positive_share", lambda pictures, _tissues: 0.5 if len(pictures) == 1 else 0.0
    )
    with pytest.warns(UserWarning, match="collapsed: no DAB anywhere"):
        trained = train_stainer(CONTENTS, IHC, replace(QUICK, steps=1), encoder=encoder)
    assert trained.collapse == "no DAB anywhere"


@pytest.mark.parametrize(
    "wrong",
    [
        {"site": "membrane"},
        {"network": "unet"},
        {"network": "rgb", "site": "nuclear"},
        {"steps": 0},
        {"tile_px": 50},
        {"tile_px": 16},
        {"mpp": 0.0},
        {"learning_rate": 2.0},
        {"ema": 1.0},
        {"objective": (hematoxylin_term(1.0),)},
    ],
)
def test_wrong_settings(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Expected"):
        Training(**wrong)  # type: ignore[arg-type]


def test_nothing_to_train_on(encoder: Encoder) -> None:
    for contents, styles in (([], IHC), (CONTENTS, []), (CONTENTS, {"ER": IHC, "Ki67": []})):
        with pytest.raises(ValueError, match="at least one image each"):
            train_stainer(contents, styles, QUICK, encoder=encoder)


def test_rates_rise_and_fall() -> None:
    rates = [rate_at(index, 50) for index in range(50)]
    assert max(rates) == 1.0
    assert rates.index(1.0) == 4
    assert all(a >= b for a, b in pairwise(rates[5:]))
    assert rate_at(0, 1) == 1.0
    assert HALO_PX % STRIDE_PX == 0
