"""A chat pipeline: stages that were chosen, run over files on all cores, or over records as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from allcores.errors import UsageError
from allcores.formatting import kind_text
from allcores.nlp.catalogue import check_takes, chosen, columns
from allcores.nlp.planning import ThreadPlan, planned_pool, stages_pool, told_as_they_are
from allcores.nlp.reading.formats import message_of
from allcores.nlp.reading.source import ChatItems, ChatSource
from allcores.nlp.records import Field, Record, is_record
from allcores.nlp.rows import RowFunction, load_stages
from allcores.nlp.stage import Stage
from allcores.nlp.summary import ChatSummary
from allcores.nlp.table import ChatTable, complete, lost_row
from allcores.nlp.watching import watchers
from allcores.outcome import Outcome
from allcores.pool.pool import Pool
from allcores.runs.options import Journal
from allcores.runs.run import without_journal
from allcores.runs.session import RunSession
from allcores.runs.spec import RunHooks, RunSpec
from allcores.sources.base import close_reading
from allcores.sources.file_names import has_wildcard
from allcores.sources.open import check_has_rows
from allcores.sources.text import STDIN
from allcores.system.tracebacks import hiding

if TYPE_CHECKING:
    from allcores.pipelines.pipeline import Pipeline

#: messages that a worker gets to its functions at once; models like some, and the rows do not depend on it
BATCH = 32


@dataclass(frozen=True, slots=True)
class ChatResult:
    """What became of a run.

    Attributes:
        output: The file that was written; None if the run was ended before its time, and can be resumed.
        rows: Rows in it, one for each message.
        errors: Rows whose `error` says what went wrong.
        seconds: Wall time.
        summary: Counts of languages, intents, entities, errors and so on; `summary.as_json()`, `summary.as_text()`.
        run: Name of the run, if it kept a journal.
        resumed: Messages that an earlier session of it had done.
        plan: How embeddings used the cores, and why; None without such a stage, or with a pool that was given.
        workers: Processes or threads that there were for it; of a cluster, nodes.
    """

    output: str | None
    rows: int
    errors: int
    seconds: float
    summary: ChatSummary
    run: str | None = None
    resumed: int = 0
    plan: ThreadPlan | None = None
    workers: int = 0


class ChatPipeline:
    """Stages in their order; made by `chat_pipeline`. It holds no models and no workers: each run has its own."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        self.columns: tuple[Field, ...] = columns(self.stages)

    def __repr__(self) -> str:
        return f"<ChatPipeline of {', '.join(stage.name for stage in self.stages)}>"

    def explain(self, source: Any = None, **options: Any) -> str:
        """What each stage takes and gives, with which options, as text.

        Args:
            source: As for `run`: then how embeddings would use the cores, too, measured with its first messages.
            **options: As for `run`.
        """
        lines = []
        for stage in self.stages:
            where = "in workers" if stage.each or stage.batch else "in order"
            where += ", then in order" if stage.in_order and (stage.each or stage.batch) else ""
            gives = ", ".join(f"{field.name}: {field.type}" for field in stage.fields)
            lines.append(f"{stage.name} ({where}): {', '.join(stage.takes) or 'all fields'} -> {gives}")
            lines += [f"    {name} = {value!r}" for name, value in stage.options.items()]
        if source is not None:
            messages, names = _messages(source, self.stages)
            with told_as_they_are(), planned_pool(self.stages, messages, names, **options) as (_, plan):
                if plan is not None:
                    lines.append(plan.as_text())
        return "\n".join(lines)

    def run(
        self,
        source: str | os.PathLike[str] | Sequence[str] | ChatSource | Iterable[Any],
        output: str | os.PathLike[str],
        *,
        timeout: float | None = None,
        journal: Journal | bool = False,
        chunk: int | None = None,
        batch: int = BATCH,
        pool: Pool | None = None,
        hooks: RunHooks | None = None,
        **options: Any,
    ) -> ChatResult:
        """Read messages, run all stages, and write a row for each, in order: the file appears when it is complete.

        A message that cannot be read, a stage that fails, a worker that crashes and a deadline cost that row its
        fields, and its `error` says so. The rows are the same for any number of workers.

        Args:
            source: Files or a pattern (see `ChatSource`), or dicts with at least `text`.
            output: A file that ends with .parquet or .jsonl.
            timeout: Seconds that one message may take in all stages together.
            journal: True, or a `Journal`: a run that was ended, whatever ended it, can go on where it was.
            chunk: Messages that travel together; None for chunks that size themselves.
            batch: Messages that models get at once.
            pool: One of `ChatPipeline.pool`, to be used more than once.
            hooks: Looks on and may end the run, see `allcores.runs.spec.RunHooks`.
            **options: Of the pool that is made for this run, see `Pool`: workers, backend (also nodes of a cluster),
                start_method, limits.

        Raises:
            UsageError: For files or models that are not there, or options that make no sense.
            SetupError: If a model cannot be loaded for another reason.
            NotSupported: If a library is missing.
        """
        kept = Journal.of(journal)
        _check_batch(batch)
        messages, names = _messages(source, self.stages)
        table = ChatTable(output, self.stages, names)
        if isinstance(messages, ChatItems):
            check_apart(messages.source.paths, table.path)
        work = RunSpec(
            RowFunction(self.stages, names),
            messages,
            table,
            on_error="record",
            timeout=timeout,
            chunk=chunk,
            preload=load_stages,
            preload_args=(self.stages,),
            batch=batch,
        )
        work.check()
        hooks = hooks or RunHooks()
        with told_as_they_are(), ExitStack() as stack:
            plan: ThreadPlan | None = None
            workers = pool
            if workers is None:
                workers, plan = stack.enter_context(planned_pool(self.stages, messages, names, **options))
            if kept is None:
                result = without_journal(workers, work, hooks)
            else:
                session = stack.enter_context(RunSession(work, kept))
                result = session.work(workers, hooks)
            count = workers.workers
        summary = table.summary
        return ChatResult(
            output=result.output,
            rows=summary.rows,
            errors=summary.errors,
            seconds=result.seconds,
            summary=summary,
            run=result.id or None,
            resumed=result.resumed,
            plan=plan,
            workers=count,
        )

    def imap(
        self,
        source: str | os.PathLike[str] | Sequence[str] | ChatSource | Iterable[Any],
        *,
        timeout: float | None = None,
        batch: int = BATCH,
        pool: Pool | None = None,
        **options: Any,
    ) -> Generator[Record, None, None]:
        """Rows as they come, in order: a dict of all columns for each message. To be closed, or read to the end.

        A stage that looks at all messages in order (duplicates, conversation) says what it knows by then.

        Args:
            source: As for `run`.
            timeout: As for `run`.
            batch: As for `run`.
            pool: As for `run`.
            **options: As for `run`.
        """
        _check_batch(batch)
        messages, names = _messages(source, self.stages)
        in_order = watchers(self.stages)
        reading = iter(messages)
        with told_as_they_are(), ExitStack() as stack:
            workers = pool if pool is not None else stack.enter_context(self.pool(**options))
            stack.callback(close_reading, reading, unless=messages)
            stream = workers.outcomes(RowFunction(self.stages, names), reading, timeout=timeout, batch=batch)
            for outcome in stack.enter_context(stream):
                row = _row_of(outcome, self.stages, names)
                for each in in_order:
                    each.see(outcome.index, row)
                    each.fill(outcome.index, row)
                yield complete(row, self.columns)

    def steps(self, *, timeout: float | None = None) -> Pipeline:
        """All stages as steps of an `allcores.Pipeline`, which may go on: filter rows, group them, write them.

        Its records are messages as a `ChatSource` gives them, or dicts with `text` and `id`, and rows come out. Each
        message runs by itself, where `run` and `imap` give models several at once, for which spaCy's need two thirds of
        the time.

        Args:
            timeout: Seconds that one message may take.

        Raises:
            UsageError: If a stage has to be loaded in each worker.
        """
        from allcores.nlp.steps import as_pipeline

        return as_pipeline(self.stages, timeout=timeout)

    def pool(self, **options: Any) -> Pool:
        """A pool whose workers have the models of all stages loaded, once for all of them where that is safe.

        Args:
            **options: See `Pool`; preload and setup are taken.
        """
        return stages_pool(self.stages, **options)


@hiding
def chat_pipeline(
    stages: Iterable[str | Stage] | None = None,
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    find: Callable[[str], Any] | None = None,
) -> ChatPipeline:
    """A pipeline from messages to features.

    Args:
        stages: Names of stages, or stages of your own, in the order in which they run. None: unicode, lang, pii,
            tokens, lemmas, sentiment, intent, duplicates, conversation. There are also ids, embedding,
            presidio and sentence-transformers.
        options: Of stages, by their names: {"pii": {"replace": True}}.
        find: Gives a stage for a name with a colon; None: no such names.

    Raises:
        UsageError: For a stage or an option that there is not.
    """
    return ChatPipeline(chosen(stages, options or {}, find))


def check_apart(inputs: Iterable[str], output: str) -> None:
    """Raise UsageError if an output would replace an input."""
    for path in inputs:
        if os.path.exists(output) and os.path.exists(path) and os.path.samefile(path, output):
            raise UsageError(f"{output} is an input, and would be replaced: name another output")


def _messages(source: Any, stages: Sequence[Stage]) -> tuple[Iterable[Any], Mapping[str, str] | None]:
    """The messages as items, and the names of their fields, where workers read them."""
    if isinstance(source, (str, os.PathLike)) or (
        isinstance(source, (list, tuple)) and source and all(isinstance(each, (str, os.PathLike)) for each in source)
    ):
        _check_are_paths(source)
        source = ChatSource(source)
    if isinstance(source, ChatSource):
        check_takes(stages)
        return ChatItems(source), source.names
    _check_are_messages(source)
    return _given(source, stages), None


def _given(source: Iterable[Any], stages: Sequence[Stage]) -> Iterator[Record]:
    """The messages that the program gives."""
    checked = False
    for number, item in enumerate(source, 1):
        if not checked and not (isinstance(item, dict) and is_record(item)):
            check_takes(stages)
            checked = True
        yield message_of(item, number)


def _check_batch(batch: int | None) -> None:
    """Raise UsageError for what a pool takes, and stages do not; of the rest the pool knows."""
    if batch is None:
        raise UsageError(f"batch=None: models get their messages in lists; 1 for one at a time, {BATCH} by default")


def _check_are_paths(source: Any) -> None:
    """Raise UsageError for texts that are no paths."""
    paths = [source] if isinstance(source, (str, os.PathLike)) else source
    texts = [path for path in paths if isinstance(path, str) and path != STDIN]
    if len(texts) == len(paths) and not any(map(_looks_like_a_path, texts)):
        raise UsageError(
            f"{texts[0]!r:.80} is no file that is there, and no name of one: texts are given as messages, "
            '[{"text": "..."}]'
        )


def _looks_like_a_path(text: str) -> bool:
    suffix = os.path.splitext(text)[1]
    is_word = len(text.split()) == 1
    return os.path.lexists(text) or (is_word and has_wildcard(text)) or (len(suffix) > 1 and len(suffix.split()) == 1)


def _check_are_messages(source: Any) -> None:
    """Raise UsageError for what has parts that are no messages: they would be rows with an error each."""
    if isinstance(source, Mapping):
        raise UsageError("a dict is one message, and no source: give a list of such, [{...}]")
    check_has_rows(source)
    if isinstance(source, (bytes, bytearray, memoryview)) or not isinstance(source, Iterable):
        raise UsageError(f"{kind_text(source)} is no source: give files, or anything that gives dicts with text")


def _row_of(outcome: Outcome[Record], stages: Sequence[Stage], names: Mapping[str, str] | None) -> Record:
    if outcome.ok and outcome.value is not None:
        return dict(outcome.value)
    return lost_row(outcome.item, outcome.kind.value, str(outcome.error), stages, names)
