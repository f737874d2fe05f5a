import numpy as np
import pytest

from chromogen.evaluation import scores as module
from chromogen.evaluation.scores import tiles


def test_tiles_cover_every_pixel_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CORE_PX", 64)
    image = np.arange(150 * 200 * 3, dtype=np.uint32).reshape(150, 200, 3).astype(np.uint8)
    covered = np.zeros((150, 200), int)
    for tile in tiles(image, image, None, mpp=2.0):
        core = tile.core(tile.prediction)
        x, y = tile.location
        covered[y : y + core.shape[0], x : x + core.shape[1]] += 1
        assert np.array_equal(core, image[y : y + core.shape[0], x : x + core.shape[1]])
    assert (covered == 1).all()
