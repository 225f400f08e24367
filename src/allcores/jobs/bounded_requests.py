"""Requests over HTTP that are over at a moment, whatever a receiver, its address or its name does.

A timeout of a socket bounds one step. A receiver that sends a byte now and then never runs into it, nor does one with
many addresses none of which answers, and the system's look-up of a name has no bound that a caller can give.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
import urllib.request
from typing import Any

#: names that are looked up at a time: each of them has a thread for as long as the system takes
MOST_LOOK_UPS = 16


class Watch:
    """Ends a request of the thread that is in this block after so many seconds.

    Attributes:
        over: Its time was up.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._until = time.monotonic() + self._seconds
        _watched.by = self
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _watched.by = None
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            each.close()

    @property
    def left(self) -> float:
        """Seconds that are left. Raises: TimeoutError: None are."""
        left = self._until - time.monotonic()
        if left <= 0 or self.over:
            raise TimeoutError("its time was up")
        return left

    def see(self, connected: socket.socket) -> None:
        """This thread's request has this connection. Raises: OSError."""
        # Another descriptor of it: TLS takes the first one, and its own shutdown would touch what the other thread
        # reads from.
        copy = socket.socket(connected.family, connected.type, fileno=os.dup(connected.fileno()))
        with self._lock:
            self._sockets.append(copy)
        if self.over:
            self._shut_down()

    def _end(self) -> None:
        self.over = True
        self._shut_down()

    def _shut_down(self) -> None:
        with self._lock:
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


class _Watched(threading.local):
    by: Watch | None = None


_watched = _Watched()


class _LookUp(threading.Thread):
    """One look-up of a name, which may outlast those who wait for it."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="allcores-name", daemon=True)
        self._place = host, port
        self.done = threading.Event()
        self.found: list[Any] = []
        self.error = ""

    def run(self) -> None:
        """See the class."""
        try:
            self.found = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM)
        except Exception as error:  # an OSError; a ValueError: it is no name; whatever it is, others wait for it
            self.error = str(error) or type(error).__name__
        finally:
            with _look_ups_lock:
                _look_ups.pop(self._place, None)
            self.done.set()


#: under way, by host and port: whoever asks for the same name waits for the same answer
_look_ups: dict[tuple[str, int], _LookUp] = {}
_look_ups_lock = threading.Lock()


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    """What `socket.getaddrinfo` says. Raises: OSError."""
    with _look_ups_lock:
        found = _look_ups.get((host, port))
        if found is None:
            if len(_look_ups) >= MOST_LOOK_UPS:
                raise OSError(f"{MOST_LOOK_UPS} other names are being looked up, which takes long")
            found = _LookUp(host, port)
            try:
                found.start()
            except RuntimeError as error:
                raise OSError(f"its name cannot be looked up: {error}") from error
            _look_ups[host, port] = found
    if not found.done.wait(seconds):
        raise TimeoutError(f"the name {host} could not be looked up within {seconds:.1f} s")
    if found.error:
        raise OSError(found.error)
    return found.found


def _connected(place: tuple[str, int], timeout: Any, source: tuple[str, int] | None = None) -> socket.socket:
    """As `socket.create_connection`; all addresses together take no more time than the request has."""
    watch = _watched.by
    if watch is None:
        return socket.create_connection(place, timeout, source)
    failed: OSError = OSError("its name has no address")
    for family, kind, protocol, _, address in _addresses(*place, watch.left):
        connected: socket.socket | None = None
        try:
            connected = socket.socket(family, kind, protocol)
            connected.settimeout(watch.left)
            connected.connect(address)
            watch.see(connected)
            return connected
        except OSError as error:
            failed = error
            if connected is not None:
                connected.close()
    try:
        raise failed
    finally:
        del failed  # its traceback has this frame


class _Connection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = _connected


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_TlsConnection, req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect is followed to no other place than the one that was asked for."""


#: opens an address; what a thread does with it in a block of `Watch` is over when that says so
opener = urllib.request.build_opener(_NoRedirect, _Http, _Https)
