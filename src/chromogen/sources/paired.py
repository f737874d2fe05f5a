"""*Where* by a model that `chromogen train --paired` made: the only source that has seen the marker."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chromogen.errors import expected
from chromogen.image import Image, resize, scaled
from chromogen.sources.predicted import where_of_dab
from chromogen.staining.maps import Array
from chromogen.staining.tissue import MPP
from chromogen.staining.where import Place
from chromogen.stains.deconvolution import optical_density_od10

TYPICAL = (
    0.4  # of the strongest DAB that a model knows: stained tissue of five IHCs had 0.34 to 0.52 in the median
)
FIGURES = ("validated_on", "validation")  # of a model's record: what its claim rests on


@dataclass(frozen=True)
class SlideSeen:
    """A slide's look for the model, which may hold arrays, with the hash that it is compared by."""

    sha256: str
    look: Any = field(compare=False)


@dataclass(frozen=True)
class ByPairs:
    """The DAB that a model predicts, coarse, from its file, which must have this hash; `read_paired` makes one.

    `matrix` are its stain vectors, `full_od10` the DAB that counts as 1; `told` is what an output says, as JSON.
    """

    file: str
    sha256: str
    blend: tuple[float, ...]
    mpp: float
    matrix: tuple[tuple[float, ...], ...]
    full_od10: float
    told: str
    name: str = "paired"
    gives_shares: bool = True

    @property
    def identity(self) -> str:
        """The model's hash, and the blend of its markers."""
        return f"paired {self.sha256} {self.blend}"

    def record(self) -> dict[str, Any]:
        """The model's claim and its held-out figures."""
        told: dict[str, Any] = json.loads(self.told)
        return told

    def measure(self, sample: Image) -> Any:
        """The slide's look, as the model has to know it."""
        from chromogen.stainer_file import look_of

        look = look_of(self.file, self.sha256, self.blend, scaled(sample, MPP / self.mpp))
        numbers = b"".join(np.asarray(value).tobytes() for value in vars(look).values())
        return SlideSeen(hashlib.sha256(numbers).hexdigest(), look)

    def __call__(self, place: Place) -> Array:
        """Predicted DAB over what the model's stained tissue has, over cells or over groups of nuclei."""
        from chromogen.stainer_file import paint

        height, width = place.image.shape[:2]
        seen, look = scaled(place.image, MPP / self.mpp), place.look.where.look
        painted = resize(paint(self.file, self.sha256, self.blend, seen, look, (0, 0)), (width, height))
        density = optical_density_od10(painted, np.array(look.white))
        dab = density @ np.linalg.inv(np.array(self.matrix))[:, 1]
        return where_of_dab(np.asarray(dab, np.float32), self.full_od10, place)


def read_paired(file: Path, marker: str | None = None) -> ByPairs:
    """The source that a model of real pairs is; of several markers, `marker` is one or a blend of them.

    Raises: ValueError for a model that was not trained on pairs, and as `read_model`; FileNotFoundError.
    """
    from chromogen.stainer_file import read_model
    from chromogen.style.marker_network import blend_of

    model = read_model(file)
    if model.training["kind"] != "paired":
        wanted = "a model that was trained on pairs, which alone knows where a marker lies"
        got = f"{str(file)!r}, trained for its style"
        raise expected("where", wanted, got, "give it as --stainer, or train one with --paired")
    blend = blend_of(marker, model.markers)
    figures = {name: model.training[name] for name in FIGURES if name in model.training}
    told = {
        "source": "paired",
        "claim": model.card()["claim"],
        "model": model.name,
        **({"markers": dict(zip(model.markers, blend, strict=True))} if blend else {}),
        **figures,
        "sha256": model.sha256,
    }
    full_od10 = TYPICAL * model.target.dab / np.log(10)
    path = str(file.absolute())
    return ByPairs(path, model.sha256, blend, model.mpp, model.target.matrix, float(full_od10), json.dumps(told))
