"""A profiled program does not notice it: all that it prints, reads, raises and ends with is as under plain python."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.profiling.profiled import plain, profile
from tests.process.scripts import PATHS, environment, finish, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have CPU clocks there")

ENDS = {
    "returns": "print('done')",
    "exits with 3": "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)",
    "exits with a text": "raise SystemExit('that is why')",
    "raises": "def inner(value):\n    return 1 / value\n\n\nprint([inner(x) for x in (1, 0)])",
    "raises a group": "raise ExceptionGroup('all', [ValueError(1), KeyError('k')])",
    "has a syntax error": "def (",
    "is killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "ends by a signal": "import os, signal; print('x', flush=True); os.kill(os.getpid(), signal.SIGTERM)",
    "leaves at once": "import os; os._exit(7)",
    "ends by Ctrl-C": "raise KeyboardInterrupt",
}


@pytest.mark.parametrize("source", ENDS.values(), ids=ENDS)
def test_it_ends_as_under_python(source: str, tmp_path: Path) -> None:
    """Exit code or signal, standard output, and standard error with its traceback, to the byte."""
    assert profile(source, tmp_path).ended == plain(source, tmp_path)


LOOK = """
import os, sys, threading, signal
print(__name__, __file__, sys.argv, sys.path, __spec__, __builtins__ is not None)
print(sys.stdin.read())
print(sorted(vars()))
print(threading.active_count(), [each.name for each in threading.enumerate()])
print(sys.gettrace(), sys.getprofile(), sys.getswitchinterval(), "sitecustomize" in sys.modules)
print([str(signal.getsignal(each)) for each in sorted(signal.valid_signals())])
print(signal.getitimer(signal.ITIMER_PROF), signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(open(__file__).fileno(), os.getcwd(), os.isatty(0))
import __main__
print(__main__.__file__, [each for each in sys.modules if each.startswith("allcores")])
"""


def test_it_sees_itself_as_under_python(tmp_path: Path) -> None:
    """Arguments, input, `__main__`, import path, threads, hooks, signals and descriptors are those of plain python."""
    arguments = ("--json", "-m", "two words", "")
    assert profile(LOOK, tmp_path, *arguments, text="line\n").ended == plain(LOOK, tmp_path, *arguments, text="line\n")


OWN_TIMER = """
import signal, time
ticks = []
signal.signal(signal.SIGPROF, lambda number, frame: ticks.append(frame.f_code.co_name))
signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)

def burn():
    end = time.process_time() + 0.5
    while time.process_time() < end:
        pass

burn()
signal.setitimer(signal.ITIMER_PROF, 0)
# A tick may come while the last one is being noted.
print(len(ticks) > 10, set(ticks) <= {"burn", "<lambda>", "<module>"})
"""


def test_a_timer_of_its_own_works(tmp_path: Path) -> None:
    """A program that uses SIGPROF gets its own ticks and no others: it is sampled without signals."""
    done = profile(OWN_TIMER, tmp_path)
    assert (done.ended.code, done.ended.out, done.ended.err) == (0, "True True\n", "")
    assert done.found["samples"] > 10


INTERRUPTED_CALLS = """
import ctypes, os, select, time
libc = ctypes.CDLL(None, use_errno=True)

class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]

libc.nanosleep.argtypes = [ctypes.POINTER(Timespec), ctypes.c_void_p]
print([libc.nanosleep(Timespec(0, 30_000_000), None) for _ in range(10)])
"""


def test_no_call_is_interrupted(tmp_path: Path) -> None:
    """A system call without a retry (a C library's, say) is never cut short by EINTR."""
    assert profile(INTERRUPTED_CALLS, tmp_path).ended.out == f"{[0] * 10}\n"


DESCRIPTORS = """
import os
os.closerange(3, 64)
files = [open(__file__) for _ in range(20)]
total = 0
for round in range(40):
    for each in files:
        each.seek(0)
        total += len(each.read())
    total += sum(x * x for x in range(50_000)) % 7
# For some microseconds the sampler reads a file of /proc: one number more may have been taken.
print({each.fileno() for each in files} <= set(range(3, 24)), total > 0)
"""


def test_a_program_may_close_what_it_does_not_know(tmp_path: Path) -> None:
    """The sampler holds no descriptor: a daemon that closes all of them meets none of ours, nor writes into ours."""
    done = profile(DESCRIPTORS, tmp_path)
    assert done.ended.out == "True True\n"
    assert not done.found["sampler"]["failures"]


LOCALS = """
import gc, weakref

class Thing:
    pass

def work():
    thing = Thing()
    gone = weakref.ref(thing)
    names = locals()
    for i in range(300_000):
        i * i
    before = len(names)
    del thing, names
    return gone() is None, before

def quiet():
    thing = Thing()
    gone = weakref.ref(thing)
    for i in range(300_000):
        i * i
    del thing
    return gone() is None

print(work(), quiet())
"""


def test_values_are_neither_kept_nor_changed(tmp_path: Path) -> None:
    """What a name held is freed when the program lets it go, and the dictionary of `locals()` stays as it was."""
    assert profile(LOCALS, tmp_path, options=("--rate", "200")).ended == plain(LOCALS, tmp_path)


TRACED = """
import sys

def linger():
    for _ in range(200):
        pass

class Tool:
    def trace(self, frame, event, arg):
        for _ in range(200):
            pass
        return self.trace

    def count(self, *arguments):
        linger()

def work(n, three):
    first, total = n, 0
    for i in range(300):
        total += three(i, first, n)
        total += abs(i)
    return total + first

def three(one, two, last):
    product = one * two
    linger()
    return product - last

set, name = {"trace": (sys.settrace, "trace"), "calls": (sys.settrace, "count"), "profile": (sys.setprofile, "count")}[
    sys.argv[1]
]
set(getattr(Tool(), name))
found = [work(n, three) for n in range(3 if name == "trace" else 100)]
set(None)
print(sum(found))
"""


@pytest.mark.parametrize("tool", ["trace", "calls", "profile"])
def test_a_program_that_traces_itself_keeps_its_names(tool: str, tmp_path: Path) -> None:
    """Where a trace or profile function is called, Python writes back what it was shown of a frame's names."""
    assert profile(TRACED, tmp_path, tool, options=("--rate", "200")).ended == plain(TRACED, tmp_path, tool)


OWN_SITE = "import sys; sys.mine = 'found'"


def test_the_program_s_own_sitecustomize_is_imported(tmp_path: Path) -> None:
    """The one that the program would have had is imported after ours, once, under its own name."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OWN_SITE)
    (tmp_path / "script.py").write_text("import sys; print(sys.mine, sys.modules['sitecustomize'].__file__)")
    environ = environment(PYTHONPATH=os.pathsep.join([str(folder), *PATHS]))
    command = ["-m", "allcores", "profile", "--report", "report.txt", "script.py"]
    with running(command, folder=tmp_path, environ=environ) as process:
        done = finish(process)
    assert (done.code, done.out, done.err) == (0, f"found {folder / 'sitecustomize.py'}\n", "")


WAITS = """
import os, sys, time

def handler(number, frame):
    os.write(1, b"told\\n")  # not print, which it may interrupt
    sys.exit(5)

import signal
signal.signal(signal.SIGTERM, handler)
print("ready", flush=True)
while True:
    sum(x * x for x in range(10_000))
"""


def test_a_signal_reaches_the_program_and_the_report_is_made(tmp_path: Path) -> None:
    """SIGTERM to the command is the program's, which ends as it likes; the report is of what was sampled."""
    (tmp_path / "script.py").write_text(WAITS)
    command = ["-m", "allcores", "profile", "--report", "report.txt", "script.py"]
    with running(command, folder=tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        done = finish(process)
    assert (done.code, done.out, done.err) == (5, "told\n", "")
    assert "ended with 5" in (tmp_path / "report.txt").read_text()


def test_ctrl_c_ends_the_program_and_the_report_is_made(tmp_path: Path) -> None:
    """Ctrl-C in a terminal goes to both: the program gets its KeyboardInterrupt, and the command reports."""
    source = "print('ready', flush=True)\nwhile True:\n    sum(x * x for x in range(10_000))\n"
    (tmp_path / "script.py").write_text(source)
    command = ["-m", "allcores", "profile", "script.py"]
    with running(command, folder=tmp_path, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        os.killpg(process.pid, signal.SIGINT)
        done = finish(process)
    assert done.code == -signal.SIGINT
    assert "KeyboardInterrupt" in done.err
    assert "was ended by signal 2" in done.err


COUNTS = """
import os, signal
told = []

def handler(number, frame):
    told.append(number)
    os.write(1, b"%d\\n" % number)

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
    signal.signal(number, handler)
os.write(1, b"ready\\n")
while signal.SIGUSR1 not in told:
    sum(range(10_000))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("group", [False, True])
def test_a_signal_reaches_the_program_once(group: bool, number: signal.Signals, tmp_path: Path) -> None:
    """Whether the command alone is sent it, by a service manager say, or all of its group, by a terminal say."""
    (tmp_path / "script.py").write_text(COUNTS)
    command = ["-m", "allcores", "profile", "--report", "report.txt", "script.py"]
    with running(command, folder=tmp_path, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        for _ in range(2):
            (os.killpg if group else os.kill)(process.pid, number)
            assert int(process.stdout.readline()) == number
        process.send_signal(signal.SIGUSR1)
        # What else comes of the others comes before it, for it is handed on behind them.
        done = finish(process)
    assert (done.code, done.out, done.err) == (0, f"{int(signal.SIGUSR1)}\n", "")


ENDS_BY_CTRL_C = """
try:
    print("ready", flush=True)
    while True:
        sum(range(10_000))
except KeyboardInterrupt:
    print("told")
"""


def test_ctrl_c_in_a_container_without_a_terminal_reaches_the_program(tmp_path: Path) -> None:
    """There the first process alone gets it, which is the command."""
    alone = ["unshare", "--fork", "--pid", "--kill-child"]
    try:
        if subprocess.run([*alone, "true"], capture_output=True).returncode:
            pytest.skip("namespaces cannot be made here")
    except FileNotFoundError:
        pytest.skip("there is no unshare")
    (tmp_path / "script.py").write_text(ENDS_BY_CTRL_C)
    command = [*alone, sys.executable, "-m", "allcores", "profile", "--report", "report.txt", "script.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(first), signal.SIGINT)
        done = finish(process)
    finally:
        process.kill()
        process.wait()
    assert (done.code, done.out, done.err) == (0, "told\n", "")
    assert "ended with 0" in (tmp_path / "report.txt").read_text()


def test_a_killed_command_takes_its_program_along(tmp_path: Path) -> None:
    """What started the command and kills it is left with no program that runs on."""
    source = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)\n"
    (tmp_path / "script.py").write_text(source)
    command = ["-m", "allcores", "profile", "script.py"]
    with running(command, folder=tmp_path) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline())
        process.kill()
        assert process.stdout.read() == b""  # the end of all who had it
