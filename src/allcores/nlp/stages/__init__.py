"""The stages that allcores brings along, a file each; `catalogue` has them by name."""
