"""Stainers in files: the weights of a network with all that a stain job needs and a reader asks.

A safetensors file, never a pickle. Its header holds one JSON text under `chromogen-stainer`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chromogen.errors import expected, missing, short
from chromogen.files import write_whole
from chromogen.grid import Window
from chromogen.image import Image
from chromogen.models import MODEL_SUFFIX
from chromogen.provenance import NOTICE, versions
from chromogen.style.kinds import Look, PlainNetwork, kind_of
from chromogen.style.marker_network import (
    AnyArchitecture,
    Blend,
    Network,
    architecture_from,
    built,
    chosen,
    markers_of,
)
from chromogen.style.slide_densities import Target

FORMAT = 2  # the newest; the first kind of network is still written as others have read it
FORMATS = {"stain-pyramid": 1}
HEADER = "chromogen-stainer"
ATTRIBUTION = (
    "Trained with the losses of VGG19 (Simonyan & Zisserman 2014), whose weights are Oxford VGG's, CC BY 4.0; "
    "they are not part of this file."
)
CLAIMS = {
    "style": "appearance only: it does not know which cells express a marker; where the brown lies means nothing",
    "paired": "where the marker lies in tissue like that of its pairs, as far as these taught it and no finer "
    "than they fit; not which single cell expresses it",
}
MOST_WEIGHTS = 50_000_000


@dataclass(frozen=True)
class Model:
    """A network as data, with what it was trained for and on.

    `training` is its record: `kind` (one of `CLAIMS`), steps, losses, objective. `data` names what it was trained
    on, files by their SHA-256 alone. Raises: ValueError where they do not go together.
    """

    name: str
    target_stain: str
    mpp: float
    architecture: AnyArchitecture
    target: Target
    weights: Mapping[str, Tensor] = field(repr=False)
    training: Mapping[str, Any] = field(default_factory=lambda: {"kind": "style"})
    data: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=versions)
    attribution: str = ATTRIBUTION
    notice: str = NOTICE

    def __post_init__(self) -> None:
        if not (isinstance(self.mpp, int | float) and math.isfinite(self.mpp) and self.mpp > 0):
            raise expected("mpp", "a positive number of um/px", self.mpp)
        strengths = (self.target.hematoxylin, self.target.dab, self.target.dab_offset)
        numbers = [*(x for row in self.target.matrix for x in row), *strengths]
        if len(numbers) != 12 or not all(map(math.isfinite, numbers)):
            raise expected("target", "stain vectors (3, 3) and two strengths", self.target)
        if not all(bool(weight.isfinite().all()) for weight in self.weights.values()):
            raise expected("weights", "finite", "some that are not", "train it anew")
        if self.training.get("kind") not in CLAIMS:
            raise expected("kind of training", f"one of {', '.join(CLAIMS)}", self.training.get("kind"))

    @property
    def facts(self) -> dict[str, Any]:
        """All but the weights, as JSON has it."""
        named = {k: getattr(self, k) for k in _FACTS} | {k: asdict(getattr(self, k)) for k in _PARTS}
        if not self.target.dab_offset:
            del named["target"]["dab_offset"]  # files from before there was one have none
        facts: dict[str, Any] = json.loads(json.dumps(named))
        return facts

    @property
    def sha256(self) -> str:
        """The hash of facts and weights: what the file says, and so what it paints."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode())
        for name, weight in sorted(self.weights.items()):
            digest.update(f"{name} {list(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def format(self) -> int:
        """That of the oldest chromogen that can read it."""
        return FORMAT if self.target.dab_offset else FORMATS.get(self.architecture.kind, FORMAT)

    @property
    def markers(self) -> tuple[str, ...]:
        """What it can be told to stain; none where it has one look."""
        return markers_of(self.architecture)

    def network(self) -> Network:
        """The network. Raises: ValueError where the weights are another's."""
        made = built(self.architecture, self.target)
        try:
            made.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise expected("weights", f"those of {self.architecture}", short(error)) from error
        return made.eval().requires_grad_(False)

    def card(self) -> dict[str, Any]:
        """What `chromogen info` says."""
        count = sum(weight.numel() for weight in self.weights.values())
        claim = claim_of(self.training)
        return {**self.facts, "format": self.format, "sha256": self.sha256, "parameters": count, "claim": claim}


def claim_of(training: Mapping[str, Any]) -> str:
    """What a model may claim by how it was trained, and what that rests on."""
    claim = CLAIMS[training["kind"]]
    return f"{claim}: {training['evidence']}" if training["kind"] == "paired" and "evidence" in training else claim


_PARTS = ("architecture", "target")
_FACTS = ("name", "target_stain", "mpp", "training", "data", "software", "attribution", "notice")


def write_model(path: Path, model: Model) -> None:
    """Write a model as .safetensors. Raises: ValueError for another suffix, OSError where it cannot be written."""
    check_suffix(path)
    said = json.dumps({"format": model.format, "sha256": model.sha256, "facts": model.facts})
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.weights.items()}
    write_whole(path, save(weights, {HEADER: said}))


def check_suffix(path: Path) -> None:
    """ValueError for what is no name of a model."""
    if path.suffix != MODEL_SUFFIX:
        raise expected("model", f"a name ending in {MODEL_SUFFIX}", path)


def read_model(path: Path) -> Model:
    """Read a model and check it.

    Raises: FileNotFoundError; ValueError where a file is no stainer, newer than this version, truncated, or not as
    it was written.
    """
    if not path.is_file():
        raise missing("model", "an existing file", path, "name a file that `chromogen train` wrote")
    said, weights = _read(path)
    if said.get("format") not in range(1, FORMAT + 1):
        got = f"format {said.get('format')!r} in {str(path)!r}"
        raise expected("model", f"of format 1 to {FORMAT}", got, "a newer chromogen may read it")
    model = _model(path, said, weights)
    if model.sha256 != said.get("sha256"):
        raise expected("model", "as it was written", f"{str(path)!r}, which was changed or damaged", "get it anew")
    model.network()
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as opened:
            said = json.loads((opened.metadata() or {})[HEADER])
            weights = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, KeyError, ValueError, TypeError, RecursionError) as error:
        what = (
            "which is none, or truncated" if isinstance(error, SafetensorError) else "which holds something else"
        )
        raise expected("model", "a stainer that chromogen train wrote", f"{str(path)!r}, {what}") from error
    if not isinstance(said, dict) or sum(weight.numel() for weight in weights.values()) > MOST_WEIGHTS:
        raise expected(
            "model", "a stainer that chromogen train wrote", f"{str(path)!r}, which holds something else"
        )
    return said, weights


def _model(path: Path, said: Mapping[str, Any], weights: dict[str, Tensor]) -> Model:
    try:
        facts = said["facts"]
        target = facts["target"]
        matrix = tuple(tuple(map(float, row)) for row in target["matrix"])
        return Model(
            architecture=architecture_from(facts["architecture"]),
            target=Target(
                matrix, float(target["hematoxylin"]), float(target["dab"]), float(target.get("dab_offset", 0.0))
            ),
            weights=weights,
            **{name: facts[name] for name in _FACTS},
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise expected("model", "a stainer with all its facts", f"{str(path)!r}, which lacks {error}") from error


def paint(file: str, sha256: str, blend: Blend, image: Image, look: Look, _location: tuple[int, int]) -> Image:
    """The image, uint8 (H, W, 3), by the model in a file, which must still have this hash."""
    network = _network(file, sha256, blend)
    return kind_of(network.architecture).stain(network, image, look)


def look_of(file: str, sha256: str, blend: Blend, sample: Image) -> Look:
    """What the model must know of a slide, from uint8 (H, W, 3) of its tissue."""
    network = _network(file, sha256, blend)
    look: Look = kind_of(network.architecture).look(network, sample)
    return look


def paint_part(file: str, sha256: str, blend: Blend, image: Image, look: Look, part: Window) -> Image:
    """A window of the painted image."""
    network = _network(file, sha256, blend)
    return kind_of(network.architecture).stain(network, image, look, part)


@lru_cache(maxsize=4)
def _network(file: str, sha256: str, blend: Blend) -> PlainNetwork:
    """Read once a process. Raises: ValueError where the file is another by now."""
    model = read_model(Path(file))
    if model.sha256 != sha256:
        raise expected(
            "model", f"the one with hash {sha256[:12]}", model.sha256[:12], "do not change it under way"
        )
    return chosen(model.network(), blend)


def trained_weights(network: Network) -> dict[str, Tensor]:
    """What of a network goes into a model, in float32 on the CPU."""
    return {k: v.detach().to("cpu", torch.float32).clone() for k, v in network.state_dict().items()}
