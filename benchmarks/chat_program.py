"""A program with the default stages of chat over a file.

    python -m benchmarks.chat_program first|one SOURCE WORKERS

first: prints the seconds from when the models were loaded, and a worker was ready, to the first row. one: all rows in
one process, with all models in it; prints how many there are.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from allcores import nlp
from allcores.events import WorkerStarted


class Loaded:
    """Notes when the first worker was ready: the models are loaded before."""

    def __init__(self) -> None:
        self.at: float | None = None

    def __call__(self, event: Any) -> None:
        """See `allcores.events`."""
        if self.at is None and isinstance(event, WorkerStarted):
            self.at = time.perf_counter()


def main(what: str, source: str, workers: int) -> None:
    """See the module."""
    pipeline = nlp.chat_pipeline()
    if what == "one":
        print(sum(1 for _ in pipeline.imap(source, backend="serial")))
        return
    loaded = Loaded()
    rows = pipeline.imap(source, workers=workers, observers=[loaded])
    try:
        next(rows)
        now = time.perf_counter()
    finally:
        rows.close()
    if loaded.at is None:
        raise RuntimeError("a row came, and no worker was ready")
    print(now - loaded.at)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
