"""The folder of runs: where it is, how a run's folder is named, which runs there are, and when old ones go."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allcores.errors import JournalError, RunInUse, RunNotFound
from allcores.journal.catalogue import FILE, Catalogue, Facts
from allcores.journal.lock import RunLock, is_locked

LOG = "outcomes.log"
#: finished runs that are kept: so many, so many seconds long, so many bytes of logs together
KEPT_RUNS = 100
KEPT_S = 30 * 86_400.0
KEPT_BYTES = 10 * 1024**3
#: seconds after which also a run that never finished goes
KEPT_UNFINISHED_S = 90 * 86_400.0
#: seconds after which a folder goes in which no run was ever begun: its program was killed in that moment
KEPT_STILLBORN_S = 3_600.0
#: seconds between two looks at what may go, for each run has to be opened for that
PRUNE_S = 3_600.0


def runs_folder(given: str | os.PathLike[str] | None = None) -> str:
    """Where runs are kept: as given, else in $ALLCORES_HOME, $XDG_STATE_HOME, or ~/.local/state."""
    if given is not None:
        return os.path.abspath(os.path.expanduser(os.fspath(given)))
    if home := os.environ.get("ALLCORES_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(home)), "runs")
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):  # as the XDG specification asks for
        state = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(state, "allcores", "runs")


def new_folder(runs: str) -> tuple[str, str]:
    """A new run's name and its folder, made. Names sort by time."""
    while True:
        now = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
        name = f"{stamp}-{int(now * 1000) % 1000:03}{secrets.token_hex(2)}"
        folder = os.path.join(runs, name)
        try:
            os.makedirs(runs, mode=0o700, exist_ok=True)
            os.mkdir(folder, 0o700)
        except FileExistsError:
            continue
        except OSError as error:
            raise JournalError(
                f"cannot make the folder {folder} for the journal: {error.strerror}."
                " Name another place (--runs-dir, Journal(folder=...)), or do without (--no-journal, journal=False)"
            ) from None
        return name, folder


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run as it is found. state: running, interrupted, stopped or finished."""

    folder: str
    facts: Facts
    active: bool

    @property
    def name(self) -> str:
        """What to call it."""
        return self.facts.id

    @property
    def state(self) -> str:
        """A run that says it is running, and that nobody works on, was interrupted."""
        if self.active:
            return "running"
        return "interrupted" if self.facts.state == "running" else self.facts.state

    @property
    def bytes(self) -> int:
        """What its folder takes on the disk."""
        total = 0
        with contextlib.suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat().st_size
        return total


def known_runs(runs: str) -> Iterator[KnownRun]:
    """All runs in a folder of runs, newest first; what is no run (any more) is passed over."""
    for name in _names(runs):
        with contextlib.suppress(JournalError, RunNotFound):
            yield look_up(runs, name)


def look_up(runs: str, name: str) -> KnownRun:
    """The run of that name. Raises: RunNotFound, JournalError if its catalogue cannot be read."""
    folder = os.path.join(runs, name)
    if os.path.basename(folder) != name or not os.path.isfile(os.path.join(folder, FILE)):
        names = _names(runs)
        raise RunNotFound(
            f"there is no run {name!r} in {runs}" + (f"; the latest is {names[0]}" if names else ", nor any other")
        )
    active = is_locked(folder)
    catalogue = Catalogue(folder)
    try:
        return KnownRun(folder, catalogue.facts(), active)
    finally:
        catalogue.close()


def latest_for(runs: str, sink: dict[str, Any]) -> KnownRun | None:
    """The latest run that writes to a sink; None if there is none."""
    for run in known_runs(runs):
        if (run.facts.identity.get("sink") or {}).get("path") == sink.get("path"):
            return run
    return None


def remove(run: KnownRun) -> None:
    """Remove a run's folder, and what it left unfinished beside its output. Raises: RunInUse."""
    lock = RunLock(run.folder, run.name)
    try:
        sink = run.facts.identity.get("sink") or {}
        if path := sink.get("path"):
            folder, name = os.path.split(str(path).rstrip(os.sep))
            unfinished = os.path.join(folder, f".{name}.{run.name}.partial")
            if os.path.isdir(unfinished):
                shutil.rmtree(unfinished, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished)
        # The catalogue goes first: a folder without one is no run.
        for name in (FILE, FILE + "-wal", FILE + "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(run.folder, name))
        shutil.rmtree(run.folder, ignore_errors=True)
    finally:
        lock.release()


def prune_at_times(runs: str) -> None:
    """Prune, unless that was done within `PRUNE_S`."""
    mark = os.path.join(runs, ".pruned")
    with contextlib.suppress(OSError):
        try:
            if 0 <= time.time() - os.stat(mark).st_mtime < PRUNE_S:
                return
        except FileNotFoundError:
            if not os.path.isdir(runs):
                return
        with open(mark, "w", encoding="ascii"):
            os.utime(mark)
        prune(runs)


def prune(runs: str, *, now: float | None = None) -> list[str]:
    """Remove old runs, as the constants above say; the names of those that are gone."""
    now = time.time() if now is None else now
    gone: list[str] = []
    finished = total = 0
    for name in _names(runs):
        try:
            run = look_up(runs, name)
        except (JournalError, RunNotFound):
            folder = os.path.join(runs, name)
            with contextlib.suppress(OSError):
                if now - os.stat(folder).st_mtime > KEPT_STILLBORN_S and not is_locked(folder):
                    shutil.rmtree(folder, ignore_errors=True)
            continue
        if run.active:
            continue
        age = now - run.facts.updated
        if run.state == "finished":
            finished += 1
            total += run.bytes
            old = finished > KEPT_RUNS or age > KEPT_S or (finished > 1 and total > KEPT_BYTES)
        else:
            old = age > KEPT_UNFINISHED_S
        if old:
            with contextlib.suppress(RunInUse, OSError):
                remove(run)
                gone.append(run.name)
    return gone


def _names(runs: str) -> list[str]:
    try:
        return sorted((name for name in os.listdir(runs) if not name.startswith(".")), reverse=True)
    except OSError:
        return []
