"""The looks that come with Chromogen lie here; what they are called, and how files of looks and models end."""

from pathlib import Path

FOLDER = Path(__file__).parent
LOOKS = ("epithelial", "nuclear")
LOOK_SUFFIX = ".json"
LOOK_CLAIM = (
    "appearance, on the H&E's own picture; where it is stained is a guess by the tissue's nuclei, and no H&E tells"
)
MODEL_SUFFIX = ".safetensors"
ONNX_SUFFIX = ".onnx"
