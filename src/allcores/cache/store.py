"""One function's results in the file of a cache, as a process uses it: read one by one, written many at once.

Nothing here raises because of the file: what cannot be read is computed, what cannot be written is lost, and one
sentence says why.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import zlib

from allcores.cache import database
from allcores.cache.database import ERRORS, NotUsable
from allcores.errors import AllcoresError
from allcores.failpoints import failpoint
from allcores.system import forks, sqlite_files
from allcores.transport import chunk_ends, process_role

#: Entries wait so long for their commit, or for the end of their chunk, ns. Longer loses more to a kill.
COMMIT_NS = 100_000_000
#: Seconds for which a lock is waited for within an item's time, and at the end of a chunk: what meets one waits for the
#: next commit. Longer holds up tasks, and uses up their deadlines.
ITEM_BUSY_S = 0.01
CHUNK_BUSY_S = 0.1
#: bytes of such entries: more are committed at once
COMMIT_BYTES = 4 << 20
#: entries that wait no longer for a lock: more are lost
MOST_WAITING_BYTES = 32 << 20
#: Bytes that this process writes between two checkpoints. More lets the write-ahead log grow.
CHECKPOINT_BYTES = 16 << 20
#: Larger results are computed each time, bytes: SQLite holds a row in memory, and no larger one than 1 GB.
MOST_BYTES = 256 << 20
#: what an entry takes besides its value
ENTRY_BYTES = 96
#: an entry that was used counts as used again after so many seconds: each time costs a write
USED_S = 3_600
#: Once entries take more than `max_bytes`, those used least recently go until so much of it is left.
KEPT_SHARE = 0.9
#: seconds for which a file that gave an error is left alone, or for which nothing is written to one that is locked or
#: full. Longer loses more entries, shorter waits for the lock more often.
REST_S = 10.0

#: sentences that were said in this process
_said: set[str] = set()
#: one connection of this process moves the log into the file
_checkpointing = threading.Lock()


@forks.in_child
def _after_fork() -> None:
    global _checkpointing
    _checkpointing = threading.Lock()


class Store:
    """For any thread. In a forked child it opens the file anew.

    Args:
        folder: Of the cache.
        function_key: See `keys.function_key`.
        name: Of the function.
        max_bytes: How much all entries of the cache may take; None: no bound.
    """

    def __init__(self, folder: str, function_key: bytes, name: str, max_bytes: int | None) -> None:
        self._folder = folder
        self._function_key = function_key
        self._name = name
        self._max_bytes = max_bytes
        self._lock = threading.RLock()
        self._begin()
        forks.renew_in_children(self)

    def after_fork(self) -> None:
        """In a child: whoever held the lock is not there. The parent's connection is left alone until the first use."""
        self._lock = threading.RLock()

    def _in_this_process(self) -> None:
        if self._pid != os.getpid():
            self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._db: sqlite3.Connection | None = None
        #: when the file is tried again, and when writing to it is
        self._open_at = self._write_at = 0.0
        #: since when each commit has met a lock
        self._locked_at: float | None = None
        self._patience_s = database.BUSY_S
        self._waiting: dict[bytes, bytes] = {}
        self._waiting_bytes = 0
        self._waits_for_end = False
        self._used: set[bytes] = set()
        self._hits = self._misses = 0
        self._written = 0
        self._committed_ns = time.monotonic_ns()

    def get(self, key: bytes) -> bytes | None:
        """The bytes of a result; None if they are not there, or not as they were written."""
        with self._lock:
            self._in_this_process()
            data = self._waiting.get(key)
            if data is None:
                data = self._read(key)
            if data is None:
                self._misses += 1
            else:
                self._hits += 1
            self._wait_for_end()
            return data

    def _read(self, key: bytes) -> bytes | None:
        db = self._connection()
        if db is None:
            return None
        try:
            row = db.execute("SELECT value, crc, used FROM entries WHERE key = ?", (key,)).fetchone()
        except ERRORS as error:
            self._rest(database.trouble(self._folder, error))
            return None
        if row is None:
            return None
        data, crc, used = row
        if not isinstance(data, bytes) or crc != _crc(key, data):
            return None
        if not isinstance(used, int) or not 0 <= time.time() - used < USED_S:
            self._used.add(key)
        return data

    def count(self, hits: int, misses: int) -> None:
        """Results that were found, and that were computed."""
        with self._lock:
            self._in_this_process()
            self._hits += hits
            self._misses += misses
            self._wait_for_end()

    def put(self, key: bytes, data: bytes) -> None:
        """Keep a result: soon, and at the end of the chunk at the latest."""
        if len(data) > (MOST_BYTES if self._max_bytes is None else min(MOST_BYTES, self._max_bytes - ENTRY_BYTES)):
            return
        with self._lock:
            self._in_this_process()
            self._waiting[key] = data
            self._waiting_bytes += len(data)
            self._wait_for_end()
            if self._waiting_bytes > COMMIT_BYTES or time.monotonic_ns() - self._committed_ns > COMMIT_NS:
                self.commit(patience_s=ITEM_BUSY_S)

    def _wait_for_end(self) -> None:
        if not self._waits_for_end:
            self._waits_for_end = True
            chunk_ends.waiting.append(self._end_chunk)

    def _end_chunk(self) -> None:
        with self._lock:
            self._waits_for_end = False
            self.commit()
            if self._waiting:
                self._wait_for_end()
            if process_role.in_interpreter() or not process_role.is_worker():
                # The program's own process: it may keep the function for long, in the traceback of a failure for one.
                self._close()

    def commit(self, *, patience_s: float = CHUNK_BUSY_S, last: bool = False) -> None:
        """Write what waits. What cannot be written, for the file is locked or full, waits on while it is not too much.

        Args:
            patience_s: How long a lock is waited for, seconds.
            last: It waits no longer.
        """
        if self._pid != os.getpid():
            return  # what waits is the other process's
        with self._lock:
            self._committed_ns = time.monotonic_ns()
            if not (self._waiting or self._hits or self._misses or self._used):
                return
            written = (last or time.monotonic() >= self._write_at) and self._wrote(patience_s)
            if written or last or self._waiting_bytes > MOST_WAITING_BYTES:
                self._forget()

    def _forget(self) -> None:
        self._waiting.clear()
        self._used.clear()
        self._waiting_bytes = self._hits = self._misses = 0

    def _wrote(self, patience_s: float) -> bool:
        """Write it; whether nothing of it need be tried again."""
        db = self._connection()
        if db is None:
            return True
        try:
            if patience_s != self._patience_s:
                db.execute(f"PRAGMA busy_timeout = {int(patience_s * 1000)}")
                self._patience_s = patience_s
            self._write(db)
        except (*ERRORS, OSError) as error:
            if database.is_readonly(self._folder, error):
                return True  # it is known since the file was opened, and can be read all the same
            if database.is_gone(error):
                self._close()
            elif database.is_damaged(self._folder, error):
                self._rest(database.trouble(self._folder, error))
                return True
            elif not database.is_locked(error) or self._is_locked_for_long(patience_s):
                self._write_at = time.monotonic() + REST_S
                say(str(database.trouble(self._folder, error)))
            return False
        self._locked_at = None
        return True

    def _is_locked_for_long(self, patience_s: float) -> bool:
        now = time.monotonic()
        if self._locked_at is None:
            self._locked_at = now - patience_s
        return now - self._locked_at >= database.BUSY_S

    def _write(self, db: sqlite3.Connection) -> None:
        now = int(time.time())
        failpoint("cache.begin")
        db.execute("BEGIN IMMEDIATE")
        try:
            mine = (self._function_key,)
            db.execute("INSERT OR IGNORE INTO functions (key, name) VALUES (?, ?)", (*mine, self._name))
            (number,) = db.execute("SELECT id FROM functions WHERE key = ?", mine).fetchone()
            db.executemany("DELETE FROM entries WHERE key = ?", ((key,) for key in self._waiting))
            db.executemany(
                "INSERT INTO entries (key, function, used, bytes, crc, value) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    (key, number, now, len(data) + ENTRY_BYTES, _crc(key, data), data)
                    for key, data in self._waiting.items()
                ),
            )
            db.executemany("UPDATE entries SET used = ? WHERE key = ?", ((now, key) for key in self._used))
            if self._hits or self._misses:
                db.execute(
                    "UPDATE functions SET hits = hits + ?, misses = misses + ? WHERE id = ?",
                    (self._hits, self._misses, number),
                )
            if self._waiting and self._max_bytes is not None:
                evict(db, self._max_bytes)
            failpoint("cache.commit.before")
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        failpoint("cache.commit.after")
        self._written += self._waiting_bytes + ENTRY_BYTES * (len(self._waiting) + 1)
        if self._written > CHECKPOINT_BYTES:
            self._written = 0
            checkpoint(self._folder, db)

    def _connection(self) -> sqlite3.Connection | None:
        if self._db is None and time.monotonic() >= self._open_at:
            try:
                self._patience_s = database.BUSY_S
                self._db = database.opened(self._folder)
            except (NotUsable, AllcoresError) as error:
                self._rest(error)
        return self._db

    def _rest(self, reason: Exception) -> None:
        """Leave the file alone for a while, and say why."""
        self._close()
        self._open_at = time.monotonic() + REST_S
        say(str(reason))

    def _close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            try:
                sqlite_files.close(db)
            except sqlite3.Error:
                pass  # of a file that is damaged

    def close(self) -> None:
        """Write what waits, and close the file; idempotent, and the next use opens it again."""
        if self._pid == os.getpid():
            with self._lock:
                self.commit(patience_s=database.BUSY_S, last=True)
                self._close()


def evict(db: sqlite3.Connection, max_bytes: int) -> None:
    """Remove entries that were used least recently, if all of them take more than `max_bytes`; in a transaction."""
    (total,) = db.execute("SELECT coalesce(sum(bytes), 0) FROM functions").fetchone()
    if total <= max_bytes:
        return
    surplus = total - int(max_bytes * KEPT_SHARE)
    last = None
    for used, row, size in db.execute("SELECT used, rowid, bytes FROM entries ORDER BY used, rowid"):
        last = used, row
        surplus -= size
        if surplus <= 0:
            break
    if last is not None:
        db.execute("DELETE FROM entries WHERE (used, rowid) <= (?, ?)", last)


def checkpoint(folder: str, db: sqlite3.Connection) -> None:
    """Move the write-ahead log into the file, unless another connection does so.

    SQLite before 3.51.3 may lose a transaction when two connections checkpoint at once
    (https://sqlite.org/wal.html#walresetbug).
    """
    from allcores.system.own_files import REOPEN

    if not _checkpointing.acquire(blocking=False):
        return
    try:
        descriptor = os.open(os.path.join(folder, database.LOCK), os.O_RDWR | os.O_CREAT | REOPEN, 0o600)
        try:
            take(descriptor)
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        finally:
            os.close(descriptor)
    except (*ERRORS, OSError):
        pass  # the next one has more to do
    finally:
        _checkpointing.release()


def take(descriptor: int) -> None:
    """Lock a file, or raise OSError. No forked child inherits the lock."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def say(sentence: str) -> None:
    """Say it once in this process: to the log, which a worker's pool hands to the program."""
    if sentence not in _said:
        _said.add(sentence)
        import logging

        logging.getLogger("allcores").warning("%s", sentence)


def forget_said() -> None:
    """Say everything once more. For tests."""
    _said.clear()


def _crc(key: bytes, data: bytes) -> int:
    return zlib.crc32(data, zlib.crc32(key))
