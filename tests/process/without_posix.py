"""What POSIX has and Windows has not, taken away from this process, which is one of Linux. To be imported first.

It is no Windows: files that are open can be removed and renamed here, text is not translated, and what Python itself
does there in another way it goes on doing as here. What is missing is missing, though, and so are its modules.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.process
import ctypes
import fcntl
import importlib.abc
import importlib.machinery
import multiprocessing.pool
import os
import pathlib
import platform
import select
import selectors
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import types
from collections.abc import Sequence
from typing import IO, Any

# What the libraries below do on Windows needs it.
import click  # noqa: F401
import rich.console
import rich.live
import rich.progress
import rich.table

MODULES = frozenset(
    {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty", "_posixshmem", "_posixsubprocess"}
)
OS = """
    O_CLOEXEC O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_PATH O_TMPFILE PRIO_PROCESS P_ALL P_PID WEXITED WNOHANG WNOWAIT
    WEXITSTATUS WIFEXITED WIFSIGNALED WIFSTOPPED WTERMSIG chown copy_file_range eventfd fchdir fchmod fchown fdatasync
    fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getsid getuid getxattr
    initgroups killpg lchown listxattr lockf memfd_create mkfifo nice openpty pidfd_open posix_fadvise posix_fallocate
    posix_spawn pread preadv pwrite pwritev register_at_fork removexattr sched_getaffinity sched_getscheduler
    sched_setaffinity sched_yield sendfile setpgid setpriority setsid setxattr splice sync sysconf uname wait wait3
    wait4 waitid
"""
SELECT = "EPOLLERR EPOLLHUP EPOLLIN EPOLLOUT POLLERR POLLHUP POLLIN POLLOUT epoll poll"
SIGNAL = """
    ITIMER_REAL SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGPWR SIGQUIT SIGRTMAX SIGRTMIN
    SIGSTOP SIGTRAP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIG_BLOCK
    SIG_SETMASK SIG_UNBLOCK alarm getitimer pause pthread_kill pthread_sigmask setitimer siginterrupt sigpending
    sigtimedwait sigwait sigwaitinfo
"""
SOCKET = "AF_UNIX CMSG_LEN CMSG_SPACE MSG_DONTWAIT MSG_NOSIGNAL SCM_RIGHTS SO_PEERCRED recv_fds send_fds"
TIME = """
    CLOCK_BOOTTIME CLOCK_MONOTONIC CLOCK_PROCESS_CPUTIME_ID CLOCK_REALTIME CLOCK_THREAD_CPUTIME_ID clock_getres
    clock_gettime clock_gettime_ns pthread_getcpuclockid tzset
"""


class _Gone(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def _file_locks() -> types.ModuleType:
    """`msvcrt`, as far as it locks."""
    module = types.ModuleType("msvcrt")
    names = {"LK_UNLCK": fcntl.LOCK_UN, "LK_LOCK": fcntl.LOCK_EX, "LK_NBLCK": fcntl.LOCK_EX | fcntl.LOCK_NB}

    def locking(descriptor: int, mode: int, count: int) -> None:
        fcntl.lockf(descriptor, mode, count, os.lseek(descriptor, 0, os.SEEK_CUR))

    vars(module).update(names, locking=locking)
    return module


def _pair(*_: object) -> tuple[socket.socket, socket.socket]:
    """What `socket.socketpair` is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        return one, server.accept()[0]


def _temporary(mode: str = "w+b", *, prefix: str | None = None, dir: str | None = None, **_: object) -> IO[Any]:
    """`tempfile.TemporaryFile`, which has a name there."""
    descriptor, path = tempfile.mkstemp(prefix=prefix, dir=dir)
    os.unlink(path)
    return open(descriptor, mode)


def take_away() -> None:
    """From now on it is missing."""
    platform.uname()
    sysconfig.get_config_vars()
    sys.modules["msvcrt"] = _file_locks()
    for module in MODULES:
        sys.modules.pop(module, None)
    sys.meta_path.insert(0, _Gone())
    vars(sys.modules[pathlib.Path.__module__])["WindowsPath"] = pathlib.PosixPath
    vars(tempfile)["TemporaryFile"] = _temporary
    if hasattr(os, "process_cpu_count"):
        vars(os)["process_cpu_count"] = os.cpu_count
    vars(socket)["socketpair"] = _pair
    # The loop of asyncio is that of Linux: it may not wait by what is gone.
    vars(selectors)["DefaultSelector"] = selectors.SelectSelector
    lacking = ((os, OS), (select, SELECT), (signal, SIGNAL), (socket, SOCKET), (time, TIME))
    for place, names in lacking:
        for name in names.split():
            vars(place).pop(name, None)
    os.name = "nt"
    sys.platform = "win32"


# Loaded above so that they are not loaded as on Windows.
_loaded = (asyncio, concurrent.futures.process, ctypes, multiprocessing.pool, rich.console, subprocess)
take_away()
