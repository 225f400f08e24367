"""Loggers of the test's own process that keep what arrives."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator


class Notebook(logging.Handler):
    """Keeps records; `wait_for` returns when so many are there."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self._changed = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._changed:
            self.records.append(record)
            self._changed.notify_all()

    def wait_for(self, count: int) -> list[logging.LogRecord]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.records) >= count, 120), self.records
            return list(self.records)


@contextlib.contextmanager
def listening(name: str, level: int = logging.INFO) -> Iterator[Notebook]:
    """A logger of this process with a level and a handler of its own, and nothing above it."""
    logger, notebook = logging.getLogger(name), Notebook()
    logger.addHandler(notebook)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield notebook
    finally:
        logger.removeHandler(notebook)
        logger.setLevel(logging.NOTSET)
        logger.propagate = True
