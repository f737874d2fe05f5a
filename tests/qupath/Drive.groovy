// Runs the script as QuPath would: `Drive SCRIPT SLIDE PROJECT ANNOTATIONS MODE [ARG...]`, and prints what became of it.

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import javafx.application.Platform
import javafx.scene.control.ButtonType
import javafx.scene.control.DialogPane
import javafx.stage.Window
import qupath.fx.dialogs.Dialogs
import qupath.lib.gui.QuPathGUI
import qupath.lib.gui.tools.GuiTools
import qupath.lib.images.ImageData
import qupath.lib.images.servers.FileServer
import qupath.lib.io.PathIO
import qupath.lib.projects.Project
import qupath.lib.scripting.QP

def (script, slide, project, annotations, mode) = args[0..4]
def words = args.drop(5)
QP.imageData = slide == '-' ? null : new ImageData(new FileServer(new File(slide)))
QP.project = project == '-' ? null : new Project(folder: new File(project))
if (annotations != '-') {
    QP.imageData.hierarchy.addObjects(PathIO.readObjects(new File(annotations)))
    QP.selected = mode.contains('select') ? QP.annotationObjects.first() : null
}
if (mode.contains('window')) {
    QuPathGUI.instance = new QuPathGUI()
    GuiTools.typed = words ? new JsonSlurper().parseText(words[0]) : null
    Platform.startup { }
    Platform.setImplicitExit(false)
    if (mode.contains('cancel'))
        Thread.startDaemon { pressCancel() }
    words = []
}

/** Press the button of the dialog as soon as there is one. */
void pressCancel() {
    boolean pressed = false
    while (!pressed) {
        sleep(50)
        Platform.runLater {
            def pane = Window.getWindows().collect { it.scene.root }.find { it instanceof DialogPane }
            def button = pressed ? null : pane?.lookupButton(ButtonType.CANCEL)
            button?.fire()
            pressed = pressed || button != null
        }
    }
}

String error = null
try {
    new GroovyShell(new Binding(args: words as String[])).evaluate(new File(script))
} catch (IllegalStateException problem) {
    error = problem.message
}
Closure objects = { data ->
    data.hierarchy.objects.collect {
        [kind: it.kind, 'class': it.pathClass?.name, points: it.roi.points, measurements: it.measurements]
    }
}
def entries = QP.project?.entries?.collect {
    [name: it.imageName, type: it.saved?.type as String, thumbnail: it.thumbnail != null,
     objects: it.saved ? objects(it.saved) : null, file: it.saved ? it.saved.server.file.path : null]
}
println 'RESULT ' + JsonOutput.toJson(
    [error: error, shown: Dialogs.SHOWN, entries: entries, synced: QP.project?.synced,
     he: QP.imageData ? objects(QP.imageData) : null, refreshed: QuPathGUI.instance?.refreshed])
System.out.flush()
System.exit(0)
