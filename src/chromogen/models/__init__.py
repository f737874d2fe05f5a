"""The models that come with Chromogen lie here; what they are called, and how a model's name ends."""

LEARNED = ("dab-cytoplasm", "dab-nuclear")
MODEL_SUFFIX = ".safetensors"
