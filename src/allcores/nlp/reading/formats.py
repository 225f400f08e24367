"""What a JSON document of chat can be: one message, or a conversation in one of the usual forms.

    utterance    {"text": ..., "id", "speaker", "timestamp", ...}; ConvoKit's utterances.jsonl is of this form
    OpenAI       {"messages": [{"role", "content", "tool_calls"}, ...]}
    ShareGPT     {"conversations": [{"from", "value"}, ...]}

Each document says by its own names which it is, so a file may mix them.
"""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from allcores.limits import plain_number
from allcores.nlp.records import Record, id_of, is_record, new_record, well_formed
from allcores.sources.text import json_trouble, json_value

#: field -> names under which it is found, the first that has something counts
NAMES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "content", "message", "body", "utterance", "value"),
    "id": ("id", "message_id", "utterance_id", "uuid"),
    "conversation_id": ("conversation_id", "root", "conversation", "thread_id", "dialogue_id", "session_id"),
    "speaker": ("speaker", "user", "role", "author", "from", "sender"),
    "reply_to": ("reply_to", "reply-to", "in_reply_to", "parent_id"),
    "timestamp": ("timestamp", "created_at", "time", "ts", "date"),
}
#: ShareGPT's words for who speaks, in OpenAI's
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "system": "system", "tool": "tool", "observation": "tool",
    "function_call": "assistant", "function": "tool",
}  # fmt: skip


#: a date, and maybe a time, without signs between: 20260131, 20260131120000
_COMPACT = re.compile(r"(?:19|20)[0-9]{6}(?:[0-9]{6})?")


#: what stands behind a time, with a space: its zone
_ZONE = re.compile(r"(?<=[0-9]) (?:([+-][0-9]{2}:?[0-9]{2})|UTC|GMT)$")
_SLASHES = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}(?![0-9/])")
#: of mail and HTTP (Mon, 30 Nov 2026 09:20:54 +0000), and Twitter's (Mon Nov 30 09:20:54 +0000 2026)
_MAIL = re.compile(
    r"(?:[A-Z][a-z]{2}, )?[0-9]{1,2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{5,8} (?:[+-][0-9]{4}|GMT|UTC)"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8} [+-][0-9]{4} [0-9]{4}"
)


#: floats below that are exact where they are whole
_WHOLE = 1 << 53


class BadMessage(Exception):
    """A document or a message is not of its form; the text says what is wrong."""


def first_of(document: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first of some names under which there is something; else, of those that are there, the first.

    Who writes rows of several forms with one library has all columns in each: null under the names of the other form.
    """
    there: str | None = None
    for name in names:
        if name in document:
            if document[name] is not None:
                return name
            there = there or name
    return there


def records_of(
    document: Any, file: str, line: int, names: Mapping[str, str] | None = None, place: int = 1
) -> Iterator[Record]:
    """The messages of one document, at least one record: what cannot be read is a record with its error.

    Args:
        file: What rows call the file. line: Where the document begins, from 1.
        names: Names of the caller's own: {"text": "msg"}.
        place: Of the document, on that line, from 1.
    """
    own = id_of(file, line, place)
    if not isinstance(document, dict):
        yield new_record(file, line, id=own, error=f"reading: a JSON object is expected here, not {kind_of(document)}")
        return
    key = turns_key(document, names)
    if key is None:
        yield utterance(document, file, line, names, place)
    else:
        read = _openai if key == "messages" else _sharegpt
        yield from _conversation(document, document[key], key, read, file, line, own)


def turns_key(document: Mapping[str, Any], names: Mapping[str, str] | None = None) -> str | None:
    """The name under which a document has the turns of a conversation; None: it is one message by itself.

    A message may have a field of that name that is something else, their number say.
    """
    if (names or {}).get("text"):
        return None
    has_text = any(isinstance(document.get(name), str) for name in NAMES["text"])
    keys = [
        key
        for key in ("messages", "conversations")
        if key in document and not (has_text and not isinstance(document[key], list))
    ]
    return next((key for key in keys if document[key] not in (None, [])), keys[0] if keys else None)


def utterance(
    document: Mapping[str, Any], file: str, line: int, names: Mapping[str, str] | None = None, place: int = 1
) -> Record:
    """One message by itself. See `records_of`."""
    record = new_record(file, line, id=id_of(file, line, place))
    found: dict[str, Any] = {}
    for field in NAMES:
        own = (names or {}).get(field)
        name = own if own is not None else first_of(document, NAMES[field])
        found[field] = None if name is None else document.get(name)
    trouble: list[str] = []
    for field, read in (
        ("id", _name), ("conversation_id", _name), ("speaker", _speaker), ("reply_to", _name),
        ("timestamp", seconds_of), ("text", _text),
    ):  # fmt: skip
        try:
            if field == "text" and found[field] is None:
                own = (names or {}).get(field)
                raise BadMessage(f"is missing (looked for {', '.join(NAMES[field] if own is None else (own,))})")
            value = read(found[field])
        except BadMessage as error:
            trouble.append(f"{field} {error}")
            continue
        if value is not None:
            record[field] = value
    if trouble:
        record["error"] = f"reading: {'; '.join(trouble)}"
    return record


def message_of(item: Any, number: int) -> Record:
    """A message that the program gave: as read from a file with one on each line; one of a `ChatSource` as it is.

    Args:
        item: A dict with `text`, or what cannot be a message.
        number: Its line.
    """
    if not isinstance(item, Mapping):
        return new_record("item", number, error=f"reading: a message is a dict with text, not {type(item).__name__}")
    document = item if isinstance(item, dict) else dict(item)
    if is_record(document):
        return document
    record = utterance({name: value for name, value in document.items() if not _is_missing(value)}, "item", number)
    if record["text"] is None and (key := turns_key(document)) is not None:
        record["error"] = (
            f"reading: it is a conversation: give each message of its {key!r} by itself, or a file of such"
        )
    return record


def _is_missing(value: Any) -> bool:
    """Whether it is what pandas has in the place of nothing: NaN, NaT, or NA."""
    if type(value).__name__ == "NAType":  # which is neither equal to itself nor not
        return True
    return isinstance(value, (float, datetime.datetime)) and value != value


def _conversation(
    document: Mapping[str, Any], turns: Any, key: str, read: Any, file: str, line: int, own: str
) -> Iterator[Record]:
    try:
        name = _name(_value_of(document, ("id", "conversation_id", "uuid")))
    except BadMessage:
        name = None
    name = own if name is None else name
    if not isinstance(turns, list) or not turns:
        what = "is empty" if turns == [] else f"must be a list of messages, not {kind_of(turns)}"
        yield new_record(file, line, id=name, conversation_id=name, error=f"reading: {key!r} {what}")
        return
    given = [_name_in(turn, "id") for turn in turns]
    # A number counts the messages of its conversation, and those of the next one, too.
    ids = [f"{name}:{number}" if own is None or own.isdecimal() else own for number, own in enumerate(given)]
    named = {own: each for own, each in zip(given, ids, strict=True) if own is not None}
    for id, (number, turn) in zip(ids, enumerate(turns), strict=True):
        record = new_record(file, line, id=id, conversation_id=name)
        try:
            if not isinstance(turn, dict):
                raise BadMessage(f"must be an object, not {kind_of(turn)}")
            record["speaker"], record["text"] = read(turn)
            if (answered := _name_in(turn, "reply_to")) is not None:
                record["reply_to"] = named.get(answered, answered)
            record["timestamp"] = seconds_of(_value_of(turn, NAMES["timestamp"]))
        except BadMessage as error:
            record["error"] = f"reading: {key}[{number}] {error}"
        yield record


def _name_in(turn: Any, field: str) -> str | None:
    """A message's own id in a conversation, or that of another; None if it has none that can be one."""
    try:
        return _name(_value_of(turn, NAMES[field])) if isinstance(turn, dict) else None
    except BadMessage:
        return None


def _openai(turn: Mapping[str, Any]) -> tuple[str | None, str]:
    role = turn.get("role")
    if not isinstance(role, str):
        raise BadMessage("has no role" if role is None else f"has a role that is {kind_of(role)}, not text")
    role = well_formed(role)
    content = turn.get("content")
    if content is None:
        if isinstance(refusal := turn.get("refusal"), str):
            return role, well_formed(refusal)  # what the model said in the place of an answer
        # A message that only calls tools says nothing.
        if turn.get("tool_calls") or turn.get("function_call"):
            return role, ""
        raise BadMessage("has neither content nor tool_calls")
    if isinstance(content, list):
        return role, "\n".join(_parts(content))
    if not isinstance(content, str):
        raise BadMessage(f"has content that is {kind_of(content)}, not text")
    return role, well_formed(content)


def _parts(content: list[Any]) -> Iterator[str]:
    """The texts of a message in parts; images and the like have none."""
    for number, part in enumerate(content):
        if isinstance(part, str):
            yield well_formed(part)
        elif isinstance(part, dict) and isinstance(part.get("type"), str):
            if isinstance(text := part.get("refusal" if part["type"] == "refusal" else "text", ""), str):
                if text:
                    yield well_formed(text)
            else:
                raise BadMessage(f"has a part {number} whose text is {kind_of(text)}")
        else:
            raise BadMessage(f"has a part {number} that is neither text nor an object with a type")


def _sharegpt(turn: Mapping[str, Any]) -> tuple[str | None, str]:
    speaker = _value_of(turn, ("from", "role", "user"))
    if not isinstance(speaker, str):
        raise BadMessage("has no 'from'" if speaker is None else f"has a 'from' that is {kind_of(speaker)}, not text")
    value = _value_of(turn, ("value", "content", "text"))
    if not isinstance(value, str):
        raise BadMessage("has no 'value'" if value is None else f"has a 'value' that is {kind_of(value)}, not text")
    return ROLES.get(speaker.lower(), well_formed(speaker)), well_formed(value)


def _value_of(document: Mapping[str, Any], names: Iterable[str]) -> Any:
    """See `first_of`; None if there is nothing."""
    name = first_of(document, names)
    return None if name is None else document[name]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadMessage(f"must be text, not {kind_of(value)}")
    return well_formed(value)


def _name(value: Any) -> str | None:
    """A name, which some write as a number; a program may have numbers of NumPy, or a UUID."""
    if value is None or (isinstance(value, str) and not value):
        return None
    value = str(value) if type(value).__module__ == "uuid" else plain_number(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        value = int(value)  # so pandas has whole numbers of which one is missing
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        kind = "a fraction" if isinstance(value, float) else kind_of(value)
        raise BadMessage(f"must be text or a whole number, not {kind}")
    return well_formed(str(value))


def _speaker(value: Any) -> str | None:
    """Of some, an object that has a name: ConvoKit's speaker, or an author with a role."""
    if isinstance(value, dict):
        value = _value_of(value, ("id", "name", "role"))
    return _name(value)


def seconds_of(value: Any) -> float | None:
    """A time as seconds since 1970, UTC: from a number of seconds (or of milliseconds and less), or ISO 8601.

    Either may be text, a date also like 20260131 or 20260131120000, 2026/01/31, or as in mail; a program may also give
    a `datetime` or `date`, or what NumPy has for them. A time without a zone counts as UTC.

    Raises:
        BadMessage: If it is none of them.
    """
    if type(value).__name__ == "datetime64":
        value = value.item()  # of NumPy: a datetime, a date, nanoseconds, or None
    if value is None or (isinstance(value, str) and not value):
        return None
    if isinstance(value, str):
        if _COMPACT.fullmatch(value.strip()):
            # As seconds these are days of 1970, and as milliseconds of the year 2600: no chat is of then.
            with contextlib.suppress(ValueError):
                digits = value.strip()
                return _seconds_at(datetime.datetime.fromisoformat(f"{digits[:8]}T{digits[8:] or '00'}"))
        try:
            value = float(value)
        except ValueError:
            moment = _moment_of(value.strip())
            if moment is None:
                # What differs from row to row stands behind a colon, see `summary.reason_of`.
                raise BadMessage(f"is neither seconds nor a date like 2026-01-31: {value[:40]!r}") from None
            return _seconds_at(moment)
    if isinstance(value, datetime.datetime):
        return _seconds_at(value)
    if isinstance(value, datetime.date):
        return _seconds_at(datetime.datetime(value.year, value.month, value.day))
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadMessage(f"must be seconds or a date, not {kind_of(value)}")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise BadMessage("is no finite number of seconds")
    # Seconds of later than the year 5138 are milliseconds, and so on up to nanoseconds.
    for least, unit in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3)):
        if abs(seconds) >= least:
            seconds /= unit
            break
    if abs(seconds) >= 1e11:
        raise BadMessage("is no time: it is after the year 5138")
    return seconds


def _moment_of(text: str) -> datetime.datetime | None:
    """A date, and maybe a time, in a form that can mean one thing only; None: it is in no such form."""
    plain = _ZONE.sub(lambda zone: zone[1] or "Z", text)
    if _SLASHES.match(plain):
        plain = plain.replace("/", "-", 2)
    with contextlib.suppress(ValueError):
        return datetime.datetime.fromisoformat(plain)
    if _MAIL.fullmatch(text):
        with contextlib.suppress(ValueError):
            return email.utils.parsedate_to_datetime(text)
    return None


def _seconds_at(moment: datetime.datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


def kind_of(value: Any) -> str:
    """What JSON calls the type of a value; of one that JSON has not, which a program has given, its name."""
    kinds = {
        dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null", int: "a number",
        float: "a number",
    }  # fmt: skip
    return kinds.get(type(value)) or type(value).__name__


def document_of(text: str) -> Any:
    """The JSON value of a line.

    Raises:
        BadMessage: If it is none.
    """
    try:
        return json_value(text)
    except json.JSONDecodeError as error:
        raise BadMessage(json_trouble(error)) from None
    except RecursionError:
        raise BadMessage("JSON nested too deeply") from None
    except ValueError as error:  # a name twice, or a number of more digits than sys.get_int_max_str_digits()
        raise BadMessage(f"no usable JSON ({error})") from None
