"""A finished virtual stain with more or less of it: what needs no new run."""

from __future__ import annotations

import numpy as np

from chromogen.image import Image, resize
from chromogen.stains.deconvolution import H_DAB, combine_stains, optical_density, separate_stains


def adjusted(he: Image, result: Image, strength: float, dab_amount: float) -> Image:
    """Between the H&E (strength 0) and the result (1), with `dab_amount` times its DAB; uint8 (H, W, 3).

    Optical densities are mixed, as light passes them. DAB is that of the H-DAB vectors, where a run with
    `--dab-amount` takes the style's own: close to it, not equal.
    """
    if dab_amount != 1:
        concentrations = separate_stains(result, H_DAB)
        concentrations[..., 1] = np.where(
            concentrations[..., 1] > 0, concentrations[..., 1] * dab_amount, concentrations[..., 1]
        )
        result = combine_stains(concentrations, H_DAB)
    if strength == 1:
        return result
    began = resize(he, (result.shape[1], result.shape[0]))
    density = (1 - strength) * optical_density(began) + strength * optical_density(result)
    return np.asarray(np.rint(256 * np.exp(-density) - 1).clip(0, 255), np.uint8)
