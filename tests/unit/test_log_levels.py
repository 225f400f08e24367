"""Levels are looked at once while none is set."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from allcores.system import log_levels

NAME = "tests.unit.levels"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    logging.getLogger(NAME).setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


def test_they_are_the_same_object_until_one_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    first = log_levels.current()
    looks: list[object] = []
    look = log_levels._levels

    def counted(module: Any) -> dict[str, int]:
        looks.append(module)
        return look(module)

    monkeypatch.setattr(log_levels, "_levels", counted)
    assert log_levels.current() is first and not looks
    # To ask whether something is enabled is noted beside it, and empties nothing.
    logging.getLogger().isEnabledFor(logging.DEBUG)
    assert log_levels.current() is first and not looks
    logging.getLogger(NAME).setLevel(logging.DEBUG)
    second = log_levels.current()
    assert second is not first and second[0][NAME] == logging.DEBUG and len(looks) == 1
    logging.getLogger(NAME).setLevel(logging.NOTSET)
    assert NAME not in log_levels.current()[0]


def test_what_is_disabled_is_seen() -> None:
    log_levels.current()
    logging.disable(logging.INFO)
    assert log_levels.current()[1] == logging.INFO
    logging.disable(logging.NOTSET)
    assert log_levels.current()[1] == logging.NOTSET


def test_a_level_that_is_set_to_what_it_was_is_no_change() -> None:
    logging.getLogger(NAME).setLevel(logging.DEBUG)
    first = log_levels.current()
    logging.getLogger(NAME).setLevel(logging.DEBUG)
    assert log_levels.current() is first


def test_where_logging_keeps_no_note_they_are_looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "_cache", None)
    # Not by `setLevel`, which empties the note that is not there.
    monkeypatch.setattr(logging.getLogger(NAME), "level", logging.DEBUG)
    assert log_levels.current()[0][NAME] == logging.DEBUG
    monkeypatch.setattr(logging.getLogger(NAME), "level", logging.NOTSET)
    assert NAME not in log_levels.current()[0]
