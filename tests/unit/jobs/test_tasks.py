"""Tasks are registered by a decorator, found by name, and take arguments by their signature."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Optional

import pytest

from allcores.errors import UsageError
from allcores.jobs import ArgumentErrors, Registry, TaskNotFound, UploadedFile, task
from allcores.jobs.tasks import task_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Size:
    width: int
    height: int = 2


@task
def plain(n: int) -> int:
    """Doubles.

    More.
    """
    return 2 * n


@task(name="typed.one", timeout=5, retries=2, backoff=0.5, priority=3, tags=["a", "b"])
def typed(
    n: int,
    x: float = 1.5,
    text: str = "",
    yes: bool = False,
    colour: Colour = Colour.RED,
    mode: Literal["fast", "slow"] = "fast",
    sizes: list[Size] | None = None,
    by_name: dict[str, int] | None = None,
    when: datetime.date | None = None,
    limit: Optional[int] = None,  # noqa: UP045
    any_json: Any = None,
    file: UploadedFile | None = None,
) -> None: ...


@task
def with_job(job, json: int, copy: str = "x"):  # type: ignore[no-untyped-def]
    ...


@task
def with_files(pictures: list[UploadedFile]) -> None: ...


def registry(*functions: Any) -> Registry:
    module = ModuleType("some_tasks")
    for function in functions:
        setattr(module, function.__name__, function)
    return Registry.load(module)


def checked(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    found = task_of(function)
    assert found is not None
    return found.arguments.check(given)


def values(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    found = task_of(function)
    assert found is not None
    return found.arguments.values(found.arguments.check(given))


def errors(function: Any, given: dict[str, Any]) -> dict[str, list[str]]:
    with pytest.raises(ArgumentErrors) as caught:
        checked(function, given)
    return caught.value.fields


def test_a_function_stays_what_it_is() -> None:
    assert plain(3) == 6
    found = task_of(plain)
    assert found is not None and (found.name, found.description, found.takes_job) == ("plain", "Doubles.", False)
    options = task_of(typed)
    assert options is not None
    assert (options.name, options.timeout, options.retries, options.priority, options.tags) == (
        "typed.one", 5, 2, 3, ("a", "b"),
    )  # fmt: skip


def test_only_what_is_registered_is_found() -> None:
    found = registry(plain, typed, checked)
    assert sorted(found) == ["plain", "typed.one"]
    with pytest.raises(TaskNotFound, match="did you mean 'plain'"):
        found["plan"]
    with pytest.raises(TaskNotFound):
        found["os.system"]
    with pytest.raises(UsageError, match="has no task"):
        registry(checked)


def test_two_of_a_name_are_refused() -> None:
    @task(name="plain")
    def other() -> None: ...

    with pytest.raises(UsageError, match="two tasks have the name 'plain'"):
        registry(plain, other)


def test_values_are_made_from_json() -> None:
    given = {
        "n": 2**80, "x": 3, "text": "ü\u202e☃", "yes": True, "colour": "blue", "mode": "slow",
        "sizes": [{"width": 1}], "by_name": {"b": 1, "a": 2}, "when": "2026-03-29", "any_json": {"z": [1, None]},
    }  # fmt: skip
    assert values(typed, given) == {
        "n": 2**80, "x": 3.0, "text": "ü\u202e☃", "yes": True, "colour": Colour.BLUE, "mode": "slow",
        "sizes": [Size(1)], "by_name": {"b": 1, "a": 2}, "when": datetime.date(2026, 3, 29),
        "any_json": {"z": [1, None]},
    }  # fmt: skip
    assert checked(typed, {"n": 1, "colour": Colour.RED, "when": datetime.date(2026, 1, 2), "sizes": [Size(3, 4)]}) == {
        "n": 1, "colour": "red", "when": "2026-01-02", "sizes": [{"width": 3, "height": 4}],
    }  # fmt: skip
    assert list(checked(typed, {"n": 1, "by_name": {"b": 1, "a": 2}})["by_name"]) == ["b", "a"]


def test_what_is_not_given_is_not_stored() -> None:
    assert checked(typed, {"n": 1}) == {"n": 1}
    assert values(typed, {"n": 1}) == {"n": 1}


def test_names_that_models_have_are_names_of_arguments() -> None:
    assert values(with_job, {"json": 4}) == {"json": 4}
    assert errors(with_job, {"job": 1, "json": 1}).keys() == {"job"}


def test_each_argument_has_its_sentence() -> None:
    wrong = errors(typed, {"n": "7", "x": True, "colour": "green", "mode": 1, "sizes": [{"width": "w"}], "more": 1})
    assert wrong.keys() == {"n", "x", "colour", "mode", "sizes.0.width", "more"}
    assert wrong["more"][0].startswith("there is no such argument; the task takes n, x, text")
    assert errors(typed, {}) == {"n": ["it is needed"]}
    assert errors(typed, []).keys() == {""}  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_refused(number: float) -> None:
    assert errors(typed, {"n": 1, "x": number}).keys() == {"x"}
    assert errors(typed, {"n": 1, "any_json": {"deep": [number]}}).keys() == {"any_json.deep.0"}


def test_what_json_cannot_hold_is_refused() -> None:
    assert errors(typed, {"n": 1, "any_json": object()}).keys() == {"any_json"}
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert errors(typed, {"n": 1, "any_json": deep}).keys() == {"any_json"}


def test_what_would_be_lost_is_refused_by_its_place() -> None:
    wrong = errors(typed, {"n": 1, "any_json": {"deep": [{1: "a", "1": "b"}]}})
    assert wrong == {"any_json.deep.0": ["it has the keys 1 and '1', which are both '1' in JSON"]}
    assert errors(typed, {"n": 10**5000}).keys() == {"n"}
    assert errors(typed, {"n": 1, "text": "\udcff"}).keys() == {"text"}
    assert errors(typed, {"n": 1, ("x", 1): 2}) == {"('x', 1)": ["names of arguments are texts"]}  # type: ignore[dict-item]


@dataclasses.dataclass
class Prices:
    by_size: dict[float, float]


@task
def keyed(by_number: dict[int, str], prices: list[Prices] | None = None) -> None: ...


def test_keys_that_become_one_are_refused_by_their_place() -> None:
    assert errors(keyed, {"by_number": {"1": "a", "01": "b", "2": "c"}}) == {
        "by_number": ["its 3 keys are 2 as what the task takes"]
    }
    sizes = {"1.5": 1.0, "15e-1": 2.0}
    assert errors(keyed, {"by_number": {}, "prices": [{"by_size": {}}, {"by_size": sizes}]}) == {
        "prices.1.by_size": ["its 2 keys are 1 as what the task takes"]
    }
    assert values(keyed, {"by_number": {"01": "b", "2": "c"}}) == {"by_number": {1: "b", 2: "c"}}
    with pytest.raises(ArgumentErrors, match="by_number"):
        task_of(keyed).arguments.check_form({"by_number": '{"1": "a", "+1": "b"}'})  # type: ignore[union-attr]


def test_forms_send_texts() -> None:
    found = task_of(typed)
    assert found is not None
    given = {
        "n": "7", "x": "", "yes": "on", "colour": "blue", "mode": "slow", "sizes": '[{"width": 5}]', "by_name": "",
        "when": "2026-01-02", "limit": "", "file": "",
    }  # fmt: skip
    assert found.arguments.check_form(given) == {
        "n": 7, "yes": True, "colour": "blue", "mode": "slow", "sizes": [{"width": 5, "height": 2}],
        "when": "2026-01-02",
    }  # fmt: skip
    with pytest.raises(ArgumentErrors) as caught:
        found.arguments.check_form({"n": "seven"})
    assert caught.value.fields.keys() == {"n"}
    with pytest.raises(ArgumentErrors) as caught:
        found.arguments.check_form({"n": "1", "sizes": "[", "other": "1"})
    assert caught.value.fields.keys() == {"sizes", "other"}


def test_forms_know_what_to_show() -> None:
    found = task_of(typed)
    assert found is not None
    kinds = {each.name: (each.kind, each.required, each.optional) for each in found.arguments.parameters}
    assert kinds == {
        "n": ("integer", True, False), "x": ("number", False, False), "text": ("text", False, False),
        "yes": ("boolean", False, False), "colour": ("choice", False, False), "mode": ("choice", False, False),
        "sizes": ("json", False, True), "by_name": ("json", False, True), "when": ("date", False, True),
        "limit": ("integer", False, True), "any_json": ("json", False, False), "file": ("file", False, True),
    }  # fmt: skip
    by_name = {each.name: each for each in found.arguments.parameters}
    assert by_name["mode"].choices == ("fast", "slow")
    assert by_name["colour"].choices == ("red", "blue") and by_name["colour"].default == "red"
    files = task_of(with_files)
    assert files is not None and files.arguments.parameters[0].kind == "files"


def test_the_schema_is_that_of_an_object() -> None:
    found = task_of(plain)
    assert found is not None
    schema = found.arguments.schema()
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["n"], False)
    assert schema["properties"]["n"]["type"] == "integer"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeout": 0}, "timeout=0"),
        ({"retries": -1}, "retries=-1"),
        ({"retries": True}, "retries=True"),
        ({"backoff": -1}, "backoff=-1"),
        ({"priority": "high"}, "priority='high'"),
        ({"priority": 2**40}, "below|between"),
        ({"retries": 2**40}, "retries=1099511627776"),
        ({"timeout": math.inf}, "timeout=inf"),
        ({"backoff_most": math.inf}, "backoff_most=inf"),
        ({"tags": ["fine", "two\nlines"]}, r"a tag has characters that cannot be printed: 'two\\nlines'"),
        ({"tags": map(str, range(21))}, "21 tags"),
        ({"tags": ["failed-items"]}, "task '.*': the tag 'failed-items' is that of jobs"),
        ({"name": "no name"}, "is no name of a task"),
        ({"catch_up": "some"}, "catch_up='some'"),
        ({"schedule": "* * * *"}, "is no cron text"),
        ({"schedule": "* * * * *", "timezone": "Mars/Olympus"}, "there is no time zone"),
        ({"schedule": "*/10 * * * * *"}, r"is no cron text \(this has 6 parts\); it has five parts: minute"),
        ({"schedule": 5}, "schedule=5 is no cron text"),
        ({"schedule": "0 0 */31 2 1#2"}, "never comes"),
        ({"schedule": "9" * 5_000 + " 0 * * *"}, "is no cron text"),
        ({"schedule": "* * * * *", "timezone": 5}, "there is no time zone 5"),
        ({"schedule": "* * * * *", "timezone": "x" * 5_000}, "there is no time zone 'xxx"),
        ({"schedule": "* * * * *", "timezone": "America"}, "there is no time zone 'America'"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        task(**options)(lambda_like)


def lambda_like(n: int = 0) -> None: ...


def test_async_functions_are_refused_where_they_are_written() -> None:
    """Calling one runs nothing: each of its jobs would fail."""

    async def waits(n: int) -> int:
        return n

    async def gives(n: int) -> AsyncIterator[int]:
        yield n

    for target in (waits, gives):
        with pytest.raises(UsageError, match="is async, and would never run"):
            task(target)


def test_signatures_that_cannot_be_given_by_name() -> None:
    with pytest.raises(UsageError, match="by name"):

        @task
        def several(*numbers: int) -> None: ...

    with pytest.raises(UsageError, match="each argument needs a default: n"):

        @task(schedule="* * * * *")
        def scheduled(n: int) -> None: ...

    @task
    def odd(n: ModuleType) -> None: ...

    with pytest.raises(UsageError, match="cannot be made from JSON"):
        registry(odd)


def test_a_file_is_loaded_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "tasks_of_this_test.py").write_text(
        "from allcores.jobs import task\n\n\n@task\ndef f(n: int = 1) -> int:\n    return n\n"
    )
    found = Registry.load(str(tmp_path / "tasks_of_this_test.py"))
    assert list(found) == ["f"] and found.places == (str(tmp_path / "tasks_of_this_test.py"),)
    sys.modules.pop("tasks_of_this_test")
    for place, sentence in (
        (str(tmp_path / "none.py"), "there is no file"),
        ("no_such_module_here", "there is no module"),
    ):
        with pytest.raises(UsageError, match=sentence):
            Registry.load(place)
    (tmp_path / "failing_tasks.py").write_text("1 / 0")
    with pytest.raises(UsageError, match=r"importing .*failing_tasks.py failed: ZeroDivisionError"):
        Registry.load(str(tmp_path / "failing_tasks.py"))
