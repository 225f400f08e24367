"""Sockets of ours wait for as long as it takes, whatever the program has told `socket.setdefaulttimeout`.

A socket that Python makes while there is a default is one that never waits, for the kernel. So is each copy of its
descriptor, in whichever process, and there nothing tells: what is to be read a moment later is taken for the end.
"""

from __future__ import annotations

import socket


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """As `socket.socketpair()`; both ends wait, here and in the processes that they are given to."""
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(True)
    return pair


def socket_of(descriptor: int) -> socket.socket:
    """The socket of a descriptor, which waits."""
    made = socket.socket(fileno=descriptor)
    made.setblocking(True)
    return made
