"""The science: features, statistics, distances, objectives, and the optimization of an image under them."""
