"""No text of others commands the terminal, wherever it is shown."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import select
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from allcores.cli.main import main
from allcores.cli.output import print_error, say, show, write_json
from allcores.cli.summary import example_text
from allcores.events import PoolBroken
from allcores.outcome import Kind, Outcome
from allcores.pool.pool_log import PoolLog
from allcores.sinks.json_stream import JsonLinesSink
from allcores.system.terminal_text import safe_json, safe_line, safe_text

#: clipboard, title, C1 forms of CSI and OSC, cursor, reversed writing, deleted text, a byte that is no text
TEXT = "\x1b]52;c;aGk=\x07 \x1b]0;title\x1b\\ \x9b2J \x9d52;c;eA==\x9c \x1b[2J\r\b\x7f \u202egnp.exe \u2066x\u2069"
BAD = f"{TEXT} \udc9b2J"


def commands(text: str) -> set[str]:
    """Characters in `text` that are controls (but tabulators and newlines), change its direction, or are no text."""
    return {
        each
        for each in text
        if (unicodedata.category(each) in ("Cc", "Cs") and each not in "\t\n")
        or unicodedata.bidirectional(each) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    }


def test_every_character() -> None:
    """All controls there are become escapes; all letters stay."""
    blocks = (range(0x3100), range(0xD700, 0x10000), range(0xE0000, 0xE0200), range(0x1F600, 0x1F680))
    everything = "".join(chr(each) for block in blocks for each in block)
    assert not commands(safe_text(everything))
    assert not commands(safe_line(everything)) and not {"\n", "\t"} & set(safe_line(everything))
    letters = "".join(each for each in everything if unicodedata.category(each)[0] in "LMNPSZ")
    assert safe_text(letters.replace("\u2028", "").replace("\u2029", "")) == letters.replace("\u2028", "").replace(
        "\u2029", ""
    )
    assert safe_line("a\x1b]\n\x9b\u202e\U000e0041") == r"a\x1b]\n\x9b\u202e\U000e0041"


def test_json_stays_the_same_value() -> None:
    """What a terminal is shown is what a file would hold, in other characters."""
    text = json.dumps([BAD, "\U000e0041ä"], ensure_ascii=False)
    assert json.loads(safe_json(text)) == [BAD, "\U000e0041ä"] and not commands(safe_json(text))


def test_what_the_command_says(capfd: pytest.CaptureFixture[str]) -> None:
    """Each way to write: sentences, text, JSON, an example of a failure, and click's own messages."""
    say(BAD)
    print_error(BAD)
    show(BAD)
    write_json({BAD: BAD})
    kind = type(f"Odd{TEXT}", (Exception,), {})
    say(example_text(Outcome(0, Kind.FAILED, error=kind(BAD), item=BAD)))
    main(["runs", f"--{BAD}"])
    main([BAD])
    main(["runs", "show", BAD])
    found = capfd.readouterr()
    assert "52;c;" in found.out and found.err.count("52;c;") >= 5
    assert not commands(found.out + found.err)


def test_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live view, bar and `allcores top` are drawn by rich, which hands on what it gets."""
    console = pytest.importorskip("rich.console")
    from allcores.events import MapStarted
    from allcores.monitoring import ProgressBar
    from allcores.monitoring.live_view import styled

    file = io.StringIO()
    screen = console.Console(file=file, width=200, force_terminal=False)
    screen.print(styled([[(BAD, "red")], [("items", "")]]))
    screen = console.Console(file=file, width=300, force_terminal=True, color_system=None)
    bar = ProgressBar(f"[red]{BAD}", console=screen)
    try:
        bar(MapStarted(1, 3))
    finally:
        bar.close()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", file.getvalue())
    assert "52;c;" in text and not commands(text)


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The pool's own records go to whatever handlers there are, a terminal's for one."""
    caplog.set_level(logging.DEBUG, "allcores")
    PoolLog("pool")(PoolBroken(error=ValueError(BAD)))
    assert caplog.records and not commands(caplog.records[0].getMessage())


def test_lines_on_a_terminal() -> None:
    """Lines of JSON on standard output are safe where that is a terminal, and as they are where it is none."""
    main_end, end = pty.openpty()
    try:
        with JsonLinesSink(os.dup(end), name="x") as sink:
            sink.write(Outcome(0, Kind.OK, json.dumps("\x9b\u202e", ensure_ascii=False)))
        assert json.loads(os.read(main_end, 1000)) == "\x9b\u202e"
    finally:
        os.close(main_end)
        os.close(end)
    reading, writing = os.pipe()
    with JsonLinesSink(writing, name="x") as sink:
        sink.write(Outcome(0, Kind.OK, json.dumps("\x9b", ensure_ascii=False)))
    assert os.read(reading, 1000).decode() == '"\x9b"\n'
    os.close(reading)


SCRIPT = f"""
TEXT, BAD = {TEXT!r}, {BAD!r}
def call(item):
    kind = type("Odd" + TEXT, (Exception,), {{}})
    raise kind(BAD)
"""


def on_terminal(folder: Path, *arguments: str) -> str:
    """What a command writes to a terminal, without the sequences by which rich moves and colours."""
    main_end, end = pty.openpty()
    environment = {**os.environ, "ALLCORES_HOME": str(folder / "home"), "TERM": "xterm", "COLUMNS": "200"}
    process = subprocess.Popen(
        [sys.executable, "-m", "allcores", *arguments],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=end, stderr=end,
    )  # fmt: skip
    os.close(end)
    found = b""
    try:
        while select.select([main_end], [], [], 50)[0]:
            try:
                data = os.read(main_end, 65536)
            except OSError:
                break
            if not data:
                break
            found += data
        process.wait(50)
    finally:
        process.kill()
        process.wait()
        os.close(main_end)
    text = found.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", text)


def test_commands_on_a_real_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Run with a live view, look at the run, list it, export its failures: nothing of the items' text gets through."""
    (tmp_path / "work.py").write_text(SCRIPT)
    name = "in\x1b]0;title\x07\x9b.jsonl"
    (tmp_path / name).write_text(json.dumps(BAD) + "\n")
    shown = on_terminal(tmp_path, "run", "work.py:call", name, "-o", "out\u202e\x9b.jsonl", "--on-error", "record")
    assert "52;c;" in shown and not commands(shown)
    shown = on_terminal(tmp_path, "runs", "failures", "latest")
    assert json.loads(shown)["item"] == BAD and not commands(shown)
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for arguments in (["runs"], ["runs", "show", "latest"], ["runs", "show", "latest", "--json"], ["runs", "rm", name]):
        main(arguments)
        found = capfd.readouterr()
        assert found.out + found.err and not commands(found.out + found.err), arguments


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_what_a_terminal_has_no_sign_for_is_an_escape(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Where a person works in another encoding than UTF-8 a list of runs is shown all the same."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    show("work:f \N{RIGHTWARDS ARROW} out.jsonl, \N{LATIN SMALL LETTER A WITH DIAERESIS}")
    assert raw.getvalue().decode(encoding).startswith("work:f \\u2192 out.jsonl, ")
