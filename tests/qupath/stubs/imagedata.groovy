package qupath.lib.images

import qupath.lib.images.servers.ImageServer
import qupath.lib.objects.hierarchy.PathObjectHierarchy

class ImageData<T> {
    enum ImageType { BRIGHTFIELD_H_E, BRIGHTFIELD_H_DAB }

    final ImageServer<T> server
    final PathObjectHierarchy hierarchy = new PathObjectHierarchy()
    ImageType type

    ImageData(ImageServer<T> server) { this.server = server }

    ImageServer<T> getServer() { server }

    PathObjectHierarchy getHierarchy() { hierarchy }

    void setImageType(ImageType type) { this.type = type }
}
