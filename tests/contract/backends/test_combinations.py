"""Options that each work alone, together: programs with each pair of them, compared with plain Python.

Faults that no other test met were of this kind: `reduce` on nodes, where a few of very many items fail. For every three
of them together, which takes minutes: `ALLCORES_COMBINATIONS=3`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.contract import combination_tasks as tasks

import allcores
from allcores import Kind, Outcome, Pool, Retry

STRENGTH = int(os.environ.get("ALLCORES_COMBINATIONS", "2"))
VERBS = (
    "map",
    "imap",
    "imap_unordered",
    "starmap",
    "outcomes",
    "outcomes, unordered",
    "aimap",
    "reduce",
    "run",
)


class Program(NamedTuple):
    """What is called, and how."""

    verb: str
    source: str
    size: int
    kind: str
    fault: str
    batch: Any
    chunk: int | None
    retries: int
    on_error: Any
    cached: bool
    shift: int


OPTIONS: dict[str, tuple[Any, ...]] = {
    "verb": VERBS,
    "source": ("list", "iterator", "filled anew", "breaks", "async"),
    "size": (0, 1, 60, 2500),
    "kind": ("number", "none", "text", "own", "array", "large"),
    "fault": (
        "",
        "raise few",
        "raise many",
        "own many",
        "exit few",
        "sealed many",
        "unread few",
        "once few",
        "once many",
    ),
    "batch": (None, 3, "auto"),
    "chunk": (None, 7),
    "retries": (0, 1),
    "on_error": ("raise", "skip"),
    "cached": (False, True),
    "shift": (0, 1000),
}


def programs(strength: int = STRENGTH) -> list[Program]:
    """Programs that hold each combination of so many options between them; the same ones each time."""
    chance = random.Random(1)
    groups = list(itertools.combinations(range(len(OPTIONS)), strength))
    values = list(OPTIONS.values())
    left = {(group, chosen) for group in groups for chosen in itertools.product(*(values[n] for n in group))}
    found = []
    while left:
        # One that is left for certain, and of the ways to fill it up the one that holds the most others.
        group, chosen = min(left, key=repr)
        candidates = []
        for _ in range(30):
            options = [chance.choice(choices) for choices in values]
            for place, choice in zip(group, chosen, strict=True):
                options[place] = choice
            candidates.append((options, {(g, tuple(options[n] for n in g)) for g in groups} & left))
        options, held = max(candidates, key=lambda candidate: len(candidate[1]))
        left -= held
        found.append(Program(*options))
    return found


PROGRAMS = programs()


class Broken(Exception):
    """Of an input."""


def possible(program: Program, place: str) -> Program:
    """The program without what its other options leave no room for."""
    change: dict[str, Any] = {}
    how, _, often = program.fault.partition(" ")
    if how in ("sealed", "unread") and (place in ("threads", "serial") or program.verb == "reduce"):
        change["fault"] = f"raise {often}"  # nothing travels, or what is merged is another value than that of an item
    if how == "once":
        change["retries"] = 1
        change["size"] = min(program.size, 300)
    if program.kind == "large":
        change["size"] = min(program.size, 60)
    if program.kind == "array" and place == "interpreters":
        change["kind"] = "own"  # numpy refuses interpreters beside the main one
    if program.verb == "run" and program.kind not in ("number", "none", "text"):
        change["kind"] = "number"
    if program.source == "async" and program.verb != "aimap":
        change["source"] = "iterator"
    if program.source == "filled anew" and (place in ("threads", "serial") or program.verb.startswith("outcomes")):
        change["source"] = "iterator"  # documented: the object itself is handed on
    return program._replace(**change)


def fault_of(program: Program, number: int) -> str:
    how, _, often = program.fault.partition(" ")
    return how if how and number % (7 if often == "many" else 997) == 5 else ""


def rows_of(program: Program, folder: Path) -> list[tuple[Any, ...]]:
    return [(number, program.kind, fault_of(program, number), str(folder)) for number in range(program.size)]


def source_of(program: Program, rows: list[tuple[Any, ...]]) -> Any:
    if program.source == "list":
        return rows
    if program.source == "async":
        return later(rows)
    if program.source == "breaks":
        return itertools.chain(rows[: broken_at(program)], breaking())
    if program.source == "filled anew":
        return filled_anew(rows)
    return iter(rows)


def broken_at(program: Program) -> int:
    return program.size * 2 // 3


async def later(rows: Iterable[Any]) -> AsyncIterator[Any]:
    for row in rows:
        yield row


def breaking() -> Iterator[Any]:
    raise Broken
    yield


def filled_anew(rows: Iterable[Any]) -> Iterator[list[Any]]:
    row: list[Any] = []
    for values in rows:
        row[:] = values
        yield row


#: what an item's error is
ERRORS = {
    "raise": ValueError,
    "own": tasks.Refusal,
    "exit": allcores.TaskExited,
    "sealed": allcores.NotPicklable,
    "unread": LookupError,
}


def call(pool: Pool, program: Program, source: Any, options: dict[str, Any], output: Path) -> Iterator[Any]:
    """The results of a program, one by one; raises what it raises."""
    verb, _, unordered = program.verb.partition(", ")
    if verb == "outcomes":
        fn = tasks.work_rows if program.batch else tasks.work_row
        yield from pool.outcomes(fn, source, ordered=not unordered, **options)
        return
    options["on_error"] = program.on_error
    if verb == "starmap":
        yield from pool.starmap(tasks.work_columns if program.batch else tasks.work, source, **options)
    elif verb == "reduce":
        listing: Any = tasks.list_rows if program.batch else tasks.list_row
        yield from pool.reduce(listing, source, tasks.extend, initial=[], **options)
    else:
        fn = tasks.work_rows if program.batch else tasks.work_row
        if verb == "aimap":
            yield from each_of(pool, fn, source, options)
        elif verb == "run":
            pool.run(fn, source, output, journal=False, **options)
            yield from map(json.loads, output.read_text().splitlines())
        else:
            yield from getattr(pool, verb)(fn, source, **options)


def each_of(pool: Pool, fn: Any, source: Any, options: dict[str, Any]) -> Iterator[Any]:
    """The results of aimap, and after them what it raised."""
    found: list[Any] = []

    async def main() -> None:
        async for value in pool.aimap(fn, source, **options):
            found.append(value)

    raised = None
    try:
        asyncio.run(main())
    except Exception as error:
        raised = error
    yield from found
    if raised is not None:
        raise raised


def same(left: Any, right: Any) -> bool:
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and left.dtype == right.dtype and np.array_equal(left, right)
    return type(left) is type(right) and left == right


def check(pool: Pool, program: Program, folder: Path, output: Path, options: dict[str, Any]) -> None:
    """Run a program and compare it with a loop."""
    rows = rows_of(program, folder)
    breaks = program.source == "breaks"
    rows_read = rows[: broken_at(program)] if breaks else rows
    bad = [row[0] for row in rows_read if row[2] not in ("", "once")]
    values = {row[0]: tasks.value_of(row[0] + program.shift, program.kind) for row in rows_read if row[0] not in bad}

    found: list[Any] = []
    error: Exception | None = None
    try:
        for value in call(pool, program, source_of(program, rows), options, output):
            found.append(value)
    except (allcores.AllcoresError, ValueError, LookupError, tasks.Refusal, Broken) as raised:
        error = raised

    raises = program.on_error == "raise" and not program.verb.startswith("outcomes")
    unordered = program.verb in ("imap_unordered", "run")
    if raises and bad and not (unordered and isinstance(error, Broken)):
        assert isinstance(error, ERRORS[program.fault.split()[0]]), error
        named = bad if unordered else bad[:1]
        assert any(f"items[{number}]" in told_of(error) for number in named), told_of(error)
        if program.verb in ("imap", "aimap"):
            assert_same(found, [values[number] for number in range(bad[0])])
        return
    assert isinstance(error, Broken) if breaks else error is None, error
    if program.verb.startswith("outcomes"):
        check_outcomes(program, rows_read, found, values)
        return
    if breaks and program.verb not in ("imap", "imap_unordered", "aimap"):
        return
    expected = list(values.values())
    if program.verb == "imap_unordered":
        found, expected = sorted(found, key=repr), sorted(expected, key=repr)
    assert_same(found, expected)


def told_of(error: BaseException | None) -> str:
    return " ".join([str(error), *getattr(error, "__notes__", ())])


def assert_same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    different = [number for number, pair in enumerate(zip(found, expected, strict=True)) if not same(*pair)]
    assert not different, (different[:5], str(found[different[0]])[:80], str(expected[different[0]])[:80])


def check_outcomes(program: Program, rows: list[Any], found: list[Outcome[Any]], values: dict[int, Any]) -> None:
    if program.verb.endswith("unordered"):
        found.sort(key=lambda outcome: outcome.index)
    assert [outcome.index for outcome in found] == [row[0] for row in rows]
    for outcome, row in zip(found, rows, strict=True):
        assert outcome.item == row
        if outcome.index in values:
            assert outcome.ok, outcome
            assert same(outcome.value, values[outcome.index])
            continue
        assert not outcome.ok
        assert isinstance(outcome.error, ERRORS[row[2]])
        assert outcome.kind == (Kind.WORKER_LOST if row[2] == "exit" else Kind.FAILED), outcome
        assert f"items[{outcome.index}]" in told_of(outcome.error)
        assert outcome.attempts == program.retries + 1
        if isinstance(outcome.error, tasks.Refusal):
            assert (outcome.error.number, outcome.error.reason) == (outcome.index, "as told")
            assert f"told by {outcome.index}" in outcome.error.__notes__


@pytest.mark.parametrize("verb", VERBS)
def test_every_pair_of_options_gives_what_a_loop_gives(pool: Pool, place: str, verb: str, tmp_path: Path) -> None:
    for number, listed in enumerate(program for program in PROGRAMS if program.verb == verb):
        program = possible(listed, place)
        folder = tmp_path / f"{number}"
        folder.mkdir()
        options: dict[str, Any] = {"batch": program.batch, "chunk": program.chunk}
        if program.retries:
            options["retries"] = Retry(program.retries, wait_s=0)
        if program.cached:
            options["cache"] = tmp_path / f"{number}-cache"
        if program.shift:
            options["shift"] = program.shift
        # what is kept is what was found
        for turn in range(1 + program.cached):
            try:
                check(pool, program, folder, tmp_path / f"{number}-{turn}.jsonl", dict(options))
            except Exception as error:
                error.add_note(f"turn {turn} of {program}")
                raise
    assert pool.statistics().items_in_flight == 0


def test_programs_hold_every_pair() -> None:
    for left, right in itertools.combinations(OPTIONS, 2):
        pairs = {(getattr(program, left), getattr(program, right)) for program in PROGRAMS}
        assert pairs == set(itertools.product(OPTIONS[left], OPTIONS[right]))
