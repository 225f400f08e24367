"""Stage `conversation`: a message's place in its conversation, and how fast it answers.

    takes   conversation_id   string, and id, reply_to, timestamp where there are
    gives   turn              int32     from 0, in the order of the input
            reply_to          string    where the input says nothing: the message before, unless it is the first
            response_s        float32   seconds since the message that it answers; None where a time is missing

It runs in the program, in the order of the input, and keeps the times of all messages of conversations that it has met.
"""

from __future__ import annotations

from typing import Any

from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage


class Conversations:
    """Sees messages in order, and knows what each answers. See `InOrder`."""

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}
        self._last: dict[str, str] = {}
        self._times: dict[tuple[str, str], float] = {}
        self._facts: dict[int, tuple[int, str | None, float | None]] = {}

    def see(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        talk, name, time = record.get("conversation_id"), record["id"], record.get("timestamp")
        if talk is None:
            return
        turn = self._turns.get(talk, 0)
        self._turns[talk] = turn + 1
        reply_to: str | None = record.get("reply_to") or self._last.get(talk)
        response: Any = None
        if time is not None and reply_to is not None and (earlier := self._times.get((talk, reply_to))) is not None:
            response = time - earlier
        self._facts[position] = turn, reply_to, response
        self._last[talk] = name
        if time is not None:
            self._times[talk, name] = time

    def fill(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        if (facts := self._facts.pop(position, None)) is not None:
            record["turn"], record["reply_to"], record["response_s"] = facts


CONVERSATION = Stage(
    "conversation",
    gives=(
        Field("turn", "int32", "place in the conversation, from 0"),
        Field("response_s", "float32", "seconds since the message that it answers"),
    ),
    takes=(),
    in_order=Conversations,
)
