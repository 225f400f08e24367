"""Wrappers of `functools` that pickle names or refuses: a cached function, a generic function, a cached property.

Pickle sends the name of a cached function, which says nothing to a worker if a script or another function has
defined it; cloudpickle knows functions, but not these. A generic function holds weak references, and a cached
property a lock (Python 3.11). Each is sent as what it was made of, and made anew where it arrives, with an empty
cache.
"""

from __future__ import annotations

import functools
import gc
import pickle
from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    #: what makes a wrapper, of what, and what it gets afterwards
    Parts = tuple[Callable[..., Any], tuple[Any, ...], Any]

_Cached: type = type(functools.lru_cache(lambda: None))
_generic: Any = functools.singledispatch(lambda _: None)
_GENERIC_CODE, _DISPATCH_CODE = _generic.__code__, _generic.dispatch.__code__
#: what making a generic function gives it
_OF_GENERIC = {"register", "dispatch", "registry", "_clear_cache"}
#: what making a cached function gives it
_OF_CACHED = {"cache_parameters", "__wrapped__"}
_NAMES = ("__name__", "__qualname__", "__module__", "__doc__")


def is_function(obj: Any) -> bool:
    """A cached or a generic function, or the method `dispatch` of one."""
    kind = type(obj)
    return kind is _Cached or (kind is FunctionType and obj.__code__ in (_GENERIC_CODE, _DISPATCH_CODE))


def parts(obj: Any) -> Parts:
    """What a cached or generic function is made of; `set_attributes` takes the last part.

    Raises:
        pickle.PicklingError: It calls something else than it says.
    """
    if type(obj) is not _Cached:
        if obj.__code__ is _DISPATCH_CODE:
            cells = dict(zip(obj.__code__.co_freevars, obj.__closure__, strict=True))
            return make_dispatch, (dict(cells["registry"].cell_contents),), ([], {})
        functions = dict(obj.registry)
        more = {name: value for name, value in vars(obj).items() if name not in _OF_GENERIC}
        more |= {name: getattr(obj, name) for name in _NAMES}
        return functools.singledispatch, (functions.pop(object),), (list(functions.items()), more)
    cached: Any = obj
    wrapped = getattr(cached, "__wrapped__", None)
    # The attribute can be written to. What is called is told by the garbage collector only.
    if not any(each is wrapped for each in gc.get_referents(cached)):
        raise pickle.PicklingError(f"{obj!r} is a cached function whose __wrapped__ is not the function that it calls")
    parameters = cached.cache_parameters()
    more = {name: value for name, value in vars(obj).items() if name not in _OF_CACHED}
    return make_cached, (wrapped, parameters["maxsize"], parameters["typed"]), ([], more)


def make_cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    """A cached function, with nothing in its cache."""
    return functools.lru_cache(maxsize=maxsize, typed=typed)(function)


def set_attributes(made: Any, state: tuple[list[tuple[type, Any]], dict[str, Any]]) -> Any:
    """The functions that a generic function has for other types than object, and what was set on either kind."""
    functions, more = state
    for kind, function in functions:
        made.register(kind, function)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def make_dispatch(functions: dict[type, Callable[..., Any]]) -> Any:
    """What a bound method of several types finds its function with (Python 3.12 and newer)."""
    made = functools.singledispatch(functions[object])
    set_attributes(made, (list(functions.items()), {}))
    return made.dispatch


def reduce_generic_method(obj: functools.singledispatchmethod[Any]) -> tuple[Any, ...]:
    """What pickle has to know of a method that is generic: it may have a cache by weak references."""
    return make_generic_method, (obj.func, obj.dispatcher)


def make_generic_method(function: Callable[..., Any], dispatcher: Any) -> functools.singledispatchmethod[Any]:
    """A generic method with the functions that it had."""
    made = functools.singledispatchmethod(function)
    made.dispatcher = dispatcher
    return made


def reduce_cached_property(obj: functools.cached_property[Any]) -> tuple[Any, ...]:
    """What pickle has to know of a cached property: in Python 3.11 it has a lock, which does not travel."""
    return make_cached_property, (obj.func, obj.attrname)


def make_cached_property(function: Callable[[Any], Any], name: str | None) -> functools.cached_property[Any]:
    """A cached property as it is once its class is made."""
    made = functools.cached_property(function)
    made.attrname = name
    return made
