package qupath.lib.gui.commands

import java.awt.image.BufferedImage
import qupath.lib.images.servers.ImageServer

class ProjectCommands {
    static BufferedImage getThumbnailRGB(ImageServer<BufferedImage> server) {
        new BufferedImage(8, 8, BufferedImage.TYPE_INT_RGB)
    }
}
