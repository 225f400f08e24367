"""Is it the same work? What a run was made of, as plain JSON, and what is different now, in sentences."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
from collections.abc import Callable, Iterable
from types import FunctionType, MethodType
from typing import Any

from allcores.sinks.destination import files_read
from allcores.sinks.directory import FolderOfFiles
from allcores.sinks.many_rows import is_many
from allcores.sources.chain import facts_of, parts_of
from allcores.sources.digest import item_digest
from allcores.system import main_module
from allcores.system.inspecting import inspected
from allcores.system.object_state import LRU_CACHE, attributes, held_around

#: characters of an argument that are shown as they are
_STATED = 200


def fingerprint_of_function(function: Callable[..., Any] | None) -> dict[str, Any] | None:
    """Module, qualified name and a hash of the source (without one: of the compiled code).

    Of a partial: also its arguments. Of an object that can be called: its class, and its state. What the
    function calls is not looked into.
    """
    if function is None:
        return None
    if isinstance(function, functools.partial):
        inner = fingerprint_of_function(function.func) or {}
        given: list[Any] = [list(map(_state, function.args)), {k: _state(v) for k, v in function.keywords.items()}]
        bound = item_digest([*given, inner["bound"]] if "bound" in inner else given)
        return {**inner, "bound": bound.hex()}
    named = inspect.unwrap(function) if hasattr(function, "__wrapped__") else function
    described = {}
    if named is not function and not isinstance(function, (FunctionType, MethodType, LRU_CACHE)):
        # A decorator that is an object: what it holds besides the function.
        held = {name: _state(each) for name, each in held_around(function).items()}
        described["around"] = item_digest([_source_hash(type(function)), held]).hex()
    if not hasattr(named, "__qualname__"):
        described["bound"] = item_digest(_state(attributes(named) or None)).hex()
        named = type(named)
    elif inspect.ismethod(named):
        described["bound"] = item_digest(_state(attributes(named.__self__) or None)).hex()
    elif closure := getattr(named, "__closure__", None):
        described["bound"] = item_digest([_state(_content(cell)) for cell in closure]).hex()
    return {
        "module": _module(named),
        "name": getattr(named, "__qualname__", repr(named)),
        "source": _source_hash(named),
        **described,
    }


def fingerprint_of_source(source: Iterable[Any]) -> dict[str, Any]:
    """What kind of input, and its names; and the files that it reads, where these do not tell."""
    parts = [_part(part) for part in parts_of(source)]
    found: dict[str, Any] = {"parts": parts, "facts": facts_of(source)}
    told = {part.get("path") for part in parts}
    if files := [path for path in files_read(source) if path not in told]:
        found["files"] = files
    return found


def differences(before: dict[str, Any], now: dict[str, Any], *, keyed: bool) -> list[str]:
    """What is not as it was, a sentence each; the content of the input apart, which `feed` looks at."""
    found = list(_of_function("function", before.get("function"), now.get("function")))
    found += _of_function("setup function", before.get("setup"), now.get("setup"))
    found += _of_function("preload function", before.get("preload"), now.get("preload"))
    found += _of_steps(before.get("pipeline"), now.get("pipeline"))
    old, new = before.get("options") or {}, now.get("options") or {}
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            found.append(f"the option {name} was {old.get(name)!r} and is {new.get(name)!r}")
    if before.get("sink") != now.get("sink"):
        found.append(f"the output was {_words(before.get('sink'))} and is {_words(now.get('sink'))}")
    if before["source"]["parts"] != now["source"]["parts"] and not keyed:
        was = ", ".join(map(_words, before["source"]["parts"]))
        found.append(f"the input was {was} and is {', '.join(map(_words, now['source']['parts']))}")
    return found


def are_kept_alike(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether outcomes of two works are kept in one form, so that those of both can be published together.

    It is JSON, or the content of a file; and one for each item, or any number of rows.
    """
    old, new = _forms(before.get("sink") or {}), _forms(now.get("sink") or {})
    return all(old[part] == new[part] for part in old.keys() & new.keys())


def leaves_out_less(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether bad records of an input were left out, and have no index, that are to end the run now."""
    skipped, still = (
        any(part.get("bad_records") == "skip" for part in each["source"]["parts"]) for each in (before, now)
    )
    return skipped and not still


def _forms(sink: dict[str, Any]) -> dict[str, bool]:
    if not sink:
        return {}
    sides = {name: side for name, side in sink.items() if isinstance(side, dict)}
    files = {name: each.get("kind") == FolderOfFiles.__name__ for name, each in ({"": sink} | sides).items()}
    return files | {"many": is_many(sink)}


def _of_steps(before: dict[str, Any] | None, now: dict[str, Any] | None) -> Iterable[str]:
    """What is not as it was in a pipeline, by the place of each step."""
    if before is None or now is None:
        if before is not now:
            yield f"it was {'no' if before is None else 'a'} pipeline, and is {'one' if now else 'none'}"
        return
    old = {step["where"]: step for step in before["steps"]}
    new = {step["where"]: step for step in now["steps"]}
    for where in dict.fromkeys((*old, *new)):
        was, there = old.get(where), new.get(where)
        if was is None or there is None:
            step, word = (there, "was not there, and is") if was is None else (was, "was")
            assert step is not None
            yield f"{where} {word} {step['text']}" + (" and is not there" if there is None else "")
        elif was["text"] != there["text"]:
            yield f"{where} was {was['text']} and is {there['text']}"
        elif was != there:
            name = f"{where}, {there['text']}"
            parts = sorted({*was, *there} - {"where", "kind", "text"})
            for part in (each for each in parts if was.get(each) != there.get(each)):
                if part.endswith("function"):
                    yield from (f"{name}: {text}" for text in _of_function(part, was.get(part), there.get(part)))
                else:
                    yield f"{name}: its {part} were {was.get(part)!r} and are {there.get(part)!r}"


def _of_function(what: str, before: dict[str, Any] | None, now: dict[str, Any] | None) -> Iterable[str]:
    if before == now:
        return
    if before is None or now is None:
        yield f"there was {'no' if before is None else 'a'} {what}, and now there is {'one' if now else 'none'}"
        return
    old, new = f"{before['module']}.{before['name']}", f"{now['module']}.{now['name']}"
    if old != new:
        yield f"the {what} was {old} and is {new}"
    elif before["source"] != now["source"]:
        yield f"the source of the {what} {new} has changed"
    else:
        yield f"what is bound to the {what} {new} (arguments, variables around it) has changed"


def _words(part: dict[str, Any] | None) -> str:
    if not part:
        return "nothing"
    run_row = [str(value) for name, value in part.items() if name != "kind" and value is not None]
    return f"{part.get('kind')} {' '.join(run_row)}".strip()


def _part(part: Any) -> dict[str, Any]:
    described = getattr(part, "describe", None)
    if callable(described):
        return {"kind": type(part).__name__, **described()}
    fields = {
        name: getattr(part, name)
        for name in ("path", "pattern", "encoding", "bad_records", "separator")
        if isinstance(getattr(part, name, None), str)
    }
    if not fields:
        return {"kind": "an iterable"}
    columns = getattr(part, "columns", None)
    if isinstance(columns, tuple):
        fields["columns"] = ", ".join(map(str, columns))
    for name in ("path", "pattern"):
        if fields.get(name) not in (None, "-"):
            fields[name] = os.path.abspath(fields[name])
    return {"kind": type(part).__name__, **fields}


def _module(function: Any) -> str:
    name = getattr(function, "__module__", None) or "builtins"
    if name not in main_module.NAMES:
        return str(name)
    # A script is `__main__` when it runs, and known by its file when it is named at the command line.
    main = getattr(inspect.getmodule(function), "__file__", None)
    return os.path.splitext(os.path.basename(main))[0] if main else "__main__"


def _source_hash(function: Any) -> str | None:
    try:
        text = inspected(inspect.getsource, function)
    except (OSError, TypeError, SyntaxError):  # of a file that is being changed, the last
        code = getattr(function, "__code__", None)
        if code is None:
            return None
        return item_digest(_code_facts(code)).hex()
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _code_facts(code: Any) -> Any:
    """What compiled code does, where it lies in files left out; functions in it are looked into."""
    constants = [_code_facts(each) if hasattr(each, "co_code") else each for each in code.co_consts]
    return [code.co_code, constants, code.co_names, code.co_varnames]


def stated(value: Any) -> str:
    """A value in words that are the same in each process: addresses and the order of sets are not."""
    if isinstance(value, (str, bytes, int, float, complex, type(None))) and len(text := repr(value)) <= _STATED:
        return text
    return f"{type(value).__qualname__} {item_digest(_state(value)).hex()[:16]}"


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _state(value: Any) -> Any:
    """`value`, or for what has no fixed bytes (functions, modules) its name."""
    if callable(value) or inspect.ismodule(value):
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
    return value
