"""Virtual immunohistochemistry by neural style transfer. The public names; each is loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chromogen.provenance import __version__

if TYPE_CHECKING:
    from chromogen import data
    from chromogen.api import (
        StainDensities,
        StainedFile,
        evaluate,
        find_nuclei,
        list_stainers,
        stain,
        stylize,
        unmix,
    )
    from chromogen.compute.memory import give_back_freed_memory, keep_freed_memory
    from chromogen.evaluation.evaluate import Evaluation, evaluate_files
    from chromogen.image import read_image, write_image
    from chromogen.labels.label import LabelSettings, label
    from chromogen.nuclei.outlines import Nuclei
    from chromogen.registration.register import register
    from chromogen.registration.transform import Transform
    from chromogen.slides.slide import Slide, open_slide
    from chromogen.staining.looks import Look, read_look, write_look
    from chromogen.staining.stainer import Stainer, stainer_of_look
    from chromogen.style.encoder import Encoder
    from chromogen.style.measured_style import measure_style
    from chromogen.style.objective import Objective, Term
    from chromogen.style.recipes import PRESETS, Recipe
    from chromogen.style.stylize import Stylized
    from chromogen.training.fields import TissuePair, check_pair
    from chromogen.training.train import Training, train_where
    from chromogen.whole_slide.job import Output, SlideJob
    from chromogen.whole_slide.lazy import LazyPicture, lazy_slide, lazy_stain
    from chromogen.whole_slide.measured_looks import measure_look
    from chromogen.whole_slide.spatial import spatial_data
    from chromogen.whole_slide.stain import stain_slide
    from chromogen.whole_slide.view import SlideFile

_ROOMS = {
    "give_back_freed_memory": "compute.memory",
    "keep_freed_memory": "compute.memory",
    "read_image": "image",
    "write_image": "image",
    "open_slide": "slides.slide",
    "register": "registration.register",
    "label": "labels.label",
    "LabelSettings": "labels.label",
    "evaluate": "api",
    "evaluate_files": "evaluation.evaluate",
    "Evaluation": "evaluation.evaluate",
    "find_nuclei": "api",
    "Nuclei": "nuclei.outlines",
    "Transform": "registration.transform",
    "Slide": "slides.slide",
    "unmix": "api",
    "train": "api",
    "TrainedStainer": "api",
    "StainDensities": "api",
    "Encoder": "style.encoder",
    "Objective": "style.objective",
    "Term": "style.objective",
    "PRESETS": "style.recipes",
    "Recipe": "style.recipes",
    "measure_style": "style.measured_style",
    "Stylized": "style.stylize",
    "stylize": "api",
    "stain": "api",
    "StainedFile": "api",
    "list_stainers": "api",
    "Stainer": "staining.stainer",
    "stainer_of_look": "staining.stainer",
    "measure_look": "whole_slide.measured_looks",
    "Look": "staining.looks",
    "read_look": "staining.looks",
    "write_look": "staining.looks",
    "TissuePair": "training.fields",
    "check_pair": "training.fields",
    "Training": "training.train",
    "train_where": "training.train",
    "SlideFile": "whole_slide.view",
    "SlideJob": "whole_slide.job",
    "Output": "whole_slide.job",
    "stain_slide": "whole_slide.stain",
    "LazyPicture": "whole_slide.lazy",
    "lazy_slide": "whole_slide.lazy",
    "lazy_stain": "whole_slide.lazy",
    "spatial_data": "whole_slide.spatial",
}

__all__ = [
    "PRESETS",
    "Encoder",
    "Evaluation",
    "LabelSettings",
    "LazyPicture",
    "Look",
    "Nuclei",
    "Objective",
    "Output",
    "Recipe",
    "Slide",
    "SlideFile",
    "SlideJob",
    "StainDensities",
    "StainedFile",
    "Stainer",
    "Stylized",
    "Term",
    "TissuePair",
    "TrainedStainer",
    "Training",
    "Transform",
    "__version__",
    "check_pair",
    "data",
    "evaluate",
    "evaluate_files",
    "find_nuclei",
    "give_back_freed_memory",
    "keep_freed_memory",
    "label",
    "lazy_slide",
    "lazy_stain",
    "list_stainers",
    "measure_look",
    "measure_style",
    "open_slide",
    "read_image",
    "read_look",
    "register",
    "spatial_data",
    "stain",
    "stain_slide",
    "stainer_of_look",
    "stylize",
    "train",
    "train_where",
    "unmix",
    "write_image",
    "write_look",
]


def __getattr__(name: str) -> Any:
    if name == "data":
        return import_module("chromogen.data")
    if name not in _ROOMS:
        raise AttributeError(f"module 'chromogen' has no attribute {name!r}")
    return getattr(import_module(f"chromogen.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
