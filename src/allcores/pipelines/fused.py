"""Neighbouring steps as one function: what a worker calls for each record of a stage.

Its source is written for the steps at hand and compiled where it runs, one line for each call, so that three maps cost
three calls and nothing else. Which step has raised is read from the line in the traceback: no cost on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from allcores.pipelines.copies import copied_parts
from allcores.pipelines.steps import MANY
from allcores.system import main_module
from allcores.system.tracebacks import HERE
from allcores.transport.exceptions import TRACEBACK, add_note
from allcores.transport.refilled_items import as_pulled

#: the name of its file in tracebacks, which leave out files of ours
FILE = HERE + "pipelines/fused-steps"


class FusedStep:
    """One step, as workers get it.

    Args:
        kind: See `WorkerStep`.
        function: The program's; None for "unbatch".
        text: For messages.
        loaded: Place of its first argument among what was preloaded; None if it has none.
    """

    __slots__ = ("function", "kind", "loaded", "text")

    def __init__(self, kind: str, function: Callable[..., Any] | None, text: str, loaded: int | None) -> None:
        self.kind = kind
        self.function = function
        self.text = text
        self.loaded = loaded


class Fused:
    """A stage's function. Pickled, it becomes the compiled function itself."""

    def __init__(self, steps: Sequence[FusedStep], *, name: str, with_loaded: bool, copies: bool = False) -> None:
        """Fuse.

        Args:
            steps: At least one.
            name: Of the stage.
            with_loaded: The function gets what was preloaded before the record.
            copies: It gets a copy of the record, of which others have parts, too.
        """
        self.steps = tuple(steps)
        self.with_loaded = with_loaded
        self.copies = copies
        self.__qualname__ = self.__name__ = name
        #: the compiled function
        self.function = compiled(self.steps, with_loaded, name, copies=copies)

    @property
    def gives_lists(self) -> bool:
        """Whether its value is the list of the records that follow, and not the one record."""
        return gives_lists(self.steps)

    def __call__(self, *arguments: Any) -> Any:
        """Run the steps on a record."""
        return self.function(*arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return compiled, (self.steps, self.with_loaded, self.__name__, True, self.copies)


def gives_lists(steps: Sequence[FusedStep]) -> bool:
    """Whether not each record becomes exactly one."""
    return any(step.kind != "map" for step in steps)


def source_text(steps: Sequence[FusedStep], *, with_loaded: bool, copies: bool = False) -> tuple[str, dict[int, int]]:
    """The function's source, and which step each of its lines is of.

    Args:
        steps: At least one.
        with_loaded: The function gets what was preloaded before the record.
        copies: See `Fused`.
    """
    many = gives_lists(steps)
    lines = [f"def fused({'loaded, ' if with_loaded else ''}value):", "    try:"]
    places: dict[int, int] = {}
    indent = " " * 8
    if copies:
        lines.append(f"{indent}value = copied_parts(value)")
    if many:
        lines.append(f"{indent}out = []")
    for number, step in enumerate(steps):
        call = f"f{number}(value)"
        if step.loaded is not None:
            here = f"loaded[{step.loaded}]"
            call = f"(f{number}(value) if {here} is None else f{number}({here}, value))"
        last = number == len(steps) - 1
        if step.kind == "map":
            if last and not many:
                line = f"return {call}"
            elif last:
                line = f"out.append({call})"
            else:
                line = f"value = {call}"
        elif step.kind == "filter":
            line = f"if {call}:"
        else:
            over = "value" if step.kind == "unbatch" else call
            line = f"out.extend(as_pulled({over}))" if last else f"for value in as_pulled({over}):"
        lines.append(indent + line)
        places[len(lines)] = number
        if step.kind == "filter" or (step.kind in MANY and not last):
            indent += "    "
            if last:
                lines.append(f"{indent}out.append(value)")
    if many:
        lines.append("        return out")
    lines += ["    except BaseException as error:", "        name_step(error)", "        raise"]
    return "\n".join(lines) + "\n", places


def compiled(
    steps: Sequence[FusedStep], with_loaded: bool, name: str, travels: bool = False, copies: bool = False
) -> Callable[..., Any]:
    """The function of several steps, by the name of their stage.

    Args:
        steps: At least one.
        with_loaded: The function gets what was preloaded before the record.
        name: Of the stage.
        travels: What it gives is pickled, once all of it is there.
        copies: See `Fused`.
    """
    text, places = source_text(steps, with_loaded=with_loaded, copies=copies)
    texts = [step.text for step in steps]

    def name_step(error: BaseException) -> None:
        trace = TRACEBACK.__get__(error)
        if trace is not None and len(texts) > 1 and trace.tb_lineno in places:
            add_note(error, f"allcores: raised by {texts[places[trace.tb_lineno]]}")

    names: dict[str, Any] = {f"f{number}": step.function for number, step in enumerate(steps)}
    names["name_step"] = name_step
    names["copied_parts"] = copied_parts
    names["as_pulled"] = as_pulled if travels else iter
    # As if it stood in the module of the program's functions: by that a worker finds globals that these change in vain.
    names.update(_module_of([step.function for step in steps if step.function is not None]))
    exec(compile(text, FILE, "exec"), names)
    function: Callable[..., Any] = names["fused"]
    function.__qualname__ = name
    return function


def _module_of(functions: list[Callable[..., Any]]) -> dict[str, Any]:
    """Name and file of the module that is the program's own, if one is: the script, else the first that has a file."""
    modules = [
        {key: function.__globals__.get(key) for key in ("__name__", "__file__")}
        for function in functions
        if isinstance(function, FunctionType)
    ]
    script = [module for module in modules if module["__name__"] in main_module.NAMES]
    return (script or modules or [{"__name__": __name__, "__file__": None}])[0]


def load_all(*loaders: tuple[Callable[..., Any], tuple[Any, ...]]) -> tuple[Any, ...]:
    """What the steps of a pool want to have loaded, in order: the `preload` of that pool."""
    return tuple(load(*arguments) for load, arguments in loaders)
