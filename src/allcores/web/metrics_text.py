"""Counts of jobs as Prometheus reads them: text, made without its library."""

from __future__ import annotations

from allcores.jobs.model import Counts, State
from allcores.web.supervision import Seen


def _label(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def as_text(counts: Counts, seen: Seen) -> str:
    """The text format, version 0.0.4."""
    lines = [
        "# HELP allcores_jobs Jobs in the store, by task and state.",
        "# TYPE allcores_jobs gauge",
    ]
    for task, by_state in sorted(counts.by_task.items()):
        for state in State:
            lines.append(f'allcores_jobs{{task="{_label(task)}",state="{state.value}"}} {by_state.get(state, 0)}')
    lines += [
        "# HELP allcores_jobs_delayed Queued jobs whose time has not come.",
        "# TYPE allcores_jobs_delayed gauge",
        f"allcores_jobs_delayed {counts.delayed}",
        "# HELP allcores_jobs_stored_bytes What arguments, results, errors and result files take.",
        "# TYPE allcores_jobs_stored_bytes gauge",
        f"allcores_jobs_stored_bytes {counts.bytes}",
        "# HELP allcores_supervisor_up Whether a process runs the jobs of this store.",
        "# TYPE allcores_supervisor_up gauge",
        f"allcores_supervisor_up {int(seen.alive)}",
    ]
    return "\n".join(lines) + "\n"
