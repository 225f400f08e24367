"""Stages that crash, hang and raise, and functions of rows.

Workers import what is in here, so it imports little: pyarrow starts threads, and then nothing would be loaded once for
all workers.
"""

from __future__ import annotations

import os
import signal
import time
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


def is_first(row: dict[str, Any]) -> bool:
    return row["dup_of"] is None and row["error"] is None


def id_and_tokens(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "tokens": row["tokens"]}
