"""Tasks of `joblib.Parallel` as they travel, and what a worker does with them. Light: each worker imports it.

Tasks are pickled here and not by the pool, since joblib has ways of its own for some types: see `joblib_arrays`.
"""

from __future__ import annotations

import os
import pickle
import sys

from allcores.transport import pickling
from allcores.transport.exceptions import add_note

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    #: a function, its arguments by place and by name
    Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Packed:
    """Something pickled, with its large parts beside it: these travel through shared memory.

    Attributes:
        data: The pickle.
        buffers: What of it lies elsewhere.
    """

    __slots__ = ("buffers", "data")

    def __init__(self, data: bytes, buffers: Sequence[Any]) -> None:
        self.data = data
        self.buffers = buffers

    @classmethod
    def of(cls, value: object, own: Mapping[Any, Any] | None = None, *, to_parent: bool = False) -> Packed:
        """Pack a value. Raises whatever pickling raises."""
        buffers: list[pickle.PickleBuffer] = []
        data = pickling.dumps(value, buffers.append, buffers.clear, to_parent=to_parent, own=own)  # type: ignore[arg-type]
        return cls(data, buffers)

    def load(self) -> Any:
        """The value."""
        return pickle.loads(self.data, buffers=self.buffers)

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.data) + sum(memoryview(each).nbytes for each in self.buffers)

    def __reduce__(self) -> tuple[Any, ...]:
        return Packed, (self.data, [pickle.PickleBuffer(each) for each in self.buffers])


class Prepare:
    """A worker's first step: variables that libraries read when they are imported, then the program's initializer.

    Args:
        variables: Of the environment.
        initializer: Of the program, and its arguments.
    """

    def __init__(
        self, variables: Mapping[str, str], initializer: Callable[..., Any] | None, arguments: tuple[Any, ...]
    ) -> None:
        self.variables = variables
        # Pickled apart: to unpickle it may import libraries that read the variables.
        self.initializer = None if initializer is None else Packed.of((initializer, arguments))

    def __call__(self) -> None:
        """In the worker."""
        _kept_variables.update(self.variables)
        _keep_variables()
        if self.initializer is not None:
            initializer, arguments = self.initializer.load()
            initializer(*arguments)


#: of this worker's environment
_kept_variables: dict[str, str] = {}


def _keep_variables() -> None:
    """Set what is kept again: workers follow the program's environment, and that may have changed since they began."""
    for name, value in _kept_variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


class Around:
    """What a worker is to have around the tasks of a call.

    Args:
        first: The first task's number in the call.
        sklearn: The configuration of scikit-learn; None where it is as it comes.
    """

    __slots__ = ("first", "sklearn")

    def __init__(self, first: int, sklearn: dict[str, Any] | None) -> None:
        self.first = first
        self.sklearn = sklearn

    def __reduce__(self) -> tuple[Any, ...]:
        return Around, (self.first, self.sklearn)


#: Tasks from which on it pays to look whether they are alike.
FEW_TASKS = 4


def packable(tasks: list[Task]) -> tuple[Any, ...]:
    """Tasks as they travel: calls of one function by columns of arguments, a fraction of the work to pickle.

    Returns:
        The function and the columns; for tasks that are not alike, None and the tasks.
    """
    function, arguments, _ = tasks[0]
    width = len(arguments)
    if len(tasks) > FEW_TASKS and width:
        if width == 1:
            # In one go: packing is most of what a call of a tiny function costs.
            try:
                column = [argument for each, (argument,), keywords in tasks if each is function and not keywords]
            except ValueError:  # others have more arguments, or none
                return None, tasks
            return (function, [column]) if len(column) == len(tasks) else (None, tasks)
        rows = [row for each, row, keywords in tasks if each is function and not keywords]
        if len(rows) == len(tasks) and set(map(len, rows)) == {width}:
            # Not by zip(*rows), which makes an iterator for each of them.
            return function, [[row[place] for row in rows] for place in range(width)]
    return None, tasks


def run(packed: Packed, around: Around) -> Packed:
    """Run tasks in a worker.

    Args:
        packed: The tasks, and a context manager in which they run.
        around: What else they are to find.

    Returns:
        Packed: what they returned, in order, and the seconds that they took.
    """
    from time import perf_counter

    began = perf_counter()
    _keep_variables()
    (function, tasks), nested = packed.load()
    if around.sklearn is not None or "sklearn" in sys.modules:
        configure_sklearn(around.sklearn)
    results: list[Any] = []
    try:
        with nested:
            if function is None:
                for each, arguments, keywords in tasks:
                    results.append(each(*arguments, **keywords))
            elif len(tasks) == 1:
                for argument in tasks[0]:
                    results.append(function(argument))
            else:
                for arguments in zip(*tasks, strict=True):
                    results.append(function(*arguments))
    except BaseException as error:
        if function is not None or len(tasks) > 1:
            add_note(error, f"allcores: it was task {around.first + len(results)} of the call of Parallel")
        raise
    return Packed.of((results, perf_counter() - began), ways_back(), to_parent=True)


def ways_back() -> Mapping[Any, Any] | None:
    """How results are pickled: see `joblib_arrays.WAYS_BACK`."""
    if "numpy" not in sys.modules:
        return None
    from allcores.adapters import joblib_arrays

    return joblib_arrays.WAYS_BACK


def configure_sklearn(configuration: dict[str, Any] | None) -> None:
    """Have scikit-learn as the program has it; None: as it comes."""
    import importlib

    global _first_configuration
    sklearn = importlib.import_module("sklearn")
    if _first_configuration is None:
        _first_configuration = sklearn.get_config()
    wanted = _first_configuration if configuration is None else configuration
    if sklearn.get_config() != wanted:
        sklearn.set_config(**wanted)


_first_configuration: dict[str, Any] | None = None
