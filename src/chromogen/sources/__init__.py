"""Sources of *where* that a network or an optimization gives."""
