"""A check of files of chat: each fault with its place, the rule that it breaks, and a way out.

Errors are what cannot be read, or what trainers and services refuse. Warnings are what many of them take and some do
not: two messages of one speaker in a row, for one, which are allowed here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from allcores.nlp.reading.formats import ROLES, BadMessage, first_of, kind_of, turns_key, utterance
from allcores.sources.text import json_value

OPENAI_ROLES = ("system", "developer", "user", "assistant", "tool", "function")

#: rule -> what to do about it
FIXES: Mapping[str, str] = {
    "readable": "write one JSON object on each line, in UTF-8, and no empty lines",
    "object": "write a JSON object: a message, or a conversation with 'messages' or 'conversations'",
    "message-fields": "give each message its text, and id, time and names of the right types",
    "messages-list": "make it a list of at least one message",
    "message-object": "make each message a JSON object",
    "role-known": f"use one of {', '.join(OPENAI_ROLES)}",
    "speaker-known": "use human, gpt, system, function_call or observation",
    "content-type": "make content text, a list of parts with a type, or null beside tool_calls",
    "content-empty": "leave the message out, or say something in it",
    "tool-calls-list": "make tool_calls a list of objects with id, type and function",
    "tool-call-id": "give each call an id of its own in the conversation",
    "tool-call-name": "name the function that is called, in function.name",
    "tool-call-arguments": "make function.arguments a text that is a JSON object",
    "tool-call-answered": "let a tool message with this tool_call_id follow, before anyone else speaks",
    "tool-answer-known": "give the tool message the tool_call_id of a call right before it",
    "system-first": "put the system message before all others",
    "roles-alternate": "join the two messages, or check that the model's template takes them",
    "ends-with-answer": "end a conversation for training with the assistant's message",
    "weight": "make weight 0 or 1, of assistant's messages alone",
    "id-unique": "give each message an id of its own",
    "conversation-unique": "give each conversation an id of its own, or put all its messages into one",
    "reply-known": "name a message of this file that stands above, or leave reply_to out",
    "time-order": "check the times: an answer is earlier than what it answers",
}
Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        file: The file. line: Where the document begins, from 1.
        conversation: Its name, if it has one. turn: The message's number in it, from 0; None for all of it.
        rule: A name out of `FIXES`.
        message: What is wrong there.
    """

    file: str
    line: int
    conversation: str | None
    turn: int | None
    rule: str
    message: str
    level: Level = "error"

    @property
    def fix(self) -> str:
        """What to do about it."""
        return FIXES[self.rule]

    def as_text(self) -> str:
        """In one line, for people."""
        place = f"{self.file}:{self.line}"
        place += "" if self.conversation is None else f": conversation {self.conversation}"
        place += "" if self.turn is None else f", turn {self.turn}"
        return f"{place}: {self.level} [{self.rule}] {self.message}; {self.fix}"

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        names = ("file", "line", "conversation", "turn", "rule", "level", "message", "fix")
        return {name: getattr(self, name) for name in names}


class Above:
    """What stands above a document in its file.

    Attributes:
        ids: Names of messages, and their times.
        talks: Names of conversations, and their lines.
    """

    def __init__(self) -> None:
        self.ids: dict[str, float | None] = {}
        self.talks: dict[str, int] = {}


def check_document(document: Any, file: str, line: int, above: Above | None = None) -> Iterator[Finding]:
    """The faults of one document.

    Args:
        document: As JSON has it, or a `BadMessage`.
        file: Its file.
        line: Its line.
        above: What stands above it in the file, to which it is added.
    """
    if above is None:
        above = Above()
    if isinstance(document, BadMessage):
        yield Finding(file, line, None, None, "readable", str(document))
    elif not isinstance(document, dict):
        yield Finding(file, line, None, None, "object", f"this is {kind_of(document)}")
    elif (key := turns_key(document)) is not None:
        talk = _Conversation(document, document[key], file, line)
        yield from talk.openai() if key == "messages" else talk.sharegpt()
        if talk.name is not None:
            yield from talk_order_of(talk.name, file, line, above)
    else:
        said, found = said_of(document, file, line)
        yield from found
        yield from order_of(said, file, line, above)


def name_of_talk(document: Any) -> str | None:
    """The name of a document that is a conversation, if it has one."""
    if not isinstance(document, dict) or turns_key(document) is None:
        return None
    name = document.get(first_of(document, ("id", "conversation_id", "uuid")) or "id")
    return str(name) if isinstance(name, (str, int)) and not isinstance(name, bool) and name != "" else None


def talk_order_of(name: str, file: str, line: int, above: Above) -> Iterator[Finding]:
    """What is wrong with a conversation beside those above it.

    Args:
        name: Of the conversation.
        file: Its file.
        line: Its line.
        above: What stands above it; it is added.
    """
    if name not in above.talks:
        above.talks[name] = line
    else:
        what = (
            f"the conversation of line {above.talks[name]} has the id {name!r}, too: their turns count as those of one"
        )
        yield Finding(file, line, name, None, "conversation-unique", what, "warning")


@dataclass(frozen=True, slots=True)
class Said:
    """What a message by itself is to others of its file.

    Attributes:
        conversation: That it belongs to, if that is said. name: Its id, if it has one.
        reply_to: Id of the message that it answers. timestamp: Seconds since 1970.
    """

    conversation: str | None
    name: str | None
    reply_to: str | None
    timestamp: float | None


def is_utterance(document: Any) -> bool:
    """Whether a document is one message by itself."""
    return isinstance(document, dict) and turns_key(document) is None


def said_of(document: Mapping[str, Any], file: str, line: int) -> tuple[Said, list[Finding]]:
    """What a message by itself is to others, and its own faults."""
    base = os.path.basename(file)
    record = utterance(document, base, line)
    talk = record["conversation_id"]
    found = []
    if record["error"] is not None:
        found.append(Finding(file, line, talk, None, "message-fields", record["error"].removeprefix("reading: ")))
    elif not record["text"].strip():
        found.append(Finding(file, line, talk, None, "content-empty", "the message has no text", "warning"))
    name = None if record["id"] == f"{base}:{line}" else record["id"]
    return Said(talk, name, record["reply_to"], record["timestamp"]), found


def order_of(said: Said, file: str, line: int, above: Above) -> Iterator[Finding]:
    """What is wrong with a message beside those above it.

    Args:
        said: The message.
        file: Its file.
        line: Its line.
        above: What stands above it; it is added.
    """
    ids = above.ids
    talk, reply, time = said.conversation, said.reply_to, said.timestamp
    name = f"{os.path.basename(file)}:{line}" if said.name is None else said.name
    if reply is not None and reply not in ids:
        yield Finding(file, line, talk, None, "reply-known", f"it answers {reply!r}, which is not above it", "warning")
    elif reply is not None and time is not None and (earlier := ids[reply]) is not None and time < earlier:
        what = f"it is {earlier - time:g} s earlier than {reply!r}, which it answers"
        yield Finding(file, line, talk, None, "time-order", what, "warning")
    if said.name is None:
        # Several without a name may stand on one line: none of them is there already.
        ids.setdefault(name, time)
        return
    if name in ids:
        yield Finding(file, line, talk, None, "id-unique", f"the id {name!r} is there already")
    ids[name] = time


class _Conversation:
    """One conversation, and what is known of it so far."""

    def __init__(self, document: Mapping[str, Any], turns: Any, file: str, line: int) -> None:
        self.file = file
        self.line = line
        self.name = name_of_talk(document)
        self.turns = turns

    def finding(self, turn: int | None, rule: str, message: str, level: Level = "error") -> Finding:
        """A fault of a message, or of all of it."""
        return Finding(self.file, self.line, self.name, turn, rule, message, level)

    def listed(self, key: str) -> Iterator[Finding]:
        """What is wrong with the list as a whole; then there is nothing in it to look at."""
        if not isinstance(self.turns, list):
            yield self.finding(None, "messages-list", f"{key!r} is {kind_of(self.turns)}")
        elif not self.turns:
            yield self.finding(None, "messages-list", f"{key!r} is empty")

    def openai(self) -> Iterator[Finding]:
        """The rules of `messages`."""
        wrong = list(self.listed("messages"))
        yield from wrong
        if wrong:
            return
        calls: set[str] = set()  # of all of the conversation
        waiting: dict[str, int] = {}  # call that has no answer yet -> its turn
        before: str | None = None
        for number, turn in enumerate(self.turns):
            if not isinstance(turn, dict):
                yield self.finding(number, "message-object", f"the message is {kind_of(turn)}")
                before = None
                continue
            role = turn.get("role")
            if not isinstance(role, str) or role not in OPENAI_ROLES:
                what = "it has no role" if role is None else f"its role is {role!r:.40}"
                yield self.finding(number, "role-known", what)
            if role == "tool":
                yield from self._answer(number, turn, waiting)
            else:
                yield from self._unanswered(waiting)
                waiting.clear()
            yield from self._content(number, turn)
            yield from self._calls(number, turn, calls, waiting)
            yield from self._order(number, role, before)
            if "weight" in turn and (role != "assistant" or turn["weight"] not in (0, 1)):
                yield self.finding(number, "weight", f"weight is {turn['weight']!r:.40} of a message of {role}")
            before = role if isinstance(role, str) else None
        yield from self._unanswered(waiting)
        if before is not None and before != "assistant":
            yield self.finding(None, "ends-with-answer", f"the last message is of {before}", "warning")

    def _content(self, number: int, turn: Mapping[str, Any]) -> Iterator[Finding]:
        content = turn.get("content")
        calls = turn.get("tool_calls") or turn.get("function_call") or turn.get("refusal")
        if content is None:
            if not calls:
                yield self.finding(number, "content-type", "it has neither content nor tool_calls")
        elif isinstance(content, list):
            for place, part in enumerate(content):
                if not isinstance(part, (str, dict)) or (
                    isinstance(part, dict) and not isinstance(part.get("type"), str)
                ):
                    yield self.finding(number, "content-type", f"part {place} has no type")
        elif not isinstance(content, str):
            yield self.finding(number, "content-type", f"its content is {kind_of(content)}")
        elif not content.strip() and not calls:
            yield self.finding(number, "content-empty", "its content is empty", "warning")

    def _calls(
        self, number: int, turn: Mapping[str, Any], calls: set[str], waiting: dict[str, int]
    ) -> Iterator[Finding]:
        listed = turn.get("tool_calls")
        if listed is None:
            return
        if not isinstance(listed, list) or not all(isinstance(call, dict) for call in listed):
            yield self.finding(number, "tool-calls-list", f"tool_calls is {kind_of(listed)}, or not of objects")
            return
        for place, call in enumerate(listed):
            name = call.get("id")
            if not isinstance(name, str) or not name:
                yield self.finding(number, "tool-call-id", f"call {place} has no id")
            elif name in calls:
                yield self.finding(number, "tool-call-id", f"call {place} has the id {name!r}, which another has")
            else:
                calls.add(name)
                waiting[name] = number
            function = call.get("function")
            if not isinstance(function, dict) or not isinstance(function.get("name"), str):
                yield self.finding(number, "tool-call-name", f"call {place} names no function")
                continue
            trouble = _arguments(function.get("arguments"))
            if trouble:
                what = f"call {place} of {function['name']}: its arguments are {trouble}"
                yield self.finding(number, "tool-call-arguments", what)

    def _answer(self, number: int, turn: Mapping[str, Any], waiting: dict[str, int]) -> Iterator[Finding]:
        name = turn.get("tool_call_id")
        if not isinstance(name, str) or waiting.pop(name, None) is None:
            what = "it has no tool_call_id" if name is None else f"no call before it waits for {name!r:.60}"
            yield self.finding(number, "tool-answer-known", what)

    def _unanswered(self, waiting: Mapping[str, int]) -> Iterator[Finding]:
        for name, number in waiting.items():
            yield self.finding(number, "tool-call-answered", f"the call {name!r} has no answer")

    def _order(self, number: int, role: Any, before: str | None) -> Iterator[Finding]:
        if role in ("system", "developer") and number and before not in ("system", "developer"):
            yield self.finding(number, "system-first", f"a message of {role} stands behind others", "warning")
        if role == before and role in ("user", "assistant"):
            yield self.finding(number, "roles-alternate", f"two messages of {role} in a row", "warning")

    def sharegpt(self) -> Iterator[Finding]:
        """The rules of `conversations`."""
        wrong = list(self.listed("conversations"))
        yield from wrong
        if wrong:
            return
        before: str | None = None
        for number, turn in enumerate(self.turns):
            if not isinstance(turn, dict):
                yield self.finding(number, "message-object", f"the message is {kind_of(turn)}")
                before = None
                continue
            speaker = turn.get(first_of(turn, ("from", "role")) or "from")
            role = ROLES.get(speaker.lower()) if isinstance(speaker, str) else None
            if role is None:
                what = "it has no 'from'" if speaker is None else f"'from' is {speaker!r:.40}"
                yield self.finding(number, "speaker-known", what)
            value = turn.get(first_of(turn, ("value", "content")) or "value")
            if not isinstance(value, str):
                what = "it has no 'value'" if value is None else f"its 'value' is {kind_of(value)}"
                yield self.finding(number, "content-type", what)
            elif not value.strip():
                yield self.finding(number, "content-empty", "its 'value' is empty", "warning")
            if role == "tool" and before not in ("assistant", "tool"):
                yield self.finding(number, "tool-answer-known", "an observation without a function_call before it")
            elif role == "tool" and before == "tool":
                # Several calls at once have several answers.
                yield self.finding(number, "roles-alternate", "two observations in a row", "warning")
            if turn.get("joins") is not True:  # it is one message with the turn before
                yield from self._order(number, role, before)
            before = role
        if before is not None and before != "assistant":
            yield self.finding(None, "ends-with-answer", f"the last message is of {before}", "warning")


def _arguments(value: Any) -> str:
    """What is wrong with the arguments of a call; empty if nothing is."""
    if not isinstance(value, str):
        return f"{kind_of(value)}, not text" if value is not None else "missing"
    try:
        found = json_value(value)
    except json.JSONDecodeError:
        return "no JSON"
    except (ValueError, RecursionError) as error:
        return "nested too deeply" if isinstance(error, RecursionError) else f"no usable JSON ({error})"
    return "" if isinstance(found, dict) else f"{kind_of(found)}, not an object"
