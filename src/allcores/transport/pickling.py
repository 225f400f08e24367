"""Turns functions, items and outcomes into bytes, and back. The home of cloudpickle.

Plain pickle, protocol 5, where it does; cloudpickle for what plain pickle cannot name from another
process: lambdas, closures, and everything that was defined in `__main__`.
"""

from __future__ import annotations

import copyreg
import functools
import io
import pickle
import sys

from allcores.system import deferral, main_module
from allcores.transport import inheritance, main_names, plain_results
from allcores.transport.reducers import reducers_for

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import CodeType
    from typing import Any, TypeVar

    from allcores.errors import NotPicklable

    T = TypeVar("T")


PROTOCOL = 5

#: what a failing pickle raises: its own error, but also whatever a __reduce__ or __getstate__ raises
_MAIN, _OF_A_CHILD = main_module.MAIN.encode(), main_module.OF_A_CHILD.encode()


def cloud_dumps(
    obj: object,
    collect: Callable[[pickle.PickleBuffer], bool] | None = None,
    *,
    to_parent: bool = False,
    reducers: Mapping[Any, Any] | None = None,
    link: Callable[[Any], object] | None = None,
) -> bytes:
    """Bytes of anything that cloudpickle can carry.

    Args:
        to_parent: For the process that this one works for.
        reducers: By type, for what has ways of its own.
        link: See `dump_linked`.
    """
    buffer = io.BytesIO()
    kind: Any = _cloud_pickler()
    if main_module.is_of_a_child():
        _send_main_by_value()
    if reducers is not None:
        kind = type(kind.__name__, (kind,), {"dispatch_table": kind.dispatch_table.new_child(reducers)})
    if link is not None:
        kind = type(kind.__name__, (kind,), {"persistent_id": _linked})
    pickler = kind(buffer, protocol=PROTOCOL, buffer_callback=collect)
    pickler.link = link
    pickler.to_parent = to_parent
    pickler.dump(obj)
    return buffer.getvalue()


@functools.cache
def _send_main_by_value() -> None:
    """Have cloudpickle take the main module for one also where multiprocessing has given it another name."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[main_module.MAIN])


@functools.cache
def _cloud_pickler() -> Callable[..., pickle.Pickler]:
    """The pickler of cloudpickle, with some differences.

    Code keeps the name of its file, what travels has an origin, and wrappers of `functools` travel as the functions in
    them. Context variables travel by their names, libraries of ctypes by their paths, and a `threading.local` is made
    anew.

    cloudpickle leaves the name out since 3.1.3; a worker's traceback would then show no line of the script.
    Imported late: it costs 40 ms.
    """
    from collections import ChainMap
    from contextvars import ContextVar
    from random import SystemRandom
    from struct import Struct
    from threading import local
    from types import CodeType, FunctionType

    import cloudpickle

    from allcores.transport import context_variables, ctypes_objects, origins, wrappers

    table = cloudpickle.Pickler.dispatch_table

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        make, arguments = table[CodeType](code)
        return code_of_file, (code.co_filename, make, arguments)

    by_value = cloudpickle.Pickler.reducer_override

    def reducer_override(self: Any, obj: Any) -> Any:
        kind = type(obj)
        if wrappers.is_function(obj):
            if self.to_parent and (found := origins.reference(obj)) is not None:
                return found
            module = cloudpickle.cloudpickle._lookup_module_and_qualname(obj)
            if module is not None and not cloudpickle.cloudpickle._is_registered_pickle_by_value(module[0]):
                return obj.__qualname__
            made = wrappers.parts(obj)
            if self.to_parent:
                return (*made, None, None, wrappers.set_attributes)
            return origins.wrapper(obj, made, wrappers.set_attributes)
        if kind is local:
            # Another process has threads of its own: what this one has there is what the first of them finds.
            return local_with, (dict(vars(obj)),)
        if (found := ctypes_objects.reduce(obj)) is not None:
            return found
        if kind is not FunctionType and not issubclass(kind, type):
            return by_value(self, obj)
        if (names := main_names.this_thread.names) is not None and names.have(obj):
            return obj.__qualname__
        if self.to_parent and (found := origins.reference(obj)) is not None:
            return found
        reduced = by_value(self, obj)
        # Two parts: a class of the interpreter's own; one is that a name is enough.
        if not isinstance(reduced, tuple) or len(reduced) < 6:
            return reduced
        return origins.to_parent(obj, reduced) if self.to_parent else origins.to_child(obj, reduced)

    members = {
        "dispatch_table": ChainMap(
            {
                CodeType: reduce_code,
                ContextVar: context_variables.reduce,
                Struct: lambda struct: (Struct, (struct.format,)),
                SystemRandom: lambda _: (SystemRandom, ()),
                functools.cached_property: wrappers.reduce_cached_property,
                functools.singledispatchmethod: wrappers.reduce_generic_method,
            },
            table,
        ),
        "reducer_override": reducer_override,
        "to_parent": False,
    }
    return type("CloudPickler", (cloudpickle.Pickler,), members)


def _names_main(data: bytes) -> bool:
    """Whether a pickle may name what is in this process's main module."""
    return _MAIN in data or (main_module.is_of_a_child() and _OF_A_CHILD in data)


def local_with(attributes: dict[str, Any]) -> Any:
    """A `threading.local` that has these on this thread; called by what `cloud_dumps` made."""
    from threading import local

    made = local()
    vars(made).update(attributes)
    return made


def code_of_file(filename: str, make: Callable[..., CodeType], arguments: tuple[Any, ...]) -> CodeType:
    """A code object as it was where it came from; called by what `cloud_dumps` made."""
    return make(*arguments).replace(co_filename=filename)


def dumps(
    obj: object,
    collect: Callable[[pickle.PickleBuffer], bool] | None = None,
    again: Callable[[], None] | None = None,
    *,
    to_parent: bool = False,
    own: Mapping[Any, Any] | None = None,
) -> bytes:
    """Bytes of `obj`: by plain pickle if another process can read them, else by cloudpickle.

    Args:
        collect: Takes out-of-band buffers; what it returns True for stays in the bytes.
        again: Called before a second try, which collects anew.
        to_parent: See `transport.origins`. Raises whatever pickling raises.
        own: How to pickle some types, beside what multiprocessing has ways of its own for.
    """
    reducers = reducers_for()
    if own is not None:
        reducers = {**(reducers or {}), **own}
    refused = False
    try:
        if reducers is None:
            data = pickle.dumps(obj, PROTOCOL, buffer_callback=collect)
            reducers = reducers_for(data)
        if reducers is not None:
            if again is not None:
                again()
            data = _dump_with(reducers, obj, collect)
        # A reference to __main__ names this program's main module, which a worker does not have, unless it was forked.
        if not _names_main(data) or ((names := main_names.this_thread.names) is not None and names.are_all()):
            return data
    except Exception as error:
        if deferral.raised_by_handler(error):
            raise
        refused = True
    if again is not None:
        again()
    if refused and to_parent and plain_results.are_wanted():
        return _dump_by_names(obj, collect, reducers)
    return cloud_dumps(obj, collect, to_parent=to_parent, reducers=reducers)


def _linked(pickler: Any, part: Any) -> object:
    """The `persistent_id` of picklers that know what stands for some parts.

    By an attribute: a class that is made for one call stays until the garbage collector comes, with all that it knows.
    """
    return pickler.link(part)


class _LinkPickler(pickle.Pickler):
    """See `dump_linked`."""

    persistent_id = _linked


def dump_linked(obj: object, link: Callable[[Any], object]) -> bytes:
    """Bytes of `obj` for the parent, in which some parts are links: what `Linked.persistent_load` makes of them there.

    Args:
        link: Called with each object; returns what stands for it, or None to have it pickled.
    """
    reducers = reducers_for()
    buffer = io.BytesIO()
    try:
        pickler: Any = _LinkPickler(buffer, PROTOCOL)
        pickler.link = link
        if reducers is not None:
            pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
        pickler.dump(obj)
        if not _names_main(data := buffer.getvalue()) and (reducers is not None or reducers_for(data) is None):
            return data
    except Exception as error:
        if deferral.raised_by_handler(error):
            raise
    return cloud_dumps(obj, to_parent=True, reducers=reducers or reducers_for(buffer.getvalue()), link=link)


def _dump_with(
    reducers: Mapping[Any, Any], obj: object, collect: Callable[[pickle.PickleBuffer], bool] | None
) -> bytes:
    """Plain pickle, with ways of its own for some types."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL, buffer_callback=collect)
    pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
    pickler.dump(obj)
    return buffer.getvalue()


def _dump_by_names(
    obj: object, collect: Callable[[pickle.PickleBuffer], bool] | None, reducers: Mapping[Any, Any] | None
) -> bytes:
    """Plain pickle, which names copies of what the parent has as it is named there.

    Raises:
        ResultRefused: It would be refused in a process that has the script, too.
    """
    from types import FunctionType

    from allcores.transport import origins, wrappers

    def by_name(_: object, part: Any) -> Any:
        if isinstance(part, (type, FunctionType)) or wrappers.is_function(part):
            found = origins.reference(part)
            if found is not None:
                return found
        return NotImplemented

    buffer = io.BytesIO()
    kind = type("NamePickler", (pickle.Pickler,), {"reducer_override": by_name})
    pickler: Any = kind(buffer, PROTOCOL, buffer_callback=collect)
    if reducers is not None:
        pickler.dispatch_table = {**copyreg.dispatch_table, **reducers}
    try:
        pickler.dump(obj)
    except Exception as error:
        if deferral.raised_by_handler(error):
            raise
        plain_results.refuse(obj, error)
    return buffer.getvalue()


loads = pickle.loads

#: Notes on exceptions that say at which step, other than the function's run, they came up in a worker.
FUNCTION_UNREAD = "allcores: the function could not be unpickled in the worker"
CONTEXT_UNREAD = "allcores: the value of a context variable could not be unpickled in the worker"
ITEM_UNREAD = "allcores: the item could not be unpickled in the worker"
RESULT_UNWRITTEN = "allcores: the result could not be pickled in the worker"


def explain_with_path(obj: object, name: str, error: BaseException) -> NotPicklable:
    """The error for something that will not pickle: where the part at fault is, and the way out."""
    from allcores.errors import NotPicklable
    from allcores.transport import pickle_diagnosis

    found = pickle_diagnosis.find_unpicklable(obj, name, dumps)
    return NotPicklable(pickle_diagnosis.describe(found, name, error), path=found.path if found is not None else None)


def dump_named(obj: object, name: str, dumps: Callable[[object], T] = dumps) -> T:  # type: ignore[assignment]
    """Bytes of a function or of what is called `name`, for all workers. Raises NotPicklable, with the path."""
    # The search for what is at fault goes by the same rules.
    with inheritance.to_many():
        try:
            return dumps(obj)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if deferral.raised_by_handler(error) or pickles(obj):
                raise  # no fault of the object's
            raise explain_with_path(obj, name, error) from error


def pickles(obj: object) -> bool:
    """True if `obj` can be pickled after all. Raises KeyboardInterrupt alone."""
    try:
        dumps(obj)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False
    return True


#: values that are pickled and unpickled without any code but the interpreter's
SCALARS = frozenset({int, float, str, bytes, bool, type(None)})
#: so many values are not looked through before they are pickled: it would cost more than `_PlainOnly` does
MANY_VALUES = 256


class _Complex(Exception):
    """Anything but plain containers and scalars was met."""


class _PlainOnly(pickle.Pickler):
    """Ends at the first that is not a plain container or scalar: what it did until then is done again, no more.

    Plain data cannot fail when it is unpickled, so a list of it may travel as one pickle. Anything
    with code of its own (a class, an object) might, and then each value travels by itself, so that
    one that fails takes no other along.
    """

    def reducer_override(self, obj: Any) -> Any:
        raise _Complex


def dump_values(values: list[Any]) -> bytes | None:
    """Bytes of a list of values; None if they are not safe to unpickle as one.

    Raises:
        Exception: What pickling raises; values that are plain but too deep, mostly.
    """
    if len(values) < MANY_VALUES and SCALARS.issuperset(map(type, values)):
        return pickle.dumps(values, PROTOCOL)
    buffer = io.BytesIO()
    try:
        _PlainOnly(buffer, PROTOCOL).dump(values)
    except _Complex:
        return None
    return buffer.getvalue()
