"""Carries out `allcores chat compare`."""

from __future__ import annotations

from allcores.cli.chat_run import check_page, given_names
from allcores.cli.exits import CommandError, Exit
from allcores.cli.output import reserved_stdout, say, show, write_json
from allcores.nlp.compare.measure import compare as measured
from allcores.nlp.compare.report import as_svg, as_text
from allcores.nlp.compare.ways import OURS
from allcores.nlp.compare.works import Work, work_named
from allcores.nlp.reading.files import ChatFormat
from allcores.nlp.reading.source import ChatSource
from allcores.nlp.records import well_formed
from allcores.sources.base import close_reading
from allcores.system.cores import core_budget
from allcores.system.whole_files import whole_text


def compare(
    *,
    inputs: tuple[str, ...],
    what: str,
    messages: int,
    rounds: int,
    workers: int | None,
    picture: str | None,
    format: ChatFormat | None,
    names: tuple[str, ...],
    as_machine: bool,
) -> int:
    """See `allcores chat compare --help`."""
    with reserved_stdout() as standard:
        works = [work_named(name.strip()) for name in what.split(",") if name.strip()]
        if not works:
            raise CommandError("--what names nothing: lemmas, for one")
        source = ChatSource(inputs, format=format, names=given_names(names) or None)
        if picture is not None:
            check_page(picture, source.paths, "--picture")
        texts = _texts(source, messages)
        for work in works:
            _check(work)
        count = core_budget().workers if workers is None else workers
        found = [measured(work, texts, workers=count, rounds=rounds, say=say) for work in works]
        if picture is not None:
            try:
                with whole_text(picture) as file:
                    file.write(as_svg(found))
            except OSError as error:
                raise CommandError(f"cannot write {picture}: {error.strerror or error}", Exit.OUTPUT) from None
        if as_machine:
            write_json({"comparisons": [each.as_json() for each in found]}, fd=standard)
    if not as_machine:
        show(as_text(found))
    if picture is not None:
        say(f"{picture}: written")
    ours = [way for each in found for way in each.ways if way.name == OURS]
    return 0 if all(way.same for way in ours) else 1


def _texts(source: ChatSource, most: int) -> list[str]:
    """The first messages that have a text. Raises CommandError if there is none."""
    texts: list[str] = []
    reading = iter(source)
    try:
        for record in reading:
            if record.get("text") and record.get("error") is None:
                texts.append(well_formed(record["text"]))
                if len(texts) == most:
                    break
    finally:
        close_reading(reading, unless=source)
    if not texts:
        raise CommandError("the input has no message with a text: allcores chat validate says why")
    return texts


def _check(work: Work) -> None:
    """Raise NotSupported here, in one sentence, and not once for each way."""
    work.load()
