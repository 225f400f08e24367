"""Messages on their way to the workers: as little of a file is looked into before as gives each its place.

The program finds where lines end, and which of them hold a conversation, whose turns are messages of their own. All
else about a line (its JSON, its names, its times) is found out by the worker that gets it. So a large file of messages
is read on all cores, also one that is compressed, and which message is the tenth does not depend on who reads it.

    item    a record, where it is known already: a turn of a conversation, or what cannot be read; else
            (kind, file, line, content): "json" a line with one document, "fields" a row of CSV, "text" a line

An item makes one message. It is plain data, which a journal compares, and keeps for a message that is lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from allcores.nlp.reading.formats import BadMessage, document_of, records_of, utterance
from allcores.nlp.records import Record, new_record

#: see the module
Item = Record | tuple[str, str, int, Any]

#: an ASCII letter of the names below, written as an escape
_ESCAPED = re.compile(r"\\u00[67]")
#: so pandas writes whole numbers into a column of CSV where one is missing: the first message answers none
_WHOLE = re.compile(r"[0-9]+\.0")


def items_of_line(text: str, file: str, line: int, names: Mapping[str, str] | None) -> Iterator[Item]:
    """The messages of a line of JSON Lines: one, unless it holds a conversation.

    Args:
        text: The line.
        file: What rows call the file.
        line: Its number, from 1.
        names: See `records_of`.
    """
    if not _may_hold_turns(text):
        yield "json", file, line, text
        return
    try:
        document = document_of(text)
    except BadMessage as error:
        yield new_record(file, line, error=f"reading: {error}")
        return
    yield from records_of(document, file, line, names)


def _may_hold_turns(text: str) -> bool:
    """False only if the line has none of the names under which `records_of` looks for a conversation.

    In JSON a quote within text has a backslash before it, so a text that speaks of "messages" is none of them.
    """
    if '"messages"' in text or '"conversations"' in text:
        return True
    return "\\u00" in text and _ESCAPED.search(text) is not None


def record_of(item: Item | Sequence[Any], names: Mapping[str, str] | None = None) -> Record:
    """The message that an item is; what is bad in it is a record with its error.

    Args:
        item: As `items_of_line` gives it, or the same from a journal, a list.
        names: Names of the caller's own, see `records_of`.
    """
    if isinstance(item, dict):
        return item
    kind, file, line, content = item
    if kind == "text":
        return new_record(file, line, text=content)
    if kind == "fields":
        record = utterance(content, file, line, names)
        answered = record["reply_to"]
        if answered is not None and record["id"].isdecimal() and _WHOLE.fullmatch(answered):
            record["reply_to"] = answered[:-2]
        return record
    try:
        document = document_of(content)
    except BadMessage as error:
        return new_record(file, line, error=f"reading: {error}")
    (record,) = records_of(document, file, line, names)
    return record
