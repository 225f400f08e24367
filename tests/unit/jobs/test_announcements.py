"""Which jobs are announced, and which again: lists of what happened, and what was sent."""

from __future__ import annotations

from allcores.jobs.announcements import Announcements
from allcores.jobs.silence import Silence


class Scene:
    """Jobs that are queued, and messages that wait."""

    def __init__(self, window: int = 3, again_s: float = 5.0) -> None:
        self.announcements = Announcements(window, again_s)
        self.window = window
        self.queued: list[str] = []
        self.messages: list[str] = []

    def look(self, now: float) -> list[str]:
        """What is sent."""
        self.announcements.begun(set(self.announcements.open) & set(self.queued))
        due = self.announcements.due(now, self.queued, len(self.messages))
        for id in due:
            self.announcements.sent(id, now)
        self.messages += due
        return due

    def take(self, id: str) -> None:
        """A worker has asked for a message, and begun its job."""
        self.messages.remove(id)
        if id in self.queued:
            self.queued.remove(id)


def test_each_job_is_announced_once_in_order() -> None:
    scene = Scene()
    scene.queued = list("abcde")
    assert scene.look(0) == list("abc")
    assert scene.look(100) == []
    scene.take("a")
    assert scene.look(101) == ["d"]
    scene.queued.insert(0, "z")
    scene.take("b")
    assert scene.look(102) == ["z"]


def test_what_was_flushed_is_announced_again_after_the_bound() -> None:
    scene = Scene()
    scene.queued = list("abcd")
    assert scene.look(0) == list("abc")
    scene.messages.clear()
    assert scene.look(4.9) == []
    assert scene.look(5) == list("abc")
    assert scene.look(10) == []


def test_only_as_many_are_announced_again_as_are_missing() -> None:
    """So messages cannot pile up, however long workers are busy."""
    scene = Scene()
    scene.queued = list("abc")
    scene.look(0)
    scene.messages.remove("b")
    assert scene.look(5) == ["a"]
    assert len(scene.messages) == 3 and scene.look(1000) == []
    # The wrong one: "a" has two messages. Once they are taken, "b" is the one that is missing.
    scene.take("a")
    scene.take("c")
    scene.take("a")
    assert scene.look(1001) == ["b"]


def test_the_next_ones_are_looked_for_once_a_quarter_is_free() -> None:
    scene = Scene(window=8)
    scene.queued = [f"{n:02}" for n in range(20)]
    assert len(scene.look(0)) == 8 and scene.announcements.room(8) == 0
    scene.take("00")
    assert scene.look(1) == []
    scene.take("01")
    assert scene.look(2) == ["08", "09"]


def test_who_takes_over_adds_no_more_than_the_window() -> None:
    scene = Scene()
    scene.queued = list("abcde")
    scene.look(0)
    scene.announcements = Announcements(3, 5.0)
    assert scene.look(1) == []
    scene.take("a")
    assert scene.look(2) == ["b"]
    assert len(scene.messages) == 3


def test_a_job_that_is_queued_again_is_announced_again() -> None:
    scene = Scene()
    scene.queued = ["a"]
    assert scene.look(0) == ["a"]
    scene.take("a")
    assert scene.look(1) == []
    scene.queued = ["a"]
    assert scene.look(2) == ["a"]


def test_silence_is_counted_and_not_timed() -> None:
    silence = Silence(2)
    assert silence.look({"a": 1, "b": 1}) == {}
    assert silence.look({"a": 1, "b": 2}) == {}
    assert silence.look({"a": 1, "b": 3}) == {"a": 1}
    assert silence.look({"a": 2, "b": 3}) == {}
    assert silence.look({"b": 3, "c": 0}) == {"b": 3}
    assert silence.look({"b": 4, "c": 0}) == {}
    assert silence.look({"b": 5, "c": 0}) == {"c": 0}
