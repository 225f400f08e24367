"""The stack of a process is whole, also where a busy machine leaves its writer amid a line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.waiting import wait_until as until

from allcores.jobs import stacks
from allcores.system import procfs

pytestmark = pytest.mark.skipif(not procfs.AVAILABLE, reason="needs Linux")
LISTENS = """\
import sys
from allcores.jobs import stacks
stacks.listen(sys.argv[1])
print(flush=True)
sys.stdin.read()
"""


def test_a_stack_is_waited_for_until_its_handler_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not whole because it did not grow for a moment."""
    command = [sys.executable, "-c", LISTENS, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        path = tmp_path / stacks.FOLDER / str(process.pid)
        looks: list[set[str]] = []

        def blocking(pid: int, number: int) -> set[str]:
            """The handler is amid its text for five looks, and adds the rest of it with the last one."""
            looks.append({"9"} if 1 <= len(looks) <= 5 else set())
            if len(looks) == 6:
                with path.open("a") as file:
                    file.write("the rest\n")
            return looks[-1]

        monkeypatch.setattr(procfs, "blocking", blocking)
        text = stacks.of_process(tmp_path, process.pid)
        process.communicate()
    assert "<string>" in text and text.endswith("the rest\n")


def test_the_handler_of_a_stack_is_seen_while_it_writes() -> None:
    """Its signal is blocked then: here it waits for a pipe that is full."""
    number = stacks._signal_number
    assert number is not None
    read, write = os.pipe()
    code = (
        f"import faulthandler, os, sys; os.set_blocking({write}, False)\n"
        "try:\n"
        f"    while True: os.write({write}, b'x' * 4096)\n"
        "except BlockingIOError: pass\n"
        f"os.set_blocking({write}, True); faulthandler.register({number}, {write}, chain=False)\n"
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[write]
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert procfs.blocking(process.pid, number) == set()
        os.kill(process.pid, number)
        until(lambda: procfs.blocking(process.pid, number) == {str(process.pid)}, "the handler")
        os.close(write)
        while os.read(read, 65_536).endswith(b"x"):
            pass
        until(lambda: procfs.blocking(process.pid, number) == set(), "its end")
        process.communicate()
    os.close(read)
