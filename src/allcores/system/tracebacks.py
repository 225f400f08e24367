"""Tracebacks begin at the program's call and show no frames of this package, unless that is asked for.

Whoever reads a traceback looks for a line of their own. Between the call and the function there are a dozen frames of
ours, which say nothing about what went wrong. `hiding` takes them out of what leaves a public function, also that
function's own: an exception that is raised again as it is keeps the traceback that it has. ALLCORES_FULL_TRACEBACK=1
leaves them in.

Mistakes of ours are shown whole. A function of ours that passes on what the program has done wrong has a local variable
`__tracebackhide__`; arguments that do not fit are the program's mistake where it is the program that gives them.
"""

from __future__ import annotations

import functools
import os
import sys
from types import FrameType, TracebackType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")

#: set to anything but "0": frames of this package are shown
FULL_VARIABLE = "ALLCORES_FULL_TRACEBACK"

#: how names of files of ours begin
HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
#: Files in which our frames wait or pickle: what comes right after a frame of ours says nothing either.
_HELPERS = tuple(
    os.sep + os.path.join(*parts)
    for parts in (
        ("concurrent", "futures", "_base.py"),
        ("threading.py",),
        ("selectors.py",),
        ("cloudpickle", "cloudpickle.py"),
    )
)

#: inspect.CO_VARKEYWORDS, without the price of that module
_TAKES_ANY_KEYWORD = 8

#: the name by which pytest and IPython know frames to leave out
_HIDE = "__tracebackhide__"

_base: Any = vars(BaseException)
_traceback, _attributes = _base["__traceback__"], _base["__dict__"]
_cause, _context = _base["__cause__"], _base["__context__"]


def full() -> bool:
    """Whether frames of this package are to be shown."""
    return os.environ.get(FULL_VARIABLE, "0") not in ("", "0")


def hiding(function: Callable[P, R]) -> Callable[P, R]:
    """Decorates a public function: what it raises has no frames of ours, and names a keyword that is no option of it.

    A function that takes any keyword (`**more`) has to look at them itself.
    """
    code = function.__code__
    names = code.co_varnames[code.co_posonlyargcount : code.co_argcount + code.co_kwonlyargcount]
    known = None if code.co_flags & _TAKES_ANY_KEYWORD else frozenset(names)

    @functools.wraps(function)
    def hidden(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            if kwargs and known is not None and not known.issuperset(kwargs):
                from allcores.system.option_words import refuse

                refuse(function, kwargs)
            return function(*args, **kwargs)
        except BaseException as error:
            hide(error, by_design=_does_not_fit(error))
            raise

    return hidden


def only_hiding(function: Callable[P, R]) -> Callable[P, R]:
    """The same, but Python itself says what is no option: for drop-ins, and where any keyword is the program's own."""

    @functools.wraps(function)
    def hidden(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            hide(error, by_design=_does_not_fit(error))
            raise

    return hidden


def _does_not_fit(error: BaseException) -> bool:
    """The arguments that the program gave are too many or too few: raised by the call itself, before its first line."""
    trace = _traceback.__get__(error)
    return trace is not None and trace.tb_next is None and not _is_ours(trace.tb_frame.f_back)


def called_by_program() -> bool:
    """Whether it is no function of ours that has called the function that asks."""
    return not _is_ours(sys._getframe(1).f_back)


def _is_ours(frame: FrameType | None) -> bool:
    return frame is not None and frame.f_code.co_filename.startswith(HERE)


def hide(error: BaseException, *, by_design: bool = False) -> None:
    """Take frames of ours out of an exception's traceback; to be followed by a bare `raise`.

    Args:
        by_design: It is no mistake of ours, whatever it is.
    """
    if isinstance(error, GeneratorExit):  # nobody sees it, and the interpreter may be at its end
        return
    from allcores.errors import AllcoresError, InternalError

    if isinstance(error, InternalError) or full():
        return
    links = list(_links(_traceback.__get__(error)))
    theirs = list(_theirs(links))
    # Where the last frame is one of theirs, it tells whose doing it was, and goes on telling it.
    told = bool(theirs) and theirs[-1] is links[-1]
    by_design = (
        by_design
        or isinstance(error, (AllcoresError, KeyboardInterrupt))
        or came_from_worker(error)
        # A library that is missing, told with the way to have it: on purpose, since it has a cause.
        or (isinstance(error, ImportError) and isinstance(_cause.__get__(error), ImportError))
        or _HIDE in _attributes.__get__(error)
        or bool(links and _HIDE in links[-1].tb_frame.f_locals)
    )
    if len(theirs) == len(links) or not (by_design or told):
        return
    _traceback.__set__(error, _linked(theirs))
    if by_design and not told and not isinstance(error, AllcoresError) and not came_from_worker(error):
        # For the next function of ours that it leaves: the frame that told is gone.
        _attributes.__get__(error)[_HIDE] = True
    if by_design:
        # Why something would not pickle, for one: found out by frames of ours.
        for cause in (_cause.__get__(error), _context.__get__(error)):
            if cause is not None and _traceback.__get__(cause) is not None:
                _traceback.__set__(cause, _linked(list(_theirs(list(_links(_traceback.__get__(cause)))))))


def came_from_worker(error: BaseException) -> bool:
    """Whether a worker's traceback is among an exception's causes."""
    from allcores.errors import RemoteTraceback

    cause: BaseException | None = error
    seen = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, RemoteTraceback):
            return True
        seen.add(id(cause))
        cause = _cause.__get__(cause)
    return False


def forget(error: BaseException) -> None:
    """An exception of a worker is raised once more: where that was done before is no part of it."""
    if came_from_worker(error):
        _traceback.__set__(error, None)


def _links(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _theirs(links: list[TracebackType]) -> Iterator[TracebackType]:
    inside = False
    for link in links:
        name = link.tb_frame.f_code.co_filename
        inside = name.startswith(HERE) or (inside and name.endswith(_HELPERS))
        if not inside:
            yield link


def _linked(links: list[TracebackType]) -> TracebackType | None:
    """A traceback of these; they are copied, since others may hold the originals."""
    trace = None
    for link in reversed(links):
        # Generated code may have steps without a line: -1 says that, and None is refused.
        line: int | None = link.tb_lineno
        trace = TracebackType(trace, link.tb_frame, link.tb_lasti, -1 if line is None else line)
    return trace
