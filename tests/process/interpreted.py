"""Tasks for interpreters."""

from __future__ import annotations

import importlib
import os
import threading
import time
from typing import Any

STARTED: list[int] = []


def double(number: int) -> int:
    return number * 2


def interpreter(record: Any) -> tuple[Any, int]:
    """The record, and the number of the interpreter: 0 is the program's."""
    return record, importlib.import_module("concurrent.interpreters").get_current().id


def load_refused(_: object) -> None:
    import faulthandler  # noqa: F401


def load_if_it_can_be(_: object) -> str:
    try:
        import faulthandler  # noqa: F401
    except ImportError:
        return "without"
    return "with"


def fork(_: object) -> int:
    return os.fork()


def exit_with(code: int) -> None:
    raise SystemExit(code)


def surroundings(name: str) -> tuple[Any, Any, str, int]:
    import sys

    return os.environ.get(name), sys.path[-1], os.getcwd(), os.getpid()


def set_variable(name: str) -> None:
    STARTED.append(1)
    os.environ[name] = "task"


def turn(path: str) -> None:
    """Rings, and never ends by itself."""
    with open(path, "w") as bell:
        bell.write("!")
    while True:
        sum(range(100))


def wait_in_c(path: str) -> None:
    """Rings from within C code that never ends: nobody reads more of the pipe than the first byte."""
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, bytes(1 << 24))


def leave_a_thread(_: object) -> int:
    threading.Thread(target=time.sleep, args=(1000,)).start()
    return 1
