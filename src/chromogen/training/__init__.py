"""Training of stainers: tissue cut into tiles, their losses, and the way down."""
