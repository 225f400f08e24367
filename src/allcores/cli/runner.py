"""Carries out `allcores run`: reads, maps, writes, and says at the end what it came to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from time import perf_counter
from traceback import format_exception
from typing import Any

from allcores.cli.exits import CommandError, Exit
from allcores.cli.interrupt import CountedSource, GuardedSource, Interrupts, StopNow
from allcores.cli.meter import Meter
from allcores.cli.output import print_error, reserved_stdout, say, write_json
from allcores.cli.recorder import Recorder
from allcores.cli.request import (
    Functions,
    RunOptions,
    check_outputs,
    check_standard,
    resolve_both,
    with_stdout_named,
    with_tuned,
)
from allcores.cli.summary import Summary, Tally, example_text
from allcores.errors import (
    BatchError,
    BrokenPool,
    InternalError,
    JournalError,
    RunChanged,
    RunInUse,
    RunNotFound,
    SetupError,
    UsageError,
)
from allcores.events import PoolEvent
from allcores.limits import Limits
from allcores.outcome import Kind, Outcome
from allcores.pool.pool import Pool
from allcores.pool.pool_log import Logs
from allcores.runs.base import OutcomeStream, RunPool
from allcores.runs.options import Journal, RunResult
from allcores.runs.rows import RunRow
from allcores.runs.run import without_journal
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.sinks.base import WholeSink
from allcores.sinks.batches import wrapped
from allcores.sinks.json_stream import STDOUT, JsonLinesSink, OutputError, remote_traceback
from allcores.sinks.json_text import JsonFunction
from allcores.sources.base import Source
from allcores.sources.chain import reported
from allcores.sources.text import BadInput
from allcores.system.cores import core_budget


@dataclass(slots=True)
class RunExit:
    """How a run ended: its exit code, a sentence unless all is well, and more lines for people."""

    exit: Exit = Exit.OK
    error: str | None = None
    details: str = ""


def run(options: RunOptions) -> int:
    """Do what `allcores run` does; the exit code."""
    return interruptible(lambda stdout_fd, interrupts: _run(options, stdout_fd, interrupts))


def interruptible(work: Callable[[int, Interrupts], int]) -> int:
    """Do what a command does, given where standard output goes; Ctrl-C and SIGTERM end it in order. The exit code."""
    try:
        os.getcwd()
    except OSError as error:
        raise CommandError(f"the working folder is gone ({error.strerror}): change to one that is there") from None
    with reserved_stdout() as stdout_fd, Interrupts() as interrupts:
        try:
            return work(stdout_fd, interrupts)
        except StopNow:
            raise CommandError("interrupted", interrupts.exit or Exit.INTERRUPTED) from None
        except Exception:
            if not interrupts.stopping:
                raise
            # Whoever was interrupted may have made another error of it.
            raise CommandError("interrupted", interrupts.exit or Exit.INTERRUPTED) from None


def _run(options: RunOptions, stdout_fd: int, interrupts: Interrupts) -> int:
    options = with_stdout_named(options)
    check_standard(options)
    source, functions = resolve_both(options)
    options = with_tuned(options, functions.function)
    sink = check_outputs(options, source, functions, stdout_fd)
    work = None if sink is None else _work(options, functions, source, sink)
    if work is not None:
        work.check()
    journalled = options.journal and options.ordered and options.output != STDOUT
    with Recorder(options.timeline, options.trace, journalled=journalled) as recorder:
        runner = Runner(options, interrupts, stdout_fd, recorder)
        pool = runner.pool_of(functions)

        def do() -> None:
            if work is None:
                function = wrapped(JsonFunction, functions.function, batches=options.batch is not None)
                runner.map_lines(pool, function, source)
            else:
                runner.map_whole(pool, work)

        def figures() -> tuple[int, int, float]:
            statistics = pool.statistics()
            return statistics.retries, statistics.workers_lost, statistics.busy_seconds

        runner.run(pool, do, figures)
    return told(options, runner, stdout_fd)


def told(options: RunOptions, runner: Runner, stdout_fd: int) -> int:
    """Say what a run came to; its exit code."""
    summary, ending = runner.summary(), runner.ending
    if options.json:
        _report(summary, stdout_fd, ending)
    elif not options.quiet and ending.exit is not Exit.READER_LEFT and not summary.is_empty:
        say(summary.as_text())
    if ending.details:
        say(ending.details)
    if ending.error is not None:
        print_error(ending.error)
    name = runner.run_name
    if name is not None and (runner.result is None or runner.result.output is None) and not options.quiet:
        say(f"what is done is kept: the same command with --resume goes on, or allcores runs resume {name}")
    return ending.exit


def _work(options: RunOptions, functions: Functions, source: Source[Any], sink: WholeSink) -> RunSpec:
    """What is to be done, for an output that is published whole."""
    return RunSpec(
        functions.function,
        source,
        sink,
        options.on_error,
        options.timeout,
        options.retries,
        options.chunk,
        functions.setup,
        options.setup_args,
        functions.preload,
        options.preload_args,
        options.batch,
        request={"cwd": os.getcwd(), "options": asdict(options)},
    )


class StoppedAt(Exception):
    """An item failed, and that is to end the run."""

    def __init__(self, outcome: Outcome[str]) -> None:
        super().__init__(example_text(outcome))
        self.outcome = outcome


class CliHooks(RunHooks):
    """Counts what comes, stops at failures and at Ctrl-C."""

    def __init__(self, runner: Runner, interrupts: Interrupts, is_end: Callable[[Outcome[str]], bool]) -> None:
        self._runner = runner
        self._interrupts = interrupts
        self._is_end = is_end

    @property
    def stopped(self) -> bool:
        return self._interrupts.received is not None

    def opened(self, run_row: RunRow, resumed: int) -> None:
        self._runner.resumed = resumed
        if resumed and not self._runner.options.quiet:
            say(f"resuming run {run_row.id}: {resumed:,} items are done")

    def started(self, stream: OutcomeStream[Any]) -> None:
        self._interrupts.stop_with(stream.stop)

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        return self._interrupts.guarded(items)

    def settled(self, outcome: Outcome[str]) -> None:
        self._runner.tally.add(outcome)
        if not outcome.ok and outcome.kind is not Kind.CANCELLED and self._is_end(outcome):
            raise StoppedAt(outcome)


class Runner:
    """One run, and what is known about it so far."""

    #: what would have a run go on at an item that fails
    way_on = "--on-error skip or record would go on"

    def __init__(self, options: RunOptions, interrupts: Interrupts, stdout_fd: int, recorder: Recorder) -> None:
        self.options = options
        self.recorder = recorder
        self.stdout_fd = stdout_fd
        self.interrupts = interrupts
        self.ending = RunExit()
        self.tally = Tally()
        self.meter = Meter()
        self.seconds = 0.0
        #: of a cluster: as many as it has nodes, unless told
        self.workers = options.workers or core_budget().workers
        self.result: RunResult | None = None
        #: name of the journalled run, and what earlier sessions had settled of it
        self.run_name: str | None = None
        self.resumed = 0
        #: bad records of the input that were left out, where no journal keeps them
        self.left_out = 0
        self.retries = self.workers_lost = 0
        self.busy_s = 0.0

    def run(
        self,
        opened: AbstractContextManager[object],
        do: Callable[[], None],
        figures: Callable[[], tuple[int, int, float]],
    ) -> None:
        """Map and write until the input, or the will, is at its end; sets `ending`.

        Args:
            opened: What maps.
            do: Does it.
            figures: Tells retries, workers that were lost, and seconds in the function.
        """
        started = perf_counter()
        try:
            with opened, self.meter:
                try:
                    do()
                finally:
                    self.seconds = perf_counter() - started
                    self.meter.sample()
                    self.retries, self.workers_lost, self.busy_s = figures()
        except StopNow:
            self.ending = RunExit(Exit.INTERRUPTED, "stopped; what was running is lost")
        except StoppedAt as error:
            self.stop_at(error.outcome)
        except BatchError as error:
            self.ending = RunExit(Exit.STOPPED, str(error))
        except JournalError as error:
            self.ending = RunExit(Exit.OUTPUT, str(error))
        except RunInUse as error:
            self.ending = RunExit(Exit.IN_USE, str(error))
        except (RunChanged, RunNotFound) as error:
            self.ending = RunExit(Exit.USAGE, str(error))
        except OutputError as error:
            self.ending = RunExit(Exit.OUTPUT, str(error))
            if error.reader_left:
                self.ending = RunExit(Exit.READER_LEFT)
        except (SetupError, BrokenPool) as error:
            self.ending = RunExit(Exit.NO_WORKERS, str(error), remote_traceback(error) or "")
        except InternalError as error:
            self.ending = RunExit(Exit.INTERNAL, str(error), "".join(format_exception(error)))
        except UsageError as error:  # an option that this backend cannot do, or an input that cannot be read
            self.ending = RunExit(Exit.USAGE, str(error))
        self.seconds = self.seconds or perf_counter() - started
        if self.interrupts.stopping and self.ending.exit in (Exit.INTERNAL, Exit.NO_WORKERS):
            # Whoever was interrupted by the second signal may have made another error of it.
            self.ending = RunExit(Exit.INTERRUPTED, "stopped; what was running is lost")
        self._set_exit_code()

    def pool_of(self, functions: Functions) -> Pool:
        """The workers for what was asked."""
        options = self.options
        progress = self._progress()
        # While a picture is drawn, what workers print comes through here, and appears above it.
        drawn = any(getattr(each, "visible", False) for each in progress)
        here = options.backend in ("processes", "threads", "interpreters", "serial")
        pool = Pool(
            self.workers if here else options.workers,
            preload=functions.preload,
            preload_args=options.preload_args,
            preload_modules=options.preload_modules,
            setup=functions.setup,
            setup_args=options.setup_args,
            backend=options.backend,
            start_method=options.start_method,
            limits=Limits(memory_per_worker=options.memory_per_worker, depth=options.depth),
            observers=(self.meter, *self.recorder.observers, *progress),
            logs=Logs(prints=drawn and options.backend == "processes"),
        )
        self.workers = pool.workers
        return pool

    def _progress(self) -> list[Callable[[PoolEvent], None]]:
        if self.options.quiet or not self.options.progress:
            return []
        try:
            from allcores.monitoring import LiveView

            return [LiveView(transient=True)]
        except ImportError:
            return []  # without rich the run works as well

    def map_lines(self, pool: Pool, function: Callable[..., str], source: Source[Any]) -> None:
        """Outcomes as they come, each a line."""
        options, interrupts = self.options, self.interrupts
        recording = options.on_error == "record"
        total, items = source.total(), reported(source, self.leave_out)
        stream = pool.outcomes(
            function,
            GuardedSource(items, interrupts) if total is None else CountedSource(items, interrupts, total),
            timeout=options.timeout,
            retries=options.retries,
            chunk=options.chunk,
            batch=options.batch,
            ordered=options.ordered,
        )
        interrupts.stop_with(stream.stop)
        # Opened only now: an option that the pool refuses must not cost the file that was there before.
        with JsonLinesSink.open(options.output, records=options.records or recording, stdout_fd=self.stdout_fd) as sink:
            for outcome in stream:
                self.tally.add(outcome)
                stops = options.on_error == "raise" or isinstance(outcome.error, BatchError)
                if outcome.ok or (recording and not stops and outcome.kind is not Kind.CANCELLED):
                    sink.write(outcome)
                elif stops and outcome.kind is not Kind.CANCELLED:
                    self.stop_at(outcome)
                    stream.close()
                    return

    def leave_out(self, error: BadInput) -> None:
        """Count a bad record of the input."""
        self.left_out += 1

    def map_whole(self, pool: RunPool, work: RunSpec) -> None:
        """Into a file that is published whole; with a journal, if that is wanted."""
        options = self.options
        looks_on = CliHooks(self, self.interrupts, work.is_end)
        if not options.journal:
            self.result = without_journal(pool, work, looks_on)
            if self.result.output is None:
                sentence = f"interrupted; {options.output} is not written, for it would not be whole"
                self.ending = RunExit(Exit.INTERRUPTED, sentence)
            return
        journal = Journal(
            folder=options.runs_dir,
            resume=options.resume,
            accept_changes=options.accept_changes,
            retry_failed=options.retry_failed,
            key=options.key,
            fsync=options.fsync,
        )
        with RunSession(work, journal) as opened:
            self.run_name = opened.name
            self.recorder.keep(opened.folder, opened.run_row.sessions)
            self.result = opened.work(pool, looks_on)

    def stop_at(self, outcome: Outcome[str]) -> None:
        """An item has failed, and that ends the run."""
        # What has become of a worker is a sentence of its own, which names the item.
        own = outcome.kind is not Kind.FAILED
        sentence = f"stopped{':' if own else ' at'} {example_text(outcome).removesuffix('.')}"
        if not isinstance(outcome.error, BatchError):
            sentence += f"; {self.way_on}"
        self.ending = RunExit(Exit.STOPPED, sentence, remote_traceback(outcome.error) or "")

    def _set_exit_code(self) -> None:
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
            skipped=self.result.skipped if self.result is not None else self.left_out,
        )


def _report(summary: Summary, stdout_fd: int, ending: RunExit) -> None:
    try:
        write_json(summary.as_json(), fd=stdout_fd)
    except BrokenPipeError:
        ending.exit = Exit.READER_LEFT
    except CommandError as error:
        ending.error, ending.exit = ending.error or str(error), error.exit
