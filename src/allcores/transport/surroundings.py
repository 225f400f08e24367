"""What a program's own thread finds around it, and its workers are to find, too: workers follow the caller, per map.

Folder, environment, search path, locale, decimal context, warning filters, levels of loggers, whether logging has the
warnings, and the interpreter's limits (of recursion, and of the digits of whole numbers as text). A call that begins a
map takes a snapshot, or finds that nothing has changed since the last (some microseconds, nothing per item). A worker
is told what differs from what it has, before the first chunk of that map. What `setup` or a task has set in a worker,
and the program has not changed since, stays. Context variables are followed where a pool is asked to
(`Pool(contextvars=...)`).
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, NamedTuple

from allcores.system import environment, log_levels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from allcores.system.log_levels import Levels

#: a warning filter as it travels: action, message pattern, module and name of the category, module pattern, line
Filter = tuple[str, str | None, str, str, str | None, int]

#: what a fresh interpreter without options has
FRESH_FILTERS: list[tuple[Any, ...]] = [
    ("default", None, DeprecationWarning, "__main__", 0),
    ("ignore", None, DeprecationWarning, None, 0),
    ("ignore", None, PendingDeprecationWarning, None, 0),
    ("ignore", None, ImportWarning, None, 0),
    ("ignore", None, ResourceWarning, None, 0),
]
#: the limits of such an interpreter
FRESH_BOUNDS = (1000, sys.int_info.default_max_str_digits)
#: what no process has: it differs from what any is to have
_NO_VALUE, _NO_LOCALE, _NO_FILTERS = b"\0", "\0", [()]


class Surroundings(NamedTuple):
    """A snapshot, not to be changed. What a fresh process has by itself is None.

    Attributes:
        folder: None: it has none.
        environ: As `os` keeps it.
        path: The search path.
        locale: None: only what Python sets when it starts.
        decimal: What the thread's decimal context has; None: as Python has it.
        filters: Of warnings; None: as Python has them.
        context: Values of context variables, pickled; None: not followed.
        levels: Of loggers.
        bounds: The limits of recursion, and of the digits of whole numbers as text.
        captured: Whether logging has the warnings.
    """

    folder: str | None
    environ: dict[Any, Any]
    path: list[str]
    locale: str | None = None
    decimal: tuple[Any, ...] | None = None
    filters: list[Any] | None = None
    context: bytes | None = None
    levels: Levels = log_levels.FRESH
    bounds: tuple[int, int] = FRESH_BOUNDS
    captured: bool = False

    def of_a_fresh_process(self, *, bounds: tuple[int, int] = FRESH_BOUNDS) -> Surroundings:
        """Those of a process that is started from here, and has yet to be told the rest.

        Args:
            bounds: Limits of its interpreter.
        """
        # The levels are in the first that it is told, if its records are wanted.
        return Surroundings(self.folder, self.environ, self.path, levels=self.levels, bounds=bounds)

    def of_a_forked_process(self, before: Surroundings) -> Surroundings:
        """Those of one that was forked by another thread, which has a decimal context of its own.

        Args:
            before: Those before the fork; these are the ones after it. What differs between them, because a third
                thread has changed it meanwhile, is taken to be neither: the process is told in any case.
        """
        found = self._replace(decimal=None, context=None, bounds=before.bounds, captured=before.captured)
        if before is self:
            return found
        environ = self.environ
        if environ != before.environ:
            both = environ.items() & before.environ.items()
            environ = {**dict.fromkeys(environ.keys() | before.environ.keys(), _NO_VALUE), **dict(both)}
        return found._replace(
            folder=self.folder if self.folder == before.folder else None,
            environ=environ,
            path=self.path if self.path == before.path else [*self.path, *before.path, *self.path],
            locale=self.locale if self.locale == before.locale else _NO_LOCALE,
            filters=self.filters if self.filters == before.filters else _NO_FILTERS,
        )

    def at_start(self, around: Surroundings | None) -> Surroundings:
        """Those of a process that has these, and is told for its setup what it cannot have by itself.

        Args:
            around: Those of the thread that has opened the pool, or made the actor.
        """
        if around is None:
            return self
        # Its folder, environment and path it was started with, and the levels are in the first that it is told.
        return around._replace(folder=self.folder, environ=self.environ, path=self.path, levels=self.levels)

    def on_another_machine(
        self, decimal: tuple[Any, ...] | None, filters: list[Any] | None, context: bytes | None
    ) -> Surroundings:
        """These, with what follows the caller from one machine to another.

        Args:
            decimal: What the caller's decimal context has.
            filters: The caller's, of warnings.
            context: Values of the caller's context variables, pickled.
        """
        return self._replace(decimal=decimal, filters=filters, context=context)

    def with_context(self, context: bytes) -> Surroundings:
        """These, and values of context variables, pickled."""
        return self._replace(context=context)

    def variables(self) -> dict[str, str]:
        """The environment."""
        return environment.decoded(self.environ)

    def changes_since(self, former: Surroundings) -> bytes:
        """What a process has to do that has the former ones."""
        changes: dict[str, Any] = {}
        if self.folder != former.folder and self.folder is not None:
            changes["folder"] = self.folder
        if self.environ != former.environ:
            new, old = environment.decoded(self.environ), environment.decoded(former.environ)
            changes["environ"] = (
                [name for name in old if name not in new],
                {name: value for name, value in new.items() if old.get(name) != value},
            )
        if self.path != former.path:
            changes["path"] = (_names(former.path), _names(self.path))
        if self.locale != former.locale:
            changes["locale"] = self.locale
        if self.decimal != former.decimal:
            changes["decimal"] = self.decimal
        if self.filters != former.filters:
            changes["filters"] = former.filters is None, by_names(self.filters)
        if self.context != former.context:
            changes["context"] = self.context
        if self.levels != former.levels:
            (new_levels, disabled), old_levels = self.levels, former.levels[0]
            gone = {name: 0 for name in old_levels if name not in new_levels}
            set_now = {name: level for name, level in new_levels.items() if old_levels.get(name) != level}
            changes["levels"] = {**gone, **set_now}, disabled
        if self.captured != former.captured:
            changes["captured"] = self.captured
        if self.bounds != former.bounds:
            pairs = zip(self.bounds, former.bounds, strict=True)
            changes["bounds"] = [now if now != before else None for now, before in pairs]
        return pickle.dumps(changes)


def current() -> Surroundings:
    """Those of this thread; the very same object as long as nothing changes."""
    global _last
    last = _last
    environ, path, filters = environment.encoded(), sys.path, _filters()
    folder, locale, decimal, levels = _folder(), _locale(), _decimal(), log_levels.current()
    bounds, captured = (sys.getrecursionlimit(), sys.get_int_max_str_digits()), log_levels.captures_warnings()
    if (
        last is not None
        and environ == last.environ
        and path == last.path
        and filters == last.filters
        and folder == last.folder
        and locale == last.locale
        and decimal == last.decimal
        and levels is last.levels
        and bounds == last.bounds
        and captured is last.captured
    ):
        return last
    filters = None if filters is None else list(filters)
    _last = Surroundings(
        folder, dict(environ), list(path), locale, decimal, filters, levels=levels, bounds=bounds, captured=captured
    )
    return _last


_last: Surroundings | None = None


def _names(path: list[str]) -> list[str]:
    return [each for each in path if isinstance(each, str)]


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _locale() -> str | None:
    """None: only what Python sets when it starts."""
    module = sys.modules.get("_locale")
    if module is None:
        return None
    found: str = module.setlocale(module.LC_ALL, None)
    parts = found.split(";")
    if all(part.endswith("=C") or part.startswith("LC_CTYPE=") for part in parts) or found == "C":
        return None
    return found


def decimal_context() -> Any:
    """A copy of this thread's decimal context; None: as Python has it."""
    if _decimal() is None:
        return None
    module = sys.modules.get("_decimal") or sys.modules["_pydecimal"]
    return module.getcontext().copy()


def _decimal() -> tuple[Any, ...] | None:
    """None: as Python has it."""
    module = sys.modules.get("_decimal") or sys.modules.get("_pydecimal")
    if module is None or not hasattr(module, "getcontext"):
        return None
    context = module.getcontext()
    traps = tuple([signal.__name__ for signal, trapped in context.traps.items() if trapped])
    found = (context.prec, context.rounding, context.Emin, context.Emax, context.capitals, context.clamp, traps)
    return None if found == _FRESH_DECIMAL else found


_FRESH_DECIMAL = (
    28, "ROUND_HALF_EVEN", -999999, 999999, 1, 0, ("InvalidOperation", "DivisionByZero", "Overflow"),
)  # fmt: skip


def _filters() -> list[Any] | None:
    module = sys.modules.get("warnings")
    filters = getattr(module, "filters", None)
    if not isinstance(filters, list) or (not sys.warnoptions and filters == FRESH_FILTERS):
        return None
    return filters


class NamedFilter(tuple):  # type: ignore[type-arg]
    """A filter of another machine, as it has travelled: what it names need not be there."""

    __slots__ = ()


def by_names(filters: list[Any] | None) -> list[Filter] | None:
    """Filters as they travel: classes by their names, for the other process may not have them."""
    if filters is None:
        return None
    return [tuple(each) if type(each) is NamedFilter else _packed(each) for each in filter(_is_whole, filters)]


def _is_whole(each: Any) -> bool:
    """Whether a filter is as Python makes them: a program may have put anything into the list."""
    return type(each) is NamedFilter or (isinstance(each, tuple) and len(each) == 5 and isinstance(each[2], type))


def _packed(each: Any) -> Filter:
    action, message, category, module, line = each
    return (
        action,
        getattr(message, "pattern", message),
        category.__module__,
        category.__qualname__,
        getattr(module, "pattern", module),
        line,
    )
