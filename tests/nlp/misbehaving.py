"""Stages that crash, hang and raise, one with a small model, and functions of rows.

Workers import what is in here, so it imports little: pyarrow starts threads, and then nothing would be loaded once for
all workers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from typing import Any

from allcores import nlp


def misbehave(record: dict[str, Any]) -> dict[str, Any]:
    text = record["text_norm"]
    if text == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if text == "sleep":
        time.sleep(600)
    if text == "raise":
        raise ValueError("as it was told")
    return {"length": len(text)}


POISON = nlp.Stage("poison", each=misbehave, gives={"length": "int32"})


def crash_always(record: dict[str, Any]) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


CRASH = nlp.Stage("poison", each=crash_always, gives={"length": "int32"})


def leave(record: dict[str, Any]) -> dict[str, Any]:
    """No `Exception`: a task that raises it would end its caller."""
    raise GeneratorExit


LEAVING = nlp.Stage("leaving", each=leave, gives={"length": "int32"})


class Splitter:
    """A model that is loaded at once, where the one for `tokens` takes a second of each process."""

    def __call__(self, text: str) -> list[str]:
        return text.split()


def split_all(splitter: Splitter, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"words": splitter(record["text_norm"])} for record in records]


WORDS = nlp.Stage("words", batch=split_all, gives={"words": "list<string>"}, load=Splitter)


def is_first(row: dict[str, Any]) -> bool:
    return row["dup_of"] is None and row["error"] is None


def id_and_words(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "words": row["words"]}
