"""A library's own way to use all cores, where the function has an object that offers one.

It is looked for in the function itself, in what it is bound to, in its closure and in the globals that its code names.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from allcores.advisor.measuring import loops

#: pairs of the loop and the library's own way, at most; seconds of the loop in one, at least
PAIRS, LEAST_S = 7, 0.1


@dataclass(frozen=True, slots=True)
class Switch:
    """A library's own way.

    Attributes:
        name: As people know it.
        code: What is written in a program whose items are `items`; `{function}` stands for the function's name.
        alone: The same work in a loop, of one item.
        run: The same work in the library's own way, of all items.
        whole: It does all that the function does, and can stand in its place.
    """

    name: str
    code: str
    alone: Callable[[Any], Any]
    run: Callable[[Sequence[Any]], object]
    whole: bool


def find(fn: Callable[[Any], Any], items: Sequence[Any], cores: int) -> Switch | None:
    """The first one that is found; None if there is none, or items are not what it takes.

    Args:
        fn: The function.
        items: Some of its items.
        cores: For the library to use.
    """
    if cores < 2 or not items or not all(type(item) is str for item in items):
        return None
    for found in _objects(fn):
        for module, name, make in _MAKERS:
            # By name: what the function has not loaded is not loaded for this.
            if any(each.__name__ == name and str(each.__module__).startswith(module) for each in type(found).__mro__):
                return make(fn, found, cores)
    return None


def pairs(fn: Callable[[Any], Any], items: list[Any], cores: int, item_s: float, most_s: float) -> list[Any]:
    """Run a library's own way beside the loop. In a worker that has all cores for itself.

    Args:
        fn: The function.
        items: Texts.
        cores: For the library.
        item_s: Seconds that the function takes for an item, about.
        most_s: Seconds for all of it, about.

    Returns:
        Seconds until the library's own way is at work, and pairs of seconds: the loop, the library. Every second pair
        was run in the other order.
    """
    until = perf_counter() + most_s
    switch = find(fn, items, cores)
    assert switch is not None
    switch.alone(items[0])  # what it loads
    start_s = min(_seconds(switch, items[:1]), _seconds(switch, items[:1]))
    block = items[: 1 + int(max(LEAST_S, 2 * start_s) / max(item_s, 1e-9))]
    found: list[tuple[float, float]] = []
    longest = 0.0
    while len(found) < PAIRS and perf_counter() + 1.2 * longest < until:
        began = perf_counter()
        own_s = _seconds(switch, block) if len(found) % 2 else None
        alone_s = loops.loop(switch.alone, block).wall_s
        found.append((alone_s, _seconds(switch, block) if own_s is None else own_s))
        longest = max(longest, perf_counter() - began)
    return [start_s, found]


def _seconds(switch: Switch, items: list[Any]) -> float:
    start = perf_counter()
    switch.run(items)
    return perf_counter() - start


def _spacy(fn: Callable[[Any], Any], nlp: Any, cores: int) -> Switch:
    def run(texts: Sequence[Any]) -> int:
        return sum(1 for _ in nlp.pipe(texts, n_process=cores))

    name, whole = "{function}", fn is nlp
    if not whole:
        name = "nlp"
    return Switch("spaCy's nlp.pipe", f"list({name}.pipe(items, n_process={cores}))", nlp, run, whole)


def _tokenizer(fn: Callable[[Any], Any], tokenizer: Any, cores: int) -> Switch:
    whole = getattr(fn, "__self__", None) is tokenizer and getattr(fn, "__name__", "") == "encode"
    owner = "{function}.__self__" if whole else "tokenizer"
    return Switch(
        "tokenizers' encode_batch", f"{owner}.encode_batch(items)", tokenizer.encode, tokenizer.encode_batch, whole
    )


#: module and name of a class, and what makes a Switch of an object of it
_MAKERS: tuple[tuple[str, str, Callable[[Callable[[Any], Any], Any, int], Switch]], ...] = (
    ("spacy.", "Language", _spacy),
    ("tokenizers", "Tokenizer", _tokenizer),
)


def _objects(fn: Any) -> Iterator[Any]:
    """What the function is, is bound to, and has at hand."""
    yield fn
    if isinstance(fn, functools.partial):
        yield from (*fn.args, *fn.keywords.values())
        fn = fn.func
    bound = getattr(fn, "__self__", None)
    if bound is not None:
        yield bound
    if not inspect.isroutine(fn):
        return
    try:
        fn = inspect.unwrap(fn)
    except ValueError:  # it says that it wraps itself
        return
    code = getattr(fn, "__code__", None)
    if code is None:
        return
    for cell in getattr(fn, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it has nothing yet
            continue
    for name in code.co_names:
        if name in fn.__globals__:
            yield fn.__globals__[name]
