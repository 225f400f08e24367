"""Checksums of the catalogue's rows: SQLite finds damage to its structure, and not one flipped bit in a value.

Each row ends with a seal, the CRC-32 of all its other values. What is written is sealed in the same transaction; what
is read counts only if its seal fits. `RunIndex.mend` looks at a whole catalogue when a run is resumed.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from typing import Any


def seal(values: Iterable[Any]) -> int:
    """The checksum of a row's values, their types included: a flipped bit may turn a number into text."""
    return zlib.crc32(repr(tuple(values)).encode("utf-8", "surrogatepass"))


def sealed(values: Sequence[Any]) -> tuple[Any, ...]:
    """A row to be written: its values, then their seal."""
    return (*values, seal(values))


def is_sealed(row: Sequence[Any]) -> bool:
    """True if a row that was read, its seal last, is as it was written."""
    return bool(row) and seal(row[:-1]) == row[-1]


def schema() -> str:
    """What makes the tables."""
    from importlib import resources  # it takes its time, and a new catalogue alone needs it

    return resources.files("allcores.runs").joinpath("schema.sql").read_text("utf-8")


def shape(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
    """What tables there are, as they were made: a bit may flip there as well."""
    return db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()


def right_shape() -> list[tuple[Any, ...]]:
    """The same of a catalogue that was just made."""
    db = sqlite3.connect(":memory:")
    try:
        db.executescript(schema())
        return shape(db)
    finally:
        db.close()
