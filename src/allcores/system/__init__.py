"""What the machine says and does: cores, memory, cgroups, processes, descriptors, clocks, files of our own."""
