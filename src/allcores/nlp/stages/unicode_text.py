"""Stage `unicode`: text that was decoded wrongly is repaired, and what looks the same is written the same.

    takes   text        string
    gives   text_norm   string

In this order: ftfy (mojibake, HTML entities, control characters, half surrogate pairs, line ends), then the normal
form, then characters without width, and white space. Zero-width joiners stay: emoji, Persian and Indic scripts are
written with them. All later offsets refer to `text_norm`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal, cast

from allcores.errors import UsageError
from allcores.nlp.libraries import library
from allcores.nlp.records import Field, Record, well_formed
from allcores.nlp.stage import Stage

FORMS = ("NFKC", "NFC", "none")
#: soft hyphen, combining grapheme joiner, zero-width space, marks and embeddings of direction, word joiner and what is
#: invisible beside it, byte order mark
_WITHOUT_WIDTH = re.compile("[\u00ad\u034f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
_LINES = re.compile(r"\s*[\n\r\x0b\x0c\x85\u2028\u2029]\s*")
_SPACES = re.compile(r"[^\S\n]+")


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
        text = well_formed(text)
        if self.ftfy is not None:
            text = self.ftfy.fix_text(text, self.config)
        if self.form != "none" and not text.isascii():
            text = unicodedata.normalize(cast(Literal["NFKC", "NFC"], self.form), text)
        text = _WITHOUT_WIDTH.sub("", text)
        return _SPACES.sub(" ", _LINES.sub("\n", text)).strip()


def normalise(normaliser: Normaliser, record: Record) -> dict[str, Any]:
    """See the module."""
    return {"text_norm": normaliser(record["text"])}


UNICODE = Stage(
    "unicode",
    each=normalise,
    gives=(Field("text_norm", "string", "the text, repaired and normalised"),),
    takes=("text",),
    load=Normaliser,
    options={"form": "NFKC", "repair": True},
)
