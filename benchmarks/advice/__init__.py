"""How true the advisor's words are, and what they cost: rows for `make bench ARGS='--only advice'`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.rows import Row
    from benchmarks.settings import Settings


def rows(settings: Settings) -> list[Row]:
    """Those of `measured`."""
    # Each workload's own process imports this package, and none of what measures.
    from benchmarks.advice.measured import rows as measured

    return measured(settings)
