"""Errors that a function would not have raised in the program itself: a note says what is not there in a worker."""

from __future__ import annotations

#: names of exception types -> how their message begins, a part of their traceback, and the note
_HINTS = {
    "BdbQuit": (
        "",
        "",
        'allcores: a worker has no terminal for a debugger: with Pool(backend="serial") it runs in the program itself',
    ),
    "EOFError": (
        "EOF when reading a line",
        "",
        "allcores: a worker has nothing to read on standard input: the program reads it, and hands over what it needs",
    ),
    "NameError": (
        "name ",
        'File "<string>"',
        "allcores: what a function of a script names only in a text that it evaluates does not travel with it: name it"
        " in the function as well, hand it over, or put both into a module",
    ),
}
#: of pandas, for "@name" in `query` and `eval`; a column that is not there is told in other words
_HINTS["UndefinedVariableError"] = ("local variable", "", _HINTS["NameError"][2])

#: how messages begin of what was looked for among things that programs register: of csv, codecs, sqlite3 and spaCy
_NOT_REGISTERED = (
    ("Error", "unknown dialect"),
    ("LookupError", "unknown encoding: "),
    ("LookupError", "unknown error handler name "),
    ("ProgrammingError", "Error binding parameter "),
    ("InterfaceError", "Error binding parameter "),
    ("ValueError", "[E002] Can't find factory for "),
)
_REGISTERED_BY_SCRIPT = (
    "allcores: what a script registers with a library is registered in the program alone: a worker has what a module"
    " registers that the function imports, and what Pool(setup=...) does"
)


def hint_of(name: str, message: str, text: str) -> str | None:
    """The note for an exception of a worker; None if its message says enough.

    Args:
        name: Of its type, which may have its module before it.
        message: Its text.
        text: Its traceback.
    """
    kind = name.rpartition(".")[2]
    begins, within, note = _HINTS.get(kind, (None, "", ""))
    if begins is not None and message.startswith(begins) and within in text:
        return note
    if any(kind == its and message.startswith(begun) for its, begun in _NOT_REGISTERED):
        return _REGISTERED_BY_SCRIPT
    return None
