"""ONNX: generators trained elsewhere as stainers, and our own stainers for others to run."""
