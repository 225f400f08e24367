"""Carries out `allcores run`: reads, maps, writes, and says at the end what it came to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from time import perf_counter
from traceback import format_exception
from typing import Any, Literal

from allcores.budget import core_budget
from allcores.cli.exits import CommandError, Exit
from allcores.cli.interrupt import CountedSource, GuardedSource, Interrupts, StopNow
from allcores.cli.meter import Meter
from allcores.cli.output import complain, reserved_stdout, say, write_json
from allcores.cli.recorder import Recorder
from allcores.cli.summary import Summary, Tally, example_text
from allcores.cli.target import check_arguments, resolve
from allcores.engine.events import News
from allcores.errors import (
    BrokenPool,
    InternalError,
    JournalError,
    RunChanged,
    RunInUse,
    RunNotFound,
    SetupError,
    UsageError,
)
from allcores.journal.catalogue import Facts
from allcores.journal.options import Journal, RunResult
from allcores.journal.record import Run
from allcores.journal.verb import without_journal
from allcores.journal.work import Control, Work
from allcores.limits import Limits
from allcores.logs import Logs
from allcores.outcome import Kind, Outcome
from allcores.pool import Pool
from allcores.stream import Stream
from allcores.streams.jsontext import JsonFunction
from allcores.streams.outputs import sink_of
from allcores.streams.sinks import STDOUT, JsonLinesSink, OutputError, remote_traceback
from allcores.streams.sliced import file_of
from allcores.streams.sources import STDIN, BadRecords, Chain, Files, Format, Source, from_inputs


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What was asked for, as the options below name it."""

    function: str
    inputs: tuple[str, ...]
    files: tuple[str, ...]
    format: Format | None
    encoding: str
    rows: int | None
    columns: str | None
    output: str
    records: bool
    on_error: Literal["stop", "skip", "record"]
    ordered: bool
    timeout: float | None
    retries: int
    preload: str | None
    preload_args: tuple[str, ...]
    setup: str | None
    setup_args: tuple[str, ...]
    workers: int | None
    chunk: int | None
    memory_per_worker: int | None
    backend: Literal["processes", "threads", "serial"]
    start_method: Literal["template", "fork", "spawn", "forkserver"] | None
    bad_records: BadRecords
    journal: bool
    resume: bool | str
    retry_failed: bool
    accept_changes: bool
    key: str | None
    fsync: Literal["commit", "end", "never"]
    runs_dir: str | None
    json: bool
    quiet: bool
    progress: bool
    timeline: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Functions:
    """What the names in the options stand for."""

    function: Callable[..., Any]
    preload: Callable[..., Any] | None
    setup: Callable[..., Any] | None


@dataclass(slots=True)
class Ending:
    """How a run ended: its exit code, a sentence unless all is well, and more lines for people."""

    exit: Exit = Exit.OK
    error: str | None = None
    details: str = ""


def run(options: RunOptions) -> int:
    """Do what `allcores run` does; the exit code."""
    with reserved_stdout() as stdout_fd, Interrupts() as interrupts:
        try:
            source = _source(options)
            functions = _functions(options)
            _check_output(options)
        except StopNow:
            raise CommandError("interrupted", interrupts.exit or Exit.INTERRUPTED) from None
        journalled = options.journal and options.ordered and options.output != STDOUT
        with Recorder(options.timeline, options.trace, journalled=journalled) as recorder:
            runner = _Runner(options, interrupts, stdout_fd, recorder)
            runner.run(functions, source)
        summary, ending = runner.summary(), runner.ending
        if options.json:
            _report(summary, stdout_fd, ending)
        elif not options.quiet and ending.exit is not Exit.READER_LEFT and not summary.is_empty:
            say(summary.as_text())
        if ending.details:
            say(ending.details)
        if ending.error is not None:
            complain(ending.error)
        name = runner.run_name
        if name is not None and (runner.result is None or runner.result.output is None) and not options.quiet:
            say(f"what is done is kept: the same command with --resume goes on, or allcores runs resume {name}")
        return ending.exit


class StoppedAt(Exception):
    """An item failed, and that is to end the run."""

    def __init__(self, outcome: Outcome[str]) -> None:
        super().__init__(example_text(outcome))
        self.outcome = outcome


class LooksOn(Control):
    """Counts what comes, stops at failures and at Ctrl-C."""

    def __init__(self, runner: _Runner, interrupts: Interrupts) -> None:
        self._runner = runner
        self._interrupts = interrupts
        self._stops = runner.options.on_error == "stop"

    @property
    def stopped(self) -> bool:
        return self._interrupts.received is not None

    def opened(self, facts: Facts, resumed: int) -> None:
        self._runner.resumed = resumed
        if resumed and not self._runner.options.quiet:
            say(f"resuming run {facts.id}: {resumed:,} items are done")

    def started(self, stream: Stream[Any]) -> None:
        self._interrupts.stop_with(stream.stop)

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        return self._interrupts.guarded(items)

    def settled(self, outcome: Outcome[str]) -> None:
        self._runner.tally.add(outcome)
        if self._stops and not outcome.ok and outcome.kind is not Kind.CANCELLED:
            raise StoppedAt(outcome)


class _Runner:
    """One run, and what is known about it so far."""

    def __init__(self, options: RunOptions, interrupts: Interrupts, stdout_fd: int, recorder: Recorder) -> None:
        self.options = options
        self.recorder = recorder
        self.stdout_fd = stdout_fd
        self.interrupts = interrupts
        self.ending = Ending()
        self.tally = Tally()
        self.meter = Meter()
        self.seconds = 0.0
        self.workers = options.workers or core_budget().workers
        self.result: RunResult | None = None
        #: name of the journalled run, and what earlier sessions had settled of it
        self.run_name: str | None = None
        self.resumed = 0
        self.retries = self.workers_lost = 0
        self.busy_s = 0.0

    def run(self, functions: Functions, source: Source[Any]) -> None:
        """Map and write until the input, or the will, is at its end; sets `ending`."""
        started = perf_counter()
        try:
            with self._pool(functions) as pool, self.meter:
                try:
                    if self.options.output == STDOUT or not self.options.ordered:
                        self._map(pool, JsonFunction(functions.function), source)
                    else:
                        self._map_whole(pool, functions, source)
                finally:
                    self.seconds = perf_counter() - started
                    self.meter.sample()
                    statistics = pool.statistics()
                    self.retries, self.workers_lost = statistics.retries, statistics.workers_lost
                    self.busy_s = statistics.busy_seconds
        except StopNow:
            self.ending = Ending(Exit.INTERRUPTED, "stopped; what was running is lost")
        except StoppedAt as error:
            self._stop_at(error.outcome)
        except JournalError as error:
            self.ending = Ending(Exit.OUTPUT, str(error))
        except RunInUse as error:
            self.ending = Ending(Exit.IN_USE, str(error))
        except (RunChanged, RunNotFound) as error:
            self.ending = Ending(Exit.USAGE, str(error))
        except OutputError as error:
            self.ending = Ending(Exit.OUTPUT, str(error))
            if error.reader_left:
                self.ending = Ending(Exit.READER_LEFT)
        except (SetupError, BrokenPool) as error:
            self.ending = Ending(Exit.NO_WORKERS, str(error), remote_traceback(error) or "")
        except InternalError as error:
            self.ending = Ending(Exit.INTERNAL, str(error), "".join(format_exception(error)))
        except UsageError as error:  # an option that this backend cannot do, or an input that cannot be read
            self.ending = Ending(Exit.USAGE, str(error))
        self.seconds = self.seconds or perf_counter() - started
        self._judge()

    def _pool(self, functions: Functions) -> Pool:
        options = self.options
        progress = self._progress()
        # While a picture is drawn, what workers print comes through here, and appears above it.
        drawn = any(getattr(each, "visible", False) for each in progress)
        return Pool(
            self.workers,
            preload=functions.preload,
            preload_args=options.preload_args,
            setup=functions.setup,
            setup_args=options.setup_args,
            backend=options.backend,
            start_method=options.start_method,
            limits=Limits(memory_per_worker=options.memory_per_worker),
            observers=(self.meter, *self.recorder.observers, *progress),
            logs=Logs(prints=drawn and options.backend == "processes"),
        )

    def _progress(self) -> list[Callable[[News], None]]:
        if self.options.quiet or not self.options.progress:
            return []
        try:
            from allcores.progress import LiveView

            return [LiveView(transient=True)]
        except ImportError:
            return []  # without rich the run works as well

    def _map(self, pool: Pool, function: Callable[..., str], source: Source[Any]) -> None:
        options, interrupts = self.options, self.interrupts
        recording = options.on_error == "record"
        total = source.total()
        stream = pool.outcomes(
            function,
            GuardedSource(source, interrupts) if total is None else CountedSource(source, interrupts, total),
            timeout=options.timeout,
            retries=options.retries,
            chunk=options.chunk,
            ordered=options.ordered,
        )
        interrupts.stop_with(stream.stop)
        # Opened only now: an option that the pool refuses must not cost the file that was there before.
        with JsonLinesSink.open(options.output, records=options.records or recording, stdout_fd=self.stdout_fd) as sink:
            for outcome in stream:
                self.tally.add(outcome)
                if outcome.ok or (recording and outcome.kind is not Kind.CANCELLED):
                    sink.write(outcome)
                elif options.on_error == "stop" and outcome.kind is not Kind.CANCELLED:
                    self._stop_at(outcome)
                    stream.close()
                    return

    def _map_whole(self, pool: Pool, functions: Functions, source: Source[Any]) -> None:
        """Into a file that is published whole; with a journal, if that is wanted."""
        options = self.options
        recording = options.on_error == "record"
        work = Work(
            functions.function,
            source,
            sink_of(options.output, records=options.records or recording),
            "raise" if options.on_error == "stop" else options.on_error,
            options.timeout,
            options.retries,
            options.chunk,
            functions.setup,
            options.setup_args,
            functions.preload,
            options.preload_args,
            request={"cwd": os.getcwd(), "options": asdict(options)},
        )
        work.check()
        looks_on = LooksOn(self, self.interrupts)
        if not options.journal:
            self.result = without_journal(pool, work, looks_on)
            return
        journal = Journal(
            folder=options.runs_dir,
            resume=options.resume,
            accept_changes=options.accept_changes,
            retry_failed=options.retry_failed,
            key=options.key,
            fsync=options.fsync,
        )
        with Run(work, journal) as opened:
            self.run_name = opened.name
            self.recorder.keep(opened.folder)
            self.result = opened.work(pool, looks_on)

    def _stop_at(self, outcome: Outcome[str]) -> None:
        sentence = f"stopped at {example_text(outcome)}; --on-error skip or record would go on"
        self.ending = Ending(Exit.STOPPED, sentence, remote_traceback(outcome.error) or "")

    def _judge(self) -> None:
        """The exit code of a run that came to its end, or was asked to."""
        if self.interrupts.exit is not None:
            if self.ending.exit in (Exit.OK, Exit.INTERRUPTED):
                self.ending.exit = self.interrupts.exit
        elif self.ending.exit is Exit.OK and (self.tally.failed if self.result is None else self.result.failures):
            self.ending.exit = Exit.SOME_FAILED

    def summary(self) -> Summary:
        """The run in numbers."""
        return Summary(
            function=self.options.function,
            output=self.options.output,
            exit=self.ending.exit,
            error=self.ending.error,
            tally=self.tally,
            seconds=self.seconds,
            busy_s=self.busy_s,
            workers=self.workers,
            cores=core_budget().workers,
            retries=self.retries,
            workers_lost=self.workers_lost,
            usage=self.meter.usage(),
            run=self.run_name,
            resumed=self.resumed,
            skipped=self.result.skipped if self.result is not None else 0,
        )


def _report(summary: Summary, stdout_fd: int, ending: Ending) -> None:
    try:
        write_json(summary.as_json(), fd=stdout_fd)
    except OSError as error:
        ending.error = ending.error or f"cannot write standard output: {error.strerror}"
        ending.exit = Exit.READER_LEFT if isinstance(error, BrokenPipeError) else Exit.OUTPUT


def _source(options: RunOptions) -> Source[Any]:
    if options.files and options.inputs:
        raise CommandError("INPUT and --files cannot be combined: one gives lines as items, the other paths")
    if options.files:
        parts = [Files(pattern) for pattern in options.files]
        return parts[0] if len(parts) == 1 else Chain(parts)
    if not options.inputs:
        raise CommandError("no INPUT: name files, - for standard input, or --files 'PATTERN'")
    return from_inputs(
        options.inputs,
        format=options.format,
        encoding=options.encoding,
        bad_records=options.bad_records,
        rows=options.rows,
        columns=None if options.columns is None else [name.strip() for name in options.columns.split(",")],
    )


def _functions(options: RunOptions) -> Functions:
    function = resolve(options.function)
    preload = setup = None
    if options.preload is not None:
        preload = resolve(options.preload)
        check_arguments(preload, options.preload, [len(options.preload_args)], "each --preload-arg")
    elif options.preload_args:
        raise CommandError("--preload-arg needs --preload")
    if options.setup is not None:
        setup = resolve(options.setup)
        # What preload returned comes first, unless that is None.
        given = len(options.setup_args)
        if preload is None:
            check_arguments(setup, options.setup, [given], "each --setup-arg")
        else:
            what = "what preload returned and each --setup-arg"
            check_arguments(setup, options.setup, [given + 1, given], what)
    elif options.setup_args:
        raise CommandError("--setup-arg needs --setup")
    # One that returns None only prepares its process; then the item is the only argument.
    if preload is None and setup is None:
        check_arguments(function, options.function, [1], "the item")
    else:
        first = "preload" if setup is None else "setup"
        check_arguments(function, options.function, [2, 1], f"what {first} returned and the item")
    return Functions(function, preload, setup)


def _check_journal(options: RunOptions) -> None:
    asked = [
        name
        for name, given in [
            ("--resume", options.resume),
            ("--retry-failed", options.retry_failed),
            ("--accept-changes", options.accept_changes),
            ("--key", options.key),
        ]
        if given
    ]
    if not asked:
        return
    if options.output == STDOUT:
        raise CommandError(f"{asked[0]} needs an output that can be published whole: name a file with -o")
    if not options.journal or not options.ordered:
        off = "--no-journal" if not options.journal else "--unordered, which has no journal"
        raise CommandError(f"{asked[0]} needs a journal, but you gave {off}")
    if not options.resume and asked[0] != "--key":
        raise CommandError(f"{asked[0]} is about an earlier run: add --resume")


def _check_output(options: RunOptions) -> None:
    _check_journal(options)
    if options.output == STDOUT and options.json:
        raise CommandError("--json prints the summary on standard output, so the outcomes need a file: -o OUT.jsonl")
    for name in options.inputs:
        if STDIN not in (name, options.output) and _is_same_file(file_of(name), options.output):
            raise CommandError(f"{options.output} is an input, and would be overwritten: choose another -o")


def _is_same_file(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other) and os.path.isfile(one)
    except OSError:
        return False
