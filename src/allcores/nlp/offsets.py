"""From places in `text_norm` back to places in `text`.

What the stage `unicode` changed is noted in `text_map`: four numbers for each block where both texts differ in length,
one block after the other,

    start, end        in text_norm
    raw start, end    in text

Outside of blocks each character stands for one, so its place is known from the block before. A place inside of a block
belongs to all of it: the raw range of a span holds every character that the span was made of. None: both texts are
equally long, character by character.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.records import Record

#: how to look for the end of a change, one search after the other: characters that have to be the same again, and
#: characters that the change has in both texts together. Fewer of the first find chance matches, more miss changes that
#: stand close together; where none is found, all that is left is one change.
_SEARCHES = ((4, 8), (2, 12), (4, 48))
_STRIDE = 256


class Origins:
    """A text that is changed step by step, and where each of its characters came from.

    Attributes:
        text: As it is now.
    """

    def __init__(self, raw: str) -> None:
        self.text = raw
        self._length = len(raw)
        # of each character, the range in the raw text
        self._starts = list(range(len(raw)))
        self._ends = list(range(1, len(raw) + 1))

    def replace(self, changes: Iterable[tuple[int, int, str]]) -> None:
        """Change the text.

        Args:
            changes: start, end, and what stands there now; in order, and apart from one another.
        """
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        place = 0
        for start, end, new in changes:
            parts += (self.text[place:start], new)
            starts += self._starts[place:start]
            ends += self._ends[place:start]
            if start < end:
                first, last = self._starts[start], self._ends[end - 1]
            else:  # it was put in
                first = last = self._ends[start - 1] if start else 0
            starts += [first] * len(new)
            ends += [last] * len(new)
            place = end
        self.text = "".join([*parts, self.text[place:]])
        self._starts = [*starts, *self._starts[place:]]
        self._ends = [*ends, *self._ends[place:]]

    def follow(self, text: str) -> None:
        """Change the text to another one, of which is not known how it came about."""
        if text != self.text:
            self.replace(list(changes_between(self.text, text)))

    def text_map(self) -> list[int] | None:
        """See the module."""
        starts, ends, count = self._starts, self._ends, len(self.text)
        blocks: list[int] = []
        place = raw = 0
        while place < count:
            first, last = starts[place], ends[place]
            begin, place = place, place + 1
            while place < count and (starts[place] < last or (starts[place], ends[place]) == (first, last)):
                last = max(last, ends[place])
                place += 1
            if first > raw:  # what was there is gone
                blocks += (begin, begin, raw, first)
            if place - begin != 1 or last - first != 1:
                blocks += (begin, place, first, last)
            raw = last
        if raw < self._length:
            blocks += (count, count, raw, self._length)
        return blocks or None


def changes_between(before: str, after: str) -> Iterator[tuple[int, int, str]]:
    """What to change in one text to get another: `start, end, new`, small changes where there are such.

    Line by line, where both have as many.
    """
    lines, others = before.split("\n"), after.split("\n")
    if len(lines) != len(others):
        lines, others = [before], [after]
    begin = 0
    for line, other in zip(lines, others, strict=True):
        for start, end, new in _changes(line, other):
            if end - start == len(new):  # as many characters: each stands for one
                yield from ((begin + start + at, begin + start + at + 1, sign) for at, sign in enumerate(new))
            else:
                yield begin + start, begin + end, new
        begin += len(line) + 1


def _changes(before: str, after: str) -> Iterator[tuple[int, int, str]]:
    place = other = 0
    while True:
        same = _same(before, place, after, other)
        place, other = place + same, other + same
        if place == len(before) and other == len(after):
            return
        old, new = _changed(before, place, after, other)
        yield place, place + old, after[other : other + new]
        place, other = place + old, other + new


def _same(before: str, place: int, after: str, other: int) -> int:
    """How many characters are the same from here on."""
    count = 0
    most = min(len(before) - place, len(after) - other)
    while count < most:
        stride = min(_STRIDE, most - count)
        begin, start = place + count, other + count
        if before[begin : begin + stride] != after[start : start + stride]:
            while before[place + count] == after[other + count]:
                count += 1
            return count
        count += stride
    return count


def _changed(before: str, place: int, after: str, other: int) -> tuple[int, int]:
    """How many characters of both texts are behind before they are the same again: the fewest, and as many of both."""
    for again, most in _SEARCHES:
        for total in range(1, most + 1):
            for old in sorted(range(total + 1), key=lambda old: abs(2 * old - total)):
                begin, start = place + old, other + total - old
                if begin > len(before) or start > len(after):
                    continue
                if before[begin : begin + again] == after[start : start + again]:
                    return old, total - old
    old, new = len(before) - place, len(after) - other
    while old and new and before[place + old - 1] == after[other + new - 1]:
        old, new = old - 1, new - 1
    return old, new


class _Back:
    """A `text_map`, to be asked for ranges."""

    def __init__(self, text_map: Sequence[int] | None) -> None:
        flat = text_map or ()
        self._starts = flat[0::4]
        self._ends = flat[1::4]
        self._raw_starts = flat[2::4]
        self._raw_ends = flat[3::4]

    def range(self, start: int, end: int) -> tuple[int, int]:
        """The raw range of `text_norm[start:end]`."""
        first = self._character(start)
        return (first[0], first[0]) if start >= end else (first[0], self._character(end - 1)[1])

    def _character(self, place: int) -> tuple[int, int]:
        """The raw range of one character."""
        block = bisect_right(self._starts, place) - 1
        if block < 0:
            return place, place + 1
        if place < self._ends[block]:
            return self._raw_starts[block], self._raw_ends[block]
        raw = self._raw_ends[block] + place - self._ends[block]
        return raw, raw + 1


def raw_range(row: Record, start: int, end: int) -> tuple[int, int]:
    """Where in `text` a part of `text_norm` came from: `row["text"][a:b]` for `row["text_norm"][start:end]`.

    Args:
        row: As a chat pipeline gives it, with `text_norm` and `text_map`.
        start: Characters of `text_norm` from its start, as in `pii`, `ents` and `token_starts`.
        end: Behind the last of them.

    Returns:
        The smallest range that holds all that the part was made of. A letter and its accent, an entity of HTML or
        letters that were decoded wrongly are one: a place inside belongs to all of it.

    Raises:
        UsageError: If that is no part of `text_norm`.
    """
    _check(row, start, end)
    return _Back(row.get("text_map")).range(start, end)


def raw_spans(row: Record, field: str) -> list[dict[str, Any]]:
    """The spans or ranges of a field as places in `text`, where they are places in `text_norm` in the row.

    Args:
        row: As for `raw_range`.
        field: "pii", "ents", "sentences", or one of a stage of your own.

    Raises:
        UsageError: If a span is no part of `text_norm`.
    """
    back = _Back(row.get("text_map"))
    found = []
    for span in row.get(field) or ():
        _check(row, span["start"], span["end"])
        start, end = back.range(span["start"], span["end"])
        found.append({**span, "start": start, "end": end})
    return found


def _check(row: Record, start: int, end: int) -> None:
    length = len(row.get("text_norm") or "")
    if not 0 <= start <= end <= length:
        raise UsageError(f"[{start}:{end}] is no part of text_norm, which has {length:,} characters")
