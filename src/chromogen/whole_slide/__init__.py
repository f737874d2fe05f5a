"""Whole slides from reading to a finished file: surveyed, stained block by block, here or on many machines."""
