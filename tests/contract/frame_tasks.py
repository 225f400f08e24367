"""Functions of groups of rows."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any


def load(library: str) -> None:
    importlib.import_module(library)


def total(group: Any) -> Any:
    return group["x"].sum()


def rows(group: Any) -> Any:
    return group


def key(group: Any) -> str:
    return repr(group.name)


def look(group: Any) -> dict[str, Any]:
    """What a function sees of a group."""
    return {"index": list(group.index), "types": [str(kind) for kind in group.dtypes], "rows": len(group)}


def head(group: Any) -> Any:
    return group.head(1)


def describe(group: Any) -> Any:
    return group[["x"]].describe().loc[["min", "max", "mean"]]


def one_row(group: Any) -> Any:
    return group[["x"]].agg("max")


def nothing_for_small(group: Any) -> Any:
    return None if len(group) < 2 else group


def write(group: Any) -> Any:
    """Writes in each of the ways that people write."""
    group["y"] = group["x"] * 2
    group.loc[group["x"] > 3, "x"] = -1
    group.iloc[0, group.columns.get_loc("x")] = 77
    group["y"] += 1
    return group


def write_polars(group: Any) -> Any:
    group[0, "x"] = 77
    return group


def doubled(group: Any) -> Any:
    import polars

    return group.with_columns(y=polars.col("x") * 2)


def counted(group: Any) -> dict[str, Any]:
    return {"rows": len(group), "largest": group["x"].max()}


def add(group: Any, number: int) -> Any:
    return group["x"].sum() + number


def with_state(state: int, group: Any) -> Any:
    return group["x"].sum() * state


def setup() -> int:
    return 100


def fail_for(group: Any, how: str) -> Any:
    """Fails for the group in which x is 13."""
    if 13 in list(group["x"]):
        if how == "raise":
            raise ValueError("thirteen")
        if how == "exit":
            os._exit(3)
        time.sleep(100)
    return len(group)
