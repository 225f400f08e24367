"""What `Pool.run` does: with a journal, and without one."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from allcores.errors import BatchError, JournalError, UsageError
from allcores.limits import Retry
from allcores.outcome import Kind, Outcome
from allcores.runs.base import RunPool
from allcores.runs.options import Journal, OnError, RunResult
from allcores.runs.outcome_log import Record
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.runs.spool import Spool
from allcores.runs.writer import sorted_out
from allcores.sinks.base import Block, Lost
from allcores.sinks.open import sink_of
from allcores.sources.base import close_reading
from allcores.sources.chain import reported
from allcores.sources.open import source_of
from allcores.sources.text import BadInput
from allcores.system import deferral
from allcores.system.async_functions import check_function

if TYPE_CHECKING:
    from allcores.runs.options import SinkLike, SourceLike

#: items, and characters of their values, in a block of an output that needs no journal: more take memory
BLOCK = 1_000
BLOCK_CHARACTERS = 4 * 1024 * 1024


def run(
    pool: RunPool,
    fn: Callable[..., Any],
    source: SourceLike,
    sink: SinkLike,
    *,
    journal: Journal | bool,
    timeout: float | None,
    retries: int | Retry,
    chunk: int | None,
    batch: int | Literal["auto"] | None,
    called: Callable[..., Any],
    on_error: OnError,
    setup: Callable[..., Any] | None,
    setup_args: tuple[Any, ...],
    preload: Callable[..., Any] | None,
    preload_args: tuple[Any, ...],
) -> RunResult:
    """See `Pool.run`. called: what runs in the place of `fn`. setup, preload and their arguments: of the pool."""
    if on_error not in ("raise", "skip", "record"):
        raise UsageError(f"on_error={on_error!r} must be 'raise', 'skip' or 'record'")
    check_function(fn)
    work = RunSpec(
        fn,
        source_of(source),
        sink_of(sink, records=on_error == "record"),
        on_error,
        timeout,
        retries,
        chunk,
        setup,
        setup_args,
        preload,
        preload_args,
        batch,
        called=called,
    )
    work.check()
    kept = Journal.of(journal)
    if kept is None:
        return without_journal(pool, work, RunHooks())
    with RunSession(work, kept) as opened:
        return opened.work(pool, RunHooks())


def without_journal(pool: RunPool, work: RunSpec, hooks: RunHooks) -> RunResult:
    """Map and publish, remembering nothing: what is done is lost with the program, or where `hooks` ends it midway."""
    started = monotonic()
    counts = dict.fromkeys(Kind, 0)
    skipped = 0

    def leave_out(bad: BadInput) -> None:
        nonlocal skipped
        skipped += 1

    reading = iter(reported(work.source, leave_out))
    whole = threading.Event()
    items = reading if type(hooks) is RunHooks else _to_the_end(reading, whole)
    stream = pool.outcomes(
        work.function,
        hooks.guarded(work.looked_at(items)),
        timeout=work.timeout,
        retries=work.retries,
        chunk=work.chunk,
        batch=work.batch,
    )
    hooks.started(stream)
    with contextlib.ExitStack() as last, stream, contextlib.ExitStack() as stack:
        last.callback(close_reading, reading, unless=work.source)
        live = work.shown(_told_apart(_live(stream, work, hooks, counts, whole)))
        entries: Callable[[], Iterable[Block | Lost]]
        output: str | None = work.sink.path
        failed: OSError | None = None
        try:
            if work.sink.looks_twice:
                entries = _spooled(live, stack, work.sink.path)
            else:
                entries = lambda: live  # noqa: E731
            work.sink.publish(entries, mark=secrets.token_hex(4), sync=True)
        except _FromItems as found:
            failed = found.error
        except _Ended:
            output = None
        except OSError as error:
            if deferral.raised_by_handler(error):
                raise
            raise JournalError(f"cannot write {work.sink.path}: {error.strerror or error}") from error
        if failed is not None:
            raise failed
    return RunResult(
        id="",
        output=output,
        journal=None,
        ok=counts[Kind.OK],
        failed=counts[Kind.FAILED],
        timed_out=counts[Kind.TIMED_OUT],
        workers_lost=counts[Kind.WORKER_LOST],
        skipped=skipped,
        resumed=0,
        seconds=monotonic() - started,
    )


class _Ended(Exception):
    """It was asked to end, and did so before all was done: an output that is not whole is not published."""


class _FromItems(Exception):
    """An OSError that the input or an item raised, which has nothing to do with the output."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _to_the_end(reading: Iterator[Any], whole: threading.Event) -> Iterator[Any]:
    yield from reading
    whole.set()


def _told_apart(live: Iterable[Block | Lost]) -> Iterator[Block | Lost]:
    try:
        yield from live
    except OSError as error:
        raise _FromItems(error) from None


def _live(
    stream: Iterable[Outcome[str]], work: RunSpec, hooks: RunHooks, counts: dict[Kind, int], whole: threading.Event
) -> Iterator[Block | Lost]:
    """Outcomes in input order, as they come.

    Raises:
        _Ended: At the end, if an item has none.
    """
    waiting: list[Outcome[str]] = []
    characters = 0
    once = work.names_once(())
    for outcome in stream:
        if once is not None:
            outcome = once(outcome)
        counts[outcome.kind] += 1
        hooks.settled(outcome)
        if outcome.kind is Kind.CANCELLED:
            continue
        if outcome.kind is not Kind.OK and (work.is_end(outcome) or isinstance(outcome.error, BatchError)):
            assert outcome.error is not None
            raise outcome.error
        waiting.append(outcome)
        characters += len(outcome.value or "")
        if len(waiting) >= BLOCK or characters >= BLOCK_CHARACTERS:
            yield from _entries(waiting, work)
            waiting, characters = [], 0
    if hooks.stopped and (counts[Kind.CANCELLED] or not whole.is_set()):
        raise _Ended
    yield from _entries(waiting, work)


def _entries(outcomes: list[Outcome[str]], work: RunSpec) -> Iterator[Block | Lost]:
    records, failures = sorted_out(outcomes, details=work.sink.wants_details)
    found: list[Block | Lost] = [Lost(row.slot, json.loads(row.record)) for _, row in failures]
    found += map(_block_of, records)
    yield from sorted(found, key=_first)


def _first(entry: Block | Lost) -> int:
    return entry.start if isinstance(entry, Block) else entry.index


def _block_of(record: Record) -> Block:
    return Block(record.start, record.count, record.lines, record.details)


def _spooled(
    live: Iterable[Block | Lost], stack: contextlib.ExitStack, path: str
) -> Callable[[], Iterator[Block | Lost]]:
    """Entries in a file without a name, beside the output, for a sink that looks at them more than once."""
    spool = Spool.beside(path)
    stack.callback(spool.close)
    for entry in live:
        spool.add(entry)
    return spool.entries
