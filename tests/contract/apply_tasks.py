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
