"""The command line: one file per command, beside what they share.

main.py (the `allcores` group), run.py, doctor.py; target.py finds functions by name, output.py writes for
people and machines, exits.py says how a command ended.
"""
