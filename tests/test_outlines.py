import numpy as np

from chromogen.nuclei.outlines import DIRECTIONS, Nuclei, joined, labels_of, no_nuclei


def circles(centres: list[tuple[float, float]], radii_px: list[float], mpp: float = 0.5) -> Nuclei:
    at = np.array(centres, np.float32)
    outlines = at[:, None] + np.array(radii_px, np.float32)[:, None, None] * DIRECTIONS
    return Nuclei(at, outlines, np.linspace(0.9, 0.6, len(at)).astype(np.float32), mpp)


def test_areas_are_those_of_polygons_in_um2() -> None:
    regular = 0.5 * 32 * np.sin(2 * np.pi / 32)  # of a polygon of 32 corners in a unit circle
    np.testing.assert_allclose(circles([(20, 30)], [8], mpp=0.25).areas_um2, regular * 8**2 * 0.25**2, rtol=1e-5)


def test_labels_cover_the_pixels_whose_centres_lie_inside() -> None:
    labels = labels_of(circles([(10, 12), (30, 12)], [5, 6]), (24, 40))
    y, x = np.indices(labels.shape) + 0.5
    inside = np.hypot(x - 10, y - 12) < 5 * 0.99
    assert (labels[inside] == 1).all()
    assert set(np.unique(labels)) == {0, 1, 2}
    assert (labels[np.hypot(x - 10, y - 12) > 5] != 1).all()


def test_the_more_confident_nucleus_lies_on_top() -> None:
    labels = labels_of(circles([(10, 10), (14, 10)], [6, 6]), (20, 30))
    assert labels[10, 12] == 1


def test_nuclei_move_between_frames_with_their_areas() -> None:
    nuclei = circles([(10, 12), (30, 12)], [5, 6], mpp=0.5)
    fine = nuclei.moved((100, 50), scale=2)
    np.testing.assert_allclose(fine.centres_px, nuclei.centres_px * 2 + (100, 50))
    np.testing.assert_allclose(fine.areas_um2, nuclei.areas_um2, rtol=1e-5)
    assert fine.mpp == 0.25


def test_parts_are_joined_in_order() -> None:
    first, second = circles([(1, 2)], [3]), circles([(4, 5), (6, 7)], [3, 3])
    both = joined([first, no_nuclei(0.5), second], 0.5)
    assert both.centres_px.tolist() == [[1, 2], [4, 5], [6, 7]]
    assert len(both.take(np.array([False, True, True]))) == 2
    assert len(joined([], 0.5)) == 0
    assert labels_of(no_nuclei(0.5), (3, 4)).shape == (3, 4)


def test_labels_are_those_of_a_polygon_fill_one_by_one() -> None:
    """Of outlines with dents, over each other, and beyond the border of the picture."""
    from skimage.draw import polygon

    rng = np.random.default_rng(0)
    centres = rng.uniform(-20, 100, (60, 2)).astype(np.float32)
    radii = rng.uniform(3, 20, (60, 32, 1)).astype(np.float32)
    confidence = rng.random(60).astype(np.float32)
    nuclei = Nuclei(centres, centres[:, None] + radii * DIRECTIONS, confidence, 0.5)
    wanted = np.zeros((70, 90), np.int32)
    for index in np.argsort(nuclei.confidence):
        x, y = (nuclei.outlines_px[index] - 0.5).T
        wanted[polygon(y, x, wanted.shape)] = index + 1
    np.testing.assert_array_equal(labels_of(nuclei, wanted.shape), wanted)
