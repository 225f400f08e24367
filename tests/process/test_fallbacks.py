"""The portable ways, for systems that lack what Linux has: run here with those calls switched off.

Not a Mac: its kernel and its C library may still differ. See docs/platforms.md.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from tests.process import scripts
from tests.process.waiting import Bell, wait_gone

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="switches off what other systems lack")

METHODS = ["template", "spawn", "fork"]

#: found by every interpreter that the program starts, the template's and workers' included
SWITCHED_OFF = """
import os, select, sys
for module, names in ((os, ("memfd_create", "pidfd_open")), (select, ("epoll",))):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sitecustomize.py").write_text(SWITCHED_OFF)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    known = scripts.environment()
    return {**known, "PYTHONPATH": f"{folder}{os.pathsep}{known['PYTHONPATH']}", "PYTHONWARNINGS": "ignore"}


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_without_linux(folder: Path, method: str) -> None:
    """Results, a crash, a deadline, a cancelled call, large items, and an end that leaves nothing."""
    script = folder / "script.py"
    script.write_text(
        "import os, select, sys, allcores\n"
        "from tests.process import crimes\n"
        "def look(_):\n"
        "    return hasattr(os, 'memfd_create') or hasattr(select, 'epoll') or sys.platform\n"
        "with allcores.Pool(2, start_method=sys.argv[1]) as pool:\n"
        "    print(set(pool.map(look, range(5))))\n"
        "    print(pool.map(crimes.run, range(100)) == [number * 2 for number in range(100)])\n"
        "    items = [1, 'segfault', 2, 'spin', 3]\n"
        "    print([o.kind.value for o in pool.outcomes(crimes.run, items, timeout=1)])\n"
        "    future = pool.submit(crimes.run, 'spin')\n"
        "    print(future.cancel(), pool.submit(crimes.run, 4).result())\n"
        "    print(pool.map(len, [bytes(300_000)]))\n"
        "    try:\n"
        "        pool.share(b'')\n"
        "    except allcores.NotSupported as error:\n"
        "        print(error)\n"
    )
    with scripts.running([str(script), method], folder=folder, environ=environment(folder)) as process:
        ending = scripts.finish(process)
    assert ending.lines == [
        "{'darwin'}",
        "True",
        "['ok', 'worker_lost', 'ok', 'timed_out', 'ok']",
        "True 8",
        "[300000]",
        "share() needs memory without a name (memfd), which this system does not have.",
    ], ending
    assert ending.code == 0


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_is_killed_without_linux(folder: Path, method: str) -> None:
    """End of file is the only news; idle workers leave at once, busy ones are ended by who made them."""
    script = folder / "script.py"
    script.write_text(
        "import sys, allcores\n"
        "from tests.process import crimes\n"
        "pool = allcores.Pool(2, start_method=sys.argv[1])\n"
        "futures = [pool.submit(crimes.run, ('ring_and_hang', sys.argv[2])) for _ in range(2)]\n"
        "futures[0].result()\n"
    )
    with Bell(folder / "bell") as bell:
        arguments = [str(script), method, bell.path]
        with scripts.running(arguments, folder=folder, environ=environment(folder)) as process:
            pids = set(bell.pids(2))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            wait_gone(pids)


#: what a process has open that only Linux has
_LINUX_ONLY = """
import os, sys, allcores
def kinds():
    links = []
    for name in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:
            pass  # the folder's own descriptor
    names = "memfd:", "[eventpoll]", "[pidfd]", "[eventfd]"
    return [name for name in names if any(name in link for link in links)]
def look(_):
    return kinds()
"""


@pytest.mark.parametrize("forced", [False, True])
def test_the_portable_path_is_forced_by_a_variable(tmp_path: Path, forced: bool) -> None:
    """In the program and in workers, which are fresh interpreters unless a start method is named."""
    script = tmp_path / "script.py"
    script.write_text(
        _LINUX_ONLY + "from allcores.backends.processes import backend\n"
        "made = []\n"
        "init = backend.ProcessBackend.__init__\n"
        "backend.ProcessBackend.__init__ = lambda self, *given: made.append(given[3]) or init(self, *given)\n"
        "with allcores.Pool(2) as pool:\n"
        "    found = pool.map(look, range(4))\n"
        "    print(made, sorted({kind for each in found for kind in each}), kinds())\n"
        "    print([o.kind.value for o in pool.outcomes(os._exit, [3], timeout=20)])\n"
        "allcores.map(look, range(2))\n"
        "print(made)\n"
    )
    environ = {**scripts.environment(), "ALLCORES_PORTABLE": "1" if forced else "0"}
    with scripts.running([str(script)], folder=tmp_path, environ=environ) as process:
        ending = scripts.finish(process)
    method = "spawn" if forced else "template"
    assert ending.lines[1:] == ["['worker_lost']", f"['{method}', '{method}']"], ending
    if forced:
        assert ending.lines[0] == "['spawn'] [] []"
    else:
        assert ending.lines[0].startswith("['template'] ['memfd:']"), ending
        assert "[eventpoll]" in ending.lines[0]
