"""Options of pools: each wrong value gets one sentence, from `Pool` and from `configure`, before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import allcores
from allcores import Limits, NotSupported, Pool, SetupError, UsageError
from allcores.pool import default_pool

#: an option's wrong value, and what the sentence says
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"workers": 0}, "workers=0 must be a whole number"),
    ({"workers": True}, "workers=True must be"),
    ({"backend": "thread"}, "backend='thread' is not one of 'processes', 'threads', 'interpreters'"),
    ({"start_method": "forked"}, "start_method='forked' is not one of"),
    ({"start_method": "spawn", "backend": "threads"}, "is for backend='processes', not for 'threads'"),
    ({"limits": {"setup_s": 1}}, "must be a Limits"),
    ({"limits": Limits(memory_per_worker=10**9), "backend": "serial"}, "'serial' has no process to end"),
    ({"preload": "load"}, "preload='load' cannot be called"),
    ({"preload": print, "preload_args": 3}, "preload_args=3 must be a list"),
    ({"preload": print, "preload_args": "abc"}, "is one argument; give a list: ['abc']"),
    ({"preload_args": [1]}, "give preload=, too"),
    ({"preload_modules": "numpy"}, "is one name"),
    ({"preload_modules": 3}, "must be a list of names of modules"),
    ({"preload_modules": ["no_such_module"]}, "there is no module 'no_such_module'"),
    ({"setup": 3}, "setup=3 cannot be called"),
    ({"setup": print, "setup_args": 4}, "setup_args=4 must be a list"),
    ({"setup_args": (4,)}, "give setup=, too"),
    ({"teardown": 5}, "teardown=5 cannot be called"),
    ({"observers": print}, "must be a list of callables"),
    ({"observers": [3]}, "3 cannot be called"),
    ({"logs": "yes"}, "must be True, False or a Logs"),
    ({"logs": allcores.Logs(prints=True), "backend": "threads"}, "prints as this process does"),
    ({"name": 3}, "name=3 must be a text"),
    ({"tuned": "work"}, "tuned='work' must be the function that was tuned"),
    ({"tuned": abs, "workers": 2}, "tuned= and workers=2: tuned= brings workers, backend, chunk and depth"),
    ({"tuned": abs, "backend": "threads"}, "tuned= and backend='threads'"),
    ({"tuned": abs, "limits": Limits(depth=3)}, "tuned= and limits=Limits(depth=3)"),
]


@pytest.fixture(autouse=True)
def settings_as_at_first() -> Iterator[None]:
    yield
    allcores.configure()


@pytest.mark.parametrize("make", [Pool, allcores.configure])
@pytest.mark.parametrize(("options", "says"), WRONG, ids=[says for _, says in WRONG])
def test_a_wrong_value_gets_one_sentence(
    make: Callable[..., Any], options: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is opened for it, and what was configured before still holds."""

    def nothing(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was started")

    allcores.configure(workers=3)
    monkeypatch.setattr("allcores.pool.pool.open_backend", nothing)
    with pytest.raises((UsageError, NotSupported, SetupError)) as caught:
        make(**options)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    monkeypatch.undo()
    assert default_pool.shared().workers == 3
    allcores.close()


def test_arguments_that_are_an_iterator_are_there_for_each_pool() -> None:
    allcores.configure(backend="serial", setup=max, setup_args=iter([3, 5]))
    for _ in range(2):
        assert allcores.map(pow, [2]) == [25]
        allcores.close()
