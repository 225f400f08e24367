"""Other libraries' interfaces on allcores, and their clusters under its pools; each is loaded when it is asked for."""
