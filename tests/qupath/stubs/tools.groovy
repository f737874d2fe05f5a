package qupath.lib.gui.tools

import qupath.lib.plugins.parameters.ParameterList

class GuiTools {
    /** What the person of the test types into the dialog; null: the person cancels. */
    static Map<String, Object> typed = [:]

    static boolean showParameterDialog(String title, ParameterList parameters) {
        if (typed == null)
            return false
        assert parameters.values.keySet().containsAll(typed.keySet())
        parameters.values.putAll(typed)
        true
    }
}
