"""How a command ended: its exit codes, and the error that carries one."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    """Exit codes of every command. docs/cli.md shows the same list."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Exit:
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "every item is ok"
    SOME_FAILED = 1, "all items were tried, some failed, and were skipped or recorded"
    USAGE = 2, "an option or the function is wrong, an input cannot be read, or a run is not the same work any more"
    STOPPED = 3, "stopped at the first item that failed (--on-error raise)"
    OUTPUT = 4, "the output or the journal cannot be written, or a store of jobs not read or written"
    NO_WORKERS = 5, "the workers cannot be started: the setup failed, or the machine refuses"
    IN_USE = 6, "another process works on the run, or is the supervisor of the store"
    NO_POOL = 7, "there is no pool to show (allcores top)"
    NOT_YET = 8, "jobs were not at an end in time (allcores jobs wait --timeout)"
    INTERNAL = 70, "a mistake of allcores itself; please report it"
    INTERRUPTED = 130, "ended by Ctrl-C"
    READER_LEFT = 141, "the reader of standard output went away (| head)"
    TERMINATED = 143, "ended by SIGTERM"


#: what the extras `jobs` and `web` install
_OF_EXTRAS = {
    "sqlalchemy": "jobs", "pydantic": "jobs", "pydantic_core": "jobs", "cronsim": "jobs", "psycopg": "postgresql",
    "flask": "web", "werkzeug": "web", "jinja2": "web", "waitress": "web",
}  # fmt: skip


def missing_extra(error: ImportError) -> Exception:
    """What to raise for an import that failed: the way out if an extra is not installed, else the error itself."""
    extra = _OF_EXTRAS.get((error.name or "").partition(".")[0])
    return error if extra is None else CommandError(f"this needs {error.name}: pip install 'allcores[{extra}]'")


class CommandError(Exception):
    """Ends a command with one sentence for the person in front of it.

    Args:
        details: Further lines, for standard error only; a worker's traceback, for one.
    """

    def __init__(self, sentence: str, exit: Exit = Exit.USAGE, *, details: str = "") -> None:
        super().__init__(sentence)
        self.exit = exit
        self.details = details
