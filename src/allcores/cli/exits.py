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
    OUTPUT = 4, "the output or the journal cannot be written"
    NO_WORKERS = 5, "the workers cannot be started: the setup failed, or the machine refuses"
    IN_USE = 6, "another process works on the run"
    NO_POOL = 7, "there is no pool to show (allcores top)"
    INTERNAL = 70, "a mistake of allcores itself; please report it"
    INTERRUPTED = 130, "ended by Ctrl-C"
    READER_LEFT = 141, "the reader of standard output went away (| head)"
    TERMINATED = 143, "ended by SIGTERM"


class CommandError(Exception):
    """Ends a command with one sentence for the person in front of it.

    Args:
        details: Further lines, for standard error only; a worker's traceback, for one.
    """

    def __init__(self, sentence: str, exit: Exit = Exit.USAGE, *, details: str = "") -> None:
        super().__init__(sentence)
        self.exit = exit
        self.details = details
