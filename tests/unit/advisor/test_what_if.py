"""What would change: each is a prediction of the same model, and what is beyond the measured workers says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from tests.unit.advisor.test_decision import MS, any_probes, probes

from allcores.advisor.model.decision import decide
from allcores.advisor.model.probes import Probes, Travel
from allcores.advisor.model.what_if import WhatIf, what_ifs


def found(given: Probes) -> dict[str, WhatIf]:
    return {each.name: each for each in what_ifs(given, decide(given))}


def test_more_cores_are_extrapolated_and_more_is_faster() -> None:
    ifs = found(probes(items=100_000))
    assert ifs["8 cores"].extrapolated
    assert ifs["8 cores"].predicted.speedup > ifs["4 cores"].predicted.speedup > 2
    assert not ifs["10 times as many items"].extrapolated


@pytest.mark.parametrize(
    ("items", "cores", "workers"),
    [(3, 2, {"4 cores": 3}), (5, 2, {"4 cores": 4, "8 cores": 5}), (2, 2, {}), (3, 16, {})],
)
def test_more_cores_than_items_do_no_more(items: int, cores: int, workers: dict[str, int]) -> None:
    """Three items are never four times as fast; and a machine that has more cores than items needs no more of them."""
    given = probes(2.0, items=items)
    given = replace(given, machine=replace(given.machine, cores=cores))
    ifs = {name: each for name, each in found(given).items() if name.endswith("cores")}
    assert {name: each.try_it.partition(")")[0] for name, each in ifs.items()} == {
        name: f"Pool(workers={count}" for name, count in workers.items()
    }
    assert all(each.predicted.speedup <= items for each in ifs.values())


def test_more_items_make_up_for_the_start() -> None:
    given = probes(items=100)
    assert found(given)["10 times as many items"].predicted.speedup > decide(given).predictions[1].interval.speedup


def test_compact_results_take_the_way_back_off() -> None:
    given = probes(1.8 * MS, travel=Travel(3, 60_000, 1e-6, 1.4 * MS, 0.9 * MS), two_processes=None)
    assert found(given)["compact results"].predicted.speedup > 1.5


def test_results_that_nobody_keeps_take_no_memory_again_and_again() -> None:
    """A loop that keeps them meets page faults for each; with compact results nobody does."""
    travel = Travel(3, 60_000, 1e-6, 0.2 * MS, 0.2 * MS)
    kept = probes(0.5 * MS, items=100_000, travel=travel, two_processes=0.7)
    dropped = replace(kept, timing=replace(kept.timing, dropped_s=0.2 * MS))
    assert found(kept)["compact results"].predicted.speedup < 2
    assert found(dropped)["compact results"].predicted.speedup > 3
    # As they are, the trial has the last word, and who keeps them meets the page faults: the parent.
    for each in (kept, dropped):
        assert decide(each).predictions[1].interval.speedup == pytest.approx(0.7, rel=0.05)


def test_paths_spare_the_parent_the_pickling_and_workers_read() -> None:
    """What the parent spends on items is the limit, and is gone with them; who reads them copies as many bytes."""
    travel = Travel(1 << 20, 8, 1.1 * MS, 0.3e-6, worker_s=0.4 * MS, parent_s=1.0 * MS)
    given = probes(1 * MS, travel=travel, two_processes=None)
    assert decide(given).predictions[1].interval.speedup < 1.05
    paths = found(given)["paths instead of data"].predicted.speedup
    assert 1.2 < paths < 2 / 1.4


def test_what_is_shared_would_be_slow_without() -> None:
    given = probes(travel=Travel(8 << 20, 8, 8 * MS, 0.3e-6, 2e-6, common_bytes=8 << 20), two_processes=None)
    assert found(given)["without share"].predicted.speedup < 1


def test_where_processes_cannot_be_used_there_is_no_if() -> None:
    assert found(probes(travel=Travel(problem="no", what="item"), two_processes=None)) == {}


@given(any_probes())
def test_whatever_was_measured(given: Probes) -> None:
    for each in what_ifs(given, decide(given)):
        assert 0 <= each.predicted.low <= each.predicted.speedup <= each.predicted.high
    what_ifs(replace(given, items=None), decide(replace(given, items=None)))
