"""Texts with long runs of characters without white space, as spaCy's tokenizers can do them.

A tokenizer takes signs off both ends of a run one at a time, and looks at all that is left each time: it makes tokens
of 20,000 brackets in 90 seconds, and of ten times as many in hours. So a longer run is given to it in pieces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

#: characters of a piece: time grows with its square. Less cuts more addresses of the web into two tokens.
MOST_AT_ONCE = 1_000
_LONG_RUN = re.compile(rf"\S{{{MOST_AT_ONCE + 1},}}")


class PieceTokenizer:
    """A tokenizer that gives the tokens of another one; those of a long run come from pieces of it.

    Args:
        tokenizer: Of spaCy: makes a document of a text.
        document: The class of documents.
    """

    def __init__(self, tokenizer: Any, document: Any) -> None:
        self._tokenizer = tokenizer
        self._document = document

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._tokenizer, name)

    def __call__(self, text: str) -> Any:
        """A document."""
        places = [0, *cuts(text), len(text)]
        if len(places) == 2:
            return self._tokenizer(text)
        # Not spaCy's own way to join documents: each of them would begin a sentence.
        tokens = [token for start, end in pairwise(places) for token in self._tokenizer(text[start:end])]
        words, spaces = [token.text for token in tokens], [bool(token.whitespace_) for token in tokens]
        document = self._document(self._tokenizer.vocab, words=words, spaces=spaces)
        for token, found in zip(document, tokens, strict=True):
            if token.norm != found.norm:
                token.norm_ = found.norm_  # of an exception: "gonna"
        return document


def cuts(text: str) -> Iterator[int]:
    """Where the long runs in a text are cut: behind a sign that is part of no word, where there is one."""
    for run in _LONG_RUN.finditer(text):
        place, end = run.span()
        while end - place > MOST_AT_ONCE:
            most = place + MOST_AT_ONCE
            behind = (cut for cut in range(most, place + MOST_AT_ONCE // 2, -1) if not text[cut - 1].isalnum())
            place = next(behind, most)
            yield place


def use_pieces(nlp: Any, spacy: Any) -> None:
    """Have a pipeline of spaCy's take long runs in pieces."""
    nlp.tokenizer = PieceTokenizer(nlp.tokenizer, spacy.tokens.Doc)
