"""Other libraries' interfaces on allcores: each in a module of its own, which is loaded when it is asked for."""
