"""Standard output whose reader reads nothing for now (`| less`), and Ctrl-C."""

from __future__ import annotations

import os
import threading

import pytest

from allcores.outcome import Kind, Outcome
from allcores.sinks import json_stream
from allcores.sinks.json_stream import JsonLinesSink

#: more than a pipe takes
LONG = "1" * 300_000


def interrupted(sink: JsonLinesSink, line: str, *, then: type[BaseException]) -> threading.Thread:
    """Writes a line, and is interrupted; the thread that does so."""

    def write() -> None:
        try:
            with sink:
                with sink._lock:
                    sink._lines.append(f"{line}\n")
                raise then
        except then:
            pass

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    return thread


def test_it_does_not_hold_up_who_was_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "LAST_S", 0.01)
    reader, writer = os.pipe()
    sink = JsonLinesSink(writer, name="standard output")
    thread = interrupted(sink, LONG, then=KeyboardInterrupt)
    try:
        thread.join(60)
        assert not thread.is_alive()
        assert sink._flusher.is_alive()
    finally:
        with open(reader, "rb") as file:
            assert file.read(len(LONG) + 1) == f"{LONG}\n".encode()
            sink.close()
            thread.join()


@pytest.mark.parametrize("then", [KeyboardInterrupt, ValueError])
def test_what_waits_is_written_all_the_same(then: type[BaseException]) -> None:
    """And whole, where somebody reads."""
    reader, writer = os.pipe()
    sink = JsonLinesSink(writer, name="standard output")
    sink.write(Outcome(0, Kind.OK, "0"))
    thread = interrupted(sink, LONG, then=then)
    with open(reader, "rb") as file:
        assert file.read() == f"0\n{LONG}\n".encode()
    thread.join()
    assert not sink._flusher.is_alive()
