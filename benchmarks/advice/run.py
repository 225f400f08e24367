"""How true advice is: `python -m benchmarks.advice.run [-o FILE]`, and with an option another question about it.

    (none)         30 workloads beside an exhaustive sweep: a loop, threads, processes with several chunks
    --coverage N   how often the predicted interval holds what is measured, in N runs
    --aa N         how often a setting is called no different from itself, in N comparisons
    --what-ifs     five what-ifs, applied: how far from what was predicted
    --profile      `allcores profile`: is the right loop first, does its diff give what it says, what does it cost
    --tune         `allcores tune` beside an exhaustive search, in a quarter of its seconds

For each workload of the sweep the advisor is asked in a fresh process. Then every setting runs the whole input in
rounds, each run in a process of its own. The best two, the loop and what was recommended go on for some rounds more,
and are compared in those. Times include workers' start. Other programs' load is kept with each; a busy machine's
figures prove nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
from collections.abc import Sequence
from typing import Any

import allcores
from allcores.advisor.measuring.machine import Load
from allcores.advisor.model.intervals import Interval
from benchmarks.advice import fresh
from benchmarks.advice.workloads import WORKLOADS

#: chunks of the sweep; None sizes itself
CHUNKS = (1, 8, 64, 512, None)
ROUNDS = 3
#: rounds of the settings that come first, after the others are out: the least of eight medians is often chance
LAST_ROUNDS = 6
#: a setting that takes so many times as long as the loop is left out
HOPELESS = 3


def sweep(name: str, recommended: dict[str, Any], rounds: int, last_rounds: int) -> list[dict[str, Any]]:
    """Each setting with the median of its seconds, the quickest first."""
    cores = max(2, allcores.core_budget().workers)
    settings: list[dict[str, Any]] = [
        {"pattern": "serial", "workers": 1, "chunk": None},
        {"pattern": "threads", "workers": cores, "chunk": None},
    ]
    settings += [{"pattern": "processes", "workers": cores, "chunk": chunk} for chunk in CHUNKS]
    if recommended["pattern"] in ("serial", "library"):
        settings[0]["recommended"] = True
    else:
        chosen = {key: recommended[key] for key in ("pattern", "workers", "chunk")}
        # Once: the better of two measurements of the same setting would be called better than itself.
        settings = [each for each in settings if each != chosen]
        settings.append(
            {**chosen, "share": recommended["share"], "preload": recommended["preload"], "recommended": True}
        )
    count = len(WORKLOADS[name].items())
    times: list[list[float]] = [[] for _ in settings]

    def run(places: list[int], rounds: int) -> None:
        for number in range(rounds):
            for place in places if number % 2 == 0 else places[::-1]:
                # What starts the process is not counted, but may take seconds, too.
                most_s = 10 + HOPELESS * max(1.0, times[0][0]) if times[0] else 120.0
                try:
                    times[place].append(fresh.seconds(name, count, settings[place], most_s))
                except fresh.Failed:
                    continue

    run(list(range(len(settings))), rounds)
    ranked = sorted(
        (place for place, each in enumerate(times) if each), key=lambda place: statistics.median(times[place])
    )
    last = sorted({0, len(settings) - 1, *ranked[:2]} & set(ranked))
    for place in last:
        times[place].clear()
    run(last, last_rounds)
    settings, times = [settings[place] for place in last], [times[place] for place in last]
    found = [
        {**setting, "seconds": statistics.median(each)} for setting, each in zip(settings, times, strict=True) if each
    ]
    return sorted(found, key=lambda each: float(str(each["seconds"])))


def judge(advice: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, Any]:
    """The best of the sweep against what was recommended, and the intervals against what was measured."""
    loop = next(each["seconds"] for each in found if each["pattern"] == "serial")
    chosen = next((each["seconds"] for each in found if each.get("recommended")), loop)
    best = found[0]["seconds"]
    measured = loop / chosen
    predicted = advice["predicted"]
    return {
        "best": {key: found[0][key] for key in ("pattern", "workers", "chunk")},
        "best_speedup": round(loop / best, 3),
        "from_best": round(chosen / best - 1, 3),
        "speedup": round(measured, 3),
        "predicted_holds": predicted["low"] <= measured <= predicted["high"],
        "false_parallel": advice["verdict"] == "parallel" and loop / best < 1.15,
        "false_serial": advice["verdict"] == "serial" and loop / best >= 1.3,
    }


def measure(name: str, budget: float, rounds: int, last_rounds: int = LAST_ROUNDS) -> dict[str, Any]:
    """One workload: the advice, what became of it in the sweep, and the cores that other programs used."""
    load = Load()
    try:
        found = fresh.advise(name, len(WORKLOADS[name].items()), budget)
    except fresh.Failed as problem:
        found = {"error": str(problem)}
    else:
        judged = judge(found, sweep(name, found["recommendation"], rounds, last_rounds))
        keys = ("verdict", "recommendation", "predicted", "measured", "calls", "seconds", "kind")
        found = {**{key: found[key] for key in keys}, **judged}
    found["other_cores"] = load.others()
    return found


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """How many of the workloads that were measured came out right."""
    found = {name: each for name, each in report.items() if "verdict" in each}
    guessed = [each for each in found.values() if each["predicted"]["low"] < each["predicted"]["high"]]
    widths = [Interval(**each["predicted"]).half_width for each in guessed]
    return {
        "workloads": len(found),
        "within_5_percent": sum(each["from_best"] <= 0.05 for each in found.values()),
        "beyond_10_percent": [name for name, each in found.items() if each["from_best"] > 0.10],
        "parallel_for_nothing": [name for name, each in found.items() if each["false_parallel"]],
        "serial_in_vain": [name for name, each in found.items() if each["false_serial"]],
        "unreliable": [name for name, each in found.items() if each["verdict"] == "unreliable"],
        "predicted_holds": [sum(each["predicted_holds"] for each in guessed), len(guessed)],
        "half_width": round(statistics.median(widths), 3) if widths else None,
        "most_seconds": max((each["seconds"] for each in found.values()), default=None),
    }


def workloads(names: Sequence[str], budget: float, rounds: int, last_rounds: int) -> dict[str, Any]:
    """Each workload beside its sweep, told as it is done."""
    report: dict[str, Any] = {}
    for name in names:
        need = WORKLOADS[name].needs
        if need is not None and importlib.util.find_spec(need) is None:
            report[name] = {"left_out": f"{need} is not installed"}
            continue
        report[name] = measure(name, budget, rounds, last_rounds)
        print(name, json.dumps(report[name]), flush=True)
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(WORKLOADS), help="workloads")
    parser.add_argument("--budget", type=float, help="seconds of one advice")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of a sweep, and of --profile")
    parser.add_argument("--last-rounds", type=int, default=LAST_ROUNDS, help="of the settings that come first")
    parser.add_argument("--pairs", type=int, help="of what is compared with a loop, or with the best")
    parser.add_argument("-o", "--output", help="a file for the JSON")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--coverage", type=int, metavar="N", help="how often a predicted interval holds: N runs")
    what.add_argument("--aa", type=int, metavar="N", help="a setting beside itself: N comparisons")
    what.add_argument(
        "--profile", action="store_true", help="what `profile` costs, ranks first, and what its diffs give"
    )
    what.add_argument("--tune", action="store_true", help="what `tune` finds in a quarter of an exhaustive search")
    what.add_argument("--what-ifs", action="store_true", help="five what-ifs, applied")
    given = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, flush=True)

    # Each is imported only when it is asked for: they import this module's parts, too.
    report: Any
    if given.coverage is not None:
        from benchmarks.advice import coverage

        names = given.only or list(WORKLOADS)
        report = coverage.runs(
            names,
            given.coverage,
            budget=given.budget or coverage.BUDGET_S,
            pairs=given.pairs or coverage.PAIRS,
            say=say,
        )
        counts = coverage.summary(report)
    elif given.aa is not None:
        from benchmarks.advice import itself

        report = itself.comparisons(
            given.aa, given.only or itself.SOME, seconds=given.budget or itself.COMPARISON_S, say=say
        )
        counts = itself.summary(report)
    elif given.profile:
        from benchmarks.advice import profile_overhead, ranking

        ranked = ranking.all_of_them(pairs=given.pairs or ranking.PAIRS, say=say)
        costs = profile_overhead.measure(given.rounds)
        say(profile_overhead.table(costs))
        report = {"ranking": ranked, "overhead": costs}
        counts = {**ranking.summary(ranked), "cpu_over_plain_python": profile_overhead.summary(costs)}
    elif given.tune:
        from benchmarks.advice import tuning

        report = tuning.all_of_them(given.only or tuning.SOME, pairs=given.pairs or tuning.PAIRS, say=say)
        counts = tuning.summary(report)
    elif given.what_ifs:
        from benchmarks.advice import what_ifs

        report = what_ifs.all_of_them(
            pairs=given.pairs or what_ifs.PAIRS, budget=given.budget or what_ifs.BUDGET_S, say=say
        )
        counts = what_ifs.summary(report)
    else:
        report = workloads(given.only or list(WORKLOADS), given.budget or 10.0, given.rounds, given.last_rounds)
        counts = summary(report)
    say(json.dumps(counts, indent=2))
    if given.output is not None:
        with open(given.output, "w", encoding="utf-8") as file:
            json.dump({"summary": counts, "runs": report}, file, indent=2)


if __name__ == "__main__":
    main()
