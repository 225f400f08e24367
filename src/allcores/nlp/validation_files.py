"""The check of files of chat: large ones by ranges of bytes, on all cores.

A worker reads a range of whole lines, and checks what each of its documents says by itself. What takes the whole
file (the line's number, an id that is there twice, an answer to a message above) is looked at here, in order.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace

from allcores import slices
from allcores.nlp.reading.files import ChatFormat, document_of_line, documents
from allcores.nlp.reading.source import ChatSource
from allcores.nlp.validation import (
    Above,
    Finding,
    Said,
    check_document,
    is_utterance,
    name_of_talk,
    order_of,
    said_of,
    talk_order_of,
)
from allcores.pool.pool import Pool
from allcores.sources.compression import compression_of
from allcores.sources.text import STDIN, first_line

#: bytes of a range. Larger: memory in workers, and cores that are idle at the end. Smaller: more messages.
SLICE_BYTES = 2 * 1024 * 1024
#: bytes of a file from which on workers are started for it
LARGE_BYTES = 16 * 1024 * 1024

#: of a line that says something: its number in the range, what a message is to the file, or the name of a conversation,
#: and what is wrong with it
_Line = tuple[int, Said | str | None, list[Finding]]


def findings_of(source: ChatSource, *, workers: int | None = 1) -> Iterator[Finding]:
    """All faults of all files of a source, in order. To be closed, or read to the end.

    Args:
        source: The files.
        workers: For large files of JSON Lines; None: the core budget.
    """
    for path, format in zip(source.paths, source.formats, strict=True):
        if format not in ("json", "jsonl"):
            yield from _unreadable(source, path, format)
        elif format == "jsonl" and workers != 1 and _is_large(path):
            yield from _by_ranges(path, workers)
        else:
            above = Above()
            for line, document in documents(path, format):
                yield from check_document(document, path, line, above)


def _unreadable(source: ChatSource, path: str, format: ChatFormat) -> Iterator[Finding]:
    for record in ChatSource(path, format=format, names=source.names):
        if record["error"] is not None:
            sentence = record["error"].removeprefix("reading: ")
            yield Finding(path, record["line"], None, None, "readable", sentence)


def _is_large(path: str) -> bool:
    if path == STDIN or compression_of(path):
        return False
    facts = os.stat(path)
    return stat.S_ISREG(facts.st_mode) and facts.st_size >= LARGE_BYTES


def _by_ranges(path: str, workers: int | None) -> Iterator[Finding]:
    above = Above()
    ranges = slices.lines(path, slice_bytes=SLICE_BYTES)
    before = 0
    with Pool(workers) as pool, pool.imap(_RangeCheck(path), range(len(ranges)), ranges) as found:
        for count, lines in found:
            for number, said, findings in lines:
                line = before + number
                yield from (replace(finding, line=line) for finding in findings)
                if isinstance(said, str):
                    yield from talk_order_of(said, path, line, above)
                elif said is not None:
                    yield from order_of(said, path, line, above)
            before += count


class _RangeCheck:
    """Checks the lines of a range. Runs in the workers."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, place: int, data: bytes) -> tuple[int, list[_Line]]:
        """How many lines there are, and what is to be known of some of them."""
        raws = data.split(b"\n")
        if not raws[-1]:
            del raws[-1]
        found: list[_Line] = []
        for number, raw in enumerate(raws, 1):
            if place == 0:
                raw = first_line(number, raw)
            document = document_of_line(raw.removesuffix(b"\r"))
            if is_utterance(document):
                found.append((number, *said_of(document, self.path, number)))
            else:
                findings, name = list(check_document(document, self.path, number)), name_of_talk(document)
                if findings or name is not None:
                    found.append((number, name, findings))
        return len(raws), found
