package qupath.lib.objects.hierarchy

import qupath.lib.objects.PathObject

class PathObjectHierarchy {
    final List<PathObject> objects = []

    boolean addObjects(Collection<? extends PathObject> added) { objects.addAll(added) }
}
