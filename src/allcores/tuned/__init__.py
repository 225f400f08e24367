"""Settings that were found for a function and are kept: `allcores tune` writes them, `Pool(tuned=...)` reads them.

setting.py    a setting: backend, workers, chunk, depth
holds.py      pure: whether what was found still holds, or what has changed
facts.py      what it depends on: the function's code, Python, libraries, cores, the machine
files.py      where it is kept, and whether that can be trusted
journal.py    what a search has measured so far: it goes on after a kill
use.py        what a pool is given
"""
