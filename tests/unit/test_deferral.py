"""system/deferral.py: sections of several threads at the same moment."""

from __future__ import annotations

import gc
import threading

import pytest

from allcores.system import deferral


@pytest.mark.parametrize("program", [700, 0])
def test_no_collection_begins_in_a_section_that_another_thread_begins_as_one_ends(
    program: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread looks whether it is the last to leave, the other enters, and the first has collections begin again."""
    entered, over = threading.Event(), threading.Event()
    found: list[int] = []

    def section() -> None:
        outermost = deferral.enter()
        entered.set()
        assert over.wait(60)
        found.append(gc.get_threshold()[0])
        if outermost:
            deferral.leave()

    other = threading.Thread(target=section)

    def threshold() -> tuple[int, int, int]:
        if threading.current_thread() is threading.main_thread() and not other.ident:
            other.start()
            assert entered.wait(60)
        return gc.get_threshold()

    before = gc.get_threshold()
    gc.set_threshold(program)
    try:
        assert deferral.enter()
        monkeypatch.setattr(deferral, "get_threshold", threshold)
        deferral.leave()
        over.set()
        other.join(60)
        assert found == [deferral.HELD_OFF if program else 0]
        assert gc.get_threshold()[0] == program
    finally:
        over.set()
        gc.set_threshold(*before)
