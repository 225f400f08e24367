"""How far a map is: the time left, and a bar that shows it. Below pools, which show one if asked to."""
