"""Stage `conversation`: a message's place in its conversation, and how fast it answers.

    takes   conversation_id   string, and id, reply_to, timestamp where there are
    gives   turn              int32     from 0, in the order of the input
            reply_to          string    where the input says nothing: the message before, unless it is the first, or
                                        that one was written later
            response_s        float32   seconds since the message that it answers; None where a time is missing

A message whose id is the conversation's is its first one, wherever it stands, as in ConvoKit: it answers none.

It runs in the program, in the order of the input, and keeps the times of all messages of conversations that it has met.
In a stream (`imap`), what a message answers has to come before it.
"""

from __future__ import annotations

from typing import Any

from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage


class Conversations:
    """Sees messages in order, and knows what each answers. See `InOrder`."""

    def __init__(self) -> None:
        self._turns: dict[str, int] = {}
        self._last: dict[str, tuple[str, float | None]] = {}
        self._times: dict[tuple[str, str], float] = {}
        self._facts: dict[int, tuple[int, str | None, float | None]] = {}
        #: those that answer what has not been seen yet: the key of its time, and their own
        self._early: dict[int, tuple[tuple[str, str], float]] = {}

    def see(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        talk, name, time = record.get("conversation_id"), record["id"], record.get("timestamp")
        if talk is None:
            return
        turn = self._turns.get(talk, 0)
        self._turns[talk] = turn + 1
        reply_to: str | None = record.get("reply_to") or self._before(talk, name, time)
        response: Any = None
        if time is not None and reply_to is not None and reply_to != name:
            if (earlier := self._times.get((talk, reply_to))) is not None:
                response = time - earlier
            else:
                self._early[position] = (talk, reply_to), time
        self._facts[position] = turn, reply_to, response
        self._last[talk] = name, time
        if time is not None:
            self._times[talk, name] = time

    def _before(self, talk: str, name: str, time: float | None) -> str | None:
        """The message that one answers, if the input does not say: the last one, unless it cannot be."""
        last, its_time = self._last.get(talk, (None, None))
        is_later = time is not None and its_time is not None and its_time > time
        return None if name == talk or is_later else last

    def fill(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        if (facts := self._facts.pop(position, None)) is None:
            return
        turn, reply_to, response = facts
        if (early := self._early.pop(position, None)) is not None:
            answered, time = early
            if (its_time := self._times.get(answered)) is not None:
                response = time - its_time
        record["turn"], record["reply_to"], record["response_s"] = turn, reply_to, response


CONVERSATION = Stage(
    "conversation",
    gives=(
        Field("turn", "int32", "place in the conversation, from 0"),
        Field("response_s", "float32", "seconds since the message that it answers"),
    ),
    takes=(),
    in_order=Conversations,
)
