"""`allcores report`: a recorded timeline as one HTML file."""

from __future__ import annotations

import click

from allcores.cli.exits import CommandError
from allcores.cli.output import say
from allcores.cli.recorder import place, shown


@click.command("report")
@click.argument("timeline")
@click.option("-o", "--output", metavar="OUT", default="report.html", show_default=True, help="File to (over)write.")
@click.option("--session", type=int, metavar="N", help="Of a run that was resumed; default: the last one.")
@click.option("--runs-dir", metavar="FOLDER", help="Where runs are kept; default: as allcores runs tells.")
def command(timeline: str, output: str, session: int | None, runs_dir: str | None) -> None:
    """Show where the cores' time went: TIMELINE (of `allcores run --timeline`, or a run's name) as one HTML file."""
    from allcores.timeline.breakdown import breakdown

    path, others = place(timeline, runs_dir, session)
    with shown(path, output) as recording:
        try:
            from allcores.timeline.html_report import save_report

            save_report(recording, output)
        except ImportError as error:
            raise CommandError(str(error)) from None
        summed = breakdown(recording)
    part = f"{100 * summed.efficiency:.0f} %"
    say(f"{output}: {part} of the {summed.whose} time was spent in the function. {summed.limit}{others}")
