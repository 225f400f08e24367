"""The summary of a run tells work from waiting for a processor."""

from __future__ import annotations

import dataclasses

import pytest

from allcores.cli.doctor import diagnose
from allcores.cli.exits import Exit
from allcores.cli.meter import Usage
from allcores.cli.summary import Summary, Tally
from allcores.system import process_stats, procfs


def summary(**usage: float) -> Summary:
    """Ten seconds, in which two workers were in the function all the time."""
    facts = {"cpu_s": 13.0, "peak_bytes": 0, "peak_worker_bytes": 0, **usage}
    return Summary(
        function="f",
        output="-",
        exit=Exit.OK,
        error=None,
        tally=Tally(),
        seconds=10.0,
        busy_s=20.0,
        workers=2,
        cores=2,
        retries=0,
        workers_lost=0,
        usage=Usage(**facts),  # type: ignore[arg-type]
    )


def test_waiting_for_a_processor_is_no_work() -> None:
    """Speed-up and core use agree when others had the processors, and the reason is told."""
    busy = summary(waited_s=7.0, others_s=6.9)
    assert busy.speed_up == pytest.approx(1.3) and busy.core_use == pytest.approx(0.65)
    assert "for 35% of that time workers had no processor: other programs kept 0.7 cores busy" in busy.as_text()
    assert (busy.as_json()["waited_seconds"], busy.as_json()["other_cores"]) == (7.0, 0.69)


def test_no_more_cores_than_there_are() -> None:
    """In a run of milliseconds most of what is measured lies around it."""
    assert summary(cpu_s=100.0).core_use == summary(cpu_s=100.0).as_json()["core_use"] == 1.0
    assert "core use 100% of 2 cores" in summary(cpu_s=100.0).as_text()


def test_waiting_for_anything_else_is() -> None:
    """A function that sleeps or reads is in parallel without a processor."""
    quiet = summary(cpu_s=0.1, waited_s=0.2, others_s=0.0)
    assert quiet.speed_up == pytest.approx(1.98)
    assert "busy" not in quiet.as_text()
    assert summary(waited_s=50.0).speed_up == 0.0


def test_next_to_no_work_has_no_speed_up() -> None:
    """A run of a trivial function says where its seconds went, and does not put them down to other programs."""
    trivial = dataclasses.replace(summary(waited_s=0.1, others_s=1.8), busy_s=0.1)
    assert "of the 10.0 s the function ran for less than 0.01 s: a plain loop would do" in trivial.as_text()
    assert "speed-up" not in trivial.as_text() and "busy" not in trivial.as_text()
    little = dataclasses.replace(summary(), busy_s=0.4)
    assert "the function ran for 0.40 s" in little.as_text()
    starved = summary(waited_s=20.0, others_s=1.9)
    assert "for 100% of that time workers had no processor" in starved.as_text()


@pytest.mark.skipif(not procfs.AVAILABLE, reason="reads /proc")
def test_the_kernel_tells() -> None:
    """What the figures come from."""
    assert (process_stats.machine_busy_s() or 0) > 0
    assert process_stats.waited_s(-1) is None


def test_doctor_tells_of_a_loaded_machine() -> None:
    """Before a run, too."""
    found = dataclasses.replace(diagnose(), load=3.0, machine_cores=2)
    assert any("load 3.0 on 2 cores" in warning for warning in found.warnings)
    assert not any("load" in warning for warning in dataclasses.replace(found, load=0.5).warnings)
