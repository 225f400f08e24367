"""Advice beside an exhaustive sweep: `python -m benchmarks.advice.run [--only NAME ...] [--budget S] [-o FILE]`.

For each workload the advisor is asked in a fresh process. Then every setting of the sweep runs the whole input in
rounds: a loop, threads, processes with several chunks, and what was recommended. The best two, the loop and what was
recommended go on for some rounds more, and are compared in those. Times include workers' start.
One JSON object is written: for each workload the verdict, the predicted interval, the best of the sweep, and how far
from it the recommended setting is. Other programs' load is kept with each; a busy machine's figures prove nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import allcores
from allcores.advisor.measuring.machine import Load
from benchmarks.advice.workloads import WORKLOADS, Workload

#: chunks of the sweep; None sizes itself
CHUNKS = (1, 8, 64, 512, None)
ROUNDS = 3
#: rounds of the settings that come first, after the others are out: the least of eight medians is often chance
LAST_ROUNDS = 6
#: a setting that takes so many times as long as the loop is left out
HOPELESS = 3


def seconds_of(workload: Workload, items: Sequence[Any], setting: dict[str, Any], most_s: float) -> float | None:
    """Seconds of the whole input; None where the setting cannot be used, or takes more than so many."""
    start = perf_counter()
    if setting["pattern"] in ("serial", "library"):
        for item in items:
            workload.fn(item)
        return perf_counter() - start
    try:
        with (
            allcores.Pool(setting["workers"], backend=setting["pattern"], logs=False) as pool,
            pool.imap(workload.fn, items, chunk=setting["chunk"]) as results,
        ):
            for _ in results:
                if perf_counter() - start > most_s:
                    return None
    except allcores.NotPicklable:
        return None
    return perf_counter() - start


def advise(name: str, budget: float) -> dict[str, Any]:
    """What the advisor says, in a process of its own: nothing is loaded or warm."""
    code = (
        "import json, allcores; from benchmarks.advice.workloads import WORKLOADS as w;"
        f" each = w[{name!r}]; print(json.dumps(allcores.advise(each.fn, each.items(), budget={budget}).as_dict()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20 * budget)
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sweep(workload: Workload, recommended: dict[str, Any], rounds: int, last_rounds: int) -> list[dict[str, Any]]:
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
        settings.append({**chosen, "recommended": True})
    items = workload.items()
    times: list[list[float]] = [[] for _ in settings]

    def run(places: list[int], rounds: int) -> None:
        for number in range(rounds):
            for place in places if number % 2 == 0 else places[::-1]:
                seconds = seconds_of(
                    workload, items, settings[place], HOPELESS * max(1.0, times[0][0] if times[0] else 1.0)
                )
                if seconds is not None:
                    times[place].append(seconds)

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
    found = advise(name, budget)
    if "error" not in found:
        judged = judge(found, sweep(WORKLOADS[name], found["recommendation"], rounds, last_rounds))
        keys = ("verdict", "recommendation", "predicted", "measured", "calls", "seconds", "kind")
        found = {**{key: found[key] for key in keys}, **judged}
    found["other_cores"] = load.others()
    return found


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """How many of the workloads that were measured came out right."""
    found = {name: each for name, each in report.items() if "verdict" in each}
    guessed = [each for each in found.values() if each["predicted"]["low"] < each["predicted"]["high"]]
    widths = [(e["predicted"]["high"] - e["predicted"]["low"]) / 2 / e["predicted"]["speedup"] for e in guessed]
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


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--last-rounds", type=int, default=LAST_ROUNDS, help="of the settings that come first")
    parser.add_argument("-o", "--output")
    given = parser.parse_args(arguments)
    report: dict[str, Any] = {}
    for name in given.only:
        workload = WORKLOADS[name]
        if workload.needs is not None and importlib.util.find_spec(workload.needs) is None:
            report[name] = {"left_out": f"{workload.needs} is not installed"}
            continue
        report[name] = measure(name, given.budget, given.rounds, given.last_rounds)
        print(name, json.dumps(report[name]), flush=True)
    print(json.dumps(summary(report), indent=2))
    if given.output is not None:
        with open(given.output, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
