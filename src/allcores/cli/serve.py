"""`allcores serve`: the console and the supervisor of a store, in one command.

    this process: waitress and the console ── pipe ──> `allcores work`: the supervisor, its pool, the jobs

The supervisor is a process of its own, so a job that ruins its pool does not take the pages along. It ends when this
process ends, however that happens: its standard input is a pipe that no other process writes to. If the supervisor
ends, it is started again; the console shows meanwhile that none is there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any
from urllib.parse import quote

import click

from allcores.cli.exits import CommandError, Exit, missing_extra
from allcores.cli.job_store import open_store, store_option
from allcores.cli.output import say, show
from allcores.cli.target import resolve
from allcores.cli.work import grace_option, load_tasks, supervisor_command, workers_option
from allcores.formatting import seconds_text
from allcores.system.terminal_text import safe_line

#: seconds before a supervisor that ended is started again: the first time, and at most
FIRST_PAUSE_S, MOST_PAUSE_S = 0.2, 30.0
#: one that ran so long had begun well: the pauses begin anew
GOOD_S = 10.0
#: between two attempts to become the supervisor of a store that has one
TAKEN_PAUSE_S = 2.0
#: seconds that a supervisor has to end beyond what its jobs get, before it is killed
SPARE_S = 10.0
#: requests that are answered at once
THREADS = 8
#: Of these, those that tell pages of changes as they happen; a browser has six connections to a host.
STREAMS = 4


class SupervisorKeeper:
    """Has a supervisor run: starts it, and starts it again when it has ended.

    Args:
        command: What starts one.
        tell: Is given a sentence for people whenever something happened to it.
        grace_s: Seconds that running jobs get when it is asked to end.
    """

    def __init__(self, command: Sequence[str], tell: Callable[[str], None], grace_s: float) -> None:
        self._command = list(command)
        self._tell = tell
        self._grace_s = grace_s
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="allcores-supervisor-keeper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Ask the supervisor to end, and see that it does; one more signal meanwhile kills it."""
        with self._lock:
            self._ending.set()
            process = self._process
        if process is not None:
            try:
                process.terminate()
                process.wait(self._grace_s + SPARE_S)
            except (subprocess.TimeoutExpired, SystemExit):
                self._tell("the supervisor is killed: its jobs go back into the queue when the next one starts")
                process.kill()
                process.wait()
        # A signal may come before it is started.
        if self._thread.ident is not None:
            self._thread.join()

    def _keep(self) -> None:
        pause, taken = FIRST_PAUSE_S, False
        while not self._ending.is_set():
            started = time.monotonic()
            with self._lock:
                if self._ending.is_set():
                    return
                # This end of the pipe is ours alone: when we are gone, the other one reads the end of the file. In a
                # session of its own it does not get the terminal's Ctrl-C, which is for us to pass on.
                try:
                    self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, start_new_session=True)
                except OSError as error:  # no memory, no processes left, a Python that is gone
                    self._process, why = None, error.strerror or str(error)
            process = self._process
            if process is None:
                pause = min(pause * 2, MOST_PAUSE_S)
                self._tell(f"the supervisor cannot be started ({why}): the next try is in {seconds_text(pause)}")
                self._ending.wait(pause)
                continue
            code = process.wait()
            assert process.stdin is not None
            process.stdin.close()
            if self._ending.is_set():
                return
            if code == Exit.IN_USE:
                if not taken:
                    self._tell(
                        "this is the console of a store whose jobs another supervisor runs; if that ends, ours begins"
                    )
                taken = True
                self._ending.wait(TAKEN_PAUSE_S)
                continue
            taken = False
            pause = FIRST_PAUSE_S if time.monotonic() - started > GOOD_S else min(pause * 2, MOST_PAUSE_S)
            self._tell(f"the supervisor has ended ({_how(code)}): it is started again in {seconds_text(pause)}")
            self._ending.wait(pause)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


class _Signals:
    """SIGINT and SIGTERM raise SystemExit on the main thread, which ends waitress; each further one does so again."""

    def __init__(self, streams: Any) -> None:
        self.received: int | None = None
        #: of the console: a thread that sends one would hold the end up
        self._streams = streams
        self._before: dict[int, Any] = {}

    @property
    def exit(self) -> Exit:
        """How the command ends: asked to, it has done what it should."""
        return Exit.TERMINATED if self.received == signal.SIGTERM else Exit.INTERRUPTED

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # `nohup`, or a shell's `&`
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        self._streams.close()
        raise SystemExit(128 + number)


@click.command("serve")
@click.argument("tasks", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option("--port", type=click.IntRange(0, 65_535), default=8321, show_default=True, help="0: any that is free.")
@store_option
@click.option("--token", envvar="ALLCORES_TOKEN", help="What users show. Default: one that is kept with the store.")
@click.option(
    "--trusted-host", "hosts", multiple=True, metavar="NAME", help="By which browsers may call it; repeatable."
)
@click.option("--open-health", is_flag=True, help="/healthz says 200 or 503, and no more, to who has no token.")
@click.option("--app", "app_place", metavar="MODULE:NAME", help="A Flask app of yours with the Allcores extension.")
@workers_option
@grace_option
def command(**given: Any) -> int:
    """Serve the jobs console and run jobs, until Ctrl-C or SIGTERM.

    TASKS are files or modules with functions that have the decorator @allcores.jobs.task. It prints the address, which
    holds a token: whoever has that may submit and cancel jobs. Addresses that other machines can reach need a --token.
    """
    return _serve(**given)


def _serve(
    *,
    tasks: Sequence[str],
    host: str,
    port: int,
    store: str | None,
    token: str | None,
    hosts: Sequence[str],
    open_health: bool,
    app_place: str | None,
    workers: int | None,
    grace: float,
) -> int:
    if token is not None and not token.strip():
        raise CommandError("the token is empty: leave --token (and $ALLCORES_TOKEN) out, and one is made")
    try:
        from allcores.web import check_address
    except ImportError as error:
        raise missing_extra(error) from None
    check_address(host, [] if token is None else [token])
    registry = load_tasks(tasks)
    opened = open_store(store, create=True)
    from allcores.web.credentials import kept_secret

    token = token or kept_secret(opened.folder)
    if app_place is None:
        from allcores.web import create_app

        config = {"ALLCORES_OPEN_HEALTH": open_health, "ALLCORES_EVENT_STREAMS": STREAMS}

        app: Any = create_app(tasks=list(tasks), store=store, token=token, trusted_hosts=[host, *hosts], config=config)
    else:
        if open_health:
            os.environ["FLASK_ALLCORES_OPEN_HEALTH"] = "true"
        os.environ.setdefault("FLASK_ALLCORES_EVENT_STREAMS", str(STREAMS))
        app = _own_app(app_place, opened.folder, store, token)
    server = _listen(app, host, port)
    signals = _Signals(app.extensions["allcores"].streams)
    keeper = SupervisorKeeper(supervisor_command(registry.places, store, workers, grace), say, grace)
    with signals:
        try:
            keeper.start()
            show(f"jobs console: {_address(server, app, token)}")
            say(safe_line(f"tasks: {', '.join(sorted(registry))}; store: {opened.name}; Ctrl-C ends it"))
            sys.stdout.flush()
            server.run()
        except SystemExit:
            pass
        finally:
            server.close()
            keeper.close()
    return signals.exit


def _own_app(place: str, folder: Path, store: str | None, token: str) -> Any:
    """The user's app; it has to take the store and the token from where Flask's own settings come from."""
    if store is not None:
        os.environ["FLASK_ALLCORES_STORE"] = _as_text(store)
    os.environ["FLASK_ALLCORES_TOKEN"] = _as_text(token)
    app: Any = resolve(place)
    console = getattr(app, "extensions", {}).get("allcores")
    if console is None:
        raise CommandError(f"{place} has no allcores extension: Allcores(app, tasks=...) adds it")
    if Path(console.store.folder) != Path(folder) or token not in {
        known for known, _ in console.settings.tokens.values()
    }:
        raise CommandError(
            f"{place} has a store or a token of its own: call app.config.from_prefixed_env() before Allcores(app),"
            " and it takes those that are given here"
        )
    return app


def _as_text(text: str) -> str:
    """A variable of the environment that Flask takes for this text: what is JSON, such as digits, it reads as that."""
    try:
        json.loads(text)
    except ValueError:
        return text
    return json.dumps(text)


def _listen(app: Any, host: str, port: int) -> Any:
    from waitress.server import create_server

    from allcores.cli.serve_bodies import ANSWER_BYTES, tell_of_full_disks

    try:
        server = create_server(
            app, host=host.strip("[]"), port=port, threads=THREADS, ident="allcores",
            clear_untrusted_proxy_headers=True, outbuf_overflow=ANSWER_BYTES,
        )  # fmt: skip
    except OSError as error:
        raise CommandError(
            f"port {port} of {host} cannot be listened at: {error.strerror}; --port has another"
        ) from None
    tell_of_full_disks(server)
    return server


def _address(server: Any, app: Any, token: str) -> str:
    sockets = getattr(server, "effective_listen", None) or [(server.effective_host, server.effective_port)]
    host, port = sockets[0][:2]
    shown = f"[{host}]" if ":" in str(host) else host
    prefix = app.extensions["allcores"].settings.prefix
    return f"http://{shown}:{port}{prefix}/?token={quote(token, safe='')}"
