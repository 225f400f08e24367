"""What is in a table of chat, in numbers: counted while it is written, or from a file."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from allcores.errors import UsageError
from allcores.formatting import counted
from allcores.nlp.records import Record

#: values of a kind that are listed
MOST = 10
#: rows that are named for each reason of errors
SAMPLES = 20
#: reasons of errors that have such samples
SAMPLED_REASONS = 50
#: least characters of each group of lengths
LENGTHS = (0, 1, 10, 20, 50, 100, 200, 500, 1_000, 10_000)


class ChatSummary:
    """Counts rows as they come; `as_json` says what it came to."""

    def __init__(self) -> None:
        self.rows = self.characters = self.longest = self.tokens = self.empty = 0
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("languages", "intents", "entities", "pii", "duplicates", "speakers", "errors")
        }
        self._sentiment = [0.0, 0]  # their sum, and how many there are
        self._moods: Counter[str] = Counter()
        self._response = [0.0, 0]
        self._talks: set[str] = set()
        self._lengths = [0] * len(LENGTHS)
        #: by reason, the first rows that have it: where they stand, and their errors. Not their texts: whoever looks at
        #: errors need not see what people wrote.
        self.samples: dict[str, list[dict[str, str]]] = {}
        #: of each stage, in all workers together; empty for a file that was read
        self.stage_seconds: dict[str, float] = {}

    def add(self, row: Record) -> None:
        """Count one row."""
        self.rows += 1
        text = row.get("text_norm")
        if text is None:
            text = row.get("text") or ""
        self.characters += len(text)
        self.longest = max(self.longest, len(text))
        self._lengths[bisect_right(LENGTHS, len(text)) - 1] += 1
        self.empty += not text
        self.tokens += len(row.get("tokens") or ())
        counts = self.counts
        for name, field in (
            ("languages", "lang"), ("intents", "intent"), ("duplicates", "dup_kind"), ("speakers", "speaker"),
        ):  # fmt: skip
            if (value := row.get(field)) is not None:
                counts[name][value] += 1
        for name, field in (("entities", "ents"), ("pii", "pii")):
            counts[name].update(span["type"] for span in row.get(field) or ())
        if (error := row.get("error")) is not None:
            self._add_error(row, error)
        if (mood := row.get("sentiment")) is not None:
            self._sentiment[0] += mood
            self._sentiment[1] += 1
            # The limits that VADER's authors give.
            self._moods["friendly" if mood >= 0.05 else "hostile" if mood <= -0.05 else "neutral"] += 1
        if (seconds := row.get("response_s")) is not None:
            self._response[0] += seconds
            self._response[1] += 1
        if (talk := row.get("conversation_id")) is not None:
            self._talks.add(talk)

    def _add_error(self, row: Record, error: str) -> None:
        reason = reason_of(error)
        self.counts["errors"][reason] += 1
        if reason in self.samples or len(self.samples) < SAMPLED_REASONS:
            samples = self.samples.setdefault(reason, [])
            if len(samples) < SAMPLES:
                place = f"{row.get('file') or ''}:{row.get('line') or ''}".strip(":")
                samples.append({"place": place, "id": str(row.get("id") or ""), "error": error[:500]})

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Count what stages took for some rows."""
        for stage, each in seconds.items():
            self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + each

    @property
    def errors(self) -> int:
        """Rows with an error."""
        return self.counts["errors"].total()

    @property
    def lengths(self) -> dict[str, int]:
        """How many rows have a text of so many characters, by group; without the groups at both ends that have none."""
        filled = [place for place, count in enumerate(self._lengths) if count]
        shown = range(filled[0], filled[-1] + 1) if filled else ()
        return {_length_text(place): self._lengths[place] for place in shown}

    def as_json(self) -> dict[str, Any]:
        """All of it but the samples of errors, as plain JSON.

        Of each kind the most frequent values; `not_listed` says how many others there are, so that the sums come out.
        """
        kinds = {"errors_by_reason" if name == "errors" else name: each for name, each in self.counts.items()}
        listed = {name: _most(counter) for name, counter in kinds.items()}
        rest = {name: counter.total() - sum(listed[name].values()) for name, counter in kinds.items()}
        return {
            "rows": self.rows,
            "errors": self.errors,
            "empty": self.empty,
            "characters": self.characters,
            "longest": self.longest,
            "lengths": self.lengths,
            "tokens": self.tokens,
            "conversations": len(self._talks),
            "mean_response_s": _mean(self._response),
            "mean_sentiment": _mean(self._sentiment),
            "moods": dict(sorted(self._moods.items())),
            **listed,
            "not_listed": {name: count for name, count in rest.items() if count},
        }

    def as_text(self) -> str:
        """For people: a line for each thing that there is."""
        facts = self.as_json()
        lines = [
            f"{counted(self.rows, 'row')}, {self.errors:,} with an error; {counted(self.characters, 'character')},"
            f" {counted(self.tokens, 'token')}"
        ]
        if self._talks:
            mean = facts["mean_response_s"]
            lines.append(
                counted(len(self._talks), "conversation") + (f", {mean:,.1f} s to answer" if mean is not None else "")
            )
        titles = ("languages", "speakers", "intents", "entities", "pii", "duplicates")
        for name, values in ((title, facts[title]) for title in titles):
            if values:
                others = facts["not_listed"].get(name, 0)
                lines.append(f"{name}: {_listed(values)}" + (f", others {others:,}" if others else ""))
        if self._moods:
            lines.append(f"sentiment: {_listed(facts['moods'])}")
        if total := sum(self.stage_seconds.values()):
            slowest = sorted(self.stage_seconds.items(), key=lambda each: -each[1])
            lines.append("time in workers: " + ", ".join(f"{name} {each / total:.0%}" for name, each in slowest))
        lines += [f"error in {count:,}: {reason}" for reason, count in facts["errors_by_reason"].items()]
        if others := facts["not_listed"].get("errors_by_reason", 0):
            lines.append(f"error in {others:,}: other reasons (all of them are on the page: --page)")
        return "\n".join(lines)


def summary_of(rows: Iterable[Record]) -> ChatSummary:
    """The summary of rows.

    Raises:
        UsageError: If one is none of a chat pipeline.
    """
    summary = ChatSummary()
    for number, row in enumerate(rows, 1):
        try:
            summary.add(row)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"row {number} is none that a chat pipeline has written: {error}") from None
    return summary


def reason_of(error: str) -> str:
    """What an error is of: its stage and type, without what differs from row to row."""
    return ": ".join(part.strip() for part in error.split("; ")[0].split(":")[:2])[:120]


def _most(counter: Counter[str]) -> dict[str, int]:
    """The most frequent values; equal ones by name, so that the same rows give the same."""
    return dict(sorted(counter.items(), key=lambda each: (-each[1], str(each[0])))[:MOST])


def _length_text(place: int) -> str:
    """The name of a group of lengths."""
    least = LENGTHS[place]
    if place + 1 == len(LENGTHS):
        return f"{least:,} and more"
    most = LENGTHS[place + 1] - 1
    return f"{least:,}" if most == least else f"{least:,} to {most:,}"


def _mean(sum_and_count: list[Any]) -> float | None:
    total, count = sum_and_count
    return round(total / count, 6) if count else None


def _listed(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in values.items())
