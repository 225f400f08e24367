"""Carries out `allcores chat convert`."""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from typing import Any

from allcores.cli.chat_run import SHOWN
from allcores.cli.exits import CommandError, Exit
from allcores.cli.output import reserved_stdout, say, write_json
from allcores.formatting import counted
from allcores.nlp.conversion import ChatForm, converted
from allcores.nlp.pipeline import check_apart
from allcores.nlp.reading.files import ChatFormat, documents
from allcores.nlp.reading.formats import BadMessage
from allcores.nlp.reading.source import ChatSource
from allcores.nlp.table import JSON_SUFFIXES
from allcores.sinks.destination import check_file
from allcores.sinks.publishing import published
from allcores.sources.compression import without_compression
from allcores.system.terminal_text import safe_line

_NUMBER = re.compile(r"\d+")


def convert_files(
    *, inputs: tuple[str, ...], output: str, to: ChatForm, plain: bool, format: ChatFormat | None, as_machine: bool
) -> int:
    """`allcores chat convert`; the exit code."""
    if plain and to != "sharegpt":
        raise CommandError(f"--plain is for --to sharegpt: {to} has no fields beside its own")
    source = ChatSource(inputs, format=format)
    for path, found in zip(source.paths, source.formats, strict=True):
        if found not in ("json", "jsonl"):
            raise CommandError(f"{path}: conversations are JSON or JSON Lines, and this is {found}")
    if not without_compression(output.lower()).endswith(JSON_SUFFIXES):
        raise CommandError(f"{output}: the output is JSON Lines: name it like out.jsonl")
    check_apart(source.paths, output)
    check_file(output)
    done = failed = 0
    trouble: list[str] = []
    losses: Counter[str] = Counter()
    with reserved_stdout() as standard:
        try:
            with published(output, mark=secrets.token_hex(4), sync=True) as file:
                for path, line, document in _documents(source):
                    try:
                        if isinstance(document, BadMessage):
                            raise document
                        made = converted(document, to, plain=plain)
                    except BadMessage as error:
                        failed += 1
                        if len(trouble) < SHOWN:
                            trouble.append(f"{path}:{line}: {error}")
                        continue
                    done += 1
                    losses.update({_kind(loss) for loss in made.losses})
                    file.write(_line(made.document))
        except OSError as error:
            raise CommandError(f"cannot write {output}: {error.strerror or error}", Exit.OUTPUT) from None
        if as_machine:
            write_json(
                {
                    "output": output,
                    "conversations": done,
                    "failed": failed,
                    "losses": dict(sorted(losses.items())),
                    "findings": trouble,
                },
                fd=standard,
            )
    if not as_machine:
        lines = trouble + ([f"… and {failed - len(trouble):,} more"] if failed > len(trouble) else [])
        lines += [f"left out in {counted(count, 'conversation')}: {loss}" for loss, count in sorted(losses.items())]
        lines.append(f"{counted(done, 'conversation')} → {output}" + (f", {failed:,} failed" if failed else ""))
        say("\n".join(map(safe_line, lines)))
    return Exit.SOME_FAILED if failed else Exit.OK


def _documents(source: ChatSource) -> Iterator[tuple[str, int, Any]]:
    for path, format in zip(source.paths, source.formats, strict=True):
        for line, document in documents(path, format):
            yield path, line, document


def _kind(loss: str) -> str:
    """A loss without the place of its turn, so that it can be counted."""
    return _NUMBER.sub("N", loss.partition(": ")[2] or loss).replace(" of call N", " of a call")


def _line(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair: it stays the escape that it was
        return json.dumps(document).encode() + b"\n"
