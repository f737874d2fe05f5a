package qupath.lib.plugins.parameters

class ParameterList {
    final Map<String, Object> values = [:]

    ParameterList addTitleParameter(String title) { this }

    ParameterList addStringParameter(String key, String prompt, String value, String help) { put(key, value) }

    ParameterList addBooleanParameter(String key, String prompt, boolean value, String help) { put(key, value) }

    def <S> ParameterList addChoiceParameter(String key, String prompt, S value, List<S> choices, String help) { put(key, value) }

    private ParameterList put(String key, Object value) {
        values[key] = value
        this
    }

    String getStringParameterValue(String key) { values[key] as String }

    Boolean getBooleanParameterValue(String key) { values[key] as Boolean }

    Object getChoiceParameterValue(String key) { values[key] }
}
