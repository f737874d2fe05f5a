"""The report's experiments and claims, and the study that runs and judges them."""
