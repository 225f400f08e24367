"""Runs Python where no process can reach a network: one that connects to anything is ended by SIGSYS.

    python offline.py -m allcores ...

The kernel sees to it (seccomp), so native code and all children are held to it. Exit code 77: it has no such
filters.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

#: architecture as the kernel names it, and the number of the call `connect`
_MACHINES = {"x86_64": (0xC000003E, 42), "aarch64": (0xC00000B7, 203)}
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2


def refuse_networks() -> bool:
    """Have the kernel end each process that connects a socket, from now on; whether it does.

    Sockets themselves are no sign: urllib3 makes one at its import, to see whether there is IPv6.
    """
    if platform.machine() not in _MACHINES:
        return False
    architecture, connect_call = _MACHINES[platform.machine()]
    steps = [  # what, jump if true, jump if false, value
        (_LOAD, 0, 0, 4), (_IF_EQUAL, 0, 2, architecture), (_LOAD, 0, 0, 0), (_IF_EQUAL, 1, 0, connect_call),
        (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _KILL_PROCESS),
    ]  # fmt: skip
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_SECCOMP, _FILTER, program, 0, 0) == 0)


if __name__ == "__main__":
    if not refuse_networks():
        sys.exit(77)
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
