"""What the address of a store says: where it is, and whether its commits wait for the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from allcores.errors import UsageError
from allcores.jobs.database import Database
from allcores.jobs.location import locate
from allcores.jobs.opening import opened
from allcores.jobs.store import JobStore

#: what SQLite calls them
NORMAL, FULL = 1, 2


@pytest.fixture
def databases(monkeypatch: pytest.MonkeyPatch) -> list[Database]:
    """Those that stores are opened on."""
    made: list[Database] = []

    def noted(*args: Any, **options: Any) -> tuple[Database, str]:
        database, identity = opened(*args, **options)
        made.append(database)
        return database, identity

    monkeypatch.setattr("allcores.jobs.store.opened", noted)
    return made


@pytest.mark.parametrize(
    ("address", "argument", "expected"),
    [
        ("{}", None, FULL),
        ("sqlite:///{}", None, FULL),
        ("sqlite:///{}?synchronous=NORMAL", None, NORMAL),
        ("sqlite:///{}?synchronous=FULL", None, FULL),
        ("{}", "NORMAL", NORMAL),
        ("sqlite:///{}?synchronous=NORMAL", "FULL", FULL),
    ],
)
def test_commits_wait_for_the_disk_as_the_address_says(
    tmp_path: Path, databases: list[Database], address: str, argument: str | None, expected: int
) -> None:
    """An argument comes before the address; neither is written into the store, so the next one may say otherwise."""
    path = tmp_path / "jobs.sqlite"
    with JobStore.open(address.format(path), synchronous=argument) as store:
        store.submit("f", {})
        with databases[-1].writing() as connection:
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == expected
    with JobStore.open(path) as store, databases[-1].writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == FULL
        assert store.counts().total == 1, "the address names the same file"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("timeout=5", "sets 'timeout', which is not known"),
        ("mode=ro&synchronous=FULL", "sets 'mode', which is not known"),
        ("synchronous=OFF", "sets synchronous to 'OFF': it is FULL or NORMAL"),
        ("synchronous=FULL&synchronous=NORMAL", "it is FULL or NORMAL"),
    ],
)
def test_what_an_address_sets_and_nobody_knows_is_refused(tmp_path: Path, query: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        locate(f"sqlite:///{tmp_path}/jobs.sqlite?{query}")
    assert list(tmp_path.iterdir()) == []


def test_only_full_and_normal_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="synchronous is FULL or NORMAL, not 'OFF'"):
        JobStore.open(tmp_path / "jobs.sqlite", synchronous="OFF")


@pytest.mark.parametrize(
    "address",
    ["postgresql://me:sec/ret@h/jobs", "postgresql:///jobs?host=h&user=me&password=sec/ret", "postgresql://h/jobs?x=1"],
)
def test_the_name_of_a_store_has_no_password(address: str) -> None:
    """It is in messages, logs and pages. The address that is connected to is as it was given."""
    found = locate(address)
    assert "ret" not in found.name and "h" in found.name
    assert found.url is not None
    assert "ret" in found.url.render_as_string(hide_password=False) or "password" not in address
