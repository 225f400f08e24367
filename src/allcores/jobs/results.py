"""What a task gives back: JSON in the job's row, and files beside the store.

A file is written under a name of its own below `results/<job id>/.new/`, and gets its place by fsync and rename before
the job's row is committed. Whatever is there without a row that names it is nobody's, and is removed in time.

What an attempt leaves there when it ends without success may be half of a file. A later attempt that asks for the same
name may go on with it; what nobody asks for again is no result.
"""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
from collections.abc import Iterable, Iterator
from typing import Any

from allcores.errors import UsageError
from allcores.formatting import kind_text
from allcores.jobs.errors import ResultNotKept, StoreError
from allcores.jobs.json_values import NotJson, plain_json
from allcores.jobs.model import Job
from allcores.jobs.store_folder import make_below
from allcores.runs.options import RunResult
from allcores.system import own_files
from allcores.system.partial_files import sync_folder

#: below the store's folder
FOLDER = "results"
#: in a job's folder: what is not complete yet
NEW = ".new"
#: characters of a result that are kept in the job's row; a larger one becomes a file
IN_ROW = 256 * 1024
#: the file that it becomes
RESULT_FILE = "result.json"
#: the note of a job whose result became one
IN_FILE = f"the result is large: it is in {RESULT_FILE}"
#: of what jobs write often, and Python's table does not know
MEDIA_TYPES = {
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".arrow": "application/vnd.apache.arrow.file",
    ".md": "text/markdown",
}


class ResultFolder:
    """The files of one job.

    Args:
        store_folder: Of the store.
        job: Its id.
    """

    def __init__(self, store_folder: str | os.PathLike[str], job: str) -> None:
        self._store_folder = os.fspath(store_folder)
        self._job = job
        self.folder = os.path.join(self._store_folder, FOLDER, job)
        self._new = os.path.join(self.folder, NEW)
        #: names that an earlier attempt has left there, and that nobody has asked for since
        self._left: set[str] = set()

    def path(self, name: str) -> str:
        """Where to write a file of that name; it gets its place when the task has returned.

        Raises:
            UsageError: If that is no name of a file.
            OSError: If there can be no folder for it.
        """
        if (
            not isinstance(name, str)
            or not name
            or name.startswith(".")
            or len(name) > 200
            or any(each in "/\\\0" or not each.isprintable() for each in name)
        ):
            raise UsageError(f"{name!r} is no name for a file of results: no folders, no dot at its start")
        self._left.discard(name)
        return os.path.join(make_below(self._store_folder, FOLDER, self._job, NEW), name)

    def begin(self) -> None:
        """Remove what an earlier attempt left incomplete."""
        self._remove(_names(self._new))

    def go_on(self) -> None:
        """Keep what an earlier attempt left incomplete for names that this one asks for; `publish` removes the rest."""
        self._left = set(_names(self._new))

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._new, name))

    def publish(self) -> list[tuple[str, int, str]]:
        """Give each file its place, on the disk; returns names, sizes and media types.

        Raises:
            OSError: If it cannot be done; it can be done again.
        """
        found: list[tuple[str, int, str]] = []
        self._remove(self._left)
        for name in sorted(_names(self._new)):
            path = os.path.join(self._new, name)
            if name.startswith(".") or not os.path.isfile(path) or os.path.islink(path):
                continue
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            os.replace(path, os.path.join(self.folder, name))
            found.append((name, size, media_type_of(name)))
        if found:
            sync_folder(self.folder)
            # The job's own folder may be as new as what is in it.
            sync_folder(os.path.dirname(self.folder))
        with contextlib.suppress(OSError):
            os.rmdir(self._new)
        return found


def media_type_of(name: str) -> str:
    """What a browser is told of a file, by the end of its name."""
    end = os.path.splitext(name)[1].lower()
    return MEDIA_TYPES.get(end) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def encode(value: Any) -> str:
    """A result as JSON text.

    Raises:
        UsageError: If it cannot be written as JSON, without a loss (`plain_json`).
    """
    if isinstance(value, RunResult):
        value = run_summary(value)
    try:
        return json.dumps(plain_json(value), allow_nan=False, separators=(",", ":"))
    except NotJson as error:
        raise UsageError(
            f"the task returned {kind_text(value)} that cannot be kept as JSON: {error}. Return plain values, or"
            " write a file to job.result_path(name)"
        ) from None


def run_summary(result: RunResult) -> dict[str, Any]:
    """A run's result for the job's row: no paths of the machine."""
    return {
        "run": result.id,
        "output": None if result.output is None else os.path.basename(result.output),
        "items": result.items,
        **result.counts,
        "skipped": result.skipped,
        "resumed": result.resumed,
        "seconds": round(result.seconds, 3),
    }


def kept(text: str, files: ResultFolder) -> str | None:
    """The text for the row; None if it is too long for that and became a file. Raises: ResultNotKept."""
    if len(text) <= IN_ROW:
        return text
    with keeping(files):
        _write_result(text, files)
    return None


@contextlib.contextmanager
def keeping(files: ResultFolder) -> Iterator[None]:
    """Where results are written: the task has done its work, and what goes wrong now is no mistake of its own.

    Raises:
        ResultNotKept: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ResultNotKept(
            f"the task returned, and its result cannot be kept in {files.folder}: {error.strerror or error}. Make room,"
            " or give the folder back, and retry the job"
        ) from error


def _write_result(text: str, files: ResultFolder) -> None:
    path = files.path(RESULT_FILE)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    try:
        with open(own_files.create(path), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        # Half of it would take what room there is left.
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise


def whole_result(store_folder: str | os.PathLike[str], job: Job) -> Any:
    """What a job's task returned, also where that became a file.

    Raises:
        StoreError: The file cannot be read: it is on the machine that ran the job, say.
    """
    if job.result is not None or job.note != IN_FILE:
        return job.result
    path = os.path.join(os.fspath(store_folder), FOLDER, job.id, RESULT_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(
            f"the result of job {job.id} is large, and its file cannot be read here: {path}: {reason}"
        ) from error
