/*
 * Stain the open H&E by Chromogen: a virtual IHC, for research only and never for diagnosis.
 *
 * In QuPath: open a project and an H&E, select a rectangle or nothing (then the whole image), and run this script
 * (Automate, Script editor). Without a window:
 *
 *     QuPath script --project my.qpproj --image slide.svs --args stainer=nuclear --args share=0.3 chromogen.groovy
 *
 * The stained image becomes a project entry with the annotations of the H&E. Its nuclei become detections, in the
 * entry and in the H&E. Annotations with a class can decide where the stain lies.
 *
 * For QuPath 0.5 and 0.6, with Chromogen on this computer: pip install chromogen.
 * SPDX-License-Identifier: MIT
 */

import java.awt.geom.AffineTransform
import java.awt.image.BufferedImage
import groovy.transform.Field
import javafx.application.Platform
import javafx.concurrent.Task
import javafx.concurrent.Worker
import javafx.scene.control.ButtonType
import org.controlsfx.dialog.ProgressDialog
import qupath.fx.dialogs.Dialogs
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.commands.ProjectCommands
import qupath.lib.gui.prefs.PathPrefs
import qupath.lib.gui.tools.GuiTools
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.ImageServerProvider
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjectTools
import qupath.lib.plugins.parameters.ParameterList
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.projects.Projects
import qupath.lib.scripting.QP

@Field static final String TITLE = 'Chromogen'
@Field static final List<Worker.State> ENDED = [Worker.State.SUCCEEDED, Worker.State.FAILED, Worker.State.CANCELLED]
@Field static final List<String> DIALS = ['share', 'intensity', 'counterstain']

try {
    stainOpenImage(args as List<String>)
} catch (IllegalStateException error) {
    if (isHeadless())
        throw error
    Dialogs.showErrorMessage(TITLE, error.message)
}

/** Ask what to do, stain the image, find nuclei, and bring both back. */
void stainOpenImage(List<String> args) {
    ImageData<BufferedImage> he = QP.getCurrentImageData()
    require(he != null, 'No image is open. Open an H&E, then run the script again.')
    Project<BufferedImage> project = QP.getProject()
    require(project != null, 'No project is open. Make a project with the H&E, then run the script again.')
    File slide = fileOf(he.getServer())
    Map<String, String> options = isHeadless() ? defaults() + given(args) : asked()
    if (options == null)
        return

    List<Integer> region = regionOf(QP.getSelectedObject(), he.getServer())
    List<PathObject> annotations = QP.getAnnotationObjects().findAll { it.getPathClass() != null }
    File out = newFile(folderOf(project), slide, options, region)
    File regions = null
    if (options.where == 'annotations') {
        require(!annotations.isEmpty(), 'No annotation has a class. Give classes to annotations, or choose where=tissue.')
        regions = new File(out.path - '.ome.tif' + '_regions.geojson')
        QP.exportObjectsToGeoJson(annotations, regions.path, 'FEATURE_COLLECTION')
    }

    chromogen(stainCommand(options, slide, out, region, mppOf(he.getServer()), regions), options.program)
    ProjectImageEntry<BufferedImage> entry = addToProject(project, out, "${slide.name} ${nameOf(options.stainer)} (virtual)")
    ImageData<BufferedImage> stained = entry.readImageData()
    AffineTransform toHe = toSlide(stained.getServer(), he.getServer(), region)
    stained.setImageType(ImageData.ImageType.BRIGHTFIELD_H_DAB)
    stained.getHierarchy().addObjects(moved(annotations, toHe.createInverse()))

    if (options.nuclei == 'true') {
        File folder = new File(out.path - '.ome.tif' + '_nuclei')
        chromogen(['nuclei', out.path, '-o', folder.path, '--stains', 'h-dab'], options.program)
        List<PathObject> nuclei = PathIO.readObjects(new File(folder, out.name - '.ome.tif' + '.geojson'))
        stained.getHierarchy().addObjects(nuclei)
        he.getHierarchy().addObjects(moved(nuclei, toHe))
    }
    entry.saveImageData(stained)
    stained.getServer().close()
    project.syncChanges()
    if (!isHeadless())
        QuPathGUI.getInstance().refreshProject()
    println "${TITLE}: ${entry.getImageName()} is in the project. Research use only, not for diagnosis."
}

/** What a script without a window takes: `name=value`, one for each option. */
Map<String, String> given(List<String> args) {
    args.collectEntries { String arg ->
        require(arg.contains('='), "Expected name=value, got ${arg}; names are ${defaults().keySet().join(', ')}.")
        String name = arg.substring(0, arg.indexOf('='))
        require(defaults().containsKey(name), "No option is called ${name}; names are ${defaults().keySet().join(', ')}.")
        [name, arg.substring(arg.indexOf('=') + 1)]
    }
}

/** Every option as it is when nobody says otherwise; an empty dial keeps Chromogen's own. */
Map<String, String> defaults() {
    [program: 'chromogen', stainer: 'epithelial', style: '', share: '', intensity: '', counterstain: '',
     where: 'tissue', level: '', nuclei: 'true']
}

/** The options as a person chose them in a dialog; null if the person cancelled. */
Map<String, String> asked() {
    def program = PathPrefs.createPersistentPreference('chromogenProgram', 'chromogen')
    def dialog = new ParameterList()
        .addTitleParameter('Virtual IHC, for research only')
        .addStringParameter('program', 'Chromogen', program.get(), 'The command, or the path of the chromogen program')
        .addStringParameter('stainer', 'Stainer', 'epithelial', 'epithelial, nuclear, normalize, or a file by chromogen train')
        .addStringParameter('style', 'Reference IHC', '', 'An IHC image or slide whose look to give, instead of the stainer')
        .addStringParameter('share', 'Share of positive nuclei', '', '0 to 1. Empty: as in the reference IHC')
        .addStringParameter('intensity', 'Strength of DAB', '', '0 to 4. Empty: 1')
        .addStringParameter('counterstain', 'Strength of haematoxylin', '', '0 to 4. Empty: 1')
        .addChoiceParameter('where', 'Where the stain lies', 'tissue', ['tissue', 'annotations'],
            'A guess by the tissue, or your annotations that have a class')
        .addStringParameter('level', 'Levels of classes', '', 'Tumor=0.9; Stroma=0: strength of the stain in each class')
        .addBooleanParameter('nuclei', 'Find nuclei', true, 'Nuclei become detections, positive or negative')
    if (!GuiTools.showParameterDialog(TITLE, dialog))
        return null
    Map<String, String> chosen = defaults().collectEntries { name, value -> [name, textOf(dialog, name)] }
    program.set(chosen.program)
    chosen
}

/** What a field of the dialog holds, as text. */
String textOf(ParameterList dialog, String name) {
    switch (name) {
        case 'where': return dialog.getChoiceParameterValue(name)
        case 'nuclei': return String.valueOf(dialog.getBooleanParameterValue(name))
        default: return dialog.getStringParameterValue(name).trim()
    }
}

/** The words after `chromogen` that stain the slide, or a region of it. */
List<String> stainCommand(Map<String, String> options, File slide, File out, List<Integer> region, double mpp, File regions) {
    List<String> words = ['stain', slide.path, '-o', out.path]
    words += options.style ? ['--style', options.style] : ['--stainer', options.stainer]
    DIALS.findAll { options[it] }.each { words += ["--${it}".toString(), options[it]] }
    if (regions != null)
        words += ['--where', regions.path]
    options.level.split(';')*.trim().findAll { it }.each { words += ['--level', it] }
    if (!Double.isNaN(mpp))
        words += ['--mpp', String.valueOf(mpp)]
    if (region != null)
        words += ['--region', region.join(',')]
    words
}

/** Run a command of Chromogen until it ends, and show how far it is. */
void chromogen(List<String> words, String program) {
    println "${TITLE}: ${program} ${words.join(' ')}"
    if (isHeadless()) {
        follow(program, words, { double part, String line -> println line }, { false })
        return
    }
    def task = new Task<Void>() {
        protected Void call() {
            follow(program, words, { double part, String line -> updateProgress(part, 1); updateMessage(line) }, { isCancelled() })
            null
        }
    }
    def thread = new Thread(task, TITLE)
    Closure show = {
        def window = new ProgressDialog(task)
        window.setTitle(TITLE)
        window.setHeaderText("chromogen ${words[0]}".toString())
        window.getDialogPane().getButtonTypes().add(ButtonType.CANCEL)
        window.setOnCloseRequest {
            if (!(task.getState() in ENDED))  // it closes itself as well, when the work is done
                task.cancel(false)
        }
        thread.start()
        window.showAndWait()
    }
    Platform.isFxApplicationThread() ? show() : Platform.runLater(show)
    try {
        task.get()
    } catch (java.util.concurrent.ExecutionException error) {
        throw error.cause
    } catch (java.util.concurrent.CancellationException ignored) {
        throw new IllegalStateException('Cancelled. The same choices continue where it stopped.')
    }
}

/** Start the program, hand on its lines, and end it when the person cancels. */
void follow(String program, List<String> words, Closure report, Closure isCancelled) {
    def builder = new ProcessBuilder([program] + words).redirectErrorStream(true)
    builder.environment().put('CHROMOGEN_PROGRESS_S', '1')
    Process process
    try {
        process = builder.start()
    } catch (IOException error) {
        throw new IllegalStateException("Cannot run ${program}. Install Chromogen (pip install chromogen), or give the path of its program.")
    }
    process.outputStream.close()
    String error = null
    process.inputStream.eachLine('UTF-8') { String line ->
        def progress = line =~ /^Progress: .*: ([0-9.e+]+)\/([0-9.e+]+)/
        boolean counted = progress.find()
        if (line.startsWith('Error: '))
            error = line.substring('Error: '.length())
        double part = counted ? (progress.group(1) as double) / (progress.group(2) as double) : -1
        report(part, counted ? "${progress.group(1)} of ${progress.group(2)}".toString() : line)
        if (isCancelled() || Thread.currentThread().isInterrupted())
            process.destroy()
    }
    int status = process.waitFor()
    require(!isCancelled(), 'Cancelled. The same choices continue where it stopped.')
    require(status == 0, error ?: "chromogen ${words[0]} ended with status ${status}.")
}

/** Add a file to the project, with a thumbnail. */
ProjectImageEntry<BufferedImage> addToProject(Project<BufferedImage> project, File file, String name) {
    def support = ImageServerProvider.getPreferredUriImageSupport(BufferedImage, file.toURI().toString())
    require(support != null && !support.getBuilders().isEmpty(), "QuPath cannot read ${file}.")
    ProjectImageEntry<BufferedImage> entry = project.addImage(support.getBuilders()[0])
    entry.setImageName(name)
    entry.readImageData().getServer().withCloseable { ImageServer<BufferedImage> server ->
        entry.setThumbnail(ProjectCommands.getThumbnailRGB(server))
    }
    entry
}

/** From pixels of the stained image to level-0 pixels of the H&E, by their sizes. */
AffineTransform toSlide(ImageServer<BufferedImage> stained, ImageServer<BufferedImage> he, List<Integer> region) {
    List<Integer> window = region ?: [0, 0, he.getWidth(), he.getHeight()]
    def transform = AffineTransform.getTranslateInstance(window[0], window[1])
    transform.scale(window[2] / (double) stained.getWidth(), window[3] / (double) stained.getHeight())
    transform
}

/** Copies of objects in another image's pixels, with their measurements and classes. */
List<PathObject> moved(Collection<PathObject> objects, AffineTransform transform) {
    objects.collect { PathObjectTools.transformObject(it, transform, true, true) }
}

/** x, y, width and height of the selection within the image, in level-0 pixels; null where nothing is selected. */
List<Integer> regionOf(PathObject selected, ImageServer<BufferedImage> server) {
    def roi = selected?.getROI()
    if (roi == null)
        return null
    int left = Math.max(0, Math.floor(roi.getBoundsX()) as int)
    int top = Math.max(0, Math.floor(roi.getBoundsY()) as int)
    int right = Math.min(server.getWidth(), Math.ceil(roi.getBoundsX() + roi.getBoundsWidth()) as int)
    int bottom = Math.min(server.getHeight(), Math.ceil(roi.getBoundsY() + roi.getBoundsHeight()) as int)
    require(right > left && bottom > top, 'The selection lies outside the image.')
    [left, top, right - left, bottom - top]
}

/** The file of an image. */
File fileOf(ImageServer<BufferedImage> server) {
    URI uri = server.getURIs().find { it.scheme == 'file' }
    require(uri != null, 'Chromogen reads files on this computer; this image is none.')
    new File(uri.path)
}

/** um per pixel as QuPath takes it; NaN where QuPath knows none. */
double mppOf(ImageServer<BufferedImage> server) {
    def calibration = server.getPixelCalibration()
    calibration.hasPixelSizeMicrons() ? calibration.getAveragedPixelSizeMicrons().doubleValue() : Double.NaN
}

/** Where the stained images of a project lie. */
File folderOf(Project<BufferedImage> project) {
    File folder = new File(Projects.getBaseDirectory(project), 'chromogen')
    folder.mkdirs()
    folder
}

/** A file that is not there yet, so that no earlier image is replaced; an interrupted one is continued. */
File newFile(File folder, File slide, Map<String, String> options, List<Integer> region) {
    String place = region == null ? '' : '_' + region.join('_')
    String name = slide.name.replaceFirst(/(\.ome)?\.[^.]+$/, '') + '_' + nameOf(options.style ?: options.stainer) + place
    (1..10000).collect { new File(folder, it == 1 ? "${name}.ome.tif" : "${name}_${it}.ome.tif") }.find { !it.exists() }
}

/** The name of a stainer, without folders and suffix. */
String nameOf(String stainer) {
    new File(stainer).name.replaceFirst(/\.[^.]+$/, '')
}

boolean isHeadless() {
    QuPathGUI.getInstance() == null
}

void require(boolean holds, String message) {
    if (!holds)
        throw new IllegalStateException(message)
}
