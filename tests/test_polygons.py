import numpy as np
from shapely.geometry import GeometryCollection, LineString, MultiPolygon, Point, Polygon, box

from chromogen.regions.geojson import centres_inside, polygons_in


def test_centres_decide_and_the_order_of_polygons_does_not() -> None:
    square = box(1.4, 1.4, 3.6, 3.6)
    inside = centres_inside([square], (5, 5))
    assert np.argwhere(inside).tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]]
    assert np.array_equal(centres_inside([square], (4, 4), location=(1, 1)), inside[1:, 1:])
    ring, island = Polygon(box(0, 0, 9, 9).exterior, [box(2, 2, 7, 7).exterior]), box(4, 4, 5, 5)
    for polygons in ([ring, island], [island, ring]):
        assert centres_inside(polygons, (9, 9)).sum() == 81 - 25 + 1


def test_polygons_are_found_however_nested() -> None:
    square = box(0, 0, 2, 2)
    nested = GeometryCollection([Point(1, 1), LineString([(0, 0), (1, 1)]), MultiPolygon([square]), Polygon()])
    assert polygons_in(nested) == [square]
