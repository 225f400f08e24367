"""What separates the fields of CSV, where the first records say plainly that it is not what the file's name says.

Programs write `.csv` with semicolons where the comma is a decimal point, with tabs, or with bars. Read by commas each
record would be one field, without a word. Nothing is guessed where commas separate names in the header.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator
from typing import Any

#: bytes of a record, at most: a larger one is most likely a quote that is missing, and would fill the memory
RECORD_BYTES_MAX = 64 * 1024 * 1024
#: characters that separate fields in files that are called CSV, and their names
SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}


def _own_csv() -> Any:
    """A second instance of the module behind `csv`, for its limit on the size of a field is one for all that use it.

    The limit is ours to raise here, and not in the program that uses allcores.
    """
    spec = importlib.util.find_spec("_csv")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: `csv` with a limit of its own
csv_module = _own_csv()
csv_module.field_size_limit(RECORD_BYTES_MAX)


class Unclear(Exception):
    """The header may be one name or several; the message is a sentence without the file."""


def separator_of(further: Callable[[], str | None], expected: str) -> str:
    """What separates the fields: another character than `expected` only where that makes one field of the header.

    The other one has to make several of it, and as many of the record behind it.

    Args:
        further: The next line with its end, None if there is none, or none that may be looked at.
        expected: What the file's name says.

    Raises:
        Unclear: The record behind the header has such characters, too, but not as many.
    """
    lines: list[str] = []
    header = _records(lines, further, expected, 1)
    if header == [] or (header is not None and len(header[0]) > 1):
        return expected
    seen = "".join(lines)
    # by each: numbers of fields in the header and in the record behind it
    counts: dict[str, list[int]] = {}
    for each in SEPARATORS:
        if each != expected and each in seen:
            records = _records(lines, further, each, 2)
            if records is not None and len(records[0]) > 1:
                counts[each] = [len(record) for record in records]
    fitting = [each for each, found in counts.items() if found[0] == found[-1]]
    if len(fitting) == 1:
        return fitting[0]
    doubtful = fitting or [each for each, found in counts.items() if found[-1] > 1]
    if header is None or not doubtful:
        return expected
    names = " or ".join(SEPARATORS[each] for each in doubtful)
    raise Unclear(
        f"{names} may separate the names here, or it is one name; {_behind(counts[doubtful[0]])}: say what separates"
        f" them (--separator {doubtful[0]!r}, or {expected!r} if each record is one value)"
    )


def _behind(found: list[int]) -> str:
    if found[0] == found[1]:
        return "the record behind it does not tell"
    fields = "1 field" if found[1] == 1 else f"{found[1]} fields"
    return f"the record behind it has {fields} then, not {found[0]}"


def _records(lines: list[str], further: Callable[[], str | None], separator: str, count: int) -> list[list[str]] | None:
    """The first records that are not blank; None if these lines are no records.

    Args:
        lines: Those that were read; more are added as they are needed.
        further: As above.
        separator: Between fields.
        count: How many.
    """

    def texts() -> Generator[str, None, None]:
        number = 0
        while True:
            if number == len(lines):
                line = further()
                if line is None:
                    return
                lines.append(line)
            yield lines[number]
            number += 1

    found: list[list[str]] = []
    reading = texts()
    try:
        for record in csv_module.reader(reading, delimiter=separator, strict=True):
            if record:
                found.append(record)
            if len(found) == count:
                break
    except csv_module.Error:
        return None
    finally:
        # Here, and not as it is dropped: Ctrl-C at that moment would be lost.
        reading.close()
    return found
