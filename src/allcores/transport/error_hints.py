"""Errors that a function would not have raised in the program itself: a note says what is not there in a worker."""

from __future__ import annotations

_NO_TERMINAL = (
    'allcores: a worker has no terminal for a debugger: with Pool(backend="serial") it runs in the program itself'
)
_NO_INPUT = (
    "allcores: a worker has nothing to read on standard input: the program reads it, and hands over what it needs"
)
_NOT_NAMED = (
    "allcores: what a function of a script names only in a text that it evaluates does not travel with it: name it"
    " in the function as well, hand it over, or put both into a module"
)
_NOT_REGISTERED = (
    "allcores: what a script registers with a library is registered in the program alone: a worker has what a module"
    " registers that the function imports, and what Pool(setup=...) does"
)
#: name of an exception's type, how its message begins, a part of its traceback, and the note
_HINTS = (
    ("BdbQuit", "", "", _NO_TERMINAL),
    ("EOFError", "EOF when reading a line", "", _NO_INPUT),
    ("NameError", "name ", 'File "<string>"', _NOT_NAMED),
    # of pandas, for "@name" in `query` and `eval`; a column that is not there is told in other words
    ("UndefinedVariableError", "local variable", "", _NOT_NAMED),
    # of csv, codecs, sqlite3 and spaCy
    ("Error", "unknown dialect", "", _NOT_REGISTERED),
    ("LookupError", "unknown encoding: ", "", _NOT_REGISTERED),
    ("LookupError", "unknown error handler name ", "", _NOT_REGISTERED),
    ("ProgrammingError", "Error binding parameter ", "", _NOT_REGISTERED),
    ("InterfaceError", "Error binding parameter ", "", _NOT_REGISTERED),
    ("ValueError", "[E002] Can't find factory for ", "", _NOT_REGISTERED),
)


def hint_of(name: str, message: str, text: str) -> str | None:
    """The note for an exception of a worker; None if its message says enough.

    Args:
        name: Of its type, which may have its module before it.
        message: Its text.
        text: Its traceback.
    """
    kind = name.rpartition(".")[2]
    for its, begins, within, note in _HINTS:
        if kind == its and message.startswith(begins) and within in text:
            return note
    return None
