"""Where a store is: its database, and the folder beside it for results, runs and sockets."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from allcores.errors import UsageError
from allcores.formatting import without_passwords

FILE = "jobs.sqlite"
#: what the folder beside a database in a file ends with
FOLDER_END = ".files"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is.

    Attributes:
        url: For SQLAlchemy; None for a database in a file.
        path: Its file; None if it is on a server.
        folder: Of this user alone: `results/<job id>/`, sockets, runs.
        name: For messages: the path, or the URL without its password.
        synchronous: What the address asks of SQLite: FULL or NORMAL; None if it says nothing.
    """

    url: URL | None
    path: str | None
    folder: Path
    name: str
    synchronous: str | None = None


def state_folder() -> str:
    """The user's folder for what programs keep: $ALLCORES_HOME/jobs, $XDG_STATE_HOME/allcores or ~/.local/state."""
    if home := os.environ.get("ALLCORES_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(home)), "jobs")
    place = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(place):  # as the XDG specification asks for
        place = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(place, "allcores")


def locate(where: str | os.PathLike[str] | None) -> Location:
    """What a caller means: None for the user's own store, a file, or a URL as SQLAlchemy writes it.

    Raises:
        UsageError: It is none of these.
    """
    if where is None:
        return _in_file(os.path.join(state_folder(), FILE))
    text = os.fspath(where)
    if not isinstance(text, str) or not text or "\0" in text:
        raise UsageError(f"a store is the path of a file or the URL of a database, not {text!r}")
    if "://" not in text:
        return _in_file(text)
    try:
        url = make_url(text)
    except ArgumentError:
        raise UsageError(
            "the store's address cannot be read: write the path of a file, or postgresql://user@host/database"
        ) from None
    kind = url.get_backend_name()
    if kind == "sqlite":
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise UsageError("a store in memory would outlive nothing: name a file (sqlite:///jobs.sqlite)")
        return _in_file(url.database, synchronous=_asked_of_sqlite(url))
    if kind != "postgresql":
        raise UsageError(f"a store is a file (SQLite) or in PostgreSQL, not in {kind}")
    hidden = url.render_as_string(hide_password=True)
    digest = hashlib.sha256(hidden.encode()).hexdigest()[:16]
    name = without_passwords(hidden)
    return Location(url.set(drivername="postgresql+psycopg"), None, Path(state_folder(), f"postgresql-{digest}"), name)


def _in_file(path: str, synchronous: str | None = None) -> Location:
    # Links are followed here, once: SQLite keeps its log beside the file itself.
    real = os.path.realpath(os.path.expanduser(path))
    return Location(None, real, Path(real + FOLDER_END), real, synchronous)


def _asked_of_sqlite(url: URL) -> str | None:
    for name, value in url.query.items():
        # What is passed over without a word would be thought to hold.
        if name != "synchronous":
            raise UsageError(
                f"the store's address sets {name!r}, which is not known: after sqlite:///FILE it may say"
                " ?synchronous=NORMAL, or nothing"
            )
        if value not in ("FULL", "NORMAL"):
            raise UsageError(f"the store's address sets synchronous to {value!r}: it is FULL or NORMAL")
        return str(value)
    return None
