"""`allcores chat compare`: the same work done in several ways, each in a process of its own, with the same rows."""
