"""Libraries, functions, and types of `ctypes`, which neither pickle nor cloudpickle can carry.

A library travels by its path, with the types that its functions were given, and is loaded where it arrives. Types of
pointers and arrays have no name, and are made of what they point to. A structure of a script is a class like any other,
but for the descriptors of its fields, which `_fields_` makes anew.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from collections.abc import Callable
    from typing import Any

    #: argtypes, restype, errcheck of a function
    Signature = tuple[Any, Any, Any]

#: what `_flags_` of a type of functions says
_PYTHON_API, _USE_ERRNO, _USE_LAST_ERROR = 0x4, 0x8, 0x10
#: attributes of a class without which it cannot be made
_FIRST = ("_type_", "_length_")
#: What is set once, as a class gets its fields: these last, since they go by the others.
_ONCE = ("_pack_", "_align_", "_layout_", "_anonymous_", "_fields_")
_MADE_ANEW = ("__ctype_le__", "__ctype_be__")
#: type of the descriptors of fields, up to Python 3.13 and from 3.14 on
_FIELDS = ("_ctypes.CField", "ctypes.CField")


def reduce(obj: Any) -> tuple[Any, ...] | None:
    """How to pickle an object of ctypes that pickle refuses; None for all others."""
    # Each object that cloudpickle meets comes by here: names tell sooner than classes, which would have to be loaded.
    kind: Any = type(obj)
    if kind.__module__ == "ctypes" and kind.__name__ in ("CDLL", "PyDLL"):
        return _library(obj)
    if type(kind).__module__ == "_ctypes":
        return _function(obj) if type(kind).__name__ == "PyCFuncPtrType" else None
    if not isinstance(obj, type) or "_ctypes" not in (kind.__module__, obj.__module__):
        return None
    import ctypes

    if issubclass(obj, type):
        # A metaclass, which has no public name, but is that of a class that has one.
        classes: tuple[Any, ...] = (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes.c_int)
        return next(((type, (each,)) for each in classes if type(each) is obj), None)
    made: Any = obj
    element = getattr(made, "_type_", None)
    if made.__bases__ == (ctypes.Array,) and element * made._length_ is made:
        return array_type, (element, made._length_)
    if made.__bases__ == (ctypes._Pointer,) and element and ctypes.POINTER(element) is made:
        return ctypes.POINTER, (element,)
    if made.__bases__ == (ctypes._CFuncPtr,) and hasattr(made, "_argtypes_"):  # type: ignore[attr-defined]
        return prototype, (made._flags_, made._restype_, made._argtypes_)
    for order, other in (("__ctype_be__", "__ctype_le__"), ("__ctype_le__", "__ctype_be__")):
        usual = getattr(made, other, None)
        if usual is not made and getattr(made, order, None) is made and _has_name(usual) and not _has_name(made):
            # A number in the other order of bytes, which has the name of the one in this machine's.
            return getattr, (usual, order)
    return None


def _has_name(kind: Any) -> bool:
    return getattr(sys.modules["ctypes"], kind.__name__, None) is kind


def _library(library: ctypes.CDLL) -> tuple[Any, ...]:
    name, made_of = library._name, library._FuncPtr
    if name and os.sep in name:
        name = os.path.abspath(name)
    flags: int = made_of._flags_
    options = (bool(flags & _USE_ERRNO), bool(flags & _USE_LAST_ERROR))
    functions = {key: _signature(each) for key, each in vars(library).items() if isinstance(each, made_of)}
    return open_library, (type(library), name, *options), functions, None, None, set_functions


def _function(function: Any) -> tuple[Any, ...] | None:
    import ctypes

    # What it is of is kept alive by it.
    library = (function._objects or {}).get("0")
    if not isinstance(library, ctypes.CDLL) or type(function) is not library._FuncPtr:
        return None  # a callback, or of a prototype
    name: str = function.__name__  # type: ignore[attr-defined]
    is_attribute = vars(library).get(name) is function
    return function_of, (library, name, is_attribute), _signature(function), None, None, set_signature


def _signature(function: Any) -> Signature:
    return function.argtypes, function.restype, function.errcheck


def open_library(kind: Any, name: str | None, use_errno: bool, use_last_error: bool) -> Any:
    """The library of this name or path, in this process."""
    return kind(name, use_errno=use_errno, use_last_error=use_last_error)


def set_functions(library: Any, functions: dict[str, Signature]) -> Any:
    """Functions of a library get the types that they had where it came from."""
    for name, signature in functions.items():
        set_signature(getattr(library, name), signature)
    return library


def function_of(library: Any, name: str, is_attribute: bool) -> Any:
    """A function of a library: the one that its attribute gives, or another of the same name."""
    return getattr(library, name) if is_attribute else library[name]


def set_signature(function: Any, signature: Signature) -> Any:
    """A function gets its types."""
    function.argtypes, function.restype = signature[:2]
    if signature[2] is not None:
        function.errcheck = signature[2]
    return function


def prototype(flags: int, result: Any, arguments: tuple[Any, ...]) -> Any:
    """The type of functions with this signature."""
    import ctypes

    if flags & _PYTHON_API:
        return ctypes.PYFUNCTYPE(result, *arguments)
    options = {"use_errno": bool(flags & _USE_ERRNO), "use_last_error": bool(flags & _USE_LAST_ERROR)}
    return ctypes.CFUNCTYPE(result, *arguments, **options)


def array_type(element: Any, length: int) -> Any:
    """The type of arrays of so many elements."""
    return element * length


def is_data(kind: type) -> bool:
    """Whether a class is of data of ctypes: a structure, a union, an array, a number."""
    loaded = sys.modules.get("ctypes")
    return loaded is not None and issubclass(kind, loaded.Structure.__base__)


def attributes_of(attributes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What of the attributes of such a class travels: what it is made with, and what is set then, in that order."""
    kept = {
        key: value
        for key, value in attributes.items()
        if key not in _MADE_ANEW and f"{type(value).__module__}.{type(value).__name__}" not in _FIELDS
    }
    first = {key: kept.pop(key) for key in _FIRST if key in kept}
    return first, kept | {key: kept.pop(key) for key in _ONCE if key in kept}


def setting_what_is_left(put: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`put`, which sets attributes of a class, for one that may have its fields already: these are set once."""

    def put_left(made: Any, state: tuple[dict[str, Any], Any]) -> Any:
        attributes, more = state
        if "_fields_" in vars(made):
            attributes = {key: value for key, value in attributes.items() if key not in _ONCE}
        return put(made, (attributes, more))

    return put_left
