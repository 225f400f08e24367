"""Functions of rows and batches of datasets."""

from __future__ import annotations

import os
import signal
from typing import Any


def add(row: Any) -> dict[str, Any]:
    return {"half": row["a"] / 2, "list": [row["t"]] * (row["a"] % 3)}


def change(row: Any) -> Any:
    row["t"] = row["t"].upper()
    del row["u"]
    return row


def nothing(row: Any) -> None:
    return None


def numbered(row: Any, index: int, more: int = 0) -> dict[str, Any]:
    return {"n": index + more}


def longer(batch: Any) -> dict[str, Any]:
    return {"t": [each for text in batch["t"] for each in (text, text * 2)]}


def numbered_batch(batch: Any, index: list[int]) -> dict[str, Any]:
    return {"n": index, "size": [len(index)] * len(index)}


def of_column(a: int) -> dict[str, Any]:
    return {"b": a + 1}


def fail_at_17(row: Any) -> dict[str, Any]:
    if row["a"] == 17:
        raise ValueError("no 17")
    return {"b": row["a"], "why": ""}


def die_at_17(row: Any) -> dict[str, Any]:
    if row["a"] == 17:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"b": 1}


def pid(row: Any) -> dict[str, Any]:
    return {"pid": os.getpid()}


def fail_some(row: Any, directory: str) -> dict[str, Any]:
    from tests.contract.apply_tasks import fail_in_its_way

    return {"b": fail_in_its_way(row["a"], directory), "why": ""}


def fail_some_batches(batch: Any, directory: str) -> dict[str, Any]:
    from tests.contract.apply_tasks import fail_in_its_way

    fail_in_its_way(batch["a"][0], directory)
    return {"b": batch["a"]}


def hang_at_3(row: Any) -> dict[str, Any]:
    while row["a"] == 3:
        pass
    return {"b": row["a"], "why": ""}


def none(row: Any, error: BaseException) -> dict[str, Any]:
    return {"b": None, "why": type(error).__name__}
