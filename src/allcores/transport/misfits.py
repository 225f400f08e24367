"""A function that does not take what it is called with: its TypeError says so, and not where that comes from."""

from __future__ import annotations

from allcores.transport.exceptions import TRACEBACK, add_note, text_of

#: modules whose frames are all that is in the traceback of a call that never began
_CALLERS = frozenset(
    {
        "allcores.worker.learned_function",
        "allcores.worker.chunk_runner",
        "allcores.backends.in_process",
        "allcores.transport.references",
    }
)
_SETUP = (
    "allcores: the first argument is what setup= (or preload=) returned, the item comes behind it; one that only"
    " prepares the worker has to return None"
)
_ALONE = (
    "allcores: the item is the only argument; others are further inputs (map(f, a, b)), constants by name (map(f, a,"
    " b=3)), or with starmap the parts of each item"
)
_PARTS = "allcores: starmap calls the function with the parts of each item, so each is a tuple; map, with the item"


def explain_misfit(error: TypeError, style: str, *, has_state: bool) -> None:
    """Add a note to an error of a call whose arguments did not fit.

    Args:
        error: What the call raised.
        style: How it was called, see `worker.chunk_runner`.
        has_state: Whether something that the pool has loaded came first.
    """
    trace = TRACEBACK.__get__(error)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__") not in _CALLERS:
        return  # it is of the function's own code
    text = text_of(error)
    if style == "star" and ("must be an iterable" in text or "is not iterable" in text):
        add_note(error, _PARTS)
    elif has_state and "positional argument" in text and "given" in text:
        add_note(error, _SETUP)
    elif style == "one" and not has_state and "missing" in text and "required positional argument" in text:
        add_note(error, _ALONE)
