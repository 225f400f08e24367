"""How much memory workers take, from what was measured of some of them."""

from __future__ import annotations

import os

import pytest

from allcores.advisor.measuring.memory import of_workers
from allcores.advisor.model.decision import decide
from allcores.advisor.model.memory import NO_LIMIT, Memory, memory_of, room_for
from allcores.advisor.model.pitfalls import pitfalls
from allcores.advisor.model.probes import Machine, Probes, Timing, Travel, Trial
from allcores.advisor.text import memory_text
from allcores.system import procfs

MB = 1 << 20
WARM = {"warm_start_s": 0.3, "warm_worker_bytes": 50 * MB, "warm_rest_bytes": 900 * MB}


def measured(**given: object) -> Probes:
    """Workers of 400 MB, most of it a model that each of them loads."""
    known: dict[str, object] = {
        "items": 1_000,
        "timing": Timing(100, 0.02, 0.02, first_s=1.0),
        "machine": Machine(8, memory=4_000 * MB),
        "travel": Travel(5, 1_000, 1e-6, 1e-6),
        "late_s": 0.005,
        "threads": (Trial(2, 0.98, 100),),
        "processes": (Trial(2, 1.95, 100),),
        "start_s": 1.5,
        "worker_bytes": 400 * MB,
        "rest_bytes": 100 * MB,
    }
    return Probes(**{**known, **given})  # type: ignore[arg-type]


def test_each_worker_adds_what_it_has_to_itself() -> None:
    found = memory_of(measured(), 8, preload=False)
    assert found == Memory(8, 400 * MB, 100 * MB, 1_000_000, 4_000 * MB)
    assert found.peak == 3_300 * MB + 1_000_000


def test_what_is_loaded_before_workers_are_forked_is_there_once() -> None:
    found = memory_of(measured(**WARM), 8, preload=True)
    assert found is not None
    assert (found.worker, found.rest) == (50 * MB, 900 * MB)
    assert memory_of(measured(), 8, preload=True) == memory_of(measured(), 8, preload=False), "it was not tried"


def test_what_was_not_measured_is_not_told() -> None:
    assert memory_of(measured(rest_bytes=0), 8, preload=False) is None
    assert memory_of(measured(worker_bytes=0), 8, preload=False) is None
    unknown = memory_of(measured(items=None), 8, preload=False)
    assert unknown is not None and unknown.results == 0


@pytest.mark.parametrize(
    ("available_mb", "given", "workers"),
    [(4_000, {}, 8), (1_000, {}, 2), (900, {}, None), (1_000, WARM, 8), (200, WARM, 3), (100, WARM, None)],
)
def test_workers_drop_until_they_fit(available_mb: int, given: dict[str, object], workers: int | None) -> None:
    """Of the available memory a fifth stays free."""
    probes = measured(machine=Machine(8, memory=available_mb * MB), **given)
    decision = decide(probes)
    if workers is None:
        assert "are available" in decision.impossible["processes"]
    else:
        found = next(each.setting for each in decision.predictions if each.setting.pattern == "processes")
        assert (found.workers, found.preload) == (workers, bool(given))
        memory = memory_of(probes, found.workers, preload=found.preload)
        assert memory is not None
        assert memory.workers * memory.worker <= 0.8 * available_mb * MB


def test_a_machine_that_does_not_tell_has_room() -> None:
    assert room_for(measured(machine=Machine(8))) == NO_LIMIT
    assert room_for(measured(worker_bytes=0)) == NO_LIMIT


@pytest.mark.parametrize(("items", "told"), [(1_000, False), (5_000_000, True), (None, False)])
def test_results_that_do_not_fit_are_a_pitfall(items: int | None, told: bool) -> None:
    probes = measured(items=items)
    found = {each.name: each.fix for each in pitfalls(probes, decide(probes))}
    assert ("results that do not fit" in found) is told
    if told:
        assert "all 5,000,000 results together are 4.7 GB" in found["results that do not fit"]


def test_it_is_told_in_one_line() -> None:
    memory = Memory(2, 400 * MB, 100 * MB, 500 * MB, 4_000 * MB)
    text = memory_text(memory)
    assert text.startswith("Memory of 2 processes at its largest, predicted: ")
    assert "2 x 400 MB, 100 MB besides, 500 MB of results" in text
    assert text.endswith("are available.")
    assert "of results" not in memory_text(Memory(2, 400 * MB, 100 * MB, MB, None))


@pytest.mark.skipif(not procfs.AVAILABLE, reason="there is no /proc")
def test_a_kernel_that_does_not_tell_private_memory_tells_what_is_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too much rather than nothing: with nothing, any number of workers would have room."""
    read = procfs.read
    monkeypatch.setattr(procfs, "read", lambda path: None if path.endswith("smaps_rollup") else read(path))
    assert procfs.private_bytes(os.getpid()) == pytest.approx(procfs.resident_bytes(os.getpid()), rel=0.2)
    largest, now, _ = of_workers([os.getpid()])
    assert largest >= now > 0
