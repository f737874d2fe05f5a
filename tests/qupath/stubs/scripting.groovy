package qupath.lib.scripting

import groovy.json.JsonOutput
import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.projects.Project

class QP {
    static ImageData<BufferedImage> imageData
    static Project<BufferedImage> project
    static PathObject selected

    static ImageData<BufferedImage> getCurrentImageData() { imageData }

    static Project<BufferedImage> getProject() { project }

    static PathObject getSelectedObject() { selected }

    static Collection<PathObject> getAnnotationObjects() { imageData.hierarchy.objects.findAll { it.kind == 'annotation' } }

    static void exportObjectsToGeoJson(Collection<? extends PathObject> objects, String path, String option, String... more) {
        assert option == 'FEATURE_COLLECTION'
        def features = objects.collect {
            [type: 'Feature', id: UUID.randomUUID().toString(), geometry: [type: 'Polygon', coordinates: [it.roi.points]],
             properties: [objectType: it.kind, classification: [name: it.pathClass.name, color: [200, 0, 0]]]]
        }
        new File(path).text = JsonOutput.toJson([type: 'FeatureCollection', features: features])
    }
}
