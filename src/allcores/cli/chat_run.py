"""Carries out the commands of `allcores chat`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from allcores.cli.exits import CommandError, Exit
from allcores.cli.interrupt import Interrupts, StopNow
from allcores.cli.output import reserved_stdout, say, show, write_json
from allcores.cli.target import both, file_of, resolve_any
from allcores.errors import NotSupported, UsageError
from allcores.events import PoolEvent
from allcores.formatting import counted, pace_text, seconds_text
from allcores.nlp.catalogue import STAGES, chosen
from allcores.nlp.config import read_config, with_settings
from allcores.nlp.page import save_page
from allcores.nlp.pipeline import ChatPipeline, ChatResult
from allcores.nlp.reading.files import ChatFormat
from allcores.nlp.reading.source import ChatSource
from allcores.nlp.stage import Stage
from allcores.nlp.stored import rows_of
from allcores.nlp.summary import ChatSummary, summary_of
from allcores.nlp.validation import Finding
from allcores.nlp.validation_files import findings_of
from allcores.runs.base import OutcomeStream
from allcores.runs.options import Journal
from allcores.runs.rows import RunRow
from allcores.runs.spec import RunHooks
from allcores.sinks.destination import check_file, check_file_survives
from allcores.sources.base import close_reading
from allcores.system.terminal_text import safe_line

#: findings that are shown; more are counted
SHOWN = 200


class _Hooks(RunHooks):
    """Ends the run at Ctrl-C, and says where it goes on."""

    def __init__(self, interrupts: Interrupts, quiet: bool) -> None:
        self._interrupts = interrupts
        self._quiet = quiet
        self.run_name: str | None = None

    @property
    def stopped(self) -> bool:
        return self._interrupts.received is not None

    def opened(self, run_row: RunRow, resumed: int) -> None:
        self.run_name = run_row.id
        if resumed and not self._quiet:
            say(f"resuming run {run_row.id}: {counted(resumed, 'message')} are done")

    def started(self, stream: OutcomeStream[Any]) -> None:
        self._interrupts.stop_with(stream.stop)

    def guarded(self, items: Iterable[Any]) -> Iterator[Any]:
        return self._interrupts.guarded(items)


def preprocess(
    *,
    inputs: tuple[str, ...],
    output: str,
    stages: str | None,
    config: str | None,
    settings: tuple[str, ...],
    format: ChatFormat | None,
    names: tuple[str, ...],
    workers: int | None,
    batch: int,
    timeout: float | None,
    backend: str,
    start_method: str | None,
    explain: bool,
    journal: bool,
    resume: bool,
    accept_changes: bool,
    runs_dir: str | None,
    page: str | None,
    as_machine: bool,
    quiet: bool,
) -> int:
    """`allcores chat preprocess`; the exit code."""
    if resume and not journal:
        raise CommandError("--resume goes on with a journal, and --no-journal keeps none: leave one of them out")
    if explain:
        source, chosen_stages = both(
            lambda: ChatSource(inputs, format=format, names=given_names(names) or None),
            lambda: _stages(stages, config, settings),
        )
        return _explain(chosen_stages, source, workers, backend, start_method)
    with reserved_stdout() as stdout_fd, Interrupts() as interrupts:
        hooks = _Hooks(interrupts, quiet)
        try:
            source, pipeline = both(
                lambda: ChatSource(inputs, format=format, names=given_names(names) or None),
                lambda: ChatPipeline(_stages(stages, config, settings)),
            )
            _check_work_survives(output, config, stages)
            if page is not None:
                check_page(page, [output, *source.paths])
                _check_work_survives(page, config, stages)
            result = pipeline.run(
                source,
                output,
                timeout=timeout,
                batch=batch,
                journal=Journal(runs_dir, resume=resume, accept_changes=accept_changes) if journal else False,
                hooks=hooks,
                workers=workers,
                backend=backend,
                start_method=start_method,
                observers=() if quiet else _progress(),
            )
        except StopNow:
            raise CommandError(f"stopped{_goes_on(hooks)}", interrupts.exit or Exit.INTERRUPTED) from None
        except NotSupported as error:
            raise CommandError(str(error)) from None
        if result.output is None or interrupts.received is not None:
            raise CommandError(f"interrupted{_goes_on(hooks)}", interrupts.exit or Exit.INTERRUPTED)
        if page is not None:
            _save_page(result.summary, output, page)
        pace = result.rows / result.seconds if result.seconds else 0.0
        if as_machine:
            write_json(_as_json(result, pipeline.stages, pace), fd=stdout_fd)
        elif not quiet:
            head = (
                f"{counted(result.rows, 'row')} in {seconds_text(result.seconds)} ({pace_text(pace)}) → {result.output}"
            )
            plan = [] if result.plan is None else [result.plan.as_text()]
            say("\n".join(map(safe_line, [head, *result.summary.as_text().splitlines(), *plan])))
    return Exit.OK


def _explain(
    stages: tuple[Stage, ...],
    source: ChatSource,
    workers: int | None,
    backend: str,
    start_method: str | None,
) -> int:
    """`--explain`: what would run; nothing is written."""
    with reserved_stdout():
        try:
            text = ChatPipeline(stages).explain(source, workers=workers, backend=backend, start_method=start_method)
        except NotSupported as error:
            raise CommandError(str(error)) from None
    show("\n".join(map(safe_line, text.splitlines())))
    return Exit.OK


def _goes_on(hooks: _Hooks) -> str:
    return "" if hooks.run_name is None else ": what is done is kept, and the same command with --resume goes on"


def _as_json(result: ChatResult, stages: Sequence[Stage], pace: float) -> dict[str, Any]:
    return {
        "output": result.output,
        "rows": result.rows,
        "errors": result.errors,
        "seconds": round(result.seconds, 6),
        "rows_per_second": round(pace, 3),
        "workers": result.workers,
        "stages": [stage.name for stage in stages],
        "embeddings": None if result.plan is None else result.plan.as_text(),
        "run": result.run,
        "resumed": result.resumed,
        "stage_seconds": {name: round(each, 6) for name, each in result.summary.stage_seconds.items()},
        "summary": result.summary.as_json(),
    }


def _stages(names: str | None, config: str | None, settings: Iterable[str]) -> tuple[Stage, ...]:
    """The stages that the options name, with their options."""
    listed, options = (None, {}) if config is None else read_config(config)
    if names is not None:
        listed = [name.strip() for name in names.split(",") if name.strip()]
        if not listed:
            raise CommandError("--stages names none: leave it out for those that are the default")
    given = with_settings({}, settings)
    # Options in a file are for all of its stages, of which --stages is to leave some out.
    spared = options.keys() - given.keys() if names is not None else ()
    return chosen(listed, with_settings(options, settings), resolve_any, spared)


def given_names(texts: Iterable[str]) -> dict[str, str]:
    """What `--column` says, by field. Raises CommandError."""
    found = {}
    for text in texts:
        field, equals, name = text.partition("=")
        if not equals or not field or not name:
            raise CommandError(f"--column {text}: write FIELD=NAME, text=body for one")
        found[field] = name
    return found


def _progress() -> list[Callable[[PoolEvent], None]]:
    try:
        from allcores.monitoring import LiveView
    except ImportError:  # without rich it works as well
        return []
    return [LiveView(transient=True)]


def validate(*, inputs: tuple[str, ...], format: ChatFormat | None, workers: int | None, as_machine: bool) -> int:
    """`allcores chat validate`; the exit code."""
    counts = {"error": 0, "warning": 0}
    rules: dict[str, int] = {}
    kept: list[Finding] = []
    for finding in findings_of(ChatSource(inputs, format=format), workers=workers):
        counts[finding.level] += 1
        rules[finding.rule] = rules.get(finding.rule, 0) + 1
        if len(kept) < SHOWN:
            kept.append(finding)
    if as_machine:
        write_json(
            {
                "errors": counts["error"],
                "warnings": counts["warning"],
                "rules": dict(sorted(rules.items())),
                "findings": [finding.as_json() for finding in kept],
            }
        )
    else:
        lines = [finding.as_text() for finding in kept]
        more = sum(counts.values()) - len(kept)
        lines += [f"… and {more:,} more"] if more else []
        total = f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}"
        show("\n".join(map(safe_line, [*lines, total])))
    return Exit.SOME_FAILED if counts["error"] else Exit.OK


def _check_work_survives(path: str, config: str | None, stages: str | None) -> None:
    """Raise UsageError if writing `path` would replace a file that says what is to be done."""
    if config is not None:
        check_file_survives(path, config, "the file of --config")
    for name in (stages or "").split(","):
        if ":" in name and (file := file_of(name.strip())) is not None:
            check_file_survives(path, file, "the file of a stage")


def check_page(page: str, others: Iterable[str], option: str = "--page") -> None:
    """Before any work: whether the page can be written, and is neither what is read nor what else is written."""
    for other in others:
        if os.path.abspath(other) == os.path.abspath(page) or (
            os.path.exists(page) and os.path.exists(other) and os.path.samefile(other, page)
        ):
            raise CommandError(f"{option} {page} would replace {other}: name another file")
    check_file(page)


def _save_page(summary: ChatSummary, name: str, page: str) -> None:
    try:
        save_page(summary, name, page)
    except NotSupported as error:
        raise CommandError(str(error)) from None
    except UsageError as error:
        raise CommandError(str(error), Exit.OUTPUT) from None


def stats(*, file: str, format: ChatFormat | None, page: str | None, as_machine: bool) -> int:
    """`allcores chat stats`; the exit code."""
    if page is not None:
        check_page(page, [file])
    try:
        rows = rows_of(file, format)
        summary = summary_of(rows)
    except NotSupported as error:
        raise CommandError(str(error)) from None
    if page is not None:
        _save_page(summary, file, page)
    if as_machine:
        write_json({"file": file, **summary.as_json()})
    else:
        show("\n".join(map(safe_line, summary.as_text().splitlines())))
    close_reading(rows, unless=())
    return Exit.OK


def show_stages(*, stages: str | None, config: str | None) -> int:
    """`allcores chat stages`; the exit code."""
    found = tuple(STAGES.values()) if stages is None and config is None else _stages(stages, config, ())
    show(ChatPipeline(found).explain())
    return Exit.OK
