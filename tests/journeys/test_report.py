"""`allcores run --timeline`, `allcores report` and `allcores trace`, as a shell and a browser see them."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.process.warm import Interpreter

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WORK = """
import time

def picky(x):
    time.sleep(0.002)
    if int(x) % 20 == 3:
        raise ValueError(f"no price for article {x}, which has a_name_that_is_long_and_has_no_blanks_" + "x" * 80)
    return int(x)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "numbers.txt").write_text("".join(f"{n}\n" for n in range(400)))
    return tmp_path


Run = Callable[..., str]


@pytest.fixture
def run(warm: Interpreter, folder: Path) -> Run:
    """What `python -m allcores` with words says on standard error, in the folder, when it exits with the code."""

    def run(*words: str, code: int = 0) -> str:
        done = warm.run(*words, folder=folder, environ={"XDG_STATE_HOME": str(folder / "state")})
        assert done.code == code, done.err
        return done.err

    return run


def recorded(run: Run, name: str = "run.jsonl.gz") -> None:
    run(
        "run", "work.py:picky", "numbers.txt", "-o", "out.jsonl", "--on-error", "skip", "--timeline", name,
        "--trace", "trace.json", "--workers", "2", code=1,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_with_a_journal_is_reported_by_its_name(run: Run, folder: Path) -> None:
    """It records into its own folder, without being asked."""
    where = ["--runs-dir", "runs"]
    run("run", "work.py:picky", "numbers.txt", "-o", "out.jsonl", "--on-error", "skip", *where, code=1)
    (name,) = os.listdir(folder / "runs")
    for wanted in (name, "latest"):
        assert "of the" in run("report", wanted, "-o", f"{wanted}.html", *where)
        assert "no price for article" in (folder / f"{wanted}.html").read_text()
    assert "ui.perfetto.dev" in run("trace", "latest", *where)
    assert len(json.loads((folder / "trace.json").read_text())["traceEvents"]) > 400 / 20
    assert "there is no run 'other'" in run("report", "other", *where, code=2)
    for command in ("report", "trace"):
        assert "there are no runs in" in run(command, "latest", "--runs-dir", "none", code=2)


@pytest.mark.slow
def test_each_session_of_a_resumed_run_has_a_timeline(run: Run, folder: Path) -> None:
    """The last one in which something was run is shown, and how to see the others."""
    words = ["run", "work.py:picky", "numbers.txt", "-o", "out.jsonl", "--on-error", "record", "--runs-dir", "runs"]
    where = ["latest", "--runs-dir", "runs"]
    run(*words, code=1)
    assert "session" not in run("report", *where)
    run(*words, "--resume", "--retry-failed", code=1)
    run(*words, "--resume", code=1)
    assert "This is session 2; --session shows another (1)." in run("report", *where)
    assert "<dt>items tried</dt><dd>20</dd>" in (folder / "report.html").read_text()
    run("report", *where, "--session", "1")
    assert "<dt>items tried</dt><dd>400</dd>" in (folder / "report.html").read_text()
    assert "session 3: it has 1, 2" in run("trace", *where, "--session", "3", code=2)


def test_a_resumed_run_leaves_the_recording_of_an_earlier_session(run: Run, folder: Path) -> None:
    """It is recorded beside that: by the same command, by `runs resume`, and not at all where the run is refused."""
    (folder / "short.txt").write_text("".join(f"{n}\n" for n in range(8)))
    words = ["run", "work.py:picky", "short.txt", "-o", "out.jsonl", "--runs-dir", "runs"]
    words += ["--timeline", "run.jsonl", "--trace", "trace.json"]
    run(*words, code=3)
    first = [(folder / name).read_bytes() for name in ("run.jsonl", "trace.json")]
    work = (folder / "work.py").read_text()
    (folder / "work.py").write_text(work.replace("% 20", "% 30"))
    run(*words, "--resume", code=2)
    assert sorted(path.name for path in folder.glob("run*.jsonl")) == ["run.jsonl"]
    (folder / "work.py").write_text(work)
    said = run(*words, "--resume", code=3)
    assert "the timeline of this session is written to run-2.jsonl: run.jsonl has an earlier one" in said
    assert "the trace of this session is written to trace-2.json: trace.json has an earlier one" in said
    run("runs", "resume", "latest", "--runs-dir", "runs", code=3)
    assert first == [(folder / name).read_bytes() for name in ("run.jsonl", "trace.json")]
    assert sorted(path.name for path in folder.glob("run*.jsonl")) == ["run-2.jsonl", "run-3.jsonl", "run.jsonl"]
    assert sorted(path.name for path in folder.glob("trace*.json")) == ["trace-2.json", "trace-3.json", "trace.json"]
    run("report", "run-3.jsonl")
    assert "<dt>items tried</dt><dd>" in (folder / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.quick
def test_a_run_leaves_a_timeline_from_which_report_and_trace_are_made(run: Run, folder: Path) -> None:
    """All of them tell of the same run."""
    recorded(run)
    said = run("report", "run.jsonl.gz")
    assert "report.html: " in said
    report = (folder / "report.html").read_text()
    assert "<dt>items tried</dt><dd>400</dd>" in report
    assert "ValueError: no price for article 3" in report
    run("trace", "run.jsonl.gz", "-o", "again.json")
    first, again = (json.loads((folder / name).read_text()) for name in ("trace.json", "again.json"))
    assert [event for event in first["traceEvents"] if event["ph"] == "X"]
    assert len(first["traceEvents"]) == len(again["traceEvents"])


def test_what_a_command_warns_of_is_a_sentence(run: Run, folder: Path) -> None:
    """Not a line of a library and the name of a class: there is no program whose line could be told."""
    said = run(
        "run", "work.py:picky", "numbers.txt", "-o", "o.jsonl", "--on-error", "skip", "--timeline", "/dev/full", code=1
    )
    assert "note: The timeline '/dev/full' ends here: No space left on device." in said.splitlines()
    assert "Warning" not in said


def test_mistakes_cost_one_sentence(run: Run, folder: Path) -> None:
    """What is no timeline, what cannot be written, what is not installed."""
    assert run("report", "work.py", code=2).startswith("allcores: 'work.py' is no timeline")
    assert "'none.jsonl' cannot be read: No such file" in run("report", "none.jsonl", code=2)
    said = run("run", "work.py:picky", "numbers.txt", "--timeline", "no/such/folder.jsonl", code=2)
    assert "cannot write no/such/folder.jsonl: there is no folder" in said
    assert len(said.splitlines()) == 1
    (folder / "t.jsonl").write_text('{"format": "allcores.timeline", "version": 1}\n')
    assert "cannot be written" in run("trace", "t.jsonl", "-o", "no/trace.json", code=2)
    hide = "import sys; sys.modules['jinja2'] = None; from allcores.cli.main import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-c", hide, "report", "t.jsonl"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (2, "allcores: reports need Jinja2: pip install 'allcores[report]'\n")


def test_report_refers_to_nothing_outside(run: Run, folder: Path) -> None:
    """No script, no address, and the page itself forbids both."""
    (folder / "t.jsonl").write_text('{"format": "allcores.timeline", "version": 1}\n')
    run("report", "t.jsonl")
    report = (folder / "report.html").read_text()
    assert "<script" not in report
    assert "://" not in report
    assert not re.search(r"(src|href)=\"(?!data:,)", report)
    assert "default-src 'none'" in report


# --- in a browser ---


def browse(folder: Path, page: Path, *options: str) -> tuple[str, str, list[str]]:
    """The page as the browser has it, its console's messages, and the addresses that it asked for."""
    assert CHROMIUM is not None
    log = folder / "net.json"
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-extensions", "--disable-default-apps", "--no-default-browser-check",
            "--disable-features=OptimizationHints,MediaRouter", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", "--log-level=0", f"--log-net-log={log}", *options, "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    # What Chromium asks for on its own behalf (the time, its accounts) has no origin.
    asked = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    asked = [each for each in asked if each.get("initiator") not in (None, "not an origin")]
    return done.stdout, "\n".join(messages), [each["url"] for each in asked if "url" in each]


MEASURE = """
const frame = document.querySelector("iframe"), page = frame.contentDocument;
frame.onload = () => {
  const inner = frame.contentDocument, root = inner.documentElement;
  const sizes = selector => [...inner.querySelectorAll(selector)].map(each => each.getBoundingClientRect());
  const filled = selector => sizes(selector).filter(each => each.width > 0 && each.height > 0).length;
  document.querySelector("pre").textContent = JSON.stringify({
    width: root.clientWidth, scroll: root.scrollWidth,
    stack: filled(".stack i"), lanes: filled("#chart-lanes .function"),
    failed: inner.querySelectorAll("#chart-lanes .mark.failed").length,
    pace: filled("#chart-pace path"), bars: filled("#chart-times .bar"), causes: filled("#chart-failures .bar"),
    slowest: inner.querySelectorAll("#slowest tbody tr").length,
    tables: inner.querySelectorAll("details table").length,
    unnamed: inner.querySelectorAll("svg:not([aria-hidden]):not([aria-label])").length,
    ground: getComputedStyle(inner.body).backgroundColor,
  });
};
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_report_in_a_browser(run: Run, folder: Path) -> None:
    """Every chart has content, nothing is asked for or warned of, and a phone need not scroll sideways."""
    recorded(run)
    run("report", "run.jsonl.gz")
    report = folder / "report.html"
    _, messages, asked = browse(folder, report)
    assert messages == ""
    assert asked == []
    # The check would see one that the page asks for.
    (folder / "asking.html").write_text('<link rel="icon" href="data:,"><img src="http://127.0.0.1:9/x.png">')
    assert browse(folder, folder / "asking.html")[2] == ["http://127.0.0.1:9/x.png"]
    # Measured from outside: the page itself may run no script.
    page = folder / "phone.html"
    quoted = html.escape(report.read_text())
    page.write_text(
        f'<meta charset="utf-8"><iframe style="width: 390px; height: 3000px; border: 0" srcdoc="{quoted}"></iframe>'
        f"<pre></pre><script>{MEASURE}</script>"
    )
    dom, messages, _ = browse(folder, page, "--virtual-time-budget=5000")
    assert messages == ""
    found = re.search(r"<pre>(\{.*\})</pre>", dom)
    assert found is not None, dom[-2000:]
    measured = json.loads(found[1])
    # The frame's own scroll bar takes some of it.
    assert measured["scroll"] == measured["width"] <= 390
    for chart in ("stack", "lanes", "failed", "pace", "bars", "causes", "slowest", "tables"):
        assert measured[chart] > 0, chart
    assert measured["unnamed"] == 0
    dark, _, _ = browse(folder, page, "--virtual-time-budget=5000", "--blink-settings=preferredColorScheme=0")
    found = re.search(r"<pre>(\{.*\})</pre>", dark)
    assert found is not None
    assert json.loads(found[1])["ground"] != measured["ground"]
