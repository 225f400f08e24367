"""`allcores tune`: search the fastest setting for a function over an input, and keep it."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import click

from allcores.advisor.measuring.patience import PART
from allcores.cli import input_options, measured
from allcores.cli.output import check_stdout, note, reserved_stdout, say, show, write_json

#: what this command ends with, as `allcores advise` does
_CODES = {"parallel": 0, "serial": 3, "unreliable": 4}

_HELP = """Search the fastest setting for FUNCTION over items of INPUT, and keep it.

Backend, workers, chunk and depth: all are tried on some items, the better half on more, and the last few against the
loop until it is clear. What is measured is kept at once: after Ctrl-C or a kill the same command goes on. The winner is
kept for this function and machine; allcores run --tuned and Pool(tuned=function) use it, until the function's code,
Python, the cores or a library change. FUNCTION and INPUT are as for allcores run. The function is called many times on
the same items.

\b
  allcores tune work.py:measure urls.txt
  allcores tune work.py:clean big.jsonl --budget 120 --json
  allcores tune work.py:clean big.jsonl --html tuning.html
"""
_EPILOG = """\b
Exit codes:
    0  it pays, that was measured, and the setting is kept
    2  an option or the function is wrong, an input cannot be read, or what is kept cannot be trusted
    3  stay with the loop, which is kept
    4  unreliable: the machine was too busy, or the time too short, to tell; nothing is kept
    5  workers cannot be started
"""


@click.command("tune", help=_HELP, epilog=_EPILOG, context_settings={"max_content_width": 110})
@input_options.function_and_input
@input_options.budget(2, 30.0, "For everything, those before a kill included.")
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--html", metavar="FILE", help="Write it as one HTML page, too (needs the extra report).")
@click.option("--png", metavar="FILE", help="Write a picture of it, too (needs the extra picture).")
def command(**given: Any) -> int:
    """The click command; its help is above."""
    return _tune(**given)


def _tell(clause: str) -> None:
    note(f"the function {clause}. It is called many times on the same items from here on; Ctrl-C ends this.")


def _tune(
    function: str,
    inputs: tuple[str, ...],
    files: tuple[str, ...],
    format: Any,
    encoding: str,
    separator: str | None,
    budget: float,
    json: bool,
    html: str | None,
    png: str | None,
) -> int:
    began = measured.began()
    check_stdout()
    measured.check_apart({"--html": html, "--png": png})
    page = None if html is None else measured.check_page(html)
    picture = None if png is None else measured.check_picture(png)
    from allcores.advisor.tuning.tune import tune_named

    # What the function, or its module, prints is not a part of the answer.
    with reserved_stdout() as standard:
        pages = [path for path in (page, picture) if path is not None]
        patience_s = PART * (budget - (perf_counter() - began))
        reading = measured.Reading(format, encoding, separator)
        given = measured.Measured(
            function, inputs, files, reading, purpose="tuning", patience_s=patience_s, pages=pages
        )
        try:
            tuning = tune_named(
                given.fn,
                given.items,
                given.names,
                function,
                began=began,
                budget=budget,
                total=given.total,
                say=say,
                tell=_tell,
            )
        except KeyboardInterrupt:
            say("what was measured is kept: the same command goes on")
            raise
        if json:
            write_json(tuning.as_dict(), fd=standard)
    if not json:
        show(str(tuning))
    if page is not None:
        tuning.save_html(page)
        say(f"{html}: written")
    if picture is not None:
        tuning.save_png(picture)
        say(f"{png}: written")
    return _CODES[tuning.verdict]
