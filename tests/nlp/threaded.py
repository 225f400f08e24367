"""A stage whose library is quick, or slow, with threads of its own. Workers import it, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from allcores import nlp


def load(threads: int | str, seconds: float) -> float:
    """What a message takes: with one thread a fiftieth of a second, with more what the option says."""
    return 0.02 if threads in (1, "auto") else seconds


def embed(seconds: float, record: dict[str, Any]) -> dict[str, Any]:
    if record["text_norm"] == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return {"pid": os.getpid(), "length": len(record["text_norm"])}


THREADED = nlp.Stage(
    "threaded",
    each=embed,
    gives={"pid": "int32", "length": "int32"},
    load=load,
    options={"threads": "auto", "seconds": 0.001},
)
