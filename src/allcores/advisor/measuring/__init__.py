"""The measurements: each takes a function, items and seconds, and returns what it found."""
