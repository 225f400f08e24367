"""The store of jobs that a command works on, and who works on it."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

import click

from allcores.cli.exits import missing_extra

if TYPE_CHECKING:
    from allcores.jobs.store import JobStore

store_option = click.option(
    "--store", metavar="WHERE", envvar="ALLCORES_STORE", help="File or address. Default: this user's own file."
)


def open_store(where: str | None, *, create: bool = False) -> JobStore:
    """The store, opened; with a sentence of what is missing, where the extra is not installed, or there is no store.

    Args:
        where: As it was given.
        create: Begin one where there is none.
    """
    try:
        from allcores.jobs.store import JobStore
    except ImportError as error:
        raise missing_extra(error) from None
    return JobStore.open(where, create=create)


def user_name() -> str:
    """Who does what, for the audit: this user, at the shell."""
    try:
        return f"{getpass.getuser()} (shell)"
    except (KeyError, OSError, ImportError):  # the last on Windows
        return f"user {os.getuid()} (shell)" if hasattr(os, "getuid") else "unknown user (shell)"
