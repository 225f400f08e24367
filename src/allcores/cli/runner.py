"""Carries out `allcores run`: reads, maps, writes, and says at the end what it came to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
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
from allcores.errors import BrokenPool, InternalError, SetupError, UsageError
from allcores.limits import Limits
from allcores.outcome import Kind, Outcome
from allcores.pool import Pool
from allcores.streams.jsontext import JsonFunction
from allcores.streams.sinks import STDOUT, JsonLinesSink, OutputError, remote_traceback
from allcores.streams.sliced import file_of
from allcores.streams.sources import STDIN, Chain, Files, Format, Source, from_inputs


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
    setup: str | None
    setup_args: tuple[str, ...]
    workers: int | None
    chunk: int | None
    memory_per_worker: int | None
    backend: Literal["processes", "threads", "serial"]
    start_method: Literal["template", "fork", "spawn", "forkserver"] | None
    json: bool
    quiet: bool
    progress: bool
    timeline: str | None = None
    trace: str | None = None


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
            function, setup = _functions(options)
            _check_output(options)
        except StopNow:
            raise CommandError("interrupted", interrupts.exit or Exit.INTERRUPTED) from None
        with Recorder(options.timeline, options.trace) as recorder:
            runner = _Runner(options, interrupts, stdout_fd, recorder)
            runner.run(function, setup, source)
        summary, ending = runner.summary(), runner.ending
        if options.json:
            _report(summary, stdout_fd, ending)
        elif not options.quiet and ending.exit is not Exit.READER_LEFT and not summary.is_empty:
            say(summary.as_text())
        if ending.details:
            say(ending.details)
        if ending.error is not None:
            complain(ending.error)
        return ending.exit


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
        self.retries = self.workers_lost = 0
        self.busy_s = 0.0

    def run(self, function: Callable[..., Any], setup: Callable[..., Any] | None, source: Source[Any]) -> None:
        """Map and write until the input, or the will, is at its end; sets `ending`."""
        started = perf_counter()
        try:
            with self._pool(setup) as pool, self.meter:
                try:
                    self._map(pool, JsonFunction(function), source)
                finally:
                    self.seconds = perf_counter() - started
                    self.meter.sample()
                    statistics = pool.statistics()
                    self.retries, self.workers_lost = statistics.retries, statistics.workers_lost
                    self.busy_s = statistics.busy_seconds
        except StopNow:
            self.ending = Ending(Exit.INTERRUPTED, "stopped; what was running is lost")
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

    def _pool(self, setup: Callable[..., Any] | None) -> Pool:
        options = self.options
        return Pool(
            self.workers,
            setup=setup,
            setup_args=options.setup_args,
            backend=options.backend,
            start_method=options.start_method,
            limits=Limits(memory_per_worker=options.memory_per_worker),
            observers=(self.meter, *self.recorder.observers, *self._progress()),
        )

    def _progress(self) -> list[Callable[[News], None]]:
        if self.options.quiet or not self.options.progress:
            return []
        try:
            from allcores.progress import ProgressBar

            return [ProgressBar(transient=True)]
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

    def _stop_at(self, outcome: Outcome[str]) -> None:
        sentence = f"stopped at {example_text(outcome)}; --on-error skip or record would go on"
        self.ending = Ending(Exit.STOPPED, sentence, remote_traceback(outcome.error) or "")

    def _judge(self) -> None:
        """The exit code of a run that came to its end, or was asked to."""
        if self.interrupts.exit is not None:
            if self.ending.exit in (Exit.OK, Exit.INTERRUPTED):
                self.ending.exit = self.interrupts.exit
        elif self.ending.exit is Exit.OK and self.tally.failed:
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
        rows=options.rows,
        columns=None if options.columns is None else [name.strip() for name in options.columns.split(",")],
    )


def _functions(options: RunOptions) -> tuple[Callable[..., Any], Callable[..., Any] | None]:
    function = resolve(options.function)
    if options.setup is None:
        if options.setup_args:
            raise CommandError("--setup-arg needs --setup")
        check_arguments(function, options.function, [1])
        return function, None
    setup = resolve(options.setup)
    check_arguments(setup, options.setup, [len(options.setup_args)])
    # A setup that returns None only prepares its process; then the item is the only argument.
    check_arguments(function, options.function, [2, 1])
    return function, setup


def _check_output(options: RunOptions) -> None:
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
