package qupath.fx.dialogs

class Dialogs {
    static final List<String> SHOWN = []

    static void showErrorMessage(String title, String message) { SHOWN << message }
}
