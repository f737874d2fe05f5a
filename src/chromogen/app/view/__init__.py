"""What the local web app is made of: slides by id, tiles, densities, numbers of regions, trials, and the guard."""
