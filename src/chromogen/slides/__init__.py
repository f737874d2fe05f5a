"""Slides: whole-slide images and plain pictures read by one face, in level-0 pixels."""
