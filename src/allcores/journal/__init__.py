"""Remembers a long map, so that it can go on after anything: one folder per run.

    faces       open.py (begin or resume), runs.py (what runs there are), pruning.py
    a run       record.py (the loop), feed.py (what is left of the input), writer.py (the thread that commits)
    its folder  catalogue.py (SQLite), log.py (outcomes, append-only), lock.py
    its end     assembly.py (outcomes in order, for a sink that publishes them whole)
    words       options.py, identity.py, ranges.py, faults.py

docs/design.md, "The journal", tells why; docs/formats.md is the reference of the files.
"""
