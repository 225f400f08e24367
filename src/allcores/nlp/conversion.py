"""Conversations from one form into another: OpenAI's `messages`, ShareGPT's `conversations`, ChatML's text.

OpenAI's is the form in the middle. What another form has no place for stands beside a turn of ShareGPT under OpenAI's
name for it, which readers that do not know it pass over; so the way there and back changes nothing. ChatML is text, and
with `plain` turns have `from` and `value` alone: then what is left out is told.

    to ShareGPT   a message that says something and calls tools is two turns, the second with "joins": true; several
                  calls at once are a list; of parts, texts are joined, and others are <image> and the like
    to ChatML     calls are <tool_call> blocks, as Hermes and Qwen write them
    from both     calls without an id get one, and answers without one those of the calls before, in order
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from allcores.errors import UsageError
from allcores.nlp.reading.formats import ROLES, BadMessage, first_of, kind_of
from allcores.sources.text import json_value
from allcores.system.tracebacks import hiding

ChatForm = Literal["openai", "sharegpt", "chatml"]
FORMS: tuple[str, ...] = ("openai", "sharegpt", "chatml")

_SPEAKERS = {
    "system": "system", "user": "human", "assistant": "gpt", "tool": "observation",
}  # fmt: skip
_TURN = re.compile(r"<\|im_start\|>([^\n]*)\n(.*?)<\|im_end\|>\s*", re.DOTALL)
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
#: what ends something in ChatML, and so cannot be in what people wrote
_MARKS = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")


@dataclass(frozen=True, slots=True)
class Converted:
    """A conversation in its new form.

    Attributes:
        document: To be written as a line of JSON; of ChatML {"text": ...}, with the other fields of the document.
        losses: What the new form has no place for, each as "turn 3: weight".
    """

    document: dict[str, Any]
    losses: tuple[str, ...] = ()


@hiding
def convert(document: Any, to: ChatForm, *, plain: bool = False) -> Converted:
    """A conversation in another form; in its own it is checked, and given back.

    What ShareGPT has no place for stands beside a turn, under OpenAI's name for it, so the way there and back changes
    nothing.

    Args:
        document: With `messages` (OpenAI) or `conversations` (ShareGPT), or a text of ChatML as `text`.
        to: "openai", "sharegpt" or "chatml".
        plain: Of ShareGPT: turns have `from` and `value`, and nothing else.

    Raises:
        UsageError: If it is no conversation, or cannot be written in that form; the message names the turn.
    """
    if to not in FORMS:
        raise UsageError(f"to={to!r} must be one of {', '.join(FORMS)}")
    try:
        return converted(document, to, plain=plain)
    except BadMessage as error:
        raise UsageError(str(error)) from None


def converted(document: Any, to: ChatForm, *, plain: bool = False) -> Converted:
    """See `convert`.

    Raises:
        BadMessage: If it is no conversation, or cannot be written in that form; the text names the turn.
    """
    losses: list[str] = []
    middle = as_openai(document)
    if to == "openai":
        return Converted(middle)
    found = _to_sharegpt(middle, plain, losses) if to == "sharegpt" else _to_chatml(middle, losses)
    return Converted(found, tuple(losses))


def as_openai(document: Any) -> dict[str, Any]:
    """A conversation of any form in OpenAI's. A message that leaves its content out has None.

    Raises:
        BadMessage: If it is no conversation.
    """
    if not isinstance(document, dict):
        raise BadMessage(f"a conversation is an object, not {kind_of(document)}")
    there = [key for key in ("messages", "conversations") if key in document]
    key = next((key for key in there if document[key] not in (None, [])), None)
    text = document.get("text")
    if key is None and isinstance(text, str) and text.lstrip().startswith("<|im_start|>"):
        return {**{name: value for name, value in document.items() if name != "text"}, "messages": _from_chatml(text)}
    if there:
        key = key or there[0]
        turns = document[key]
        if not isinstance(turns, list) or not turns:
            raise BadMessage(f"{key!r} is {'empty' if turns == [] else kind_of(turns)}, and no list of messages")
        head = {name: value for name, value in document.items() if name != key}
        if key == "messages":
            return {**head, "messages": [_openai_turn(number, turn) for number, turn in enumerate(turns)]}
        return _from_sharegpt(head, turns)
    raise BadMessage("it is no conversation: it has neither 'messages' nor 'conversations', nor a text of ChatML")


def _openai_turn(number: int, turn: Any) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise BadMessage(f"turn {number} is {kind_of(turn)}, and no object")
    if not isinstance(turn.get("role"), str):
        raise BadMessage(f"turn {number} has no role")
    content = turn.get("content")
    if content is not None and not isinstance(content, (str, list)):
        raise BadMessage(f"turn {number} has content that is {kind_of(content)}")
    calls = turn.get("tool_calls")
    if calls is not None:
        if not isinstance(calls, list) or not all(
            isinstance(call, dict) and isinstance(call.get("function"), dict) for call in calls
        ):
            raise BadMessage(f"turn {number} has tool_calls that are no list of objects with a function")
        for place, call in enumerate(calls):
            if not isinstance(call["function"].get("name"), str):
                raise BadMessage(f"turn {number}: call {place} names no function")
    return {"content": None, **turn}


# --- ShareGPT ---


def _to_sharegpt(document: Mapping[str, Any], plain: bool, losses: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in document.items():
        if name in ("conversations", "system"):  # they would be taken for its own
            losses.append(f"the field {name!r}")
        elif name == "tools" and isinstance(value, list):
            found[name] = _dumped(value)
        elif name == "tools":
            losses.append("tools that are no list")
        elif name != "messages":
            found[name] = value
    turns: list[dict[str, Any]] = []
    for number, message in enumerate(document["messages"]):
        for turn in _sharegpt_turns(message):
            if plain:
                losses += [f"turn {number}: {name}" for name in turn if name not in ("from", "value", "joins")]
                turn = {"from": turn["from"], "value": turn["value"]}
            turns.append(turn)
    found["conversations"] = turns
    return found


def _sharegpt_turns(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A message as a turn, or as two."""
    beside = {name: value for name, value in message.items() if name not in ("role", "content", "tool_calls")}
    role, content, calls = message["role"], message["content"], message.get("tool_calls")
    if "from" in beside or "value" in beside or "joins" in beside:
        raise BadMessage("a message has a field 'from', 'value' or 'joins', which are ShareGPT's own")
    said = _said(content)
    if "tool_calls" in message:
        beside["tool_calls"] = calls
    if not calls:
        speaker = _SPEAKERS.get(role, role)
        if ROLES.get(speaker.lower(), speaker) != role or speaker == "function_call":
            beside["role"] = role
        if content != said:
            beside["content"] = content
        yield {"from": speaker, "value": said, **beside}
        return
    if role != "assistant":
        beside["role"] = role
    if said:
        first = {"from": _SPEAKERS.get(role, role), "value": said}
        if content != said:
            first["content"] = content
        yield first
        beside["joins"] = True
    elif content is not None:
        beside["content"] = content
    asked = [{"name": call["function"]["name"], "arguments": _loaded(call["function"])} for call in calls]
    yield {"from": "function_call", "value": _dumped(asked[0] if len(asked) == 1 else asked), **beside}


def _from_sharegpt(head: dict[str, Any], turns: list[Any]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    system = head.pop("system", None)
    if isinstance(system, str) and system:
        messages.append({"role": "system", "content": system})
    tools = head.get("tools")
    if isinstance(tools, str):
        try:
            listed = json_value(tools)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list):
            head["tools"] = listed
        elif not tools:
            del head["tools"]
    waiting: list[str] = []
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            raise BadMessage(f"turn {number} is {kind_of(turn)}, and no object")
        by = first_of(turn, ("from", "role", "user")) or "from"
        at = first_of(turn, ("value", "content", "text")) or "value"
        speaker, value = turn.get(by), turn.get(at)
        if not isinstance(speaker, str) or not isinstance(value, str):
            raise BadMessage(f"turn {number} has no 'from' and 'value' that are text")
        empty = [name for name in ("from", "user", "value", "text") if name in turn and turn[name] is None]
        own = (by, at, "role", "content", "tool_calls", "joins", *empty)
        role = turn.get("role") if by == "from" else None
        message = {
            "role": role if isinstance(role, str) else ROLES.get(speaker.lower(), speaker),
            "content": turn.get("content", value) if at == "value" else value,
            **{name: each for name, each in turn.items() if name not in own},
        }
        if "tool_calls" in turn:
            message["tool_calls"] = turn["tool_calls"]
        made: list[dict[str, Any]] = []
        if speaker == "function_call" and role is None and not turn.get("tool_calls"):
            message["tool_calls"] = made = _calls_of(value, f"call_{number}", number)
        if message.get("tool_calls"):
            message["content"] = turn.get("content") if at == "value" else None
            if turn.get("joins") is True and messages:
                message["content"] = messages.pop()["content"]
        _name_answers(message, made, waiting)
        messages.append(message)
    return {**head, "messages": [_openai_turn(number, message) for number, message in enumerate(messages)]}


def _calls_of(value: str, name: str, number: int) -> list[dict[str, Any]]:
    """The calls in JSON, one or a list of them; their ids begin with `name`."""
    try:
        found = json_value(value)
    except (ValueError, RecursionError) as error:
        twice = "" if isinstance(error, (json.JSONDecodeError, RecursionError)) else f": {error}"
        raise BadMessage(f"turn {number} has a call that is no JSON{twice}") from None
    return [_call(each, f"{name}_{place}", number) for place, each in enumerate(_many(found))]


def _many(found: Any) -> list[Any]:
    return found if isinstance(found, list) else [found]


def _call(found: Any, name: str, number: int) -> dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise BadMessage(f"turn {number} has a call that names no function")
    arguments = found.get("arguments", {})
    text = arguments if isinstance(arguments, str) else _dumped(arguments)
    return {"id": name, "type": "function", "function": {"name": found["name"], "arguments": text}}


def _name_answers(message: dict[str, Any], made: list[dict[str, Any]], waiting: list[str]) -> None:
    """Give an answer of a tool the id that was made for the call before it.

    Args:
        message: Of anyone.
        made: Its calls, if ids were made for them.
        waiting: Such ids that have no answer yet; changed.
    """
    if message["role"] != "tool":
        waiting[:] = [call["id"] for call in made]
    elif waiting and "tool_call_id" not in message:
        message["tool_call_id"] = waiting.pop(0)


# --- ChatML ---


def _to_chatml(document: Mapping[str, Any], losses: list[str]) -> dict[str, Any]:
    found = {name: value for name, value in document.items() if name not in ("messages", "text")}
    if "text" in document:
        losses.append("the field 'text'")
    parts = []
    for number, message in enumerate(document["messages"]):
        role, content, calls = message["role"], message["content"], message.get("tool_calls") or ()
        if not role or "\n" in role:
            raise BadMessage(f"turn {number}: the role {role!r} cannot be written as ChatML")
        said = _said(content)
        for mark in _MARKS:
            if mark in said or mark in role:
                raise BadMessage(f"turn {number} says {mark}, which ChatML has for itself")
        if content != said and not (content is None and calls):
            losses.append(f"turn {number}: content that is {kind_of(content)}")
        elif calls and content == "":
            losses.append(f"turn {number}: content that is empty")
        losses += [
            f"turn {number}: {name}"
            for name in message
            if name not in ("role", "content", "tool_calls") or (name == "tool_calls" and not calls)
        ]
        blocks = [said] if said else []
        for place, call in enumerate(calls):
            losses.append(f"turn {number}: id of call {place}")
            named = call["function"]
            losses += [
                f"turn {number}: {name} of call {place}"
                for name in (*call, *named)
                if name not in ("id", "type", "function", "name", "arguments")
            ]
            loaded = _loaded(named)
            if _dumped(loaded) != named.get("arguments"):
                losses.append(f"turn {number}: how the arguments of call {place} are written")
            asked = _dumped({"name": named["name"], "arguments": loaded})
            if any(mark in asked for mark in _MARKS):
                raise BadMessage(f"turn {number}: call {place} has a mark of ChatML in its arguments")
            blocks.append(f"<tool_call>\n{asked}\n</tool_call>")
        parts.append(f"<|im_start|>{role}\n" + "\n".join(blocks) + "<|im_end|>\n")
    return {**found, "text": "".join(parts)}


def _from_chatml(text: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    waiting: list[str] = []
    place = len(text) - len(text.lstrip())
    while place < len(text):
        match = _TURN.match(text, place)
        if match is None:
            raise BadMessage(f"turn {len(messages)} is no <|im_start|>role … <|im_end|>, at character {place:,}")
        place, number = match.end(), len(messages)
        role, said = match.groups()
        if "<|im_start|>" in said:
            raise BadMessage(f"turn {number} has no <|im_end|>")
        message: dict[str, Any] = {"role": role, "content": said}
        made: list[dict[str, Any]] = []
        blocks = list(_CALL.finditer(said))
        for at, block in enumerate(blocks):
            made += _calls_of(block[1], f"call_{number}_{at}", number)
        if made:
            message["content"] = said[: blocks[0].start()].removesuffix("\n") or None
            message["tool_calls"] = made
        _name_answers(message, made, waiting)
        messages.append(message)
    return messages


# --- both ---


def _said(content: Any) -> str:
    """What a message says, as text; parts that are none by their kind."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(_part(part) for part in content)


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = str(part.get("type", "part")) if isinstance(part, dict) else kind_of(part)
    return f"<{kind.removesuffix('_url').removeprefix('input_')}>"


def _loaded(function: Mapping[str, Any]) -> Any:
    """The arguments of a call as an object, where they are the JSON of one; else as they are."""
    arguments = function.get("arguments", "{}")
    try:
        found = json_value(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments
    return found if isinstance(found, dict) else arguments


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
