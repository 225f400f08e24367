"""Files that come with one submission: kept while it is made, and not for longer if no job comes of it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import flask
from werkzeug.datastructures import FileStorage

from allcores.errors import UsageError
from allcores.jobs import uploads
from allcores.jobs.errors import KeyConflict, StoreFull
from allcores.jobs.model import Submitted
from allcores.web.security import User
from allcores.web.state import current
from allcores.web.submitting import Wanted, submit


class HandedIn:
    """The files of a submission, for the length of a block.

    They stay if the store has the job that names them, or may have it: the answer to a commit can be lost. All else
    would lie there for a day, and programs that send again what was refused would fill the disk with it.
    """

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._asked = False

    def keep(self, file: FileStorage) -> dict[str, Any]:
        """Keep a file that was sent beside the store: the argument that stands for it."""
        kept = uploads.keep(
            current().store.folder,
            file.stream,
            name=(file.filename or "")[:255],
            media_type=(file.mimetype or "application/octet-stream")[:100],
            limit=current().settings.max_upload,
        )
        self._kept.append(kept["upload"])
        return kept

    def submit(self, wanted: Wanted, *, checked: dict[str, Any] | None = None) -> Submitted:
        """Put the job into the store, in the name of who asks. Raises: what `submitting.submit` raises."""
        user: User = flask.g.allcores_user
        self._asked = True
        found = submit(current(), wanted, user.name, checked=checked)
        if not found.replayed:
            self._kept.clear()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._asked or error is None or isinstance(error, UsageError | KeyConflict | StoreFull):
            for upload in self._kept:
                uploads.remove(current().store.folder, upload)
