package qupath.lib.gui

class QuPathGUI {
    static QuPathGUI instance
    boolean refreshed

    static QuPathGUI getInstance() { instance }

    void refreshProject() { refreshed = true }
}
