"""`allcores trace`: a recorded timeline for Perfetto and chrome://tracing."""

from __future__ import annotations

import click

from allcores.cli.output import say
from allcores.cli.recorder import place, shown


@click.command("trace")
@click.argument("timeline")
@click.option("-o", "--output", metavar="OUT", default="trace.json", show_default=True, help="File to (over)write.")
@click.option("--session", type=int, metavar="N", help="Of a run that was resumed; default: the last one.")
@click.option("--runs-dir", metavar="FOLDER", help="Where runs are kept; default: as allcores runs tells.")
def command(timeline: str, output: str, session: int | None, runs_dir: str | None) -> None:
    """Turn TIMELINE (of `allcores run --timeline`, or a run's name) into a trace for ui.perfetto.dev."""
    from allcores.timeline.perfetto import save_trace

    path, others = place(timeline, runs_dir, session)
    with shown(path, output) as recording:
        save_trace(recording, output)
    say(f"{output}: open it in https://ui.perfetto.dev or chrome://tracing.{others}")
