package qupath.lib.gui.prefs

import javafx.beans.property.SimpleStringProperty
import javafx.beans.property.StringProperty

class PathPrefs {
    static final Map<String, StringProperty> KEPT = [:]

    static StringProperty createPersistentPreference(String name, String value) {
        KEPT.computeIfAbsent(name) { new SimpleStringProperty(value) }
    }
}
