"""Find nuclei in a picture."""

from __future__ import annotations

import numpy as np

from chromogen.image import Image
from chromogen.nuclei.outlines import RAYS, Nuclei, no_nuclei


def find_nuclei(image: Image, mpp: float) -> Nuclei:
    """TEMPORARY: a threshold; the network replaces it."""
    from skimage.measure import find_contours, regionprops
    from skimage.morphology import remove_small_objects
    from skimage.segmentation import watershed
    from scipy import ndimage as ndi

    density = -np.log10((image + 1.0) / 256)
    fine = ndi.gaussian_filter(density.max(axis=2), 0.75 / mpp)
    excess = fine - ndi.gaussian_filter(fine, 16 / mpp)
    mask = remove_small_objects(ndi.binary_opening(excess > 0.06), int(12 / mpp**2))
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1 / mpp)
    seeds = ndi.label((distance == ndi.maximum_filter(distance, round(5 / mpp))) & mask)[0]
    labels = watershed(-distance, seeds, mask=mask)
    out = []
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    for region in regionprops(labels):
        y, x = region.centroid
        radii = np.full(RAYS, np.sqrt(region.area / np.pi))
        contours = find_contours(np.pad(region.image, 1).astype(float), 0.5)
        points = max(contours, key=len)[:, ::-1] - 1 + np.array(region.bbox[1::-1]) - (x, y)
        at = np.arctan2(points[:, 1], points[:, 0]) % (2 * np.pi)
        order = np.argsort(at)
        radii = np.interp(angles, at[order], np.hypot(*points.T)[order], period=2 * np.pi)
        out.append(((x + 0.5, y + 0.5), radii))
    if not out:
        return no_nuclei(mpp)
    centres = np.array([centre for centre, _ in out], np.float32)
    radii_px = np.array([radii for _, radii in out], np.float32)
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return Nuclei(centres, centres[:, None] + radii_px[..., None] * rays, np.ones(len(out), np.float32), mpp)
