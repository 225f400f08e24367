"""`allcores advise`: measure a function over an input, and say what pays."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import Any

import click

from allcores.advisor.measuring.patience import PART
from allcores.cli import input_options, measured
from allcores.cli.output import check_stdout, note, reserved_stdout, say, show, write_json

#: what this command ends with; other commands have other meanings for 3 and 4
PAYS, STAY, UNRELIABLE = 0, 3, 4
_CODES = {"parallel": PAYS, "serial": STAY, "unreliable": UNRELIABLE}

_HELP = """Measure FUNCTION over items of INPUT, and say what pays.

A loop, threads, processes or the library's own threads, with how many workers and which chunk: predicted from short
measurements, then confirmed on real items against the loop. FUNCTION and INPUT are as for allcores run. The function is
called many times, on some items more than once (see --no-repeat).

\b
  allcores advise work.py:measure urls.txt
  allcores advise work.py:clean big.jsonl --json
  allcores advise work.py:clean big.jsonl --html advice.html
"""
_EPILOG = """\b
Exit codes:
    0  it pays, and that was measured
    2  an option or the function is wrong, an input cannot be read, or the function raises
    3  stay with the loop
    4  unreliable: the machine was too busy, or the time too short, to tell
    5  workers cannot be started
"""


@click.command("advise", help=_HELP, epilog=_EPILOG, context_settings={"max_content_width": 110})
@input_options.function_and_input
@input_options.budget(1, 10.0, "For everything.")
@click.option("--repeat/--no-repeat", default=True, help="Whether an item may be called more than once (default).")
@click.option("--json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--html", metavar="FILE", help="Write it as one HTML page, too (needs the extra report).")
@click.option("--png", metavar="FILE", help="Write a picture of it, too (needs the extra picture).")
def command(**given: Any) -> int:
    """The click command; its help is above."""
    return _advise(**given)


def _advise(
    function: str,
    inputs: tuple[str, ...],
    files: tuple[str, ...],
    format: Any,
    encoding: str,
    separator: str | None,
    budget: float,
    repeat: bool,
    json: bool,
    html: str | None,
    png: str | None,
) -> int:
    began = measured.began()
    check_stdout()
    measured.check_apart({"--html": html, "--png": png})
    page = None if html is None else measured.check_page(html)
    picture = None if png is None else measured.check_picture(png)
    from allcores.advisor.advise import advise_named

    # What the function, or its module, prints is not a part of the answer.
    with reserved_stdout() as standard:
        pages = [path for path in (page, picture) if path is not None]
        patience_s = PART * (budget - (perf_counter() - began))
        reading = measured.Reading(format, encoding, separator)
        given = measured.Measured(
            function, inputs, files, reading, purpose="advice", patience_s=patience_s, pages=pages
        )
        advice = advise_named(
            given.fn,
            given.items,
            given.names,
            function,
            began=began,
            budget=budget,
            repeat=repeat,
            total=given.total,
            tell=partial(_tell, repeat),
        )
        if json:
            write_json(advice.as_dict(), fd=standard)
    if not json:
        show(str(advice))
    if page is not None:
        advice.save_html(page)
        say(f"{html}: written")
    if picture is not None:
        advice.save_png(picture)
        say(f"{png}: written")
    return _CODES[advice.verdict]


def _tell(repeat: bool, clause: str) -> None:
    more = "some of them more than once (--no-repeat calls none twice)" if repeat else "none of them twice"
    note(f"the function {clause}. It is called on many items from here on, {more}; Ctrl-C ends this.")
