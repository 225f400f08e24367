"""The rows: advice, and tuning, beside exhaustive sweeps, a setting beside itself, and what a profile costs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from allcores.advisor.model.intervals import Interval
from benchmarks.advice import coverage, itself, profile_overhead, ranking, tuning, what_ifs
from benchmarks.advice.programs import PROGRAMS
from benchmarks.advice.run import measure
from benchmarks.advice.workloads import WORKLOADS
from benchmarks.rows import Row
from benchmarks.settings import Settings

#: comparisons of a setting with itself, and runs that an interval is compared with
COMPARISONS, RUNS = 100, 200
#: of these, what a quick run looks at
QUICK = ("three items",)


def rows(settings: Settings) -> list[Row]:
    """Those that were asked for: each takes minutes."""
    every = {
        "advice-best": _advice,
        "advice-interval": _interval,
        "advice-itself": _itself,
        "what-ifs": _what_ifs,
        "tune-best": _tune,
        "profile-ranking": _ranking,
        "profile-overhead": _profile,
    }
    return [make(settings) for name, make in every.items() if settings.wants("advice", name)]


def _advice(settings: Settings) -> Row:
    row = Row(
        "advice-best",
        "What is recommended beside the best setting of a sweep",
        "workload",
        "`allcores.advise` in a process of its own, then every setting over the whole input in rounds, the best of "
        "them and the recommended one in six rounds more. `from best`: how much longer the recommended one takes.",
    )
    found: dict[str, dict[str, Any]] = {}
    for name in QUICK if settings.quick else WORKLOADS:
        workload = WORKLOADS[name]
        if workload.needs is not None and importlib.util.find_spec(workload.needs) is None:
            row.notes[name] = f"{workload.needs} is not installed"
            continue
        each = measure(
            name, budget=2.0 if settings.quick else 10.0, rounds=settings.size(3, 1), last_rounds=settings.size(6, 1)
        )
        settings.say(f"advice: {name}: {each}")
        row.background.append(each["other_cores"])
        row.table[name] = _words(each)
        if "error" not in each:
            found[name] = each
    _judge(row, list(found.values()))
    return row


def _words(each: dict[str, Any]) -> dict[str, str]:
    if "error" in each:
        return {"verdict": each["error"]}
    predicted, setting = each["predicted"], each["recommendation"]
    chosen = setting["pattern"] if setting["workers"] == 1 else f"{setting['workers']} {setting['pattern']}"
    return {
        "verdict": each["verdict"],
        "recommended": chosen if setting["chunk"] is None else f"{chosen}, chunk {setting['chunk']}",
        "predicted": f"{predicted['speedup']:.2f} ({predicted['low']:.2f} to {predicted['high']:.2f})",
        "measured": f"{each['speedup']:.2f}",
        "best": f"{each['best_speedup']:.2f}",
        "from best": f"{100 * each['from_best']:.0f} %",
    }


def _judge(row: Row, found: Sequence[dict[str, Any]]) -> None:
    many = max(1, len(found))
    near, far = (sum(each["from_best"] <= part for each in found) / many for part in (0.05, 0.10))
    row.judge("part of the workloads within 5 % of the best", [near], least=28 / 30)
    row.judge("part of the workloads within 10 % of the best", [far], least=1.0)
    row.judge("'parallel' where the best is below 1.15", [sum(each["false_parallel"] for each in found)], most=0)
    row.judge("'serial' where the best is 1.3 or more", [sum(each["false_serial"] for each in found)], most=0)
    row.judge("no verdict", [sum(each["verdict"] == "unreliable" for each in found)], most=0)
    row.judge("seconds of one advice", [each["seconds"] for each in found], most=10.0)
    guessed = [each for each in found if each["predicted"]["low"] < each["predicted"]["high"]]
    held = [each["predicted_holds"] for each in guessed]
    if held:
        row.judge("part of the predicted intervals that hold what was measured", [sum(held) / len(held)], least=0.85)
    widths = [Interval(**each["predicted"]).half_width for each in guessed]
    row.judge("half-width of a predicted interval", widths, most=0.12)


def _itself(settings: Settings) -> Row:
    """A/A: the same setting twice, by the code that confirms advice."""
    count = settings.size(COMPARISONS, 3)
    row = Row(
        "advice-itself",
        "A setting compared with itself: how often it is called no different",
        "of all comparisons",
        f"{count} comparisons by the rounds that confirm advice, {itself.COMPARISON_S:.0f} s each, over "
        f"{len(itself.SOME)} workloads.",
    )
    found = itself.comparisons(count, itself.SOME[: settings.size(len(itself.SOME), 1)], say=settings.say)
    same = itself.summary(found)["no_difference"] / max(1, len(found))
    row.samples["allcores"] = [same]
    row.judge("no difference", [same], least=0.95)
    return row


def _interval(settings: Settings) -> Row:
    """Whether a predicted interval says the truth."""
    count = settings.size(RUNS, 1)
    row = Row(
        "advice-interval",
        "How often a predicted interval of 90 % holds what is then measured",
        "of all runs",
        f"{count} runs over all workloads: fresh advice of {coverage.BUDGET_S:.0f} s, then the loop and the setting in "
        f"{coverage.PAIRS} pairs, each in a process of its own.",
    )
    names = QUICK if settings.quick else list(WORKLOADS)
    found = coverage.runs(names, count, pairs=settings.size(coverage.PAIRS, 1), say=settings.say)
    counts = coverage.summary(found)
    row.background += [each["other_cores"] for each in found]
    if counts["runs"]:
        row.samples["predicted"] = [counts["contained"]]
        row.table = {name: {"runs that it holds": words} for name, words in counts["by_workload"].items()}
        row.judge("part of the intervals that hold it", [counts["contained"]], least=0.85)
        row.judge("part of them, at most", [counts["contained"]], most=0.95)
        row.judge("half-width of an interval", [counts["half_width"]], most=0.12)
    return row


def _what_ifs(settings: Settings) -> Row:
    """What-ifs, applied."""
    row = Row(
        "what-ifs",
        "What-ifs, applied: how far what was predicted is from what was measured",
        "what-if",
        "Advice, then what it proposes beside the loop of today, in pairs, each in a process of its own.",
    )
    found = what_ifs.all_of_them(
        what_ifs.CHANGES[: settings.size(len(what_ifs.CHANGES), 1)],
        pairs=settings.size(what_ifs.PAIRS, 1),
        budget=settings.size(10, 3),
        say=settings.say,
    )
    off = [each["off"] for each in found if "off" in each]
    for each in found:
        if "off" not in each:
            row.notes[each["what_if"]] = each["problem"]
            continue
        row.table[each["what_if"]] = {
            "predicted": f"{each['predicted']['speedup']:.2f}",
            "measured": f"{each['measured']:.2f}",
            "off": f"{100 * each['off']:.0f} %",
        }
        row.background.append(each["other_cores"])
    row.judge("part of the what-ifs within 15 %", [sum(each <= 0.15 for each in off) / max(1, len(found))], least=1.0)
    return row


def _ranking(settings: Settings) -> Row:
    """What `profile` ranks first."""
    row = Row(
        "profile-ranking",
        "The loop that `allcores profile` ranks first in programs whose right one is known, and what its diff gives",
        "program",
        "Ten unmodified programs; of five the diff is applied, and the whole program run with and without, in pairs.",
    )
    names = list(PROGRAMS)[: settings.size(len(PROGRAMS), 1)]
    found = ranking.all_of_them(names, pairs=settings.size(ranking.PAIRS, 1), say=settings.say)
    for each in found:
        row.table[each["program"]] = {
            "right first": "yes" if each.get("right") else each.get("left_out", "no"),
            "gain": f"{each['gain']:.2f}" if "gain" in each else "",
            "predicted": f"{each['predicted']['speedup']:.2f}" if "gain" in each else "",
        }
    counts = ranking.summary(found)
    row.judge("part that is right", [counts["right_first"] / max(1, counts["programs"])], least=0.9)
    if counts["gains"]:
        row.judge("part of the gains within 15 %", [counts["gains_within_15_percent"] / counts["gains"]], least=1.0)
    return row


def _tune(settings: Settings) -> Row:
    row = Row(
        "tune-best",
        "What `tune` finds beside the best of an exhaustive search, in a quarter of its seconds",
        "workload",
        "Every setting (backend, workers, chunk, depth) over the whole input, then `allcores.tune` in a process of its "
        "own with a quarter of the seconds that this took, then what it found and the best of all in turn.",
    )
    found: dict[str, dict[str, Any]] = {}
    for name in QUICK if settings.quick else tuning.SOME:
        each = tuning.measure(name, tuning.PART, settings.size(tuning.PAIRS, 1))
        settings.say(f"tune: {name}: {each}")
        if "found" not in each:
            row.notes[name] = str(each.get("error") or each.get("left_out"))
            continue
        found[name] = each
        row.background.append(each["other_cores"])
        row.table[name] = {
            "verdict": each["verdict"],
            "found": each["found"],
            "best": f"{each['best']} ({each['best_speedup']:.2f})",
            "from best": f"{100 * each['from_best']:.1f} %",
            "part of the seconds": f"{100 * each['part_of_seconds']:.0f} %",
        }
    near = sum(each["from_best"] <= 0.03 for each in found.values()) / max(1, len(found))
    row.judge("part of the workloads within 3 % of the best", [near], least=1.0)
    row.judge("part of the seconds, at most", [max((each["part_of_seconds"] for each in found.values()), default=1.0)],
              most=tuning.PART)  # fmt: skip
    return row


def _profile(settings: Settings) -> Row:
    """Seconds of CPU of a program under a profiler, over those without."""
    row = Row(
        "profile-overhead",
        "A program under a profiler: its seconds of CPU, over those without",
        "times",
        "Five programs of about two seconds, each contender once in a round, in drawn order; the ratio within a round, "
        "from the program's first line to its last.",
    )
    for each in profile_overhead.measure(
        settings.size(settings.rounds, 1), settings.size(len(profile_overhead.PROGRAMS), 1)
    ):
        ratios = each["ratios"]
        assert isinstance(ratios, list)
        row.samples.setdefault(str(each["contender"]), []).extend(cpu for _, cpu, _ in ratios)
    row.judge("a program under allcores profile", row.samples.get("allcores profile", []), most=1.05)
    return row
