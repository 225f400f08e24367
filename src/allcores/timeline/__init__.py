"""Records where the cores' time went, and shows it afterwards.

while it runs   recorder.py (the observer), aggregates.py (histogram, slowest, causes), sampling.py (memory)
the file        file.py (JSON lines; docs/timeline-format.md is its reference), reader.py (read back)
afterwards      breakdown.py (where the core-seconds went), charts.py (shapes), html_report.py, perfetto.py (a trace)
"""

from allcores.timeline.recorder import Timeline

__all__ = ["Timeline"]
