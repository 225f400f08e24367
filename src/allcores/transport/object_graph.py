"""Takes an object apart along the lines along which pickling would, and names each part.

How a path is written, starting from the name the caller gave:

    x[3]  x['key']          element of a list or tuple, value of a dict
    x.conn                  attribute, slot, or key of what __getstate__ returned
    x.<key 'k'>             key of a dict
    x.<member>              member of a set
    x.args[0]               argument of an exception
    x.func  x.args[0]  x.keywords['k']     parts of functools.partial
    x.__self__  x.__func__  the object and the function of a bound method
    fn.<closure>.lock       variable of an enclosing function that `fn` uses
    fn.<global>.lock        module-level variable that `fn` uses
    fn.<default>.lock       default value of a parameter
    x.flat[3]               element of a numpy array of objects
    x.__class__             the class, when classes travel by value
    x.<reduce>[0]  x.<state>[0]            argument or state that a __reduce__ returned

Functions and classes are looked into only if `dumps` takes them by value, as cloudpickle does.
"""

from __future__ import annotations

import copyreg
import functools
import itertools
import types
from collections.abc import Iterator
from typing import Any

#: the protocol whose view of an object (`__reduce_ex__`) is followed
PROTOCOL = 5
#: parts of one object that are looked at, so that an endless iterator in a __reduce__ does no harm
MAX_PARTS = 5_000_000

#: what it adds to the path, and the part itself
Part = tuple[str, Any]


def type_name(obj: object) -> str:
    """Qualified name of the type of `obj`, without "builtins." and "__main__."."""
    kind = type(obj)
    module = getattr(kind, "__module__", None)
    if not isinstance(module, str) or module in ("builtins", "__main__"):
        return kind.__qualname__
    return f"{module}.{kind.__qualname__}"


def parts(obj: Any, *, by_value: bool) -> Iterator[Part]:
    """What pickling `obj` would pickle next, each with what it adds to the path.

    An object that raises while it is taken apart has no further parts: then it is itself at fault.
    """
    try:
        yield from itertools.islice(_parts_by_type(obj, by_value), MAX_PARTS)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:
        return


def _parts_by_type(obj: Any, by_value: bool) -> Iterator[Part]:
    kind = type(obj)
    if kind is list or kind is tuple:
        for index, value in enumerate(obj):
            yield f"[{index}]", value
    elif kind is dict:
        yield from _dict_parts(obj)
    elif kind is set or kind is frozenset:
        for value in obj:
            yield ".<member>", value
    elif kind is functools.partial:
        yield ".func", obj.func
        yield from _prefixed(".args", enumerate(obj.args))
        yield from _prefixed(".keywords", obj.keywords.items())
        yield from _attributes(vars(obj))
    elif kind is types.MethodType:
        yield ".__self__", obj.__self__
        if by_value:
            yield ".__func__", obj.__func__
    elif kind is types.BuiltinFunctionType or kind is types.MethodWrapperType:
        if not isinstance(obj.__self__, types.ModuleType | None):
            yield ".__self__", obj.__self__
    elif kind is types.FunctionType:
        if by_value:
            yield from _function_parts(obj)
    elif isinstance(obj, type):
        if by_value:
            yield from _class_parts(obj)
    elif kind is staticmethod or kind is classmethod:
        yield ".__func__", obj.__func__
    elif kind is property:
        yield from ((f".{name}", getattr(obj, name)) for name in ("fget", "fset", "fdel"))
    elif kind.__module__ == "numpy" and getattr(getattr(obj, "dtype", None), "hasobject", False):
        for index, value in enumerate(obj.flat):
            yield f".flat[{index}]", value
    else:
        yield from _reduced_parts(obj, by_value)


def _dict_parts(mapping: dict[Any, Any]) -> Iterator[Part]:
    for key, value in mapping.items():
        if type(key) is not str:
            yield f".<key {key_text(key)}>", key
        yield f"[{key_text(key)}]", value


def _prefixed(prefix: str, pairs: Any) -> Iterator[Part]:
    return ((f"{prefix}[{key_text(key)}]", value) for key, value in pairs)


def _attributes(state: dict[Any, Any]) -> Iterator[Part]:
    for key, value in state.items():
        if isinstance(key, str) and key.isidentifier():
            yield f".{key}", value
        else:
            yield f".<state>[{key_text(key)}]", value


def _function_parts(function: types.FunctionType) -> Iterator[Part]:
    """What a function drags along when it travels by value, in the order of its likely guilt."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f".<closure>.{name}", cell.cell_contents
        except ValueError:  # the enclosing function has not assigned it yet
            continue
    module_level = function.__globals__
    for name in _global_names(function.__code__):
        if name in module_level:
            yield f".<global>.{name}", module_level[name]
    defaults = function.__defaults__ or ()
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    for name, value in zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True):
        yield f".<default>.{name}", value
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f".<default>.{name}", value
    yield from _attributes(function.__dict__)
    for name, value in function.__annotations__.items():
        yield f".__annotations__[{key_text(name)}]", value


def _global_names(code: types.CodeType) -> list[str]:
    """Names of module level that the code, or a function defined in it, reads or writes.

    `co_names` alone will not do: it holds the names of attributes, too.
    """
    import dis  # costs 5 ms, and only failures come here

    names = dict.fromkeys(
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL")
    )
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(dict.fromkeys(_global_names(constant)))
    return list(names)


#: class attributes that cloudpickle leaves behind or makes anew
_NOT_OF_THE_CLASS = frozenset(("__dict__", "__weakref__", "__module__", "__doc__", "_abc_impl"))


def _class_parts(kind: type) -> Iterator[Part]:
    for name, value in vars(kind).items():
        slot = isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)
        if name not in _NOT_OF_THE_CLASS and not slot:
            yield f".{name}", value
    for index, base in enumerate(kind.__bases__):
        yield f".__bases__[{index}]", base


def _reduced_parts(obj: Any, by_value: bool) -> Iterator[Part]:
    """The parts of any other object, as its own `__reduce_ex__` gives them to pickle.

    That covers __dict__, __slots__, __getstate__, dataclasses, named tuples, exceptions, subclasses
    of the builtin containers, and whatever extension types do.
    """
    reduce = copyreg.dispatch_table.get(type(obj))
    reduced = reduce(obj) if reduce is not None else obj.__reduce_ex__(PROTOCOL)
    if not isinstance(reduced, tuple):
        return  # a string: a name to be imported
    factory, arguments, state, elements, pairs = (*reduced, None, None, None)[:5]
    own = _own_attributes(obj)
    yield from _argument_parts(obj, factory, arguments, own, by_value)
    yield from _state_parts(obj, state, own)
    for index, value in enumerate(elements or ()):
        yield f"[{index}]", value
    for key, value in pairs or ():
        yield f".<key {key_text(key)}>", key
        yield f"[{key_text(key)}]", value
    if by_value:
        yield ".__class__", type(obj)


def _argument_parts(obj: Any, factory: Any, arguments: Any, own: dict[int, str], by_value: bool) -> Iterator[Part]:
    fields = getattr(type(obj), "_fields", ())
    values = list(arguments or ())
    if factory in (getattr(copyreg, "__newobj__", None), getattr(copyreg, "__newobj_ex__", None)):
        del values[:1]  # the class
        if isinstance(obj, tuple) and len(values) == 1 and type(values[0]) is tuple:
            values = list(values[0])
    elif factory is not type(obj):
        yield ".<factory>", factory
    for index, value in enumerate(values):
        if value is type(obj):
            continue
        if isinstance(obj, BaseException):
            yield f".args[{index}]", value
        elif isinstance(obj, tuple):
            yield (f".{fields[index]}" if len(fields) == len(values) else f"[{index}]"), value
        elif id(value) in own:
            yield f".{own[id(value)]}", value
        else:
            yield f".<reduce>[{index}]", value


def _state_parts(obj: Any, state: Any, own: dict[int, str]) -> Iterator[Part]:
    if state is None:
        return
    if type(state) is dict:
        yield from _attributes(state)
    elif type(state) is tuple and len(state) == 2 and all(type(half) in (dict, type(None)) for half in state):
        # The form for classes with __slots__: what is in __dict__, what is in slots.
        for half in state:
            yield from _attributes(half or {})
    elif type(state) in (list, tuple):
        # A frozen dataclass with slots gives a list of its fields' values.
        names = tuple(getattr(type(obj), "__dataclass_fields__", ()))
        for index, value in enumerate(state):
            if len(names) == len(state):
                yield f".{names[index]}", value
            elif id(value) in own:
                yield f".{own[id(value)]}", value
            else:
                yield f".<state>[{index}]", value
    else:
        yield ".<state>", state


def _own_attributes(obj: Any) -> dict[int, str]:
    """From the id of a value to the name of the attribute that holds it, for objects with a __dict__."""
    try:
        attributes: dict[str, Any] = vars(obj)
    except TypeError:
        return {}
    return {id(value): name for name, value in attributes.items()}


def key_text(key: Any) -> str:
    """A key as it is written in a path. Only plain keys are shown: a repr may be huge, or raise."""
    if type(key) in (str, bytes):
        return repr(key) if len(key) <= 40 else repr(key[:37])[:-1] + "..." + repr(key)[-1]
    if type(key) in (int, float, bool, type(None)):
        return repr(key)
    return f"<{type_name(key)}>"
