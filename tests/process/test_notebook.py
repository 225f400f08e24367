"""A real Jupyter kernel: functions of cells, the progress bar, a cell that is interrupted, a kernel restarted."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.process import scripts
from tests.process.waiting import PATIENCE_S, Bell, wait_gone

pytestmark = [
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("ipykernel", "jupyter_client")), reason="needs ipykernel"
    ),
    # Its client keeps an event loop for the rest of the program; what becomes of processes is looked at here.
    pytest.mark.leaks_allowed,
    # of the client's own libraries
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Kernel:
    """A kernel, and the client that a notebook is for it."""

    def __init__(self, folder: Path) -> None:
        from jupyter_client.manager import KernelManager

        self.manager: Any = KernelManager(kernel_name="python3")
        environment = {**scripts.environment(), "JUPYTER_RUNTIME_DIR": str(folder), "IPYTHONDIR": str(folder)}
        # Those of the kernel's own libraries, on Pythons newer than they know.
        environment["PYTHONWARNINGS"] = f"{environment.get('PYTHONWARNINGS', '')},ignore::DeprecationWarning".strip(",")
        self.manager.start_kernel(cwd=str(folder), env=environment)
        self.client: Any = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE_S)

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; the contents of its outputs. Raises AssertionError if it fails."""
        outputs: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(
            code, timeout=PATIENCE_S, output_hook=lambda message: outputs.append(message["content"])
        )
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
        return outputs

    def printed(self, code: str) -> str:
        """What a cell prints on standard output."""
        return "".join(each["text"] for each in self.run(code) if each.get("name") == "stdout")

    def reply_of(self, number: str) -> dict[str, Any]:
        """The reply to a cell that was begun by `client.execute`."""
        while True:
            message = self.client.get_shell_msg(timeout=PATIENCE_S)
            if message["parent_header"].get("msg_id") == number:
                content: dict[str, Any] = message["content"]
                return content

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    made = Kernel(tmp_path)
    yield made
    made.close()


FIRST = """
import os, allcores
factor = 3
def scaled(number):
    return number * factor
"""


def test_functions_of_cells_run_as_they_stand(kernel: Kernel) -> None:
    """Also when the cell, or one that it uses, is run again with other contents."""
    kernel.run(FIRST)
    assert kernel.printed("print(allcores.map(scaled, range(4)))") == "[0, 3, 6, 9]\n"
    kernel.run("factor = 5")
    assert kernel.printed("print(allcores.map(scaled, range(4)))") == "[0, 5, 10, 15]\n"
    kernel.run("def scaled(number):\n    return -number")
    assert kernel.printed("print(allcores.map(scaled, range(4)))") == "[0, -1, -2, -3]\n"
    assert (
        kernel.printed("print(sorted(set(allcores.map(lambda _: os.getpid() != os.getppid(), range(4)))))")
        == "[True]\n"
    )


def test_the_progress_bar_is_a_line_that_stays(kernel: Kernel) -> None:
    """Text, which a saved notebook keeps; no widget, and no control characters."""
    kernel.run(FIRST)
    outputs = kernel.run("results = allcores.map(scaled, range(50), progress='cells')")
    lines = [each["data"]["text/plain"] for each in outputs if "data" in each]
    assert lines and lines[-1].startswith("cells") and "50/50" in lines[-1]
    assert "\x1b" not in lines[-1]
    assert not any("widget" in kind for each in outputs for kind in each.get("data", {}))


def test_a_cell_that_is_interrupted_ends_and_the_next_one_works(kernel: Kernel, tmp_path: Path) -> None:
    """What runs is finished, as with Ctrl-C in a terminal, and the results so far come with the error."""
    kernel.run(FIRST)
    with Bell(tmp_path / "bell") as bell:
        kernel.run(f"from tests.process.waiting import ring\nbell = {bell.path!r}")
        kernel.run("import time\ndef waits(number):\n    number or ring(bell)\n    time.sleep(0.05)")
        # The kernel aborts requests that come shortly after an error, unless it is told not to.
        number = kernel.client.execute("allcores.map(waits, range(10**6))", stop_on_error=False)
        bell.hear()
        kernel.manager.interrupt_kernel()
        reply = kernel.reply_of(number)
        assert (reply["status"], reply["ename"]) == ("error", "Interrupted")
    assert kernel.printed("print(allcores.map(scaled, range(3)))") == "[0, 3, 6]\n"


@pytest.mark.parametrize("now", [True, False])
def test_a_kernel_that_is_restarted_leaves_no_process(kernel: Kernel, now: bool) -> None:
    """Neither a worker nor what has started it, and the new kernel begins with none."""
    kernel.run(FIRST)
    kernel.run("pool = allcores.Pool(2)\nassert pool.map(scaled, range(9)) and allcores.map(scaled, range(9))")
    pids = kernel.printed(
        "import subprocess\n"
        "def below(pid):\n"
        "    found = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(pid)], capture_output=True, text=True)\n"
        "    return [each for child in found.stdout.split() for each in (int(child), *below(child))]\n"
        "print(*{os.getpid(), *below(os.getpid()), *(status.pid for status in pool.worker_status())})"
    )
    assert len(pids.split()) > 4
    kernel.manager.restart_kernel(now=now)
    wait_gone([int(pid) for pid in pids.split()])
    kernel.client.wait_for_ready(timeout=PATIENCE_S)
    kernel.run(FIRST)
    assert kernel.printed("print(allcores.map(scaled, range(3)))") == "[0, 3, 6]\n"
