"""Arguments of `map` and its like as one function of one item: several inputs, constants, words that are not ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any

from allcores.errors import UnknownOption, UsageError
from allcores.system.async_functions import check_function
from allcores.system.inspecting import inspected
from allcores.system.option_words import OTHER_WORDS, WORDS_FOR_WORKERS, close_to

#: options of the methods that a pool does not have
_OF_METHODS = ("timeout", "retries", "chunk", "batch", "cache", "on_error", "progress")

#: what keyword arguments bind
_BY_NAME = ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")


def advice(word: str, value: object, options: tuple[str, ...]) -> str:
    """What to write in the place of a word that is no option; empty if nothing is like it."""
    if word in WORDS_FOR_WORKERS and isinstance(value, int) and value < 0:
        less = f"allcores.core_budget().workers - {-1 - value}" if value < -1 else "None, the default, for all cores"
        return f"the word is workers, and what {word}={value} asks for is workers={less}"
    if word in OTHER_WORDS:
        return OTHER_WORDS[word]
    from allcores.pool import pool_options

    if word in options_of(pool_options.checked):
        return f"it is an option of the pool: allcores.Pool({word}=...), or allcores.configure({word}=...)"
    if word == "ordered":
        return "outcomes() and aimap() have it; results as they are finished are what imap_unordered() gives"
    if word in _OF_METHODS:
        return f"it is an option of each map: pool.map(..., {word}=...)"
    return close_to(word, options)


def options_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The options that a function has, by their names."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    # The initial value of `reduce` may also be given by its place.
    return tuple(each.name for each in parameters if each.kind is each.KEYWORD_ONLY or each.name == "initial")


def refuse(method: Callable[..., Any], unknown: dict[str, Any]) -> None:
    """Keyword arguments that are no options of `method`.

    Raises:
        UnknownOption: If there are any; it says what to write instead.
    """
    for word, value in unknown.items():
        options = (*options_of(method), "workers")
        known = advice(word, value, options) or f"options are {', '.join(dict.fromkeys(options))}"
        raise UnknownOption(f"{_name(method)}() has no option {word!r}: {known}.")


def combined(
    method: Callable[..., Any],
    fn: Callable[..., Any],
    style: str,
    items: Any,
    more: tuple[Any, ...],
    constants: dict[str, Any],
    *,
    has_state: bool = False,
) -> tuple[Callable[..., Any], str, Any]:
    """One function and one input, from several inputs and constants.

    Args:
        method: The method that was called.
        fn: Its function.
        style: How it is called: "one" for fn(item), "star" for fn(*item).
        items: The first input.
        more: Further inputs.
        constants: Keyword arguments for the function. They travel with it, once for each worker.
        has_state: Something of the pool's may be the function's first argument.

    Returns:
        Function, style and input. Items of several inputs are tuples.

    Raises:
        UnknownOption: The function takes no argument of that name.
        UsageError: An argument gets both a constant and the items.
    """
    check_function(fn)
    if constants:
        _check(method, fn, constants, None if has_state or style == "star" else 1 + len(more))
        fn = partial(fn, **constants)
    if more:
        return fn, "star", _zipped((items, *more))
    return fn, style, items


def _check(method: Callable[..., Any], fn: Callable[..., Any], constants: dict[str, Any], taken: int | None) -> None:
    """Raise unless the function takes these keyword arguments; `taken`: arguments that items are given to."""
    import inspect

    try:
        parameters = list(inspected(inspect.signature, fn).parameters.values())
    except (TypeError, ValueError):
        # Nothing is known of it: what looks like an option is one.
        parameters = None
    options = options_of(method)
    for word, value in constants.items():
        if parameters is None:
            meant = advice(word, value, options)
            if meant:
                raise UnknownOption(
                    f"{_name(method)}() has no option {word!r}: {meant}. (Is it for {_name(fn)}()? Then give "
                    f"functools.partial({_name(fn)}, {word}=...) as the function.)"
                )
            continue
        mine = next((each for each in parameters if each.name == word and each.kind.name in _BY_NAME), None)
        if mine is None and not any(each.kind is each.VAR_KEYWORD for each in parameters):
            meant = advice(word, value, options) or f"options are {', '.join(options)}"
            raise UnknownOption(
                f"{_name(method)}() has no option {word!r}, and {_name(fn)}() takes no argument of that name: {meant}."
            )
        if mine is not None and taken is not None and mine in parameters[:taken] and mine.kind is not mine.KEYWORD_ONLY:
            raise UsageError(
                f"{word}=... is a constant for {_name(fn)}(), whose argument {word!r} is what each item is given to; "
                "a constant can be any other argument, or write a function that calls it as it should be."
            )


def _name(function: Any) -> str:
    while isinstance(function, partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _zipped(inputs: tuple[Any, ...]) -> Any:
    return AsyncZip(inputs) if any(hasattr(each, "__aiter__") for each in inputs) else Zip(inputs)


class Zip:
    """Several inputs as one of tuples, as long as the shortest. It has a length where each of them has."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._inputs = inputs

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        __tracebackhide__ = True
        return zip(*self._inputs, strict=False)

    def __len__(self) -> int:
        return min(map(len, self._inputs))


class AsyncZip:
    """The same where some of the inputs are read with `async for`."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self._iterators = [each.__aiter__() if hasattr(each, "__aiter__") else _in_turn(iter(each)) for each in inputs]

    def __aiter__(self) -> AsyncZip:
        return self

    async def __anext__(self) -> tuple[Any, ...]:
        # The first that ends raises StopAsyncIteration, which is the end of all.
        return tuple([await each.__anext__() for each in self._iterators])


async def _in_turn(values: Iterator[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value
