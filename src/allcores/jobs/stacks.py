"""What a process is doing at this moment: its Python stack, on request, also while it is stuck in C code.

A process that runs jobs has `faulthandler` listen to a signal that nothing else uses. The kernel runs it on top of
whatever the process does; it only reads frames and writes text, and a system call that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time

from allcores.errors import UsageError
from allcores.jobs.store_folder import make_below
from allcores.system import own_files, procfs

#: below the store's folder: a file for each process, named by its pid
FOLDER = "stacks"
#: bytes that are read of one stack
MOST_BYTES = 65_536
#: seconds between two looks whether the text is there, and for which one that was begun is waited for
_LOOK_S, _WRITES_S = 0.005, 5.0
_signal_number: int | None = getattr(signal, "SIGRTMAX", None) and int(signal.SIGRTMAX) - 3
_listening: tuple[int, int] | None = None


def listen(store_folder: str, *, fatal: bool = False) -> None:
    """From now on, this process writes its stack when it is asked for. Cheap when it does so already.

    Args:
        fatal: Also when a fatal signal ends it.
    """
    global _listening
    pid = os.getpid()
    if _signal_number is None or (_listening is not None and _listening[0] == pid):
        return
    try:
        path = os.path.join(make_below(store_folder, FOLDER), str(pid))
        own_files.remove_own_file(path)
        descriptor = own_files.create(path, access=os.O_WRONLY | os.O_APPEND)
    except OSError:
        return  # on a full disk there are no stacks, and jobs all the same
    faulthandler.register(_signal_number, descriptor, all_threads=True, chain=False)
    if fatal:
        faulthandler.enable(descriptor, all_threads=False)
    _listening = (pid, descriptor)


def of_process(store_folder: str | os.PathLike[str], pid: int, *, seconds: float = 1.0) -> str:
    """The stack of a process that listens.

    Args:
        store_folder: Of the store.
        pid: The process.
        seconds: How long to wait for it.

    Raises:
        UsageError: If it does not listen, has ended, or does not answer in time (it is stopped, say).
    """
    path = os.path.join(os.fspath(store_folder), FOLDER, str(pid))
    if _signal_number is None or not _listens(pid):
        raise UsageError(f"process {pid} has ended, or runs no job")
    try:
        before, elsewhere = os.path.getsize(path), procfs.blocking(pid, _signal_number)
        os.kill(pid, _signal_number)
        until = time.monotonic() + seconds
        size, seen = before, -1
        # Complete when it has not grown between two looks, and no thread is in the handler, which a busy machine may
        # leave amid a line.
        while size == before or size != seen or procfs.blocking(pid, _signal_number) - elsewhere:
            if time.monotonic() > until + (0.0 if size == before else _WRITES_S):
                break
            time.sleep(_LOOK_S)
            seen, size = size, os.path.getsize(path)
        if size == before:
            state = "it is stopped" if procfs.is_stopped(pid) else "it waits for the disk, or has just ended"
            raise UsageError(f"process {pid} gave no stack within {seconds:g} s: {state}")
        with open(path, "rb") as file:
            file.seek(before)
            return file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"the stack of process {pid} cannot be had: {error.strerror or error}") from None


def last_words(store_folder: str | os.PathLike[str], pid: int) -> str:
    """What a fatal signal made a process write; "" if it wrote nothing."""
    with contextlib.suppress(OSError), open(os.path.join(os.fspath(store_folder), FOLDER, str(pid)), "rb") as file:
        text = file.read(MOST_BYTES).decode("utf-8", "replace")
        return text[text.rindex("Fatal Python error") :] if "Fatal Python error" in text else ""
    return ""


def _listens(pid: int) -> bool:
    """Whether a process has a handler for the signal: without one it would end it."""
    assert _signal_number is not None
    for line in (procfs.read(f"{pid}/status") or b"").splitlines():
        if line.startswith(b"SigCgt:"):
            return bool(int(line.split()[1], 16) >> (_signal_number - 1) & 1)
    return False


def tidy(store_folder: str | os.PathLike[str]) -> None:
    """Remove the files of processes that are gone."""
    folder = os.path.join(os.fspath(store_folder), FOLDER)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.isdecimal() and not procfs.exists(int(name)):
                own_files.remove_own_file(os.path.join(folder, name))
