"""Functions of rows, columns and values."""

from __future__ import annotations

import os
import signal
from typing import Any


def first(row: Any) -> Any:
    return row.iloc[0]


def text(row: Any) -> str:
    return "|".join(map(str, row))


def row_itself(row: Any) -> Any:
    return row


def series(row: Any) -> Any:
    import pandas

    return pandas.Series({"one": row.iloc[0], "two": len(row)})


def some_series(row: Any) -> Any:
    """Not of the same labels for each row."""
    return row.dropna()


def pair(row: Any) -> tuple[Any, int]:
    return row.iloc[0], len(row)


def numbers(row: Any) -> list[int]:
    return [1, 2, len(row)]


def missing(row: Any) -> Any:
    return None if hash(str(row.name)) and str(row.name)[-1] in "13579" else 1


def label(row: Any) -> Any:
    return row.name


def nothing(row: Any) -> None:
    return None


def types(row: Any) -> str:
    return f"{row.dtype} {[type(each).__name__ for each in row]}"


def length(column: Any) -> int:
    return len(column)


def head(column: Any) -> Any:
    return column.head(2)


def array_sum(row: Any) -> Any:
    return row.sum()


def array_double(row: Any) -> Any:
    return row * 2


def plus(row: Any, one: int, more: int) -> Any:
    return row.sum() + one + more


def value_text(value: Any) -> str:
    return f"{type(value).__name__} {value}"


def value_series(value: Any) -> Any:
    import pandas

    return pandas.Series({"text": str(value)})


def group_name(group: Any) -> str:
    return str(group.name)


def no_17(row: Any) -> int:
    if row["a"] == 17:
        raise ValueError("no 17")
    return 0


def die_at_3(row: Any) -> int:
    if row["a"] == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def polars_double(frame: Any) -> Any:
    import polars

    return frame.with_columns(c=polars.col("a") * 2)


def polars_column(frame: Any) -> Any:
    return frame["a"]


def fail_in_its_way(value: int, directory: str) -> int:
    """Counts its calls in files; some values raise, at first or always, end their process, or take for ever."""
    attempt = _attempt(directory, value)
    if value % 10 == 3:
        raise ValueError(f"no {value}")
    if value % 10 == 4 and attempt == 1:
        raise OSError(f"not yet {value}")
    if value == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return value * 2


def fail_in_its_way_row(row: Any, directory: str) -> Any:
    return fail_in_its_way(int(row["a"]), directory)


def column_of(column: Any, directory: str) -> int:
    return fail_in_its_way(int(column.iloc[0]), directory)


def group_of(group: Any, directory: str) -> int:
    return fail_in_its_way(int(group["x"].iloc[0]), directory)


def hang_at_3(value: int) -> int:
    while value == 3:
        pass
    return value


def _attempt(directory: str, value: int) -> int:
    with open(os.path.join(directory, str(value)), "ab") as file:
        file.write(b".")
        return file.tell()


def polars_batch(frame: Any, directory: str) -> Any:
    fail_in_its_way(frame["a"][0], directory)
    return frame


def tenfold(value: Any) -> Any:
    return value * 10
