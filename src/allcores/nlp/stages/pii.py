"""Stage `pii`: personal data in a message, by patterns with checks.

    takes   text_norm       string
    gives   pii             spans     {type, start, end}: EMAIL, PHONE, CARD (Luhn), IBAN (check digits), IP, URL
            text_redacted   string    text_norm with a placeholder for each

Without a key a placeholder is [EMAIL]; with one it can be turned back by who has the key (`nlp.restore`). With
`replace` the redacted text takes the place of the message itself, so that no later stage and no column that is made of
the text has the data: `text` and `text_norm` are the redacted text, and spans are those of the placeholders. Stages
that keep parts of the text, or places in it, stand behind this one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage, check_some, listed
from allcores.nlp.stages.pii_keys import check_key, lookalikes, placeholder, restored
from allcores.nlp.stages.pii_patterns import KINDS, Span, add, find_spans
from allcores.system.tracebacks import hiding

#: the type of a placeholder that stands for text which looks like one
TEXT = "TEXT"


class Scrubber:
    """What the stage loads: kinds of data, and the key.

    Args:
        kinds: Names of `KINDS`.
        key: None: placeholders cannot be turned back.
    """

    def __init__(self, kinds: Sequence[str], key: bytes | None, replace: bool) -> None:
        kinds = listed(kinds)
        for kind in kinds:
            if kind not in KINDS:
                raise UsageError(f"stage 'pii' knows no {kind!r}: it has {', '.join(KINDS)}")
        self.kinds = tuple(kinds)
        self.key = None if key is None else check_key(key)
        self.replace = replace

    def find(self, record: Record) -> list[Span]:
        """The personal data in a message, in order; spans do not overlap."""
        return find_spans(record["text_norm"], self.kinds)

    def replaced(self, text: str, spans: Sequence[Span]) -> Sequence[Span]:
        """The spans, and with a key what only looks like a placeholder: else the text could not be turned back."""
        if self.key is None or "[" not in text:
            return spans
        found = list(spans)
        for start, end in lookalikes(self.key, text):
            add(Span(TEXT, start, end), found)
        return found

    def redacted(self, text: str, spans: Sequence[Span]) -> str:
        """The text with a placeholder for each span."""
        parts, place = [], 0
        for span in self.replaced(text, spans):
            parts += [text[place : span.start], self.placeholder(span.type, text[span.start : span.end])]
            place = span.end
        return "".join([*parts, text[place:]])

    def placeholder(self, kind: str, text: str) -> str:
        """What stands in the place of a text."""
        return f"[{kind}]" if self.key is None else placeholder(self.key, kind, text)


def load_key(stage: str, key_file: str | None, key_env: str | None) -> bytes | None:
    """The key, which is in a file or in the environment; None if there is to be none.

    Args:
        stage: Whose it is, for messages.
    """
    for name, value in (("key_file", key_file), ("key_env", key_env)):
        if not isinstance(value, (str, os.PathLike, type(None))):
            raise UsageError(f"stage {stage!r}: {name}={value!r} must be a text: of the key, where it is")
    if key_file is not None:
        try:
            with open(key_file, "rb") as file:
                key = file.read().strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"stage {stage!r}: cannot read the key in {key_file}: {reason}") from None
        if not key:
            # Whoever knows that could tell by a placeholder what it stands for.
            raise UsageError(f"stage {stage!r}: the key in {key_file} is empty")
        return key
    if key_env is None:
        return None
    if not (text := os.environ.get(os.fspath(key_env))):
        raise UsageError(f"stage {stage!r}: the environment has no {key_env}, which is to hold the key")
    return text.encode()


def load_scrubber(kinds: Sequence[str], key_file: str | None, key_env: str | None, replace: bool) -> Scrubber:
    """A scrubber whose key is in a file, or in the environment."""
    check_some("pii", "kinds", kinds)
    return Scrubber(kinds, load_key("pii", key_file, key_env), replace)


def scrub(scrubber: Scrubber, record: Record) -> dict[str, Any]:
    """See the module."""
    spans = scrubber.find(record)
    redacted = scrubber.redacted(record["text_norm"], spans)
    if not scrubber.replace:
        return {
            "pii": [{"type": kind, "start": start, "end": end} for kind, start, end in spans],
            "text_redacted": redacted,
        }
    moved, shift = [], 0
    for kind, start, end in scrubber.replaced(record["text_norm"], spans):
        length = len(scrubber.placeholder(kind, record["text_norm"][start:end]))
        if kind != TEXT:
            moved.append({"type": kind, "start": start + shift, "end": start + shift + length})
        shift += length - (end - start)
    # Nothing leads back from it: what was read is not there any more.
    return {"pii": moved, "text_redacted": redacted, "text_norm": redacted, "text": redacted, "text_map": None}


def withheld(options: Mapping[str, Any]) -> tuple[str, ...]:
    """What a row may not keep if this stage failed for it."""
    return ("text", "text_norm", "text_map") if options["replace"] else ()


@hiding
def redact(text: str, *, key: bytes | None = None, kinds: Sequence[str] = tuple(KINDS)) -> str:
    """`text` with a placeholder for each e-mail address, telephone number, card, IBAN, IP address and URL.

    Args:
        text: Any text.
        key: 16 to 64 bytes; with it placeholders can be turned back, see `restore`.
        kinds: What is looked for: names out of EMAIL, PHONE, CARD, IBAN, IP, URL.

    Raises:
        UsageError: For another kind, or none, or a key of another length.
    """
    kinds = listed(kinds)
    check_some("pii", "kinds", kinds)
    scrubber = Scrubber(kinds, key, replace=False)
    return scrubber.redacted(text, find_spans(text, scrubber.kinds))


@hiding
def restore(text: str, *, key: bytes) -> str:
    """Redacted text with its placeholders turned back into what they stand for.

    Args:
        text: Redacted text, or one with such text in it.
        key: The one that it was redacted with.

    Raises:
        UsageError: If a placeholder was made with another key, or changed.
    """
    return restored(check_key(key), text)


GIVES = (
    Field("pii", "spans", "personal data: type, start, end"),
    Field("text_redacted", "string", "text_norm with a placeholder for each"),
    Field("text", "string"),  # with `replace`
    Field("text_norm", "string"),
    Field("text_map", "list<int32>"),
)
PII = Stage(
    "pii",
    each=scrub,
    gives=GIVES,
    load=load_scrubber,
    withholds=withheld,
    options={"kinds": tuple(KINDS), "key_file": None, "key_env": None, "replace": False},
)
