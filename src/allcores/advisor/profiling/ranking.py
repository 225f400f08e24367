"""What each site would give the whole program as a map: pure arithmetic, and the order that follows from it."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from typing import NamedTuple

from allcores.advisor.profiling.attribution import SiteTime
from allcores.advisor.profiling.independence import Verdict
from allcores.advisor.profiling.iterations import Iterations
from allcores.advisor.profiling.sites import Site

#: seconds until the first workers of a pool run
START_S = 0.12
#: seconds that one more call of a map costs, and one more item
CALL_S = 0.0003
ITEM_S = 2e-6
#: bytes a second through a pipe, pickled and unpickled
BYTES_PER_S = 300e6
#: how much slower work is on each of two cores at once
SLOWER = 1.05
#: below this a site is not named
LEAST_SHARE = 0.03
#: a gain below this is no reason to change a program
LEAST_GAIN = 1.15
#: what an iteration may take long with
_LONG = (
    ast.Call | ast.For | ast.While | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.With | ast.Await
)
#: threads for what waits
MOST_THREADS = 16


@dataclass(frozen=True)
class Candidate:
    """A site with what is predicted of it.

    Attributes:
        share: Part of the program's time that passes within it.
        work: "held" (the GIL, by Python code), "held in C", "released", "waiting", or "parallel" (its library already
            uses several cores).
        pattern: "processes", "threads", or "serial": as it is.
        gain: How many times faster the whole program would be (Amdahl); `low` and `high` span 90 %.
        most: The gain if it took no time at all.
    """

    time: SiteTime
    verdict: Verdict
    iterations: Iterations
    share: float
    work: str
    pattern: str
    gain: float
    low: float
    high: float
    most: float
    why_not: tuple[str, ...]

    @property
    def site(self) -> Site:
        """The loop or call."""
        return self.time.site

    @property
    def pays(self) -> bool:
        """Whether it is worth doing."""
        return not self.why_not and self.gain >= LEAST_GAIN


def kind_of_work(time: SiteTime) -> str:
    """What iterations do, as far as the GIL is concerned."""
    if time.seconds <= 0.0:
        return "held"
    if time.samples >= 5 and time.native > 0.3 * time.seconds:
        return "parallel"
    if time.cpu < 0.5 * time.seconds:
        return "waiting"
    known = time.held + time.held_long + time.released
    if not known:
        return "held"
    if time.released > 0.7 * known:
        return "released"
    # a busy machine makes the sampler late as well: only C code does so each time
    return "held in C" if time.held_long > 0.8 * known and time.wanted < 0.1 * time.seconds else "held"


def candidate(
    time: SiteTime,
    verdict: Verdict,
    iterations: Iterations,
    program: float,
    cores: int,
    needs: tuple[str, str] | None = None,
) -> Candidate:
    """What a site would give.

    Args:
        time: What was sampled within it.
        verdict: What its source says.
        iterations: How often it iterates.
        program: Seconds of the program in all.
        cores: How many it may use.
        needs: A name that its iterations use, and the type of that, which does not pickle; None.
    """
    share = min(1.0, time.seconds / program) if program > 0 else 0.0
    work = kind_of_work(time)
    why_not = list(verdict.reasons)
    if time.elsewhere > 0.3 * time.seconds:
        why_not.append("it already hands work to other threads or processes")
    if work == "parallel":
        why_not.append("its library already uses several cores")
    if iterations.item is not None and iterations.item[2] == "no" and work != "waiting":
        why_not.append(f"its items ({iterations.item[0]}) do not pickle")
    if iterations.each is not None and iterations.each < 2:
        why_not.append("it has one iteration")
    if iterations.each is None and work == "held" and _is_plain(time.site):
        why_not.append("its iterations are too short, each by itself")
    pattern = {"waiting": "threads", "released": "threads"}.get(work, "processes")
    if needs is not None and pattern == "processes":
        why_not.append(f"it uses `{needs[0]}` ({needs[1]}), which does not pickle")
    if iterations.often and pattern == "processes":
        why_not.append("how often it is executed is not known: what does so may be the loop to look at")
    after = _after(time, iterations, work, cores)
    if pattern == "processes" and time.seconds - after < 0.0:
        why_not.append(_too_small(time, iterations, cores))
    gain, low, high = _gains(time, program, after, share)
    if not why_not and gain < LEAST_GAIN and pattern == "processes":
        # A loop that takes enough of the time, of which the costs of a map leave little: they are the reason.
        without_costs = program / max(program - time.seconds * (1 - SLOWER / max(cores, 2)), 1e-9)
        if without_costs >= LEAST_GAIN and cores > 1:
            why_not.append(f"as processes it would give {gain:.2f}x: {_largest_cost(iterations)}")
    most = program / max(program - time.seconds, program * 0.001)
    if why_not:
        pattern = "serial"
    return Candidate(
        time, verdict, iterations, share, work, pattern, gain, low, high, most, tuple(each for each in why_not if each)
    )


def _is_plain(site: Site) -> bool:
    """Whether an iteration calls nothing and has no loop in it: in Python code, some hundred nanoseconds."""
    if not isinstance(site.node, ast.For):
        return False
    nodes = (each for statement in site.node.body for each in ast.walk(statement))
    return not any(isinstance(each, _LONG) for each in nodes)


def _after(time: SiteTime, iterations: Iterations, work: str, cores: int) -> float:
    """The seconds that a site would take as a map."""
    each = iterations.each or 4.0 * cores
    executions = max(1.0, iterations.executions)
    if work == "waiting":
        wide = max(1.0, min(each, MOST_THREADS))
        waits = max(0.0, time.seconds - time.cpu)
        return time.cpu + waits / wide * math.ceil(each / wide) * wide / max(each, 1.0) + 0.002 * executions
    wide = max(1.0, min(each, cores))
    uneven = math.ceil(each / wide) * wide / max(each, 1.0)
    spread = time.seconds / wide * uneven * (SLOWER if wide > 1 else 1.0)
    if work == "released":
        return spread + 0.001 * executions
    return spread + sum(_costs(iterations, each))


class _Costs(NamedTuple):
    """What a map costs besides the work, seconds."""

    start: float
    calls: float
    items: float
    moving: float


def _costs(iterations: Iterations, unknown: float = 0.0) -> _Costs:
    """The costs of a loop as a map, with so many iterations where nothing tells how many there are."""
    total = iterations.total or unknown
    size = iterations.item[1] if iterations.item is not None else 0
    return _Costs(START_S, max(1.0, iterations.executions) * CALL_S, total * ITEM_S, total * size / BYTES_PER_S)


def _too_small(time: SiteTime, iterations: Iterations, cores: int) -> str:
    if cores < 2:
        return "there is one core (--cores predicts for more)"
    half = 0.5 * time.seconds * (1 - 1 / cores)  # of what it would save
    costs = _costs(iterations)
    if costs.calls > half:
        return "each of its executions is short: the loop around it is the one to look at"
    if costs.items > half:
        return "its iterations are too short, each by itself"
    if costs.moving > half:
        return "its items are large: moving them takes longer than what it would save (share them)"
    return "starting workers takes longer than what it would save"


def _largest_cost(iterations: Iterations) -> str:
    """What takes most of what a map would save, and leaves some."""
    said = (  # in the order of the costs
        "starting workers takes much of what it would save; a longer run gains more",
        "its executions are short: look at the loop around it",
        "its iterations are short, each by itself",
        "its items are large: moving them takes much of what it would save (share them)",
    )
    return max(zip(_costs(iterations), said, strict=True))[1]


def _gains(time: SiteTime, program: float, after: float, share: float) -> tuple[float, float, float]:
    """The gain, and the interval from how well the share is known and from how far a pool may be off."""
    rest = max(0.0, program - time.seconds)

    def gain(part: float, factor: float) -> float:
        seconds = program * part
        other = program - seconds
        return program / max(other + after * (seconds / time.seconds if time.seconds else 1.0) * factor, 1e-9)

    samples = max(1, time.samples)
    error = 1.645 * math.sqrt(max(share * (1 - share), 0.0) / max(samples / max(share, 0.01), 1.0))
    low = gain(max(0.0, share - error), 1.15)
    high = gain(min(1.0, share + error), 0.93)
    return program / max(rest + after, 1e-9), min(low, high), max(low, high)


def rank(candidates: list[Candidate]) -> list[Candidate]:
    """Those that pay, by gain; then the rest by share. Of two that give the same, the outer one."""
    shown = [each for each in candidates if each.share >= LEAST_SHARE]
    return sorted(
        shown, key=lambda each: (not each.pays, -round(each.gain, 2) if each.pays else -each.share, each.time.level)
    )
