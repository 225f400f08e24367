"""`allcores cache`: what is kept of functions' results, and its removal."""

from __future__ import annotations

import click

from allcores.cache.options import Cache
from allcores.cli.output import check_stdout, say, show, write_json
from allcores.formatting import counted, size_text
from allcores.system.terminal_text import safe_line

_HELP = """Results that are kept (`cache=` in Python): list them by function, or remove them.

They are in $ALLCORES_HOME/cache, else in allcores below $XDG_CACHE_HOME (~/.cache), unless --folder says otherwise.
"""

_folder = click.option("--folder", metavar="FOLDER", help="Where results are kept.")


@click.group("cache", help=_HELP)
def command() -> None:
    """See `_HELP`."""


@command.command("list")
@_folder
@click.option("--json", "as_machine", is_flag=True, help="Print JSON.")
def list_(folder: str | None, as_machine: bool) -> None:
    """List functions with entries, what these take, and how often they were found (hits) or computed (misses)."""
    check_stdout()
    cache = Cache(folder)
    found = cache.statistics()
    if as_machine:
        rows = [
            {"function": name, "entries": each.entries, "bytes": each.bytes, "hits": each.hits, "misses": each.misses}
            for name, each in found.functions.items()
        ]
        write_json({"folder": cache.folder, "entries": found.entries, "bytes": found.bytes, "functions": rows})
        return
    if not found.functions:
        show(f"nothing is kept in {safe_line(cache.folder)}")
        return
    lines = [f"{'entries':>9}  {'size':>9}  {'hits':>9}  {'misses':>9}  function"]
    for name, each in found.functions.items():
        size = size_text(each.bytes)
        lines.append(f"{each.entries:>9,}  {size:>9}  {each.hits:>9,}  {each.misses:>9,}  {safe_line(name)}")
    lines.append(f"{found.entries:>9,}  {size_text(found.bytes):>9}  in {safe_line(cache.folder)}")
    show("\n".join(lines))


@command.command()
@click.argument("function", required=False)
@_folder
def clear(function: str | None, folder: str | None) -> None:
    """Remove all entries, or those of FUNCTION (as `list` names it); a cache that is damaged is begun anew."""
    gone = Cache(folder).clear(function)
    say(f"{counted(gone, 'entry', 'entries')} removed")
