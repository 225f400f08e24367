"""Stage `unicode`: text that was decoded wrongly is repaired, and what looks the same is written the same.

    takes   text        string
    gives   text_norm   string
            text_map    list<int32>   leads from places in text_norm to those in text, see `nlp.raw_spans`

In this order: ftfy (mojibake, HTML entities, control characters, half surrogate pairs, line ends), then the normal
form, then characters without width, and white space. Zero-width joiners stay: emoji, Persian and Indic scripts are
written with them. All later offsets refer to `text_norm`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal, cast

from allcores.errors import UsageError
from allcores.nlp.libraries import library
from allcores.nlp.offsets import Origins
from allcores.nlp.records import Field, Record, well_formed
from allcores.nlp.stage import Stage

FORMS = ("NFKC", "NFC", "none")
#: soft hyphen, combining grapheme joiner, zero-width space, marks and embeddings of direction, word joiner and what is
#: invisible beside it, byte order mark
_WITHOUT_WIDTH = re.compile("[\u00ad\u034f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
#: What is not one space or one line end already, a whole run at a time: `\s*\n` would take the square of a run.
_SPACES = re.compile(r"\s{2,}|[^\S \n]")
_LINE_END = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029]")
_CARRIAGE = re.compile(r"\r\n?")
_ENTITY = re.compile(r"&#?[0-9A-Za-z]{1,24};")
#: Without one of these ftfy leaves a text as it is, though it looks at each of its lines: letters that are not ASCII,
#: controls, and what begins an entity.
_REPAIRABLE = re.compile(r"[^\t\n\f -%'-~]")
#: where normal forms change anything: letters that are not ASCII, and what stands before them, which may be joined
_NOT_ASCII = re.compile("[\x00-\x7f]?[^\x00-\x7f]+")


class Normaliser:
    """What the stage loads: ftfy, as the options say.

    Args:
        form: "NFKC" (default) also writes full-width letters, ligatures and fractions as plain ones; "NFC" only joins
            letters with their accents; "none" leaves code points alone.
        repair: False leaves ftfy out.
    """

    def __init__(self, form: str, repair: bool) -> None:
        if form not in FORMS:
            raise UsageError(f"stage 'unicode': form={form!r} must be one of {', '.join(FORMS)}")
        self.form = form
        self.ftfy: Any = library("ftfy", extra="nlp", use="repairing Unicode") if repair else None
        self.config = None if self.ftfy is None else self.ftfy.TextFixerConfig(normalization=None, explain=False)

    def __call__(self, text: str) -> str:
        """The text, repaired and normalised."""
        return self._steps(text)[-1]

    def _steps(self, text: str) -> tuple[str, str, str, str]:
        """The text as it can be written, repaired, in its normal form, and with its white space as it is to be."""
        whole = fixed = well_formed(text)
        if self.ftfy is not None and _REPAIRABLE.search(whole):
            fixed = self.ftfy.fix_text(whole, self.config)
        formed = fixed
        if self.form != "none" and not fixed.isascii():
            formed = unicodedata.normalize(cast(Literal["NFKC", "NFC"], self.form), fixed)
        visible = _WITHOUT_WIDTH.sub("", formed)
        return whole, fixed, formed, _SPACES.sub(_one_sign, visible).strip()

    def _follow_repair(self, origins: Origins, fixed: str) -> None:
        """What ftfy has changed. Entities and line ends, of which there are many, are followed one by one."""
        plain = Origins(origins.text)
        changes = [(*match.span(), "\n") for match in _CARRIAGE.finditer(origins.text)]
        if "<" not in origins.text:
            unescaped = self.ftfy.fixes.unescape_html
            changes += [(*match.span(), unescaped(match[0])) for match in _ENTITY.finditer(origins.text)]
        changes = sorted(change for change in changes if origins.text[change[0] : change[1]] != change[2])
        plain.replace(changes)
        if changes and self.ftfy.fix_text(plain.text, self.config) == fixed:
            origins.replace(changes)
        origins.follow(fixed)

    def with_map(self, text: str) -> tuple[str, list[int] | None]:
        """The text, repaired and normalised, and its `text_map`."""
        whole, fixed, formed, result = self._steps(text)
        if result == text:
            return result, None
        origins = Origins(text)
        origins.follow(whole)
        if fixed != whole:
            self._follow_repair(origins, fixed)
        if formed != fixed:
            origins.replace(_normal_changes(cast(Literal["NFKC", "NFC"], self.form), fixed))
            origins.follow(formed)
        origins.replace([(*match.span(), "") for match in _WITHOUT_WIDTH.finditer(origins.text)])
        spaces = ((match, _one_sign(match)) for match in _SPACES.finditer(origins.text))
        origins.replace([(*match.span(), new) for match, new in spaces if match[0] != new])
        length = len(origins.text)
        left = length - len(origins.text.lstrip())
        right = max(left, len(origins.text.rstrip()))
        origins.replace([(0, left, ""), (right, length, "")])
        return result, origins.text_map()


def _one_sign(spaces: re.Match[str]) -> str:
    """What stands for white space: one line end where there is one in it."""
    return "\n" if _LINE_END.search(spaces[0]) else " "


def _normal_changes(form: Literal["NFKC", "NFC"], text: str) -> Iterator[tuple[int, int, str]]:
    """What a normal form changes, a letter with all that is joined to it at a time."""
    for run in _NOT_ASCII.finditer(text):
        begin = run.start()
        for place in range(begin + 1, run.end() + 1):
            if place < run.end() and _joins(text[place]):
                continue
            part = text[begin:place]
            if (new := unicodedata.normalize(form, part)) != part:
                yield begin, place, new
            begin = place


def _joins(letter: str) -> bool:
    """Whether it may become one with what stands before it: marks, and vowels and finals of Hangul."""
    return (
        unicodedata.category(letter)[0] == "M"
        or "\u1160" <= letter <= "\u11ff"
        or "\ud7b0" <= letter <= "\ud7ff"
        or letter in "\uff9e\uff9f"
    )


def normalise(normaliser: Normaliser, record: Record) -> dict[str, Any]:
    """See the module."""
    text, text_map = normaliser.with_map(record["text"])
    return {"text_norm": text, "text_map": text_map}


UNICODE = Stage(
    "unicode",
    each=normalise,
    gives=(
        Field("text_norm", "string", "the text, repaired and normalised"),
        Field("text_map", "list<int32>", "from its places back to those of text, see nlp.raw_spans; None: the same"),
    ),
    takes=("text",),
    load=Normaliser,
    options={"form": "NFKC", "repair": True},
)
