package qupath.lib.io

import groovy.json.JsonSlurper
import qupath.lib.objects.PathClass
import qupath.lib.objects.PathObject
import qupath.lib.objects.ROI

class PathIO {
    static final Set<String> KINDS = ['annotation', 'detection', 'cell', 'tile', 'tmaCore', 'root']

    /** GeoJSON by QuPath's rules: features with an objectType, a classification by name, numbers as measurements. */
    static List<PathObject> readObjects(File file) {
        def json = new JsonSlurper().parse(file)
        assert json.type == 'FeatureCollection'
        json.features.collect { feature ->
            assert feature.type == 'Feature'
            assert feature.properties.objectType in KINDS
            assert feature.geometry.type in ['Polygon', 'MultiPolygon', 'Point']
            if (feature.id != null)
                UUID.fromString(feature.id)
            def name = feature.properties.classification?.name
            Map<String, Number> measurements = feature.properties.measurements ?: [:]
            assert measurements.values().every { it instanceof Number }
            def outline = feature.geometry.type == 'Polygon' ? feature.geometry.coordinates[0] : feature.geometry.coordinates[0][0]
            assert outline.first() == outline.last()
            new PathObject(kind: feature.properties.objectType, roi: new ROI(points: outline as List<List<Double>>),
                pathClass: name == null ? null : new PathClass(name: name), measurements: measurements)
        }
    }
}
