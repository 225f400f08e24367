"""Preload functions, and functions that use what they returned. Other processes import this module: it is light."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

from tests.process import crimes
from tests.process.waiting import note, ring, wait_at

#: what a preload left in this module's memory
LEFT: list[object] = []
#: the process that imported this module, or the one it was forked from
IMPORTED_BY = os.getpid()


def load(book: str) -> dict[str, Any]:
    note(book, os.getpid())
    # A lock cannot be pickled: what arrives at the workers never travelled.
    return {"loaded by": os.getpid(), "lock": threading.Lock()}


def who(model: dict[str, Any], item: object = None) -> tuple[int, int]:
    """(who loaded the model, who uses it)."""
    return model["loaded by"], os.getpid()


def commit(model: dict[str, Any], crime: str | None) -> tuple[int, int]:
    if crime is not None:
        crimes.run(crime)
    return who(model)


def extend(model: dict[str, Any], word: str) -> dict[str, Any]:
    return {**model, "word": word, "set up in": os.getpid()}


def extended(model: dict[str, Any], item: object) -> tuple[int, str, int, int]:
    return model["loaded by"], model["word"], model["set up in"], os.getpid()


def spin_once(bell: str, flag: str) -> str:
    """The first template never gets through; others do."""
    try:
        os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return "model"
    ring_and_commit(bell, "spin")
    return ""


def second(model: str, item: Any) -> Any:
    return item


def get_ready(loader: int) -> None:
    """A setup that adds nothing."""


def has_loaded(name: str) -> bool:
    return name in sys.modules


def who_imported(loader: int, item: object) -> tuple[int, int]:
    return loader, IMPORTED_BY


def leave_something() -> None:
    LEFT.append("here")


def count_left(item: object) -> int:
    return len(LEFT)


def load_then_wait(book: str, bell: str, gate: str) -> dict[str, Any]:
    model = load(book)
    ring(bell)
    wait_at(gate)
    return model


def missing() -> None:
    raise FileNotFoundError("model.bin")


def note_and_raise(book: str) -> None:
    note(book, "preload")
    missing()


def note_and_commit(book: str, crime: str) -> None:
    note(book, "preload")
    crimes.run(crime)


def ring_and_commit(bell: str, crime: str) -> None:
    ring(bell)
    crimes.run(crime)


def start_a_program_and_hang(bell: str) -> None:
    """The program gets the default signals and no descriptor of ours; it rings, too."""
    subprocess.Popen([sys.executable, "-c", f"from tests.process import preloads; preloads.hang({bell!r})"])
    ring(bell)
    crimes.run("catch_everything")


def start_a_program(bell: str) -> dict[str, Any]:
    subprocess.Popen([sys.executable, "-c", f"from tests.process import preloads; preloads.hang({bell!r})"])
    return {"loaded by": os.getpid()}


def hang(bell: str) -> None:
    ring(bell)
    crimes.run("catch_everything")


def hang_with_model(model: dict[str, Any], bell: str) -> None:
    hang(bell)


def raise_it(kind: type[BaseException]) -> None:
    raise kind("in preload")


def start_a_thread(book: str) -> dict[str, Any]:
    model = load(book)
    threading.Thread(target=threading.Event().wait, name="keeper", daemon=True).start()
    return model


def start_a_thread_then_raise(book: str, template: str) -> dict[str, Any]:
    """The template is the first to load; workers that do so later fail."""
    try:
        os.close(os.open(template, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        missing()
    return start_a_thread(book)


def start_a_thread_named(name: str) -> dict[str, Any]:
    """A thread that the system knows by this name."""
    named = threading.Event()

    def keep() -> None:
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as comm:
            comm.write(name)
        named.set()
        threading.Event().wait()

    threading.Thread(target=keep, daemon=True).start()
    named.wait()
    return {"loaded by": os.getpid()}


def start_native_threads() -> dict[str, Any]:
    """A library that starts threads as it is loaded, and ends them at a fork."""
    os.environ["OPENBLAS_NUM_THREADS"] = "4"
    import numpy as np

    array = np.ones((300, 300))
    array @ array
    return {"loaded by": os.getpid(), "array": array}


def multiply(model: dict[str, Any], factor: float) -> float:
    return float((model["array"] @ model["array"])[0, 0] * factor)


def load_numbers() -> None:
    import numpy.random  # noqa: F401


def random_numbers(item: object) -> tuple[int, float, float]:
    import random

    import numpy as np

    return os.getpid(), random.random(), float(np.random.random())


def use_asyncio(book: str) -> dict[str, Any]:
    """A loop takes the wake-up descriptor of signals, and leaves none."""
    import asyncio
    import signal

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, print)

    asyncio.run(main())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return load(book)


def fork_and_return(book: str) -> dict[str, Any]:
    """Both copies come back from here."""
    if pid := os.fork():
        os.waitpid(pid, 0)
    return load(book)


def close_everything(book: str) -> dict[str, Any]:
    os.closerange(3, 100)
    return load(book)


def speak(word: str) -> dict[str, Any]:
    print(word)
    print(word, file=sys.stderr)
    return {"loaded by": os.getpid()}


def wander(folder: str) -> dict[str, Any]:
    os.chdir(folder)
    return {"loaded by": os.getpid()}


def where(model: dict[str, Any], item: object) -> str:
    return os.getcwd()


def spell_checker() -> Any:
    """A real model of some 150 MB: it takes two seconds to build."""
    from importlib.resources import files

    from symspellpy import SymSpell

    checker = SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    checker.load_dictionary(str(files("symspellpy") / "frequency_dictionary_en_82_765.txt"), 0, 1)
    return checker


def correct(checker: Any, words: list[str]) -> tuple[int, list[str]]:
    """And collects garbage, as happens sooner or later: that must not write into every object."""
    import gc

    from symspellpy import Verbosity

    gc.collect()
    return os.getpid(), [checker.lookup(word, Verbosity.TOP, 2)[0].term for word in words]
