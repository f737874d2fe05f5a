// What Bio-Formats reads of a file: `java -cp bioformats_package.jar BioFormats.java FILE FOLDER`.
// Prints the class that reads it, the pixel size in um, and "width height channels" of each level, all after "> ";
// writes the pixels of each level, RGB, to FOLDER.

import java.nio.file.Files;
import java.nio.file.Path;
import loci.common.services.ServiceFactory;
import loci.formats.ImageReader;
import loci.formats.meta.IMetadata;
import loci.formats.services.OMEXMLService;
import ome.units.UNITS;

public class BioFormats {
    public static void main(String[] given) throws Exception {
        IMetadata metadata = new ServiceFactory().getInstance(OMEXMLService.class).createOMEXMLMetadata();
        try (ImageReader reader = new ImageReader()) {
            reader.setFlattenedResolutions(false);
            reader.setMetadataStore(metadata);
            reader.setId(given[0]);
            say(reader.getReader().getClass().getSimpleName());
            say(metadata.getPixelsPhysicalSizeX(0).value(UNITS.MICROMETER));
            for (int level = 0; level < reader.getResolutionCount(); level++) {
                reader.setResolution(level);
                say(reader.getSizeX() + " " + reader.getSizeY() + " " + reader.getSizeC());
                write(reader, Path.of(given[1], level + ".raw"));
            }
        }
    }

    private static void say(Object line) {
        System.out.println("> " + line);
    }

    private static void write(ImageReader reader, Path file) throws Exception {
        int pixels = reader.getSizeX() * reader.getSizeY();
        byte[] rgb = new byte[3 * pixels];
        for (int plane = 0; plane < reader.getImageCount(); plane++) {
            byte[] read = reader.openBytes(plane);
            int samples = read.length / pixels;
            for (int i = 0; i < read.length; i++) {
                int sample = reader.isInterleaved() ? i % samples : i / pixels;
                int pixel = reader.isInterleaved() ? i / samples : i % pixels;
                rgb[3 * pixel + plane + sample] = read[i];
            }
        }
        Files.write(file, rgb);
    }
}
