"""Registration: where the tissue of an H&E lies on an IHC of the same block; points and pixels by it."""
