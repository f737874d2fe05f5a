"""The network that says *where*, trained by plain regression on levels of DAB, each blur as far as trusted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor

from chromogen.compute.devices import choose_device
from chromogen.errors import choose, expected
from chromogen.image import Image
from chromogen.staining.exemplar import SITES, Exemplar
from chromogen.staining.tissue import MPP
from chromogen.staining.where_network import AROUND_CELLS, CELLS, MAPS, Architecture, WhereNetwork
from chromogen.stains.deconvolution import blurred
from chromogen.style.checkpoint import Checkpoint
from chromogen.training.distributed import ALONE, Ranks
from chromogen.training.fields import BLURS_CELLS, BLURS_PX, MIN_COVER, CheckedPair, Field, fields_of

WARM_UP, LAST_RATE = 0.1, 0.02  # shares of the steps, and of the rate
WEIGHT_DECAY = 1e-3
JITTER = 0.12  # standard deviation of the logarithm of what the network sees of a stain, as labs vary
FIGURES = tuple(f"dab_r_{sigma * MPP:g}um" for sigma in BLURS_PX)
RANKED = 1  # of BLURS_PX: where ranks are compared


@dataclass(frozen=True)
class Training:
    """How the network is trained; a step sees `batch` pairs, or pieces of large ones.

    `site` is what the marker stains: nuclear, cytoplasm, or auto. Every `validate_every` steps the network is
    judged on pairs that are not trained on, and the best is kept; after `patience` times without a better one the
    training ends. Raises: ValueError.
    """

    site: str = "auto"
    steps: int = 300
    batch: int = 4
    learning_rate: float = 0.01
    seed: int = 0
    validate_every: int = 25
    patience: int = 6
    width: int = 32
    depth: int = 2

    def __post_init__(self) -> None:
        choose("site", self.site, ("auto", *SITES))
        for name, value in {"steps": 1, "batch": 1, "validate_every": 1, "patience": 1, "seed": 0}.items():
            if getattr(self, name) < value:
                raise expected(name, f"at least {value}", getattr(self, name))
        if not 0 < self.learning_rate < 1:
            raise expected("learning_rate", "positive and below 1", self.learning_rate)
        Architecture(self.width, self.depth)


@dataclass(frozen=True)
class TrainStep:
    """What a step was; `validation` has the loss and the figures of pairs that are not trained on, if asked."""

    index: int
    of: int
    seconds: float
    loss: float
    learning_rate: float
    validation: dict[str, float] | None = None


Shown: TypeAlias = Callable[[], list[tuple[Image, Image, Image]]]
OnTrained: TypeAlias = Callable[[TrainStep, Shown], None]


@dataclass(frozen=True)
class Trained:
    """The best network, the look of the pairs' IHC, and what validation found on what."""

    network: WhereNetwork
    exemplar: Exemplar
    steps: int
    validation: Mapping[str, float]
    validated_on: str
    trace: tuple[TrainStep, ...]


def train_where(
    pairs: Sequence[CheckedPair],
    training: Training | None = None,
    *,
    start: WhereNetwork | None = None,
    on_step: OnTrained | None = None,
    checkpoint: Checkpoint | None = None,
    ranks: Ranks = ALONE,
    device: str = "auto",
) -> Trained:
    """Learn *where* from checked pairs at MPP (`check_pair`); `start` is a network to go on from.

    `on_step` is given every step, and a function that shows H&E, levels expected and levels found of the pairs
    validated on. All processes of `ranks` return the same network.
    Raises: ValueError for pairs without tissue or stain; ArithmeticError when the loss is not finite.
    """
    training = training or Training()
    if training.batch < ranks.count:
        raise expected("batch", f"at least one pair for each of {ranks.count} processes", training.batch)
    train, held, words, exemplar = fields_of(pairs, training.site)
    network = _begun(train, training, start).to(choose_device(device))
    run = TrainingRun(network, train, held, training, ranks)
    if saved := ranks.of_first(checkpoint.load() if checkpoint else None):
        run.load_state_dict(saved)
    if checkpoint:
        checkpoint.interrupts.hold()
    while run.index < training.steps and run.looks_without_better() < training.patience:
        step = run.step()
        if on_step:
            on_step(step, run.shown)
        if checkpoint and (checkpoint.is_due or run.index == training.steps):
            checkpoint.save_if_it_can(run.state_dict())
            checkpoint.interrupts.stop_if_asked()
    run.network.load_state_dict(run.best)
    looked = [step.validation for step in run.trace if step.validation]
    best = min(looked, key=lambda found: found["loss"], default={})
    return Trained(run.network.eval(), exemplar, run.index, best, words, tuple(run.trace))


def _begun(fields: Sequence[Field], training: Training, start: WhereNetwork | None) -> WhereNetwork:
    """A network that knows how the tissue's features vary and how much is stained; or a copy of `start`."""
    if start:
        network = WhereNetwork(start.architecture)
        network.load_state_dict(start.state_dict())
        return network.requires_grad_(True)
    with torch.random.fork_rng():
        torch.manual_seed(training.seed)
        network = WhereNetwork(Architecture(training.width, training.depth))
    features = torch.cat([field.features.flatten(2) for field in fields], 2)
    weights = torch.cat([field.weights.flatten() for field in fields])
    levels = torch.cat([field.levels.flatten() for field in fields])
    mean = float(((levels * weights).sum() / weights.sum().clamp_min(1e-6)).clamp(0.01, 0.99))
    with torch.no_grad():
        network.mean.copy_(features.mean(2, keepdim=True).unsqueeze(3))
        network.std.copy_(features.std(2, keepdim=True).unsqueeze(3).clamp_min(1e-3))
        network.body[-1].bias.fill_(math.log(mean / (1 - mean)))  # type: ignore[operator]
    return network


def expected_levels(network: WhereNetwork, field: Field, features: Tensor) -> Tensor:
    """Levels (1, L, h, w) that the network expects at each blur, over what can be stained."""
    device = network.mean.device
    fine = F.interpolate(network(features.to(device)), scale_factor=CELLS, mode="bilinear").cpu()
    found = torch.cat([blurred(fine * field.stainable, sigma) for sigma in BLURS_CELLS], 1)
    return found / field.covers.clamp_min(MIN_COVER)


class TrainingRun:
    """A training on its way: the network, its optimizer, and the best yet."""

    def __init__(
        self,
        network: WhereNetwork,
        fields: Sequence[Field],
        held: Sequence[Field],
        training: Training,
        ranks: Ranks,
    ) -> None:
        self.network, self.fields, self.held = network, fields, held
        self.training, self.ranks = training, ranks
        self.optimizer = torch.optim.AdamW(network.parameters(), training.learning_rate, weight_decay=WEIGHT_DECAY)
        self.index = 0
        self.trace: list[TrainStep] = []
        self.best, self.best_loss, self.best_at = _weights(network), math.inf, 0
        self._began = time.perf_counter()

    def step(self) -> TrainStep:
        """Change the network once; the step is kept. Raises: ArithmeticError."""
        training = self.training
        rate = rate_at(self.index, training.steps) * training.learning_rate
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.zero_grad()
        rng = np.random.default_rng((training.seed, self.index))  # so that a resumed run draws the same
        drawn = _drawn(self.fields, training.batch, rng)
        gains = [_gains(rng) for _ in drawn]
        whole = sum(float(field.weights.sum()) for field in drawn)
        losses = [
            self._loss(field, field.features * gain) / max(whole, 1e-6)
            for field, gain in self.ranks.own(list(zip(drawn, gains, strict=True)))
        ]
        nothing = sum(parameter.sum() for parameter in self.network.parameters()) * 0.0  # a share may be empty
        loss = torch.as_tensor(sum(losses, nothing))
        loss.backward()
        self.ranks.sum_gradients(self.network.parameters())
        total = float(self.ranks.summed(loss.detach().clone()))
        if not math.isfinite(total):
            said = f"The loss is {total} at step {self.index + 1}"
            raise ArithmeticError(f"{said}; lower the learning rate, now {training.learning_rate:g}.")
        self.optimizer.step()
        self.index += 1
        due = self.index % training.validate_every == 0 or self.index == training.steps
        took = time.perf_counter() - self._began
        found = self._validate() if due else None
        self.trace.append(TrainStep(self.index, training.steps, took, total, rate, found))
        return self.trace[-1]

    def _loss(self, field: Field, features: Tensor) -> Tensor:
        wrong = expected_levels(self.network, field, features) - field.levels
        return (field.weights * wrong.square()).sum()

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """The loss on pairs that are not trained on, and how the levels there agree; the best is remembered."""
        whole = sum(float(field.weights.sum()) for field in self.held)
        levels = [expected_levels(self.network, field, field.features) for field in self.held]
        wrong = zip(levels, self.held, strict=True)
        loss = sum(float((f.weights * (ours - f.levels).square()).sum()) for ours, f in wrong) / max(whole, 1e-6)
        loss = self.ranks.of_first(loss)  # by which all end at the same step
        if loss < self.best_loss:
            self.best, self.best_loss, self.best_at = _weights(self.network), loss, self.index
        return {"loss": loss, **validation_agreement(levels, self.held)}

    def looks_without_better(self) -> int:
        """How often validation has found nothing better."""
        return (self.index - self.best_at) // self.training.validate_every if self.best_at else 0

    @torch.no_grad()
    def shown(self) -> list[tuple[Image, Image, Image]]:
        """H&E of the pairs validated on, levels that are expected, and those of their IHC; 2 um to a pixel."""
        found = []
        for field in self.held:
            expects = self.network(field.features.to(self.network.mean.device)).cpu()
            fine = F.interpolate(expects, scale_factor=CELLS, mode="bilinear")[0, 0]
            real = field.levels[0, -1] * (field.weights[0, -1] > 0)
            found.append((field.he, _grey(fine), _grey(real)))
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that going on takes."""
        return {
            "network": _weights(self.network),
            "best": self.best,
            "numbers": [self.index, self.best_loss if math.isfinite(self.best_loss) else None, self.best_at],
            "optimizer": self.optimizer.state_dict(),
            "trace": [asdict(step) for step in self.trace],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state, of a training like this one."""
        self.network.load_state_dict(state["network"])
        self.best = state["best"]
        self.index, best_loss, self.best_at = state["numbers"]
        self.best_loss = math.inf if best_loss is None else best_loss
        self.optimizer.load_state_dict(state["optimizer"])
        self.trace = [TrainStep(**step) for step in state["trace"]]
        self._began -= self.trace[-1].seconds if self.trace else 0.0


def _drawn(fields: Sequence[Field], count: int, rng: np.random.Generator) -> list[Field]:
    """Different fields at random, at most so many; the more likely the more they teach."""
    weights = np.array([float(field.weights.sum()) for field in fields]) + 1e-9
    many = min(count, len(fields))
    return [fields[at] for at in rng.choice(len(fields), many, replace=False, p=weights / weights.sum())]


def _gains(rng: np.random.Generator) -> Tensor:
    """Factors (1, FEATURES, 1, 1) of what is seen, as another batch of stains would give."""
    gains = torch.from_numpy(np.exp(rng.normal(0, JITTER, MAPS)).astype(np.float32))
    return gains.repeat(1 + len(AROUND_CELLS)).view(1, -1, 1, 1)


def validation_agreement(levels: Sequence[Tensor], fields: Sequence[Field]) -> dict[str, float]:
    """How levels (1, L, h, w) agree with those of IHC: FIGURES, Pearson's r at each blur, and `dab_rank_r`.

    The last is Spearman's, at 4 um. What is not defined, as where nothing is stained, is left out.
    """
    trusted = [field.weights > 0 for field in fields]
    found = {}
    for at, name in enumerate(FIGURES):
        ours = np.concatenate([x[0, at][t[0, at]].numpy() for x, t in zip(levels, trusted, strict=True)])
        real = np.concatenate([f.levels[0, at][t[0, at]].numpy() for f, t in zip(fields, trusted, strict=True)])
        if len(ours) < 2 or min(ours.std(), real.std()) < 1e-6:
            continue
        found[name] = float(np.corrcoef(ours, real)[0, 1])
        if at == RANKED:
            found["dab_rank_r"] = float(np.corrcoef(rankdata(ours), rankdata(real))[0, 1])
    return found


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


def _grey(level: Tensor) -> Image:
    """A level (h, w) as a picture, from white at 0 to black at 1."""
    grey = (255 * (1 - level.clamp(0, 1))).round().to(torch.uint8).numpy()
    return np.repeat(grey[..., None], 3, 2)


def _weights(network: WhereNetwork) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}
