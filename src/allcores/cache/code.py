"""What a function does, as plain data that is the same in each process: by its code, not by its text.

A module that was edited while the program runs has another text already, and still the old code: the results of that
would be kept under the name of the new one. Comments and empty lines are not in the code.

The user's own functions, classes and objects are looked into, and what those name in turn. The standard library and
what is installed are known by their names.

All counts as it is when the key is made, also what the function changes as it runs: a global, an attribute. Of a
function those attributes count that code reads: what tools put there is read by none. What is only counted up
(`f.calls += 1`) changes no result, and neither does a container that is called a cache.
"""

from __future__ import annotations

import functools
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from struct import Struct
from types import (
    CodeType,
    FunctionType,
    MappingProxyType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

from allcores.cache.kinds import (
    FUNCTIONS,
    MADE_OF_FUNCTIONS,
    MAPPINGS,
    MOST_DEPTH,
    MOST_ELEMENTS,
    SEQUENCES,
    SETS,
    attributes_of,
    elements_left,
    is_alias,
    is_constant,
    is_looked_into,
    is_named,
    is_own,
    is_pythons,
    name_of,
    order_of,
    wrapped_function,
)
from allcores.cache.uses import attributes_used
from allcores.system import deferral
from allcores.system.object_state import LRU_CACHE, held_around

#: functions, classes and modules that are looked into for one function; further ones are known by their names
MOST_PARTS = 5_000
#: elements of what objects and functions have in their attributes, in all; further ones are known by their types
MOST_HELD = 100_000
#: words in the names of containers that no result depends on
_CACHES = frozenset({"cache", "memo"})
#: functions that Python 3.14 and later puts into a class, for its annotations: these do nothing when it is used
_ANNOTATIONS = frozenset({"__annotate__", "__annotate_func__"})
#: what a class with type parameters is derived from
_BASES = "__orig_bases__"
_DESCRIPTORS = (
    property, staticmethod, classmethod, functools.partial, functools.partialmethod, functools.cached_property,
)  # fmt: skip
#: what a function with `@contextmanager` returns: a decorator, too
_MANAGER: Any = type(contextmanager(lambda: iter(()))())
_CHANGEABLE = frozenset({dict, OrderedDict, defaultdict, list, set, deque})
_MISSING = object()


class Facts:
    """Those of one function and of what it names, one list for each: what they name stands in them by its number.

    Args:
        bytes_of: The bytes of a value that is bound to a function (closure, default, argument of a partial); raises an
            Exception if it has none.
        keeps: Whether a value that code names in a module counts, by its name; None: all that are constants.
    """

    def __init__(self, bytes_of: Callable[[Any], bytes], keeps: Callable[[str, Any], bool] | None = None) -> None:
        self._bytes_of = bytes_of
        self._keeps = keeps or (lambda name, value: is_constant(value))
        #: functions, classes, and modules with the names that are looked for in them; and whether all that is bound to
        #: them has to have bytes
        self._parts: list[tuple[Any, bool]] = []
        self._numbers: dict[Any, int] = {}
        #: objects of the user's classes, and functions, with their attributes
        self._holders: list[tuple[Any, dict[str, Any]]] = []
        self._holder_numbers: dict[int, int] = {}
        self._held_left = MOST_HELD
        #: types with a name that were looked into
        self._aliases: list[Any] = []
        #: code that is looked into, by the names of attributes that it may read
        self._codes: dict[str, list[CodeType]] = {}
        #: for such a name: how much of that code was looked at, and whether the attribute is read, and counted up
        self._used: dict[str, tuple[int, bool, bool]] = {}
        self._used_in: dict[int, tuple[frozenset[str], frozenset[str]]] = {}

    def of(self, function: Any) -> list[Any]:
        """Facts of anything that is called as a function.

        Raises:
            Exception: What `bytes_of` raises, for something that is bound to the function itself.
        """
        root = self._bound(function, True)
        facts: list[Any] = []
        held: dict[tuple[int, str], Any] = {}
        unread: list[tuple[tuple[int, str], Any]] = []
        seen = 0
        while True:
            while len(facts) < len(self._parts):
                facts.append(list(self._facts(*self._parts[len(facts)])))
            # Only now: which attributes count is said by the code, and what is in them may bring more of it.
            while seen < len(self._holders) and len(facts) == len(self._parts):
                attributes = [((seen, name), value) for name, value in sorted(self._holders[seen][1].items())]
                unread += self._tell(attributes, held)
                seen += 1
            unread = self._tell(unread, held)
            if seen == len(self._holders) and len(facts) == len(self._parts):
                break
        return [root, *facts, *([sorted(held.items(), key=lambda each: each[0])] if held else [])]

    def _facts(self, part: Any, strict: bool) -> Iterator[Any]:
        if isinstance(part, FunctionType):
            for code in _codes(part.__code__):
                for name in {*code.co_names, *(each for each in code.co_consts if type(each) is str)}:
                    self._codes.setdefault(name, []).append(code)
            yield name_of(part)
            yield code_facts(part.__code__)
            yield [self._bound(each, strict) for each in part.__defaults__ or ()]
            yield [(name, self._bound(each, strict)) for name, each in sorted((part.__kwdefaults__ or {}).items())]
            yield [self._bound(_content(cell), strict) for cell in part.__closure__ or ()]
            yield list(self._named(part.__globals__, frozenset(_names(part.__code__))))
        elif isinstance(part, type):
            yield name_of(part)
            yield [self._part(base, False) for base in part.__bases__]
            # Not `__doc__` and its like, nor what Python notes in a class when one of its objects is pickled.
            noted = {name for name, value in vars(part).items() if name.startswith("__") and is_constant(value)}
            noted |= _ANNOTATIONS
            yield list(self._named(vars(part), vars(part).keys() - noted))
            if type(part) not in map(type, part.__bases__):
                yield "metaclass", self._part(type(part), False)
            fields = vars(part).get("__dataclass_fields__")
            if isinstance(fields, dict):
                described = {name: dict(each.metadata) for name, each in fields.items() if each.metadata}
                if described:
                    yield "metadata", self._state(described)
        else:
            module, names = part
            yield name_of(module)
            yield list(self._named(vars(module), names))

    def _bound(self, value: Any, strict: bool) -> Any:
        """What is bound to a function, or called as one."""
        if isinstance(value, functools.partial):
            self._holder(value)
            named = [(name, self._bound(each, strict)) for name, each in sorted(value.keywords.items())]
            args = [self._bound(each, strict) for each in value.args]
            return ["partial", self._bound(value.func, strict), args, named]
        if isinstance(value, MethodType):
            return ["method", self._bound(value.__func__, strict), self._bound(value.__self__, strict)]
        if isinstance(value, (FunctionType, type)):
            return self._part(value, strict)
        if isinstance(value, ModuleType):
            return name_of(value)
        wrapped = wrapped_function(value)
        if wrapped is not None:
            kind = type(value)
            if kind is LRU_CACHE:
                self._holder(value)
                return [kind.__name__, self._part(wrapped, strict)]
            # A decorator that is an object: its class says what it does, with what it holds.
            named = sorted(held_around(value).items())
            held = [(name, self._bound(each, strict and is_own(kind))) for name, each in named]
            return [self._part(kind, False), self._part(wrapped, strict), held]
        if isinstance(value, MappingProxyType):
            return ["mappingproxy", self._bound(dict(value), strict)]
        if isinstance(value, _MANAGER):
            # Of a decorator: it is made anew for each call, of these.
            named = [(name, self._bound(each, strict)) for name, each in sorted(value.kwds.items())]
            return ["manager", self._bound(value.func, strict), [self._bound(a, strict) for a in value.args], named]
        if isinstance(value, functools.cached_property):
            return ["cached_property", self._bound(value.func, strict)]
        if isinstance(value, functools.partialmethod):
            named = [(name, self._bound(each, strict)) for name, each in sorted(value.keywords.items())]
            return [
                "partialmethod",
                self._bound(value.func, strict),
                [self._bound(a, strict) for a in value.args],
                named,
            ]
        if (type(value) is list or type(value) is tuple) and any(map(callable, value)):
            return [type(value).__name__, *(self._bound(each, strict) for each in value)]
        try:
            return self._bytes_of(value)
        except Exception as error:
            if strict or deferral.raised_by_handler(error):
                raise
            return self._object(value) if is_own(type(value)) else type(value).__qualname__

    def _part(self, value: Any, strict: bool) -> Any:
        """A function or class: its number if it is the user's own, else its name."""
        if is_own(value):
            if isinstance(value, FunctionType):
                self._holder(value)
            return self._number(value, id(value), strict)
        wrapped = wrapped_function(value)
        if isinstance(value, FunctionType) and wrapped is not None and is_own(wrapped):
            self._holder(value)
            # Made of the user's function by a decorator of a library.
            found = [name_of(value), self._part(wrapped, strict)]
            # What the decorator was given: a wrapper has it in its closure, with what it keeps for itself.
            cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
            found += [(name, self._around(name, _content(cell))) for name, cell in cells]
            registry = getattr(value, "registry", None)
            if isinstance(registry, MappingProxyType):  # functools.singledispatch
                ways = [(self._bound(kind, False), self._bound(way, strict)) for kind, way in registry.items()]
                found.append(sorted(ways, key=repr))
            return found
        return name_of(value)

    def _around(self, name: str, value: Any) -> Any:
        """What a decorator of a library has in its wrapper, beside the user's function."""
        if type(value) in _CHANGEABLE and not _CACHES.isdisjoint(name.lower().split("_")):
            return type(value).__qualname__
        if isinstance(value, _MANAGER):
            return self._bound(value, False)
        return self._state(value)

    def _number(self, part: Any, key: Any, strict: bool) -> Any:
        number = self._numbers.get(key)
        if number is None:
            if len(self._parts) >= MOST_PARTS:
                return name_of(part[0] if isinstance(part, tuple) else part)
            number = self._numbers[key] = len(self._parts)
            self._parts.append((part, strict))
        return number

    def _named(self, scope: Mapping[str, Any], names: Set[str]) -> Iterator[Any]:
        """What code names in a module, or a class has, as far as it can be told."""
        for name in sorted(names):
            value = scope.get(name, _MISSING)
            if isinstance(value, ModuleType):
                own = is_own(value) and value.__dict__ is not scope
                yield name, self._number((value, names), (id(value), names), False) if own else name_of(value)
            elif isinstance(value, (staticmethod, classmethod)):
                yield name, type(value).__name__, self._bound(value.__func__, False)
            elif isinstance(value, property):
                yield name, [self._bound(each, False) for each in (value.fget, value.fset, value.fdel)]
            elif (
                isinstance(value, MADE_OF_FUNCTIONS) or wrapped_function(value) is not None or self._keeps(name, value)
            ):
                yield name, self._bound(value, False)
            elif is_named(value) or (
                (name == _BASES or not is_pythons(name)) and not is_constant(value) and is_looked_into(value)
            ):
                yield name, self._held(value)
            if isinstance(value, _DESCRIPTORS) and is_own(type(value)):
                yield name, self._object(value)

    def _held(self, value: Any, depth: int = 0) -> Any:
        """What code reaches by a name or an attribute, or as an element of a container, of the kinds looked into."""
        if is_constant(value):
            return self._bound(value, False)
        kind = type(value)
        if kind is Struct:
            return [kind.__name__, value.format]
        if depth < MOST_DEPTH and kind is SimpleNamespace:
            return [kind.__name__, self._held(vars(value), depth + 1)]
        if depth < MOST_DEPTH and kind in MAPPINGS:
            return [kind.__name__, *((self._held(k, depth + 1), self._held(v, depth + 1)) for k, v in value.items())]
        if depth < MOST_DEPTH and kind in SEQUENCES:
            parts: Any = value
            if kind in SETS:
                # In an order that no hash has a part in; there is none among those of one name.
                parts = sorted(value, key=order_of)
                if len(set(map(order_of, parts))) < len(parts):
                    return [kind.__name__, *map(order_of, parts)]
            return [kind.__name__, *(self._held(each, depth + 1) for each in parts)]
        if isinstance(value, functools.singledispatchmethod):
            return [kind.__name__, self._bound(value.dispatcher, False)]
        if kind is MethodType:
            return ["method", self._bound(value.__func__, False), self._state(value.__self__, depth + 1)]
        if is_named(value):
            of = getattr(value, "__self__", None)
            named = of is None or isinstance(of, (ModuleType, type))
            return name_of(value) if named else [name_of(value), self._state(of, depth + 1)]
        if is_alias(value):
            return self._alias(value, depth + 1)
        if isinstance(value, MADE_OF_FUNCTIONS) or wrapped_function(value) is not None:
            return self._bound(value, False)
        return self._object(value) if is_own(kind) else kind.__qualname__

    def _state(self, value: Any, depth: int = 0) -> Any:
        """What an object or a function has in an attribute: what is neither small nor looked into by its type."""
        left = elements_left(value, min(self._held_left, MOST_ELEMENTS))
        if left >= 0:
            self._held_left -= min(self._held_left, MOST_ELEMENTS) - left
            return self._bound(value, False)
        if isinstance(value, ModuleType):
            return name_of(value)
        if self._held_left > 0 and is_looked_into(value):
            self._held_left -= 1 if type(value) not in SEQUENCES | MAPPINGS else len(value)
            return self._held(value, depth)
        return type(value).__qualname__

    def _object(self, value: Any) -> Any:
        """An object of the user's: what its class does, and what it holds, which comes last of all."""
        return ["object", self._part(type(value), False), self._holder(value)]

    def _alias(self, value: Any, depth: int) -> Any:
        """A type with arguments (`list[int]`, `int | None`, `Annotated[int, 3]`), or what such arguments are."""
        found = [type(value).__name__, getattr(value, "__name__", "")]
        if hasattr(type(value), "__value__"):
            # `type Json = dict[str, Json] | ...`: one that has a name may be made of itself.
            number = next((number for number, each in enumerate(self._aliases) if each is value), None)
            if number is not None:
                return ["alias", number]
            self._aliases.append(value)
        self._held_left -= 1
        if depth < MOST_DEPTH and self._held_left > 0:
            for name in ("__origin__", "__args__", "__metadata__", "__supertype__", "__forward_arg__", "__value__"):
                try:
                    part = getattr(value, name)
                except Exception:  # Python 3.12 and later evaluates some of them here
                    continue
                parts = part if isinstance(part, tuple) else (part,)
                found.append([name, *(self._argument(each, depth) for each in parts)])
        return found

    def _argument(self, value: Any, depth: int) -> Any:
        kept = is_constant(value) or not is_looked_into(value)
        return self._bound(value, False) if kept else self._held(value, depth)

    def _holder(self, value: Any) -> int | None:
        """The number of an object or a function that may have attributes; None: there are too many."""
        number = self._holder_numbers.get(id(value))
        if number is None:
            if len(self._holders) >= MOST_PARTS:
                return None
            number = self._holder_numbers[id(value)] = len(self._holders)
            self._holders.append((value, attributes_of(value)))
        return number

    def _tell(self, places: list[tuple[tuple[int, str], Any]], held: dict[tuple[int, str], Any]) -> list[Any]:
        """Adds the attributes that count, as far as code is known by now; returns the other ones."""
        left = []
        for place, value in places:
            if self._counts(self._holders[place[0]][0], place[1], value):
                held[place] = self._state(value)
            else:
                left.append((place, value))
        return left

    def _counts(self, holder: Any, name: str, value: Any) -> bool:
        if type(value) in _CHANGEABLE and not _CACHES.isdisjoint(name.lower().split("_")):
            return False
        if is_constant(value) and not self._keeps(name, value):
            return False
        seen, read, counted = self._used.get(name, (0, False, False))
        codes = self._codes.get(name, ())
        for code in codes[seen:]:
            if id(code) not in self._used_in:
                self._used_in[id(code)] = attributes_used(code)
            reads, counts = self._used_in[id(code)]
            read, counted = read or name in reads, counted or name in counts
        self._used[name] = len(codes), read, counted
        # Of an object all counts, for it may be read by what is not looked into: `vars(x)`, a base in a library.
        return read or not (counted or isinstance(holder, FUNCTIONS))


def code_facts(code: CodeType) -> Any:
    """What compiled code does: without its file and its lines. Functions in it are looked into."""
    return [
        code.co_code,
        [code_facts(each) if isinstance(each, CodeType) else each for each in code.co_consts],
        code.co_names,
        code.co_varnames,
        code.co_freevars,
        code.co_cellvars,
        getattr(code, "co_exceptiontable", b""),
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags),
    ]


def _names(code: CodeType) -> Iterator[str]:
    """Names that code has from outside: those of globals and attributes."""
    for each in _codes(code):
        yield from each.co_names


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
