"""Records where the cores' time went, and shows it afterwards.

while it runs   recorder.py (the observer), tally.py (histogram, slowest, causes), sampling.py (memory)
the file        file.py (JSON lines; docs/timeline-format.md is its reference), recording.py (read back)
afterwards      account.py (where the core-seconds went), pictures.py (shapes), report.py (HTML), trace.py
"""

from allcores.timeline.recorder import Timeline

__all__ = ["Timeline"]
