"""Regions that people draw and maps that they make, read from files: polygons, masks, heat maps."""
