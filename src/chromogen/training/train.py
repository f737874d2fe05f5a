"""A network trained once on the losses of style transfer (Johnson et al. 2016), to stain any slide afterwards.

We differ from the paper in where the network paints, stain space, and in what a batch is: one picture, whose tiles
together look like the style. References are measured in fp32.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from chromogen.errors import choose, expected
from chromogen.image import Image
from chromogen.pixel_size import check_mpp
from chromogen.stains.light import picture_from
from chromogen.style.canvas import cut_gradients
from chromogen.style.checkpoint import Checkpoint
from chromogen.style.encoder import Encoder
from chromogen.style.kinds import PlainArchitecture
from chromogen.style.marker_network import Network, looks_of, stained_in
from chromogen.style.objective import PAIRED, Objective, Statistics, masks_asked, refers_to, term_values, total
from chromogen.style.recipes import hematoxylin_term, profile_term, style_term
from chromogen.style.rgb_network import RgbArchitecture
from chromogen.style.stainer_network import HALO_PX, TRAINED_SITES, Architecture
from chromogen.training.batch import (
    collapse_of,
    dab_correlation,
    on_device,
    paired_references,
    pictures_of,
    positive_share,
    references_of,
    statistics_of,
)
from chromogen.training.beginning import check_start, going_on, new_network
from chromogen.training.fields import Content, Field, Tile, drawn_tile, fields_of, least_side_px, split
from chromogen.training.ranks import ALONE, Ranks
from chromogen.training.running import Running
from chromogen.training.wanted import Wanted, wanted_of

WARM_UP, LAST_RATE = 0.1, 0.02  # shares of the steps, and of the rate
STANDARDIZED_ON, LOOKED_AT = 32, 8  # tiles, the second at every validation
# As trained stainers were measured: their haematoxylin may get paler than a single picture's.
OBJECTIVE: Objective = (
    replace(style_term(0.5), mask="tissue"),
    replace(style_term(0.25), name="cells", mask="cells"),
    replace(style_term(0.25), name="stroma", mask="stroma"),
    profile_term(0.5),
    hematoxylin_term(0.5),
)
LOOK_AHEAD = 10_000_000  # seeds of validation lie beyond those of steps


@dataclass(frozen=True)
class Training:
    """How a stainer is trained. `mpp` is that of contents and styles; a step sees `batch` tiles of `tile_px`.

    Every `validate_every` steps the mean network (EMA) is looked at on tiles that are not trained on, and the best
    is kept; after `patience` looks without a better one the training ends. Raises: ValueError.
    """

    objective: Objective = field(default_factory=lambda: OBJECTIVE)
    site: str = "any"
    mpp: float = 0.5
    steps: int = 400
    batch: int = 4
    tile_px: int = 128
    learning_rate: float = 0.01
    ema: float = 0.95
    seed: int = 0
    validate_every: int = 25
    patience: int = 6
    width: int = 48
    depth: int = 3
    network: str = "stain-pyramid"

    def __post_init__(self) -> None:
        choose("network", self.network, ARCHITECTURES)
        choose("site", self.site, TRAINED_SITES)
        if self.network == "rgb" and self.site != "any":
            raise expected("site", "any for a network that knows colours alone", self.site)
        least = {"steps": 1, "batch": 1, "validate_every": 1, "patience": 1, "seed": 0, "tile_px": 32}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise expected(name, f"at least {value}", getattr(self, name))
        if self.tile_px % 16:
            raise expected("tile_px", "a multiple of 16", self.tile_px)
        check_mpp("mpp", self.mpp)
        if not (0 < self.learning_rate < 1 and 0 <= self.ema < 1):
            raise expected("learning_rate and ema", "positive and below 1", asdict(self))
        if not any(term.reference == "style" and term.weight > 0 for term in self.objective):
            raise expected("objective", "at least one style term with a weight above 0", "none")


ARCHITECTURES: dict[str, Callable[[Training], PlainArchitecture]] = {
    "stain-pyramid": lambda training: Architecture(training.width, training.depth, training.site),
    "rgb": lambda _: RgbArchitecture(),
}


@dataclass(frozen=True)
class TrainStep:
    """One step: losses of its tiles before it; where it was a time to look, those of the validation tiles."""

    index: int
    of: int
    seconds: float
    loss: float
    terms: Mapping[str, float]
    rate: float
    validation: Mapping[str, float] | None = None


OnTrained: TypeAlias = Callable[[TrainStep, Callable[[], list[tuple[Image, Image]]]], None]


@dataclass(frozen=True)
class Trained:
    """The network, and how it came about; `validation` has the losses and the share of stained tissue."""

    network: Network
    steps: int
    validation: Mapping[str, float]
    validated_on: str
    collapse: str | None
    trace: tuple[TrainStep, ...]


def train_stainer(
    contents: Sequence[Content],
    styles: Sequence[Image] | Mapping[str, Sequence[Image]],
    training: Training,
    *,
    encoder: Encoder | None = None,
    on_step: OnTrained | None = None,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
    start: Network | None = None,
) -> Trained:
    """A network that stains tissue like the contents in the look of the styles, uint8 (H, W, 3) at one mpp.

    Styles by the names of several markers make one network for all of them; every step is for one, in turn.
    `on_step` is called after every step, with a function that gives validation tiles and what they become now. A
    `checkpoint` keeps on disk where the training is, and may go on from there to the same weights. Of several
    `ranks` the first alone is given either; all return the same network. `start` is a plain network to go on from.
    Raises: ValueError for contents without tissue, or too small, for no style, and for several markers with pairs
    or a start; ArithmeticError when the loss is not finite.
    """
    named = styles if isinstance(styles, Mapping) else {"": styles}
    fewest = min((len(images) for images in named.values()), default=0)
    if not (contents and fewest):
        raise expected("content and style", "at least one image each", f"{len(contents)} and {fewest}")
    if len(named) > 1 and refers_to(training.objective, PAIRED):
        raise expected("style", "of one marker: pairs are of one", ", ".join(named))
    if start:
        check_start(start.architecture, training.network, tuple(named))
    encoder = encoder or Encoder()
    if training.batch < ranks.count:
        raise expected("batch", f"at least one tile for each of {ranks.count} processes", training.batch)
    run = _begin(contents, named, training, encoder, ranks, start)
    if saved := ranks.of_first(checkpoint.load() if checkpoint else None):
        run.go_on(saved)
    while run.index < training.steps and run.looks_without_better() < training.patience:
        step = run.step()
        if on_step:
            on_step(step, run.seen)
        if checkpoint and (checkpoint.is_due or run.index == training.steps):
            checkpoint.save_if_it_can(run.state())
    return run.finished()


def _begin(
    contents: Sequence[Content],
    styles: Mapping[str, Sequence[Image]],
    training: Training,
    encoder: Encoder,
    ranks: Ranks,
    start: Network | None,
) -> Run:
    train, held, words = split(contents)
    least = least_side_px(training.tile_px)
    masks = masks_asked(training.objective)
    fields = fields_of(train, masks, training.mpp, least)
    try:
        held_fields = fields if held[0] is train[0] else fields_of(held, masks, training.mpp, least)
    except ValueError:
        held_fields, words = fields, "images that were trained on: the others show no tissue"
    sample = _sample(fields, training)
    paired = paired_references(sample, training.objective, encoder.exact)
    wanted = wanted_of(styles, training.objective, encoder.exact, training.mpp, paired)
    plain = ARCHITECTURES[training.network](training)
    network = going_on(start, wanted) if start else new_network(plain, wanted, sample, training.seed)
    held_out = Held(held_fields, words)
    return Run(network.to(encoder.device), fields, held_out, training, encoder, wanted, ranks)


def _sample(fields: Sequence[Field], training: Training) -> list[Tile]:
    """Tiles that stand for all."""
    return [
        drawn_tile(fields, training.tile_px, np.random.default_rng((training.seed, LOOK_AHEAD, i)))
        for i in range(STANDARDIZED_ON)
    ]


@dataclass(frozen=True)
class Held:
    """Fields that are validated on, and how that is said."""

    fields: Sequence[Field]
    words: str


class Run:
    """A training on its way: network, its mean over steps, optimizer, and the best yet."""

    def __init__(
        self,
        network: Network,
        fields: Sequence[Field],
        held: Held,
        training: Training,
        encoder: Encoder,
        wanted: Sequence[Wanted],
        ranks: Ranks,
    ) -> None:
        self.network, self.training, self.encoder, self.ranks = network, training, encoder, ranks
        self.fields, self.wanted, self.validated_on = fields, wanted, held.words
        self.looks = looks_of(network)
        self.mean = deepcopy(network).eval().requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), training.learning_rate, betas=(0.9, 0.99))
        self.running = [Running() for _ in wanted]
        self.index = 0
        self.trace: list[TrainStep] = []
        self.best, self.best_loss, self.best_at = _weights(self.mean), math.inf, 0
        self.held_tiles = self._tiles(held.fields, LOOK_AHEAD, max(LOOKED_AT, training.batch), plain=True)
        self._began = time.perf_counter()

    def _tiles(self, fields: Sequence[Field], number: int, count: int, *, plain: bool = False) -> list[Tile]:
        """Decided by seed and number alone, so that a resumed run draws the same."""
        rng = np.random.default_rng((self.training.seed, number))
        return [drawn_tile(fields, self.training.tile_px, rng, plain=plain) for _ in range(count)]

    def step(self) -> TrainStep:
        """Change the network once; the step is kept. Raises: ArithmeticError."""
        training = self.training
        rate = rate_at(self.index, training.steps) * training.learning_rate
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        turn = self.index % len(self.wanted)
        tiles = self._tiles(self.fields, self.index, training.batch)
        loss, values = self._losses(self.network, turn, tiles, self.encoder, self.running[turn].joined)
        if not math.isfinite(loss.item()):
            said = f"The loss is {loss.item()} at step {self.index + 1}"
            raise ArithmeticError(f"{said}; lower the learning rate, now {training.learning_rate:g}.")
        loss.backward()
        self.ranks.sum_gradients(self.network.parameters())
        cut_gradients(self.network.parameters())
        self.optimizer.step()
        _move_mean(self.mean, self.network, min(training.ema, self.index / (self.index + 10)))
        self.index += 1
        due = self.index % training.validate_every == 0 or self.index == training.steps
        took = time.perf_counter() - self._began
        terms = {name: value.item() for name, value in values.items()}
        found = self._validate() if due else None
        self.trace.append(TrainStep(self.index, training.steps, took, loss.item(), terms, rate, found))
        return self.trace[-1]

    def _losses(
        self,
        network: Network,
        turn: int,
        tiles: Sequence[Tile],
        encoder: Encoder,
        joined: Callable[[Statistics], Statistics] = dict,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the marker whose turn it is."""
        objective, ranks, wanted = self.training.objective, self.ranks, self.wanted[turn]
        stained = stained_in(network, self.looks[turn])
        pictures = ranks.all_of(pictures_of(stained, ranks.own(tiles), encoder.device), len(tiles))
        masks = [on_device(tile.masks, encoder.device) for tile in tiles]
        with torch.no_grad():
            references = references_of(tiles, wanted.target, objective, encoder.exact, wanted.style, ranks)
        measured = joined(statistics_of(pictures, masks, objective, encoder, ranks))
        values = term_values(objective, measured, references, "relative")
        return total(objective, values), values

    def _validate(self) -> dict[str, float]:
        """Losses of the mean network in fp32, on tiles that are always the same; the best is remembered."""
        each = [self._looked_at(turn) for turn in range(len(self.wanted))]
        mean = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
        mean["total"] = self.ranks.of_first(mean["total"])  # by which all end at the same step
        if mean["total"] < self.best_loss:
            self.best, self.best_loss, self.best_at = _weights(self.mean), mean["total"], self.index
        if len(each) == 1:
            return mean
        told = zip(self.wanted, each, strict=True)
        return mean | {f"{w.marker} {name}": one[name] for w, one in told for name in ("total", "stained")}

    @torch.no_grad()
    def _looked_at(self, turn: int) -> dict[str, float]:
        loss, values = self._losses(self.mean, turn, self.held_tiles, self.encoder.exact)
        stained = stained_in(self.mean, self.looks[turn])
        pictures = pictures_of(stained, self.held_tiles, self.encoder.device)
        share = positive_share(pictures, [tile.masks["tissue"] for tile in self.held_tiles])
        agrees = dab_correlation(pictures, self.held_tiles)
        losses = {"total": loss.item(), **{k: v.item() for k, v in values.items()}, "stained": share}
        return losses if agrees is None else losses | {"dab_r": agrees}

    def looks_without_better(self) -> int:
        """How often validation has found nothing better."""
        return (self.index - self.best_at) // self.training.validate_every if self.best_at else 0

    def seen(self) -> list[tuple[Image, Image]]:
        """Validation tiles and what they become, as images, the markers by turns."""
        from chromogen.image import to_uint8

        halo = slice(HALO_PX, -HALO_PX)
        found = []
        with torch.no_grad():
            for number, tile in enumerate(self.held_tiles):
                stained = stained_in(self.mean, self.looks[number % len(self.looks)])
                (made,) = pictures_of(stained, [tile], self.encoder.device)
                found.append((to_uint8(picture_from(tile.density)[..., halo, halo]), to_uint8(made)))
        return found

    def finished(self) -> Trained:
        """The best network; a warning where it has collapsed."""
        self.mean.load_state_dict(self.best)
        looked = [step.validation for step in self.trace if step.validation]
        best = min(looked, key=lambda losses: losses["total"], default={})
        collapse = self._collapse(best) if best else None
        if collapse:
            advice = "give more steps, or other styles"
            warnings.warn(f"The stainer has collapsed: {collapse}; {advice}.", stacklevel=3)
        return Trained(self.mean, self.index, best, self.validated_on, collapse, tuple(self.trace))

    def _collapse(self, found: Mapping[str, float]) -> str | None:
        shares = [(one, found.get(f"{one.marker} stained", found["stained"])) for one in self.wanted]
        said = [(one.marker, collapse_of(share, one.stained)) for one, share in shares]
        return "; ".join(f"{marker}: {what}" if marker else what for marker, what in said if what) or None

    def state(self) -> dict[str, Any]:
        """All that going on takes."""
        return {
            "network": _weights(self.network),
            "mean": _weights(self.mean),
            "best": self.best,
            "numbers": [self.index, self.best_loss if math.isfinite(self.best_loss) else None, self.best_at],
            "optimizer": self.optimizer.state_dict(),
            "running": [running.state() for running in self.running],
            "trace": [asdict(step) for step in self.trace],
        }

    def go_on(self, state: Mapping[str, Any]) -> None:
        """Take up a state, of a training like this one."""
        self.network.load_state_dict(state["network"])
        self.mean.load_state_dict(state["mean"])
        self.best = state["best"]
        self.index, best_loss, self.best_at = state["numbers"]
        self.best_loss = math.inf if best_loss is None else best_loss
        self.optimizer.load_state_dict(state["optimizer"])
        for running, was in zip(self.running, state["running"], strict=True):
            running.go_on(was)
        self.trace = [TrainStep(**step) for step in state["trace"]]
        self._began -= self.trace[-1].seconds if self.trace else 0.0


def rate_at(index: int, steps: int) -> float:
    """The share of the rate at a step: rising at first, then falling as a cosine (Loshchilov & Hutter 2017).

    >>> [round(rate_at(index, 100), 2) for index in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.51, 0.02]
    """
    rising = max(1, round(WARM_UP * steps))
    if index < rising:
        return (index + 1) / rising
    done = (index - rising) / max(1, steps - rising)
    return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2


def _weights(network: Network) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


@torch.no_grad()
def _move_mean(mean: Network, network: Network, share: float) -> None:
    """Exponential moving average of the weights."""
    for old, new in zip(mean.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - share)
