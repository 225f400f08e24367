"""The steps that a pipeline is made of, as its methods note them; each option is looked at here, once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from allcores.errors import NotSupported, UsageError
from allcores.limits import Retry, check_chunk, check_timeout, check_workers, whole
from allcores.pipelines.operators import Operator
from allcores.system.async_functions import check_not_async
from allcores.system.plain_record import record

#: where a step's function runs
On = Literal["processes", "threads", "interpreters", "serial"] | str
#: backends whose workers are nodes of a cluster
ON_CLUSTERS = ("dask", "ray")
#: what becomes of a record that fails: a function gives another one in its place
OnError = Literal["raise", "skip", "record"] | Callable[[Any, BaseException], Any]

ON = ("processes", "threads", "interpreters", "serial")
#: backends whose tasks cannot be ended
ENDLESS = ("threads", "interpreters", "serial")
ON_ERROR = ("raise", "skip", "record")
#: steps of workers that make any number of records of one
MANY = ("flat_map", "unbatch")


@record
class StageOptions:
    """What steps must have in common to be one stage. Their meaning: see `Pipeline.map`."""

    on: On | None = None
    workers: int | None = None
    timeout: float | None = None
    retries: int | Retry = 0
    on_error: OnError = "raise"
    chunk: int | None = None


@record
class WorkerStep:
    """A function that workers call: `map`, `filter` or `flat_map`.

    Attributes:
        kind: Which of them, or "unbatch": each record is the list of those that follow.
        function: The program's.
        name: For messages and reports.
        options: None: whatever those of the step before are.
        preload: What loads the function's first argument, if anything does; and its arguments.
        fuse: It may be one task with the step before.
    """

    kind: Literal["map", "filter", "flat_map", "unbatch"]
    function: Callable[..., Any] | None
    name: str
    options: StageOptions | None
    preload: Callable[..., Any] | None = None
    preload_args: tuple[Any, ...] = ()
    fuse: bool = True

    @property
    def text(self) -> str:
        """The step as `explain` shows it."""
        return f"{self.kind}({self.name})" if self.function is not None else f"{self.kind}()"

    @property
    def replaces(self) -> bool:
        """A function gives what goes on in the place of a record that fails: to the steps behind this one."""
        return self.options is not None and callable(self.options.on_error)


@record
class InlineStep:
    """A step that the program takes itself, record by record in order.

    Attributes:
        kind: The method's name.
        text: The step as `explain` shows it.
        make: Makes the operator, anew for each run.
        arguments: What makes it the same step in another run.
        groups: Its records are lists, or pairs with one.
    """

    kind: str
    text: str
    make: Callable[[], Operator]
    arguments: tuple[Any, ...] = ()
    groups: bool = False


@record
class TeeStep:
    """Copies of the records go into sides, each of which ends with `write`."""

    sides: tuple[tuple[Step, ...], ...]

    @property
    def text(self) -> str:
        """The step as `explain` shows it."""
        return "tee(1 side)" if len(self.sides) == 1 else f"tee({len(self.sides)} sides)"


@record
class WriteStep:
    """The end: records are rows of an output."""

    sink: Any

    @property
    def text(self) -> str:
        """The step as `explain` shows it."""
        return f"write({getattr(self.sink, 'path', self.sink)})"


Step = WorkerStep | InlineStep | TeeStep | WriteStep


def worker_step(
    kind: Literal["map", "filter", "flat_map"],
    function: Any,
    *,
    name: str | None,
    on: Any,
    workers: int | None,
    preload: Callable[..., Any] | None,
    preload_args: Iterable[Any],
    timeout: float | None,
    retries: int | Retry,
    on_error: Any,
    chunk: int | None,
    fuse: bool,
) -> WorkerStep:
    """A step with its options, checked. Raises UsageError."""
    if not callable(function):
        raise UsageError(f"{kind}({function!r}): that cannot be called; the first argument is the function.")
    check_not_async(function, kind)
    called = name_of(function) if name is None else name
    if not isinstance(called, str) or not called:
        raise UsageError(f"{kind}(name={name!r}): the name of a step is a text.")
    what = f"{kind}({called})"
    if on is not None and on not in ON:
        raise UsageError(f"{what}: on={on!r} must be 'processes', 'threads', 'interpreters' or 'serial'.")
    if workers is not None:
        workers = check_workers(workers)
    if not isinstance(fuse, bool):
        raise UsageError(f"{what}: fuse={fuse!r} must be True or False.")
    if not (on_error in ON_ERROR if isinstance(on_error, str) else callable(on_error)):
        raise UsageError(
            f"{what}: on_error={on_error!r} must be 'raise', 'skip', 'record', or a function of record and error that "
            "gives the record to go on with."
        )
    check_not_async(on_error, f"{what}: on_error")
    if preload is not None and not callable(preload):
        raise UsageError(f"{what}: preload={preload!r} cannot be called; it is the function that loads.")
    check_not_async(preload, f"{what}: preload")
    if isinstance(preload_args, (str, bytes)):
        raise UsageError(f"{what}: preload_args={preload_args!r} is one argument; give a list: [{preload_args!r}].")
    try:
        arguments = tuple(preload_args)
    except TypeError:
        sentence = (
            f"{what}: preload_args={preload_args!r} must be a list of the arguments of preload: [{preload_args!r}]."
        )
        raise UsageError(sentence) from None
    if arguments and preload is None:
        raise UsageError(
            f"{what}: preload_args={arguments!r} are for a function that is not there: give preload=, too."
        )
    timeout = check_timeout(timeout)
    if timeout is not None and on in ENDLESS:
        raise NotSupported(f"{what}: timeout={timeout:g} needs on='processes': a task of on={on!r} cannot be ended.")
    retries = whole(retries)
    Retry.of(retries)
    options = StageOptions(on, workers, timeout, retries, on_error, check_chunk(chunk))
    return WorkerStep(kind, function, called, options, preload, arguments, fuse)


def name_of(function: Any) -> str:
    """What a function is called, as people know it."""
    while not hasattr(function, "__name__") and hasattr(function, "func"):
        function = function.func  # of functools.partial
    return str(getattr(function, "__name__", type(function).__name__))


def one_line(steps: Iterable[Step]) -> str:
    """Steps as a program may have them."""
    return "".join(f".{step.text}" for step in steps)
