"""Remembers a long map, so that it can go on after anything: one folder per run.

    verb        verb.py (what Pool.run does), folders.py (which runs there are, and when old ones go)
    a run       record.py (opened, mapped, published), work.py (what is to be done, and who looks on)
    its input   feed.py, keyed.py (what is left of it), identity.py (is it the same work?)
    its folder  writer.py (the thread that commits), log.py (outcomes, append-only), catalogue.py (SQLite), lock.py
    its end     assembly.py (outcomes in order, for a sink that publishes them whole)
    words       options.py, ranges.py, faults.py

docs/design.md, "The journal", tells why; docs/formats.md is the reference of the files.
"""
