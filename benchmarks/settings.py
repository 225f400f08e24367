"""How much of everything a run does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from benchmarks import contenders
from benchmarks.processes import Host
from benchmarks.quiet import Quiet


@dataclass(frozen=True)
class Settings:
    """Options of one run.

    quick: everything small; shows that the scripts work, its figures mean little.
    rounds: turns that each contender gets in a row.
    wanted: contenders to measure besides the baselines; None for all that are installed.
    quiet: looks at what else the machine does, and waits if asked to.
    workers: in the pools of the rows that do not say otherwise.
    only: names of rows, or of their files, that were asked for; None for all.
    """

    quick: bool = False
    rounds: int = 5
    wanted: tuple[str, ...] | None = None
    workers: int = 2
    quiet: Quiet = field(default_factory=Quiet)
    only: frozenset[str] | None = None

    def wants(self, *names: str) -> bool:
        """Whether a row was asked for, by its name or its file's."""
        return self.only is None or not self.only.isdisjoint(names)

    def size(self, full: int, quick: int) -> int:
        """`full`, or `quick` in a quick run."""
        return quick if self.quick else full

    def names(self, *baselines: str, without: tuple[str, ...] = ()) -> list[str]:
        """Contenders to measure: allcores, the installed peers, then the baselines asked for."""
        chosen = [name for name in contenders.names() if self.wanted is None or name in self.wanted]
        return [name for name in chosen if name not in without] + list(baselines)

    def say(self, text: str) -> None:
        """News for whoever watches; the results go to standard output."""
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def hosts(self, names: list[str], workers: int | None = None) -> Iterator[dict[str, Host]]:
        """A program per contender, all of them alive until the row is done."""
        with ExitStack() as stack:
            yield {name: stack.enter_context(Host(name, workers or self.workers)) for name in names}
