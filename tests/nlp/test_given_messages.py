"""Messages that a program gives itself, as it may have them: of databases, data frames and NumPy; and what is none."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from allcores import nlp
from allcores.errors import UsageError

DAY_S = 86_400.0


def rows(source: Any, **options: Any) -> list[dict[str, Any]]:
    return list(nlp.chat_pipeline(["conversation"]).imap(source, backend="serial", **options))


@pytest.mark.parametrize(
    ("given", "id"),
    [
        (np.int64(7), "7"),
        (np.str_("seven"), "seven"),
        (7.0, "7"),  # of a column of pandas in which one is missing
        (np.float64(7), "7"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (np.float64("nan"), "item:1"),
        (pd.NA, "item:1"),
        ("", "item:1"),
    ],
)
def test_names_that_are_numbers(given: Any, id: str) -> None:
    (row,) = rows([{"text": "a", "id": given}])
    assert (row["id"], row["error"]) == (id, None)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (date(1970, 1, 2), DAY_S),
        (datetime(1970, 1, 2), DAY_S),
        (np.datetime64("1970-01-02"), DAY_S),
        (np.datetime64("1970-01-02", "ms"), DAY_S),
        (np.datetime64("2000-01-01", "ns"), 946_684_800.0),
        (np.datetime64("NaT"), None),
        (pd.Timestamp("1970-01-02"), DAY_S),
        (pd.NaT, None),
        (pd.NA, None),
        (np.int64(5), 5.0),
        (np.float32(5), 5.0),
        (Decimal(5), 5.0),
    ],
)
def test_times_of_other_types(given: Any, seconds: float | None) -> None:
    (row,) = rows([{"text": "a", "timestamp": given}])
    assert (row["timestamp"], row["error"]) == (seconds, None)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"text": b"a"}, "text must be text, not bytes"),
        ({"text": np.int64(1)}, "text must be text, not int64"),
        ({"text": "a", "id": 1.5}, "id must be text or a whole number, not a fraction"),
        ({"text": "a", "id": b"1"}, "id must be text or a whole number, not bytes"),
        ({"text": "a", "timestamp": b"1"}, "timestamp must be seconds or a date, not bytes"),
        ({"messages": [{"role": "user", "content": "a"}]}, "it is a conversation: give each message of its 'messages'"),
        ("a", "a message is a dict with text, not str"),
    ],
)
def test_what_is_no_message_is_named(message: Any, error: str) -> None:
    (row,) = rows(iter([message]))
    assert row["error"].startswith(f"reading: {error}")


def test_a_message_may_be_any_mapping() -> None:
    assert [row["text"] for row in rows([MappingProxyType({"text": "a"}), {"text": "b", "messages": [1]}])] == [
        "a",
        "b",
    ]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"text": "a"}, "a dict is one message, and no source"),
        (pd.DataFrame({"text": ["a"]}), r'a DataFrame is no source, .*frame\.to_dict\("records"\)'),
        (pl.DataFrame({"text": ["a"]}), r"a DataFrame is no source, .*frame\.to_dicts\(\)"),
        (b"chat.jsonl", "bytes is no source"),
        (None, "NoneType is no source"),
        (["Hello", "How are you?"], r"'Hello' is no file that is there, .*: texts are given as messages"),
        ("How are you?", r"'How are you\?' is no file that is there"),
    ],
)
@pytest.mark.parametrize("way", ["imap", "run", "explain"])
def test_what_is_no_source_is_refused(tmp_path: Path, source: Any, said: str, way: str) -> None:
    """Its parts, columns say, would be rows with an error each."""
    pipeline = nlp.chat_pipeline(["conversation"])
    ways: dict[str, Callable[[], object]] = {
        "imap": lambda: list(pipeline.imap(source, backend="serial")),
        "run": lambda: pipeline.run(source, tmp_path / "out.jsonl", backend="serial"),
        "explain": lambda: pipeline.explain(source),
    }
    if way == "explain" and source is None:
        return  # it is about the stages then
    with pytest.raises(UsageError, match=said):
        ways[way]()


def test_paths_are_paths(tmp_path: Path) -> None:
    """Also those that are not there: that is what is wrong with them."""
    (tmp_path / "words").write_text("")
    for path, said in (
        ("nowhere.jsonl", "No such file"),
        ("nowhere.dat", "No such file"),
        (str(tmp_path / "words"), "its suffix does not say"),
        (tmp_path / "nothing", "No such file"),
        ("nowhere/*", "no file matches"),
    ):
        with pytest.raises(UsageError, match=said):
            rows(path)


def test_stages_get_lists() -> None:
    pipeline = nlp.chat_pipeline(["conversation"])
    with pytest.raises(UsageError, match="batch=None: models get their messages in lists"):
        next(pipeline.imap([{"text": "a"}], batch=None, backend="serial"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="batch=None: models get their messages in lists"):
        pipeline.run([{"text": "a"}], "out.jsonl", batch=None, backend="serial")  # type: ignore[arg-type]
