"""What `allcores run` was asked for: its options, what they stand for, and what cannot be asked together."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from allcores.cli.exits import CommandError
from allcores.cli.output import check_stdout, missing
from allcores.cli.paths import check_patterns, matching, patterns_of
from allcores.cli.target import both, check_arguments, resolve
from allcores.errors import UsageError
from allcores.sinks.base import WholeSink
from allcores.sinks.destination import check_file, check_inputs_survive, check_not_appended, looked_up
from allcores.sinks.json_lines import JsonLinesFile
from allcores.sinks.json_stream import STDOUT
from allcores.sinks.open import sink_of
from allcores.sources.base import BadRecords, Source
from allcores.sources.compression import compression_of
from allcores.sources.open import Format, from_inputs

#: paths that mean standard output
_STDOUT_PATHS = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", f"/proc/{os.getpid()}/fd/1")
#: and standard input
_STDIN_PATHS = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0", f"/proc/{os.getpid()}/fd/0")
#: links that are followed to find out; as many as systems follow
_LINKS_MAX = 40


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
    on_error: Literal["raise", "skip", "record"]
    ordered: bool
    timeout: float | None
    retries: int
    preload: str | None
    preload_args: tuple[str, ...]
    preload_modules: tuple[str, ...]
    setup: str | None
    setup_args: tuple[str, ...]
    workers: int | None
    chunk: int | None
    memory_per_worker: int | None
    #: or a cluster's, with its address: "dask://10.0.0.1:8786"
    backend: str
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
    batch: int | Literal["auto"] | None = None
    tuned: bool = False
    depth: int | None = None
    separator: str | None = None


Options = TypeVar("Options", bound=RunOptions)


@dataclass(frozen=True, slots=True)
class Functions:
    """What the names in the options stand for."""

    function: Callable[..., Any]
    preload: Callable[..., Any] | None
    setup: Callable[..., Any] | None


def source_of(options: RunOptions) -> Source[Any]:
    """Where the items come from. Raises CommandError, and UsageError for what cannot be read."""
    if options.files and options.inputs:
        raise CommandError("INPUT and --files cannot be combined: one gives lines as items, the other paths")
    asked = {"--format": options.format, "--rows": options.rows, "--columns": options.columns}
    asked["--separator"] = options.separator
    if options.files:
        check_patterns(options.files, asked)
        return matching(options.files)
    if not options.inputs:
        raise CommandError("no INPUT: name files, a folder, - for standard input, or --files 'PATTERN'")
    if patterns := patterns_of(options.inputs, asked):
        return matching(patterns)
    return from_inputs(
        options.inputs,
        format=options.format,
        encoding=options.encoding,
        bad_records=options.bad_records,
        rows=options.rows,
        columns=None if options.columns is None else [name.strip() for name in options.columns.split(",")],
        separator=options.separator,
    )


def resolve_both(options: RunOptions) -> tuple[Source[Any], Functions]:
    """The input and the functions; where both are wrong, both are told of at once.

    Raises:
        CommandError: The function, an option, or both; UsageError: the input alone.
    """
    return both(lambda: source_of(options), lambda: functions_of(options))


def functions_of(options: RunOptions) -> Functions:
    """What is to be called, checked to take as many arguments as it will get. Raises CommandError."""
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


def check_journal(options: RunOptions) -> None:
    """Raise CommandError if what is asked of a journal cannot be had."""
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


def with_stdout_named(options: Options) -> Options:
    """The options, with standard output as "-" where it was named by its path (/dev/stdout)."""
    return replace(options, output=STDOUT) if _leads_to(options.output, _STDOUT_PATHS) else options


def with_tuned(options: RunOptions, function: Callable[..., Any]) -> RunOptions:
    """The options, with what was found for the function in the place of `--tuned`.

    Raises:
        CommandError: Options that it stands for are given, too.
        UsageError: Nothing was found, or it does not hold any more, or it cannot be trusted.
    """
    if not options.tuned:
        return options
    given = {
        "--workers": options.workers,
        "--chunk": options.chunk,
        "--backend": None if options.backend == "processes" else options.backend,
    }
    for name, value in given.items():
        if value is not None:
            raise CommandError(
                f"--tuned brings workers, backend, chunk and depth: leave {name} {value} out, or --tuned"
            )
    from allcores.tuned.use import kept_for

    setting = kept_for(function, options.function).setting
    return replace(
        options,
        tuned=False,  # what a run that is resumed goes on with is what it began with
        workers=setting.workers,
        backend=setting.backend,
        chunk=setting.chunk if options.batch is None else None,
        depth=setting.depth,
    )


def check_standard(options: RunOptions) -> None:
    """Raise CommandError if what is to be read or written was closed when the command was started."""
    if options.output == STDOUT or options.json:
        check_stdout()
    if 0 in missing and any(_leads_to(path, _STDIN_PATHS) for path in options.inputs):
        raise CommandError("standard input is closed: give it, or name a file")


def _leads_to(path: str, places: tuple[str, ...]) -> bool:
    """Whether a path, or a link on its way, is one of these."""
    path = os.path.normpath(path) if path else ""
    for _ in range(_LINKS_MAX):
        if path in places:
            return True
        try:
            path = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
        except (OSError, ValueError):
            break
    return False


def check_outputs(options: RunOptions, source: Source[Any], functions: Functions, stdout_fd: int) -> WholeSink | None:
    """Refuse what could not be written, or would destroy an input, before anything is begun.

    Returns:
        The sink that publishes the output whole; None if outcomes are written as they come.

    Raises:
        CommandError: Options do not go together.
        UsageError: A file that is to be written cannot be, or is an input.
    """
    check_journal(options)
    if options.output == STDOUT and options.json:
        raise CommandError("--json prints the summary on standard output, so the outcomes need a file: -o OUT.jsonl")
    called = (functions.function, functions.setup, functions.preload)
    sink: WholeSink | None = None
    written: set[str] = set()
    if options.output == STDOUT:
        check_not_appended(stdout_fd, source)
    else:
        sink = sink_of(options.output, records=options.records or options.on_error == "record")
        written.add(looked_up(sink.path)[0])  # of a table that is the file of its database
        if not options.ordered:
            _check_as_they_come(options.output, sink)
            check_inputs_survive(options.output, source, *called)
            sink = None
    for name, path in (("--timeline", options.timeline), ("--trace", options.trace)):
        if path is not None:
            check_file(path, whole=False)
            check_inputs_survive(path, source, *called)
            real = os.path.realpath(path)
            if real in written:
                raise CommandError(f"{name} {path} is written to already: choose another file")
            written.add(real)
    return sink


def _check_as_they_come(path: str, sink: WholeSink) -> None:
    """Raise UsageError unless lines of JSON can be written to `path` one by one."""
    if not isinstance(sink, JsonLinesFile) or compression_of(path) is not None:
        raise UsageError(
            f"with --unordered outcomes are written as they come, as plain JSON lines, which {path} is not: leave"
            " --unordered out, or name a .jsonl file"
        )
    check_file(path, whole=False)
