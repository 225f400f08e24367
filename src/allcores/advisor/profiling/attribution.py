"""How much of a program's time passed within each site: samples and source brought together."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, field

from allcores.advisor.profiling.records import Code, Fact, Observation, Place, ProcessRecord, Stack
from allcores.advisor.profiling.sites import Site, SourceFile

#: a place in the program's own code: file, line and function
Caller = tuple[str, int, str]
#: files of libraries that run work elsewhere: who waits in one has handed the work on
PARALLEL = (
    "multiprocessing/",
    "concurrent/futures/",
    "joblib/",
    "loky/",
    "threading.py",
    "/ray/",
    "/dask/",
    "allcores/",
)


@dataclass
class SiteTime:
    """What was sampled within one site, in the main thread of the program; times in seconds.

    `wanted` is what it spent ready to run without a core: not in `seconds`, which are its own. `again` are those of its
    seconds in which its function was called in a `while`, or by itself.
    """

    site: Site
    #: how many sites are around it, at least
    level: int = 99
    samples: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    native: float = 0.0
    wanted: float = 0.0
    held: int = 0
    held_long: int = 0
    released: int = 0
    elsewhere: float = 0.0
    again: float = 0.0
    callers: Counter[Caller] = field(default_factory=Counter)
    #: the sites that were directly around it, by seconds
    around: Counter[Site] = field(default_factory=Counter)

    @property
    def elapsed(self) -> float:
        """Seconds on the clock, also those without a core: what a rate that was seen is to be multiplied by."""
        return self.seconds + self.wanted

    def add(self, stack: Stack, caller: Caller | None, outer: Site | None, elsewhere: bool) -> None:
        """Count a stack that passes through it."""
        self.samples += stack.samples
        self.seconds += stack.own_wall
        self.cpu += min(stack.cpu, stack.own_wall)
        self.native += stack.native
        self.wanted += stack.wall - stack.own_wall
        self.held += stack.held
        self.held_long += stack.held_long
        self.released += stack.released
        self.elsewhere += stack.own_wall if elsewhere else 0.0
        if caller is not None:
            self.callers[caller] += stack.own_wall  # type: ignore[assignment]
        if outer is not None:
            self.around[outer] += stack.own_wall  # type: ignore[assignment]


def attribute(process: ProcessRecord, sources: dict[str, SourceFile]) -> list[SiteTime]:
    """The time within each site, longest first. Recursion counts once: a stack adds to a site once."""
    found: dict[Site, SiteTime] = {}
    for stack in process.stacks:
        if not stack.main or not stack.places:
            continue
        elsewhere = is_elsewhere(stack.places)
        met: list[Site] = []
        caller: Caller | None = None
        again, codes = False, set[Code]()
        above: Caller | None = None  # of the function that called
        for number in range(len(stack.places) - 1, -1, -1):
            place = stack.places[number]
            if not place.code.user:
                continue
            own_frame = place.code.name.endswith(("comp>", "<genexpr>"))
            inner = stack.places[number - 1] if number else None
            source = sources.get(place.code.file)
            again = again or place.code in codes
            for site in source.around(place, inner, process.python) if source else ():
                if site not in met:
                    time = found.setdefault(site, SiteTime(site))
                    time.level = min(time.level, len(met))
                    time.add(stack, above if own_frame else caller, met[-1] if met else None, elsewhere)
                    time.again += stack.own_wall if again else 0.0
                    met.append(site)
            again = again or (source is not None and source.in_while(place.line))
            codes.add(place.code)
            if not own_frame:
                above, caller = caller, (place.code.file, place.line, place.code.name)
    return sorted(found.values(), key=lambda time: (-time.seconds, time.level))


def is_elsewhere(places: tuple[Place, ...]) -> bool:
    """Whether a stack is in a library that runs work in other threads or processes."""
    for place in places:
        if place.code.user:
            return False
        if any(name in place.code.file for name in PARALLEL):
            return True
    return False


class Values:
    """What is known of the names of a function, from looks at its frames."""

    def __init__(self, process: ProcessRecord) -> None:
        self._all = process.observations

    def near(self, site: Site) -> list[Observation]:
        """Looks at the function a site is in, those at lines within the site first."""
        found: list[Observation] = []
        for code, looks in self._all.items():
            if code.file == site.file and _is_of(code, site):
                found += looks
        return sorted(found, key=lambda look: not site.line <= look.line <= site.end_line)

    def fact(self, site: Site, name: str) -> Fact | None:
        """The largest that was seen of a name."""
        facts = [look.facts[name] for look in self.near(site) if name in look.facts]
        return max(facts, key=lambda fact: fact[1]) if facts else None

    def fact_in(self, file: str, function: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> Fact | None:
        """The largest that was seen of a name in a function."""
        first = min([function.lineno, *(each.lineno for each in function.decorator_list)])
        found = [
            look.facts[name]
            for code, looks in self._all.items()
            if code.file == file and code.first_line == first
            for look in looks
            if name in look.facts
        ]
        return max(found, key=lambda fact: fact[1]) if found else None

    def attributes(self, site: Site, name: str) -> dict[str, Fact]:
        """What was seen of the attributes of what a name stands for."""
        return {key: fact for look in self.near(site) for key, fact in look.facts.items() if key.startswith(f"{name}.")}

    def own(self, site: Site) -> list[Observation]:
        """Looks at the frame of a comprehension itself, where it has one."""
        return [
            look
            for code, looks in self._all.items()
            if code.file == site.file and code.first_line == site.line and code.name.endswith(("comp>", "<genexpr>"))
            for look in looks
        ]


def _is_of(code: Code, site: Site) -> bool:
    if isinstance(site.owner, ast.Module):
        return code.name == "<module>"
    first = site.owner.lineno
    if not isinstance(site.owner, ast.Lambda):
        first = min([first, *(each.lineno for each in site.owner.decorator_list)])
    return code.first_line == first
