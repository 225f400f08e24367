"""The folder of runs: where it is, how a run's folder is named, which runs there are, and when old ones go."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allcores.errors import JournalError, RunInUse, RunNotFound
from allcores.runs.index import FILE, NotBegun, RunIndex
from allcores.runs.lock import LOCK, RunLock, is_locked
from allcores.runs.rows import RunRow
from allcores.sinks.open import remove_unfinished
from allcores.system import own_files

LOG = "outcomes.log"
#: finished runs that are kept: so many, so many seconds long, so many bytes of logs together
KEPT_RUNS = 100
KEPT_S = 30 * 86_400.0
KEPT_BYTES = 10 * 1024**3
#: seconds after which also a run that never finished goes
KEPT_UNFINISHED_S = 90 * 86_400.0
#: seconds after which a folder goes in which no run was ever begun: its program was killed in that moment
KEPT_FAILED_START_S = 3_600.0
#: seconds between two looks at what may go, for each run has to be opened for that
PRUNE_S = 3_600.0

#: what `new_folder` makes; nothing else is a run
_NAME = re.compile(r"\d{8}-\d{6}-\d{3}[0-9a-f]{4}")
#: a run's folder that is being removed has this before its name: it is no run any more, at once
_REMOVED = ".removed-"
#: what a run's folder holds; what has another name is not ours
_FILES = re.compile(rf"{re.escape(FILE)}(-wal|-shm|-journal)?|{re.escape(LOG)}|{LOCK}|timeline-\d+\.jsonl\.gz")


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
    """A new run's name and its folder, made. Names sort by time.

    Raises:
        JournalError: If it cannot be read or written.
    """
    way_out = "Name another place (--runs-dir, Journal(folder=...)), or do without (--no-journal, journal=False)"
    try:
        own_files.make_folders(runs)
        _check_place(runs)
        while True:
            now = time.time()
            stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
            name = f"{stamp}-{int(now * 1000) % 1000:03}{secrets.token_hex(2)}"
            folder = os.path.join(runs, name)
            with contextlib.suppress(FileExistsError):  # of another run that began in this millisecond
                os.mkdir(folder, 0o700)
                return name, folder
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise JournalError(f"cannot make a folder for the journal in {runs}: {reason}. {way_out}") from None


def _check_place(runs: str) -> None:
    """Raise JournalError if others can put runs into a folder of runs; one that is not there has none."""
    for folder in dict.fromkeys((runs, os.path.dirname(runs))) if _is_home(runs) else (runs,):
        try:
            reason = own_files.why_not_trusted(folder, shared=True)
        except OSError:
            return
        if reason is not None:
            raise JournalError(
                f"the folder {folder} is not safe for journals: {reason}. Resuming a run does what its journal says,"
                " so use a folder of your own (--runs-dir, Journal(folder=...), $ALLCORES_HOME)"
            )


def _is_home(runs: str) -> bool:
    """True if the folder above is ours, too: it was not named as the place of runs."""
    return runs == runs_folder()


def _check_run(folder: str, name: str) -> None:
    """Raise JournalError if another user may have written what is in a run's folder."""
    try:
        for path in (folder, *(os.path.join(folder, each) for each in os.listdir(folder) if _FILES.fullmatch(each))):
            with contextlib.suppress(FileNotFoundError):  # a run at work begins and ends its write-ahead log
                reason = own_files.why_not_trusted(path)
                if reason is not None:
                    raise JournalError(f"run {name} is not used, for {path} cannot be trusted: {reason}", run=name)
    except OSError as error:
        raise JournalError(f"cannot look at run {name} in {folder}: {error.strerror}", run=name) from None


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run as it is found. state: running, interrupted, stopped or finished."""

    folder: str
    run_row: RunRow
    active: bool

    @property
    def name(self) -> str:
        """What to call it."""
        return self.run_row.id

    @property
    def state(self) -> str:
        """A run that says it is running, and that nobody works on, was interrupted."""
        if self.active:
            return "running"
        return "interrupted" if self.run_row.state == "running" else self.run_row.state

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
    """All runs in a folder of runs, newest first; what is no run (any more), or cannot be read, is passed over."""
    for name in _names(runs):
        with contextlib.suppress(JournalError, RunNotFound):
            yield look_up(runs, name)


def unreadable_runs(runs: str) -> Iterator[tuple[str, JournalError]]:
    """Names of those that have a journal which cannot be read, newest first, and why."""
    for name in _names(runs):
        try:
            look_up(runs, name)
        except RunNotFound:
            continue
        except JournalError as error:
            if not isinstance(error, NotBegun):
                yield name, error


def look_up(runs: str, name: str) -> KnownRun:
    """The run of that name.

    Raises:
        RunNotFound: If there is no such run.
        JournalError: If its catalogue cannot be read or trusted.
    """
    folder = find_folder(runs, name)
    active = is_locked(folder)
    with unless_removed(folder, name):
        run_index = RunIndex(folder)
        try:
            run_row = run_index.run_row()
        finally:
            run_index.close()
    if run_row.id != name:
        raise JournalError(f"run {name} is not used, for its catalogue is that of run {run_row.id}", run=name)
    return KnownRun(folder, run_row, active)


@contextlib.contextmanager
def unless_removed(folder: str, name: str) -> Iterator[None]:
    """A block that reads a run's catalogue: what it raises because another process has removed the run says so.

    Raises:
        RunNotFound: The run was removed meanwhile.
    """
    try:
        yield
    except JournalError:
        if os.path.lexists(os.path.join(folder, FILE)):
            raise
        raise RunNotFound(f"run {name} was removed a moment ago") from None


def find_folder(runs: str, name: str) -> str:
    """The folder of a run, readable or not.

    Raises:
        RunNotFound: If there is no such run.
        JournalError: If it cannot be trusted.
    """
    _check_place(runs)
    folder = os.path.join(runs, name)
    if not _NAME.fullmatch(name) or not os.path.isfile(os.path.join(folder, FILE)):
        names = _names(runs)
        raise RunNotFound(
            f"there is no run {name!r} in {runs}" + (f"; the latest is {names[0]}" if names else ", nor any other")
        )
    _check_run(folder, name)
    return folder


def _place_of(sink: dict[str, Any]) -> tuple[Any, str]:
    """Where a sink, as it describes itself, writes: a database has several tables, whose names have no case."""
    return sink.get("path"), str(sink.get("table", "")).lower()


def latest_for(runs: str, sink: dict[str, Any]) -> KnownRun | None:
    """The latest run that writes to a sink; None if there is none.

    Raises:
        JournalError: If none is found, but there is one that cannot be read: it may be the one that is meant.
    """
    for run in known_runs(runs):
        if _place_of(run.run_row.identity.get("sink") or {}) == _place_of(sink):
            return run
    for name, error in unreadable_runs(runs):
        raise JournalError(
            f"no run that writes to {sink.get('path')} can be read in {runs}, and {name} may be it: {error}."
            f" Remove that (allcores runs rm {name}), or begin a new run without resume (--resume)",
            run=name,
        )
    return None


def remove(runs: str, name: str, *, found: RunRow | None = None) -> None:
    """Remove a run's folder, and what it left unfinished beside its output. Its catalogue need not be readable.

    With `found` it must be, and as old as that: another process may have gone on with the run meanwhile.

    Raises:
        RunNotFound: If there is no such run.
        RunInUse: If another process has it.
        JournalError: If there is something in it that is not of the run: then nothing goes.
    """
    folder = find_folder(runs, name)
    lock = RunLock(folder, name)
    try:
        _check_ours(folder, name)
        with contextlib.suppress(*(() if found else (JournalError,))):  # nobody knows then where its output is
            run_index = RunIndex(folder)
            try:
                row = run_index.run_row()
            finally:
                run_index.close()
            if found and row.updated != found.updated:
                raise RunInUse(f"run {name} was used a moment ago", run=name)
            sink = row.identity.get("sink") or {}
            sides = [side for side in sink.values() if isinstance(side, dict)]
            for each in (sink, *sides):
                if path := each.get("path"):
                    remove_unfinished(str(path), mark=name)
        _remove_folder(runs, name)
    finally:
        lock.release()


def _check_ours(folder: str, name: str) -> None:
    """Raise JournalError if there is anything in a run's folder that the run did not make."""
    try:
        foreign = sorted(each for each in os.listdir(folder) if not _is_ours(folder, each))
    except OSError as error:
        raise JournalError(f"cannot look at run {name} in {folder}: {error.strerror}", run=name) from None
    if foreign:
        raise JournalError(
            f"run {name} is not removed, for there is something in {folder} that it did not make: {foreign[0]}."
            " Move it away first",
            run=name,
        )


def _is_ours(folder: str, name: str) -> bool:
    try:
        there = os.lstat(os.path.join(folder, name))
    except FileNotFoundError:
        return True
    return bool(_FILES.fullmatch(name)) and stat.S_ISREG(there.st_mode) and own_files.is_own(there)


def _remove_folder(runs: str, name: str) -> None:
    """Remove the folder of a run whose lock is held: under another name first, so that it is no run half gone."""
    going = os.path.join(runs, _REMOVED + name)
    with contextlib.suppress(OSError):
        os.rename(os.path.join(runs, name), going)
        own_files.remove_own_folder(going, lambda each: bool(_FILES.fullmatch(each)), last=LOCK)


def prune_at_times(runs: str) -> None:
    """Prune, unless that was done within `PRUNE_S`."""
    mark = os.path.join(runs, ".pruned")
    with contextlib.suppress(OSError, JournalError):
        try:
            if 0 <= time.time() - os.stat(mark).st_mtime < PRUNE_S:
                return
        except FileNotFoundError:
            if not os.path.isdir(runs):
                return
        _check_place(runs)
        # Nothing is cut: if a file of that name is not ours, it stays as it is.
        descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | own_files.REOPEN, 0o600)
        try:
            os.utime(descriptor)
        finally:
            os.close(descriptor)
        prune(runs)


def prune(runs: str, *, now: float | None = None) -> list[str]:
    """Remove old runs, as the constants above say; the names of those that are gone.

    What cannot be read stays, whatever the reason.
    """
    now = time.time() if now is None else now
    gone: list[str] = []
    finished = total = 0
    for name in _names(runs):
        try:
            run = look_up(runs, name)
        except (JournalError, RunNotFound):
            with contextlib.suppress(JournalError, RunInUse, RunNotFound, OSError):
                _prune_never_begun(runs, name, now)
            continue
        if run.active:
            continue
        age = now - run.run_row.updated
        if run.state == "finished":
            finished += 1
            total += run.bytes
            old = finished > KEPT_RUNS or age > KEPT_S or (finished > 1 and total > KEPT_BYTES)
        else:
            old = age > KEPT_UNFINISHED_S
        if old:
            with contextlib.suppress(JournalError, RunInUse, RunNotFound, OSError):
                remove(runs, run.name, found=run.run_row)
                gone.append(run.name)
    _prune_half_removed(runs)
    return gone


def _prune_never_begun(runs: str, name: str, now: float) -> None:
    """Remove the folder of a run that was never begun, if that is certain: before its first outcome a run has a log."""
    folder = os.path.join(runs, name)
    _check_run(folder, name)
    if not own_files.is_own_folder(folder) or now - os.stat(folder).st_mtime <= KEPT_FAILED_START_S:
        return
    if set(os.listdir(folder)) - {LOCK, *(FILE + end for end in ("", "-wal", "-shm", "-journal"))}:
        return
    lock = RunLock(folder, name)
    try:
        _check_ours(folder, name)
        if _is_begun(folder) or os.path.lexists(os.path.join(folder, LOG)):
            return
        _remove_folder(runs, name)
    finally:
        lock.release()


def _is_begun(folder: str) -> bool:
    """True if there is a catalogue with a run in it.

    Raises:
        JournalError: If that cannot be told.
    """
    path = os.path.join(folder, FILE)
    if not os.path.lexists(path) or os.path.getsize(path) == 0:
        return False
    run_index = RunIndex(folder)
    try:
        run_index.run_row()
    except NotBegun:
        return False
    finally:
        run_index.close()
    return True


def _prune_half_removed(runs: str) -> None:
    """Finish removing what a program was removing when it was killed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(runs):
            if name.startswith(_REMOVED) and _NAME.fullmatch(name.removeprefix(_REMOVED)):
                folder = os.path.join(runs, name)
                if not is_locked(folder):
                    own_files.remove_own_folder(folder, lambda each: bool(_FILES.fullmatch(each)), last=LOCK)


def _names(runs: str) -> list[str]:
    """What has the name of a run, newest first."""
    try:
        return sorted(filter(_NAME.fullmatch, os.listdir(runs)), reverse=True)
    except OSError:
        return []
