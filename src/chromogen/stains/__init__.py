"""Colour as a pathologist means it: tissue, stains and the matching of one image's colours to another's."""
