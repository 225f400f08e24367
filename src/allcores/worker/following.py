"""A worker's part in following the caller: what `transport.surroundings` has found changed is set here."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import sys
import time
import warnings

from allcores.transport import process_role
from allcores.transport.exceptions import add_note
from allcores.transport.pickling import CONTEXT_UNREAD
from allcores.worker.imports import when_imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from allcores.transport.context_variables import Values
    from allcores.transport.surroundings import Filter

#: the filters that this process had before it was told of some
_first_filters: list[Any] | None = None
#: the filters that it was told of last
_filters: list[Filter] = []
#: the values of context variables that it was told of last; None: of none so far
values: Values | None = None
#: why those could not be read
_unread: BaseException | None = None
#: modules of categories that were not loaded when a filter came
_awaited: set[str] = set()


def follow(data: bytes | bytearray | memoryview) -> str | None:
    """Do as told; the folder that this process is in from now on, None if that has not changed."""
    changes: dict[str, Any] = pickle.loads(data)
    if process_role.in_interpreter():
        # Those of the process are the program's own, which has what it wants of them.
        changes.pop("folder", None)
        changes.pop("locale", None)
    folder: str | None = changes.get("folder")
    if folder is not None:
        # It may be gone, or closed to this process: then tasks find out, as in the program.
        with contextlib.suppress(OSError):
            os.chdir(folder)
    if "environ" in changes:
        _follow_environment(*changes["environ"])
    if "path" in changes:
        former, new = changes["path"]
        sys.path[:] = [*(entry for entry in sys.path if entry not in former), *new]
        importlib.invalidate_caches()
    if "locale" in changes:
        _follow_locale(changes["locale"])
    if "decimal" in changes:
        _follow_decimal(changes["decimal"])
    if "filters" in changes:
        _follow_filters(*changes["filters"])
    if "context" in changes:
        _follow_context(changes["context"])
    if "bounds" in changes:
        _follow_bounds(*changes["bounds"])
    if "captured" in changes:
        _follow_captured(changes["captured"])
    if "levels" in changes:
        _follow_levels(*changes["levels"])
    return folder


def _follow_environment(gone: list[str], values: dict[str, str]) -> None:
    if process_role.in_interpreter():
        # Not through `os.environ`, which would set the variables of the process.
        below, key, word = vars(os.environ)["_data"], os.environ.encodekey, os.environ.encodevalue
        for name in gone:
            below.pop(key(name), None)
        below.update((key(name), word(value)) for name, value in values.items())
        return
    for name in gone:
        os.environ.pop(name, None)
    for name, value in values.items():
        with contextlib.suppress(OSError, ValueError):
            os.environ[name] = value
    if ("TZ" in gone or "TZ" in values) and hasattr(time, "tzset"):
        time.tzset()


def _follow_locale(name: str | None) -> None:
    import locale

    with contextlib.suppress(locale.Error):
        if name is not None:
            locale.setlocale(locale.LC_ALL, name)
            return
        # As Python does when it starts: a forked process may have begun with another.
        locale.setlocale(locale.LC_ALL, "C")
        locale.setlocale(locale.LC_CTYPE, "")


def _follow_decimal(values: tuple[Any, ...] | None) -> None:
    import decimal

    if values is None:
        decimal.setcontext(decimal.Context())
        return
    *numbers, names = values
    traps = [kind for name in names if (kind := getattr(decimal, name, None)) is not None]
    precision, rounding, least, most, capitals, clamp = numbers
    decimal.setcontext(decimal.Context(precision, rounding, least, most, capitals, clamp, [], traps))


def _follow_filters(fresh: bool, filters: list[Filter] | None) -> None:
    """Set these; None: those of a process that was told of none.

    Args:
        fresh: It has had those of a fresh process until now; what it has set itself is among them.
    """
    global _first_filters, _filters
    if _first_filters is None:
        from allcores.transport.surroundings import FRESH_FILTERS

        # A forked process has begun with the program's.
        _first_filters = list(warnings.filters if fresh else FRESH_FILTERS)
    if filters is None:
        _filters = []
        # Assigned in a call that tells the interpreter, which keeps a note of which warnings it has shown.
        warnings.resetwarnings()
        warnings.filters[:] = _first_filters  # type: ignore[index]
        return
    _filters = filters
    _set_filters()


def _set_filters() -> None:
    """Set those that were told last, as far as their categories are loaded: none is imported for its filter."""
    warnings.resetwarnings()
    for action, message, module, name, where, line in _filters:
        category = _category(module, name)
        if category is not None:
            with contextlib.suppress(Exception):
                warnings.filterwarnings(
                    action,  # type: ignore[arg-type]
                    message or "",
                    category,
                    where or "",
                    line,
                    append=True,
                )


def _follow_bounds(recursion: int | None, digits: int | None) -> None:
    """Set Python's own limits; None: as it is."""
    if recursion is not None:
        with contextlib.suppress(RecursionError):  # it is lower than where this is called
            sys.setrecursionlimit(recursion)
    if digits is not None:
        sys.set_int_max_str_digits(digits)


def _follow_levels(levels: dict[str, int], disabled: int) -> None:
    """Set those that have changed; 0: none of its own. Only where the program has this process's records."""
    log_forwarding = sys.modules.get("allcores.worker.log_forwarding")
    if log_forwarding is not None:
        log_forwarding.set_levels(levels, disabled)


def _follow_captured(captured: bool) -> None:
    """Likewise whether warnings become records."""
    log_forwarding = sys.modules.get("allcores.worker.log_forwarding")
    if log_forwarding is not None:
        log_forwarding.capture_warnings(captured)


def _follow_context(data: bytes | None) -> None:
    global values, _unread
    if values is None:
        from allcores.transport.context_variables import Values

        values = Values()
    # None is left of those of another map if these cannot be read.
    values.set([])
    _unread = None
    if data is None:
        return
    try:
        values.set([(find(*place), value) for find, place, value in pickle.loads(data)])
    except BaseException as error:
        add_note(error, CONTEXT_UNREAD)
        _unread = error


def set_context() -> BaseException | None:
    """Before each chunk: it finds what its caller has, not what the last one's tasks have set; or why it cannot."""
    if values is not None:
        values.set_again()
    return _unread


def _category(module: str, name: str) -> type[Warning] | None:
    loaded = sys.modules.get(module)
    if loaded is None:
        if module not in _awaited:
            _awaited.add(module)
            when_imported(module, lambda _: _set_filters() if _filters else None)
        return None
    found: Any = loaded
    for part in name.split("."):  # one in a class, by its qualified name
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Warning) else None
