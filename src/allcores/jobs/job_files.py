"""What is kept for a job beside its row: the runs it began, its timelines, its log. Below `work/<job id>/`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from dataclasses import dataclass
from typing import Any

from allcores.jobs.store_folder import make_below
from allcores.system import own_files

FOLDER = "work"
#: the journals of all jobs
RUNS = "runs"
_RUNS_FILE = "runs.json"
_LOG_FILE = "log.txt"
#: bytes of a job's log; what comes after that is counted
MOST_LOG = 1_000_000
_OURS = re.compile(r"runs\.json(\.new)?|log\.txt|timeline-\d+\.jsonl\.gz")


@dataclass(frozen=True, slots=True)
class RunOfJob:
    """A run that a job began.

    Attributes:
        name: As the journal knows it.
        sink: Where to.
    """

    name: str
    sink: str


class JobFiles:
    """The files of one job.

    Args:
        store_folder: Of the store.
        job: Its id.
    """

    def __init__(self, store_folder: str | os.PathLike[str], job: str) -> None:
        self._store_folder = store_folder = os.fspath(store_folder)
        self._job = job
        self.folder = os.path.join(store_folder, FOLDER, job)
        self.runs_folder = os.path.join(store_folder, RUNS)
        self._logged: int | None = None

    def _make(self) -> None:
        make_below(self._store_folder, FOLDER, self._job)

    def make_runs_folder(self) -> None:
        """Make the folder for journals, which otherwise makes all that is missing above it. Raises: OSError."""
        make_below(self._store_folder, RUNS)

    def runs(self) -> list[RunOfJob]:
        """The runs, in the order in which the task asks for them."""
        path = os.path.join(self.folder, _RUNS_FILE)
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError), open(path, encoding="utf-8") as file:
            return [RunOfJob(str(each["name"]), str(each["sink"])) for each in json.load(file)]
        return []

    def put_runs(self, runs: list[RunOfJob]) -> None:
        """Write them down, whole or not at all. Raises: OSError."""
        self._make()
        path = os.path.join(self.folder, _RUNS_FILE)
        own_files.remove_own_file(f"{path}.new")
        with open(own_files.create(f"{path}.new"), "w", encoding="utf-8") as file:
            json.dump([{"name": each.name, "sink": each.sink} for each in runs], file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.new", path)

    def log(self, text: str) -> None:
        """Add lines to the log, with the time; what goes beyond its size is left out, and that is said."""
        path = os.path.join(self.folder, _LOG_FILE)
        with contextlib.suppress(OSError):
            if self._logged is None:
                self._make()
                self._logged = os.path.getsize(path) if os.path.exists(path) else 0
            if self._logged > MOST_LOG:
                return
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            data = "".join(f"{stamp} {line}\n" for line in text.splitlines() or [""]).encode("utf-8", "replace")
            if self._logged + len(data) > MOST_LOG:
                data = data[: MOST_LOG - self._logged] + b"\n... the log is full; what follows is left out\n"
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | own_files.REOPEN, 0o600)
            with open(descriptor, "ab") as file:
                file.write(data)
            self._logged += len(data)

    def read_log(self, last: int = 100_000) -> str:
        """The end of the log, so many bytes of it."""
        with contextlib.suppress(OSError), open(os.path.join(self.folder, _LOG_FILE), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - last))
            return file.read(last).decode("utf-8", "replace")
        return ""

    def new_timeline(self) -> str:
        """Where the next timeline is to be written. Raises: OSError."""
        self._make()
        number = len(self.timelines()) + 1
        return os.path.join(self.folder, f"timeline-{number}.jsonl.gz")

    def timelines(self) -> list[str]:
        """What was recorded of its maps, the oldest first."""
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(self.folder) if name.startswith("timeline-")]
            return [os.path.join(self.folder, name) for name in sorted(names, key=lambda name: (len(name), name))]
        return []


def is_ours(name: str) -> bool:
    """Whether a file in a job's folder has a name that is given here."""
    return _OURS.fullmatch(name) is not None


def failed_items(store_folder: str | os.PathLike[str], job: str, limit: int = 100) -> list[dict[str, Any]]:
    """Items of a job's runs that failed, with what is known of each; the first ones, at most so many."""
    from allcores.runs.directory import find_folder
    from allcores.runs.index import RunIndex

    files = JobFiles(store_folder, job)
    found: list[dict[str, Any]] = []
    for run in files.runs():
        with contextlib.suppress(Exception):  # a run that is gone, or is being made, has none to show
            index = RunIndex(find_folder(files.runs_folder, run.name))
            try:
                for row in index.failures():
                    if len(found) >= limit:
                        return found
                    record = json.loads(row.record)
                    found.append({"run": run.name, "index": row.slot, "kind": row.kind, "cause": row.cause, **record})
            finally:
                index.close()
    return found
