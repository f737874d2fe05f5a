package qupath.lib.objects

import java.awt.geom.AffineTransform

class PathClass {
    String name
}

class ROI {
    List<List<Double>> points

    double getBoundsX() { points*.getAt(0).min() }

    double getBoundsY() { points*.getAt(1).min() }

    double getBoundsWidth() { points*.getAt(0).max() - boundsX }

    double getBoundsHeight() { points*.getAt(1).max() - boundsY }
}

class PathObject {
    String kind
    ROI roi
    PathClass pathClass
    Map<String, Number> measurements = [:]

    ROI getROI() { roi }

    PathClass getPathClass() { pathClass }
}

class PathObjectTools {
    static PathObject transformObject(
            PathObject pathObject, AffineTransform transform, boolean copyMeasurements, boolean createNewIDs) {
        def points = pathObject.roi.points.collect { point ->
            double[] to = new double[2]
            transform.transform(point as double[], 0, to, 0, 1)
            to as List<Double>
        }
        new PathObject(kind: pathObject.kind, roi: new ROI(points: points), pathClass: pathObject.pathClass,
            measurements: copyMeasurements ? pathObject.measurements : [:])
    }
}
