"""Known ways to lose by parallelising: found in what was measured, each with its name and its fix."""

from __future__ import annotations

from dataclasses import dataclass

from allcores.advisor.model import costs
from allcores.advisor.model.decision import LOAD_S, SHARE_BYTES, Decision
from allcores.advisor.model.memory import MEMORY_PART
from allcores.advisor.model.probes import Probes
from allcores.formatting import precise_seconds_text, seconds_text, size_text

#: bytes of an item, or a result, that are large
LARGE = 256 << 10
#: items that take less are too small to be sent one by one
SMALL_S = 200e-6
#: of a function that changes its items
CHANGES = (
    "the function changes the item that it is called with: a worker process has a copy of it, so what the program needs"
    " has to be returned. What was measured here are copies, and your items are as they were"
)


@dataclass(frozen=True, slots=True)
class Pitfall:
    """A pitfall that this function meets.

    Attributes:
        name: Short, stable.
        fix: What to do, as a sentence with its figures.
    """

    name: str
    fix: str


def pitfalls(probes: Probes, decision: Decision) -> tuple[Pitfall, ...]:
    """Those that were found, the most costly kinds first."""
    found = [*_of_the_way(probes), *_of_the_kind(probes, decision), *_of_the_amount(probes), *_of_what_it_does(probes)]
    return tuple(found)


def _of_the_way(probes: Probes) -> list[Pitfall]:
    travel, found = probes.travel, []
    if travel.problem is not None:
        found.append(Pitfall("cannot be pickled", travel.problem))
    if travel.common_bytes >= SHARE_BYTES:
        found.append(
            Pitfall(
                "huge argument in every item",
                f"one object of {size_text(travel.common_bytes)} is in every item: share it once, pool.share(object),"
                " and put what that returns into the items",
            )
        )
    elif travel.bytes_in >= LARGE:
        found.append(
            Pitfall(
                "huge argument",
                f"an item is {size_text(round(travel.bytes_in))}: give the function a path, an offset or an"
                " index instead, and"
                " let it read the data in the worker",
            )
        )
    if travel.bytes_out >= 16 << 10 and travel.bytes_out > 4 * travel.bytes_in:
        found.append(
            Pitfall(
                "results larger than inputs",
                f"a result is {size_text(round(travel.bytes_out))}, and an item"
                f" {size_text(round(travel.bytes_in))}: return a"
                " compact form (an array instead of a list, a sum instead of its parts), or write it to a file"
                " in the worker",
            )
        )
    room = probes.machine.memory
    if probes.items is not None and room is not None and probes.items * travel.bytes_out > MEMORY_PART * room:
        found.append(
            Pitfall(
                "results that do not fit",
                f"all {probes.items:,} results together are {size_text(round(probes.items * travel.bytes_out))}, and"
                f" {size_text(room)} are available: take them one by one with imap, or let allcores.run write them"
                " to a file",
            )
        )
    return found


def _of_the_kind(probes: Probes, decision: Decision) -> list[Pitfall]:
    found = []
    if decision.kind == "threaded":
        names = " and ".join(library.name for library in probes.libraries) or "a library"
        caps = " or ".join(dict.fromkeys(library.cap for library in probes.libraries)) or "OMP_NUM_THREADS=1"
        found.append(
            Pitfall(
                "already parallel",
                f"the function computes on {probes.timing.cpu_s / probes.timing.wall_s:.1f} cores by itself"
                f" ({names}): leave it"
                f" in a loop; where items are many and small, cap it with {caps} and use processes, never both",
            )
        )
    else:
        # Where it has threads already, what it uses is said above.
        found += [
            Pitfall(
                "a library's own way",
                f"{library.name} is loaded, and can use more cores by itself: {library.switch}; measure that, too, and"
                f" with workers keep it to one ({library.cap})",
            )
            for library in probes.libraries
            if library.name != "numpy"
        ]
    if any(library.name == "tokenizers" for library in probes.libraries):
        found.append(
            Pitfall(
                "TOKENIZERS_PARALLELISM with fork",
                "a tokenizer that has been used hangs in a forked process: keep the default start method, or set"
                " TOKENIZERS_PARALLELISM=false before it is loaded",
            )
        )
    if decision.kind == "waiting":
        name = "time.sleep" if probes.traits.sleeps else "I/O"
        found.append(
            Pitfall(
                name,
                "the function waits and does not compute: threads or asyncio wait for many items at once, more"
                " processes do"
                " not wait faster",
            )
        )
        found.append(Pitfall("not all work is CPU-bound", "processes are for functions that compute; this one waits"))
    if decision.kind == "device":
        found.append(Pitfall("I/O", "several at a time wait as long as one: write or read less, or less often"))
    if decision.kind == "memory":
        found.append(Pitfall("memory-bound", "workers wait for the same memory: go over the data fewer times instead"))
    if probes.machine.threads > 0 and any((library.threads or 0) > 1 for library in probes.libraries):
        found.append(
            Pitfall(
                "fork after threads",
                "a library has threads in this process, and a fork copies their locks and not them: keep the"
                " default start"
                ' method, not start_method="fork"',
            )
        )
    return found


def _of_the_amount(probes: Probes) -> list[Pitfall]:
    found = []
    item_s = probes.timing.wall_s
    if item_s < SMALL_S:
        chunk = costs.chunk_for(probes, max(2, probes.machine.cores))
        found.append(
            Pitfall(
                "too small items",
                f"an item takes {precise_seconds_text(item_s)}: sent one by one, sending costs more than the"
                " work; let chunks"
                f" size themselves, or give chunk={chunk}",
            )
        )
    if probes.items is not None:
        if probes.items < 4 * probes.machine.cores and probes.items * item_s > 0.5:
            found.append(
                Pitfall(
                    "too few items",
                    f"{probes.items} items for {probes.machine.cores} cores leave some idle at the end: cut them"
                    " into smaller"
                    " ones",
                )
            )
        work = probes.items * item_s
        if work < 3 * probes.start_s and probes.travel.problem is None:
            found.append(
                Pitfall(
                    "pool per call or per request",
                    f"all items take {precise_seconds_text(work)}, and a pool {precise_seconds_text(probes.start_s)} to"
                    " start: make one pool and keep it for all calls, or stay with a loop",
                )
            )
    if probes.timing.first_s >= max(LOAD_S, 10 * item_s) or (
        probes.warm_start_s is not None and probes.start_s - probes.warm_start_s > LOAD_S
    ):
        load_s = max(probes.timing.first_s, probes.start_s - (probes.warm_start_s or probes.start_s))
        fix = "load once for all workers, with preload="
        if probes.warm_start_s is not None and probes.warm_start_s >= probes.start_s:
            fix = (
                f"keep one pool for all calls. Loading before workers are forked was tried, and they are there after"
                f" {seconds_text(probes.warm_start_s)}, not {seconds_text(probes.start_s)}: what starts threads while"
                " it loads cannot be forked"
            )
        text = f"the first call takes {seconds_text(load_s)} longer than the others: {fix}"
        found.append(Pitfall("a load in every worker", text))
    return found


def _of_what_it_does(probes: Probes) -> list[Pitfall]:
    traits, found = probes.traits, []
    if traits.failed:
        found.append(
            Pitfall(
                "calls that raise",
                f"{traits.failed:,} of {probes.timing.items:,} calls that were timed raised, and are in all figures as"
                " they are: a loop, and a map, end with the first of them; on_error= of a map says what else is to come"
                " of it",
            )
        )
    if traits.nested:
        found.append(
            Pitfall(
                "lambda or nested function",
                "multiprocessing cannot pickle it; allcores can, and sends it by value: better a function at"
                " the top of a"
                " module, which is sent by name",
            )
        )
    if traits.random:
        found.append(
            Pitfall(
                "unseeded random numbers",
                "the function draws random numbers whose state forked workers may have in common, and two calls"
                " differ: make a"
                " generator from a seed in each item",
            )
        )
    elif traits.differs:
        found.append(
            Pitfall(
                "a second call gives another result",
                "what it returns depends on more than the item (state, time, randomness): in workers it may differ",
            )
        )
    if traits.changes:
        found.append(Pitfall("changes its items", CHANGES))
    if traits.effects:
        found.append(
            Pitfall(
                "side effects",
                f"the function {' and '.join(traits.effects[:4])}: in workers that happens in several processes"
                " at once, and what"
                " it changes in memory is lost",
            )
        )
    if traits.remembers:
        found.append(
            Pitfall(
                "remembers results",
                "a second call on the same item takes next to nothing: workers do not share what they remember;"
                " cache= does",
            )
        )
    if traits.opens_pool:
        found.append(
            Pitfall(
                "nested pools",
                "the function starts processes or pools itself: parallelise at one level, the outer one if it"
                " has many items",
            )
        )
    return found
