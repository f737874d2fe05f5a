"""Models of pairs in files: the network that says *where*, the look of the pairs' IHC, and what a reader asks.

A safetensors file, never a pickle. Its header holds one JSON text under HEADER.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chromogen.errors import expected, missing, short
from chromogen.files import write_whole
from chromogen.models import MODEL_SUFFIX
from chromogen.provenance import NOTICE, versions
from chromogen.staining.looks import UNREADABLE, Look, look_of_record, record_of_look
from chromogen.staining.tissue import MPP
from chromogen.staining.where_network import Architecture, WhereNetwork

FORMAT = 1
HEADER, OLD_HEADER = "chromogen-where", "chromogen-stainer"
CLAIM = (
    "where the marker lies in tissue like that of its pairs, as far as these taught it and no finer than they "
    "fit; not which single cell expresses it"
)
WANTED = "a model that chromogen train --paired wrote"
MAX_WEIGHTS = 50_000_000


@dataclass(frozen=True)
class Model:
    """A network as data, the look of its pairs' IHC, and what it was trained on.

    `training` is its record: steps, losses, pairs. `data` names what it was trained on, files by their SHA-256
    alone. Raises: ValueError for weights that are not finite.
    """

    name: str
    architecture: Architecture
    weights: Mapping[str, Tensor] = field(repr=False)
    look: Look = field(repr=False)
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    software: Mapping[str, str] = field(default_factory=versions)
    notice: str = NOTICE

    def __post_init__(self) -> None:
        if not all(bool(weight.isfinite().all()) for weight in self.weights.values()):
            raise expected("weights", "finite", "some that are not", "train it anew")

    @property
    def facts(self) -> dict[str, Any]:
        """All but the weights, as JSON has it."""
        named = {name: getattr(self, name) for name in _FACTS}
        told = {**named, "architecture": asdict(self.architecture), "look": record_of_look(self.look)}
        facts: dict[str, Any] = json.loads(json.dumps(told))
        return facts

    @property
    def sha256(self) -> str:
        """The hash of facts and weights: what the file says, and so what it answers."""
        digest = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode())
        for name, weight in sorted(self.weights.items()):
            digest.update(f"{name} {list(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def claim(self) -> str:
        """What the model may claim, and what that rests on."""
        return f"{CLAIM}: {self.training['evidence']}" if "evidence" in self.training else CLAIM

    def network(self) -> WhereNetwork:
        """The network. Raises: ValueError where the weights are another's."""
        made = WhereNetwork(self.architecture)
        try:
            made.load_state_dict(dict(self.weights))
        except RuntimeError as error:
            raise expected("weights", f"those of {self.architecture}", short(error)) from error
        return made.eval().requires_grad_(False)

    def card(self) -> dict[str, Any]:
        """What `chromogen info` says."""
        count = sum(weight.numel() for weight in self.weights.values())
        look = {name: getattr(self.look, name) for name in ("target_stain", "source", "licence", "sha256")}
        told = {**self.facts, "look": {**look, "site": self.look.exemplar.site, "doubts": list(self.look.doubts)}}
        said = {"format": FORMAT, "sha256": self.sha256, "parameters": count, "claim": self.claim, "mpp": MPP}
        return {**told, "target_stain": self.look.target_stain, **said}


_FACTS = ("name", "training", "data", "software", "notice")


def write_model(path: Path, model: Model) -> None:
    """Write a model as .safetensors. Raises: ValueError for another suffix, OSError where it cannot be written."""
    check_suffix(path)
    said = json.dumps({"format": FORMAT, "sha256": model.sha256, "facts": model.facts})
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.weights.items()}
    write_whole(path, save(weights, {HEADER: said}))


def check_suffix(path: Path) -> None:
    """ValueError for what is no name of a model."""
    if path.suffix != MODEL_SUFFIX:
        raise expected("model", f"a name ending in {MODEL_SUFFIX}", path)


def read_model(path: Path) -> Model:
    """Read a model and check it.

    Raises: FileNotFoundError; ValueError where a file is no model of pairs, of another version, truncated, or not
    as it was written.
    """
    if not path.is_file():
        raise missing("model", "an existing file", path, "name a file that `chromogen train` wrote")
    said, weights = _read(path)
    if said.get("format") != FORMAT:
        got = f"format {said.get('format')!r} in {str(path)!r}"
        raise expected("model", f"of format {FORMAT}", got, "a newer chromogen may read it")
    model = _model(path, said, weights)
    if model.sha256 != said.get("sha256"):
        raise expected("model", "as it was written", f"{str(path)!r}, which was changed or damaged", "get it anew")
    model.network()
    return model


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, "pt") as opened:
            told = opened.metadata() or {}
            if HEADER not in told and OLD_HEADER in told:
                raise expected("model", WANTED, f"{str(path)!r} of an older kind", "train it anew on pairs")
            said = json.loads(told.get(HEADER, "null"))
            weights = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise expected("model", WANTED, f"{str(path)!r}, which is none, or truncated") from error
    if not isinstance(said, dict) or sum(weight.numel() for weight in weights.values()) > MAX_WEIGHTS:
        raise expected("model", WANTED, f"{str(path)!r}, which holds something else")
    return said, weights


def _model(path: Path, said: Mapping[str, Any], weights: dict[str, Tensor]) -> Model:
    try:
        facts = said["facts"]
        architecture = Architecture(**facts["architecture"])
        look = look_of_record(dict(facts["look"]))
        return Model(
            architecture=architecture, look=look, weights=weights, **{name: facts[name] for name in _FACTS}
        )
    except UNREADABLE as error:
        raise expected("model", f"{WANTED}, whole", f"{str(path)!r} ({short(error)})", "get it anew") from error


def trained_weights(network: WhereNetwork) -> dict[str, Tensor]:
    """What of a network goes into a model, in float32 on the CPU."""
    return {k: v.detach().to("cpu").float().clone() for k, v in network.state_dict().items()}
