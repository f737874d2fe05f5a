// Signatures of QuPath 0.5 (qupath-core), with just enough behind them to run our script.
package qupath.lib.images.servers

import java.awt.image.BufferedImage

interface PixelCalibration {
    boolean hasPixelSizeMicrons()

    Number getAveragedPixelSizeMicrons()
}

interface ServerBuilder<T> {
    ImageServer<T> build()
}

interface ImageServer<T> extends AutoCloseable {
    Collection<URI> getURIs()

    int getWidth()

    int getHeight()

    PixelCalibration getPixelCalibration()
}

class UriImageSupport<T> {
    List<ServerBuilder<T>> builders = []

    List<ServerBuilder<T>> getBuilders() { builders }
}

class ImageServerProvider {
    /** What the test says of a file: width, height and um per pixel, in `FILE.facts`. */
    static <T> UriImageSupport<T> getPreferredUriImageSupport(Class<T> cls, String path, String... args) {
        File file = new File(new URI(path).path)
        new UriImageSupport<T>(builders: file.exists() ? [{ -> new FileServer(file) } as ServerBuilder<T>] : [])
    }
}

class FileServer implements ImageServer<BufferedImage>, PixelCalibration {
    final File file
    final int width
    final int height
    final double mpp

    FileServer(File file) {
        this.file = file
        def process = [System.getProperty('python'), System.getProperty('facts'), file.path].execute()
        def words = process.text.trim().split(' ')
        assert process.waitFor() == 0
        (width, height) = [words[0] as int, words[1] as int]
        mpp = words[2] as double
    }

    Collection<URI> getURIs() { [file.toURI()] }

    PixelCalibration getPixelCalibration() { this }

    boolean hasPixelSizeMicrons() { !Double.isNaN(mpp) }

    Number getAveragedPixelSizeMicrons() { mpp }

    void close() { }
}
