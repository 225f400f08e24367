"""Exceptions on their way to another process: they arrive as what they are, and no `__init__` is called again.

Pickle makes an exception anew by calling its class with `args`. That fails, or makes another exception, wherever a
class has an `__init__` of its own. So the class and its state travel apart: `args`, attributes, slots and the fields of
built-in exceptions (`OSError.errno`), put into an instance that `__new__` of the built-in base has made. Classes that
have a way of their own (`__reduce__`) keep it, as long as it works. What of the state will not travel is left out, with
a note.

All exceptions that hang together (causes, contexts, members of groups, attributes) travel as a list and refer to each
other by their places in it. So none is lost with another one, each arrives once, and circles do no harm.

    worker   pack(error)   -> bytes                                       here
    program  unpack(bytes) -> the exception, with causes and contexts     remote_exceptions
"""

from __future__ import annotations

import copyreg
import io
import pickle
from types import GetSetDescriptorType, MemberDescriptorType
from weakref import WeakKeyDictionary

from allcores.transport import traceback_text
from allcores.transport.pickling import PROTOCOL, SCALARS, dump_linked, dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    #: arguments, attributes, fields by their names
    State = tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]

#: So many exceptions that hang together travel, at most: a loop that tries again without end makes long chains.
MOST_LINKED = 1_000
#: Larger parts of an exception's state are left out, bytes.
LARGEST_PART = 32 * 1024 * 1024
#: ... and texts are cut to so many characters.
LONGEST_TEXT = 100_000
LONGEST_TRACEBACK = 1_000_000
#: what stands for something that cannot travel is no longer than this
LONGEST_STAND_IN = 1_000

#: how a record says what its exception is made of
OWN_WAY, BY_STATE, NOTHING = range(3)

_METHODS = ("__reduce_ex__", "__reduce__", "__setstate__", "__getnewargs_ex__", "__getnewargs__")
_fields_of: WeakKeyDictionary[type, dict[str, tuple[Any, bool]]] = WeakKeyDictionary()

# What `error.__dict__ = ...` and the like do, without code of the class.
_base: Any = vars(BaseException)
ARGS, ATTRIBUTES = _base["args"], _base["__dict__"]
TRACEBACK = _base["__traceback__"]
CAUSE, CONTEXT, SUPPRESS = _base["__cause__"], _base["__context__"], _base["__suppress_context__"]


def set_cause(error: BaseException, cause: BaseException | None) -> None:
    """Set `__cause__`, also of an exception that takes no attributes; `__suppress_context__` stays as it is."""
    suppressed = SUPPRESS.__get__(error)
    CAUSE.__set__(error, cause)
    SUPPRESS.__set__(error, suppressed)


def add_note(error: BaseException, note: str) -> None:
    """`error.add_note(note)`, also of an exception that takes no attributes."""
    attributes = ATTRIBUTES.__get__(error)
    notes = attributes.get("__notes__")
    attributes["__notes__"] = [*notes, note] if isinstance(notes, (list, tuple)) else [note]


def type_name(kind: type[BaseException]) -> str:
    """The name of an exception's type as tracebacks have it."""
    module, name = getattr(kind, "__module__", None), kind.__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def text_of(error: BaseException) -> str:
    """`str(error)`, whatever its `__str__` does."""
    try:
        text = str(error)
    except BaseException as inner:
        return f"<its message could not be formatted: {type(inner).__name__}>"
    return shortened(text, LONGEST_TEXT)


def repr_of(value: Any) -> str:
    """`repr(value)`, whatever its `__repr__` does."""
    try:
        return shortened(repr(value), LONGEST_STAND_IN)
    except BaseException as inner:
        return f"<{type(value).__qualname__}, which could not be shown: {type(inner).__name__}>"


def shortened(text: str, longest: int) -> str:
    """A text without its middle, if it is too long."""
    left_out = len(text) - longest
    return text if left_out <= 0 else f"{text[: longest // 2]} ... ({left_out} characters) ... {text[-longest // 2 :]}"


# --- in the worker --------------------------------------------------------------------------------


def pack(error: BaseException) -> bytes:
    """An exception, and those that hang together with it, as bytes for the parent. Raises nothing but Ctrl-C."""
    packer = _Packer(error)
    return pickle.dumps(list(packer.records()), PROTOCOL)


class _Packer:
    def __init__(self, error: BaseException) -> None:
        self._found = [error]
        self._places = {id(error): 0}

    def records(self) -> Iterator[tuple[Any, ...]]:
        """A record for each exception; those that are found meanwhile follow."""
        for error in self._found:
            kind = type(error)
            cause, context = self._place(CAUSE.__get__(error)), self._place(CONTEXT.__get__(error))
            members: tuple[Any, ...] = ()
            if isinstance(error, BaseExceptionGroup):
                group: Any = BaseExceptionGroup
                places = tuple(self._place(member) for member in group.exceptions.__get__(error))
                members = (group.message.__get__(error), places)
            how, payload, left_out = self._payload(error, kind)
            links = (members, cause, context, SUPPRESS.__get__(error))
            yield how, type_name(kind), text_of(error), payload, left_out, links

    def _place(self, error: BaseException | None) -> int | None:
        if error is None:
            return None
        place = self._places.get(id(error))
        if place is None and len(self._found) < MOST_LINKED:
            place = self._places[id(error)] = len(self._found)
            self._found.append(error)
        return place

    def _link(self, part: Any) -> int | None:
        # By its class: `__class__`, which isinstance asks too, may be anything.
        return self._place(part) if issubclass(type(part), BaseException) else None

    def _payload(self, error: BaseException, kind: type[BaseException]) -> tuple[int, Any, list[str]]:
        if _has_own_way(kind) and (own := _own_way(error, kind)) is not None:
            return OWN_WAY, own, []
        try:
            name = dumps(kind, to_parent=True)
        except KeyboardInterrupt:
            raise
        except BaseException:
            return NOTHING, None, []
        state = _state(error, kind)
        try:
            if (data := self._plain(state) or self._checked(state)) is not None and len(data) <= LARGEST_PART:
                return BY_STATE, (name, data), []
        except KeyboardInterrupt:
            raise
        except BaseException:
            pass
        data, left_out = self._parts(error, state)
        return BY_STATE, (name, data), left_out

    def _plain(self, state: State) -> bytes | None:
        """The state, if it is numbers and texts: there is no code that could fail."""
        args, attributes, fields = state
        for values in (args, attributes.values(), fields.values()):
            if not SCALARS.issuperset(map(type, values)):
                return None
        return pickle.dumps(state, PROTOCOL)

    def _checked(self, state: object) -> bytes:
        """Anything else; what cannot be unpickled is found here, and not by the program."""
        data = dump_linked(state, self._link)
        Linked(data, self._found).load()
        return data

    def _parts(self, error: BaseException, state: State) -> tuple[bytes, list[str]]:
        """What of the state does travel, and what does not, in words."""
        args, attributes, fields = state
        left_out: list[str] = []
        room = LARGEST_PART

        def fits(name: str, part: Any) -> bool:
            nonlocal room
            try:
                size = len(self._checked(part))
            except KeyboardInterrupt:
                raise
            except BaseException as reason:
                left_out.append(f"{name} ({_name_of(type(part))}, {type(reason).__name__})")
                return False
            if size > room:
                # Late: workers start without it.
                from allcores.formatting import size_text

                left_out.append(f"{name} ({_name_of(type(part))}, {size_text(size)})")
                return False
            room -= size
            return True

        kept = tuple(
            arg if fits(f"args[{place}]", arg) else _stand_in(error, arg, alone=len(args) == 1)
            for place, arg in enumerate(args)
        )
        return (
            self._checked(
                (
                    kept,
                    {name: part for name, part in attributes.items() if fits(str(name), part)},
                    {name: part for name, part in fields.items() if fits(name, part)},
                )
            ),
            left_out,
        )


def _has_own_way(kind: type[BaseException]) -> bool:
    """Its class, or a base that is not the interpreter's, says how it is pickled."""
    registered: Any = copyreg.dispatch_table.get(kind)
    if registered is not None and getattr(registered, "__module__", None) not in _FOR_ALL:
        return True
    return any(
        name in vars(base)
        for base in kind.__mro__
        if base.__module__ != "builtins" or base.__flags__ & _HEAP
        for name in _METHODS
    )


#: Modules that register a way for every exception class that there is, which keeps less than ours: `import distributed`
#: does so with tblib, and an exit would lose its code, an OSError what was written.
_FOR_ALL = frozenset(("tblib.pickling_support",))
#: Py_TPFLAGS_HEAPTYPE: a class that was not compiled into the interpreter
_HEAP = 1 << 9


def _own_way(error: BaseException, kind: type[BaseException]) -> tuple[bytes, list[str]] | None:
    """What the class's own way of pickling makes, if that works and is not too large; and its notes."""
    try:
        data = dumps(error, to_parent=True)
        if len(data) > LARGEST_PART:
            return None
        made = type(loads(data))
        if made is not kind and (made.__module__, made.__qualname__) != (kind.__module__, kind.__qualname__):
            return None
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None
    notes = ATTRIBUTES.__get__(error).get("__notes__", ())
    return data, [note for note in notes if type(note) is str] if isinstance(notes, (list, tuple)) else []


def _state(error: BaseException, kind: type[BaseException]) -> State:
    fields = {}
    for name, (descriptor, is_ours) in fields_of(kind).items():
        try:
            value = descriptor.__get__(error)
        except AttributeError:
            continue
        if is_ours or value is not None:
            fields[name] = value
    return ARGS.__get__(error), dict(ATTRIBUTES.__get__(error)), fields


def fields_of(kind: type[BaseException]) -> dict[str, tuple[Any, bool]]:
    """Slots, and fields of built-in exceptions, by their names: how to get and set them, and whether they are slots."""
    found = _fields_of.get(kind)
    if found is None:
        found = _fields_of[kind] = {}
        for base in kind.__mro__:
            built_in = base.__module__ == "builtins" and not base.__flags__ & _HEAP
            if base in (BaseException, BaseExceptionGroup, object):
                continue
            for name, descriptor in vars(base).items():
                # What it was that has no such attribute may be anything, and large; pickle leaves it here, too.
                if name in found or name.startswith("__") or (base is AttributeError and name == "obj"):
                    continue
                if isinstance(descriptor, MemberDescriptorType) or (
                    built_in and isinstance(descriptor, GetSetDescriptorType)
                ):
                    found[name] = descriptor, not built_in
    return found


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _stand_in(error: BaseException, arg: Any, *, alone: bool) -> str:
    """A text for an argument that cannot travel."""
    if alone:
        return shortened(text_of(error), LONGEST_STAND_IN)
    try:
        from reprlib import repr as short_repr

        return shortened(short_repr(arg), LONGEST_STAND_IN)
    except BaseException:
        return f"<{_name_of(type(arg))}>"


class Linked(pickle.Unpickler):
    """Unpickles what `dump_linked` made of state; links lead to exceptions of a list."""

    def __init__(self, data: bytes, found: list[Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._found = found

    def persistent_load(self, place: Any) -> Any:
        """See `pickle.Unpickler`."""
        return self._found[place]


def frames_of(error: BaseException, *spaces: dict[str, Any]) -> int:
    """How many frames at the start of its traceback are of files with these globals.

    They are the worker's own, and say nothing about the function.
    """
    count, trace = 0, TRACEBACK.__get__(error)
    while trace is not None and any(trace.tb_frame.f_globals is each for each in spaces):
        count, trace = count + 1, trace.tb_next
    return count


def pack_error(error: BaseException, *, skip_frames: int = 0) -> tuple[str, str, str, bytes]:
    """A failure of a task as (type name, message, traceback text, bytes of the exception).

    Args:
        skip_frames: So many frames at the beginning of the traceback are none of the function's.
    """
    tb = TRACEBACK.__get__(error)
    for _ in range(skip_frames):
        if tb is not None and tb.tb_next is not None:
            tb = tb.tb_next
    name = type_name(type(error))
    try:
        text = traceback_text.formatted(error, tb)
    except BaseException as inner:  # a __getattribute__ that raises
        import traceback

        text = (
            f"Traceback (most recent call last):\n{''.join(traceback.format_tb(tb))}"
            f"{name} (it could not be formatted: {type(inner).__name__})\n"
        )
    return name, text_of(error), shortened(text, LONGEST_TRACEBACK), pack(error)
