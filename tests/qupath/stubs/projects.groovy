package qupath.lib.projects

import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ServerBuilder

class ProjectImageEntry<T> {
    ServerBuilder<T> builder
    String imageName
    BufferedImage thumbnail
    ImageData<T> saved

    String getImageName() { imageName }

    void setImageName(String name) { imageName = name }

    void setThumbnail(BufferedImage picture) { thumbnail = picture }

    ImageData<T> readImageData() { saved ?: new ImageData<T>(builder.build()) }

    void saveImageData(ImageData<T> data) { saved = data }
}

class Project<T> {
    File folder
    boolean synced
    final List<ProjectImageEntry<T>> entries = []

    ProjectImageEntry<T> addImage(ServerBuilder<T> server) {
        entries << new ProjectImageEntry<T>(builder: server)
        entries.last()
    }

    void syncChanges() { synced = true }
}

class Projects {
    static File getBaseDirectory(Project<?> project) { project.folder }
}
