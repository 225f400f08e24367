"""plain_record.py: records are dataclasses to whoever asks, and cost nothing to import."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest

import allcores
from allcores.system.plain_record import open_record, record

V = TypeVar("V")


@record
class Point(Generic[V]):
    """A place."""

    x: V
    y: int = 0

    def __post_init__(self) -> None:
        if self.y < 0:
            raise ValueError(self.y)

    @property
    def total(self) -> Any:
        return self.x, self.y


@open_record
class Mark:
    at: int
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Twin:
    x: Any
    y: int = 0


@pytest.mark.parametrize("make", [Point, Twin])
def test_it_is_what_dataclass_makes(make: Any) -> None:
    """Value, hash, text, frozenness, pattern, slots, pickle and the functions of the module dataclasses."""
    one: Any = make(1, y=2)
    assert one == make(1, 2) != make(1, 3)
    assert one != (1, 2)
    assert hash(one) == hash((1, 2))
    assert repr(one) == f"{make.__name__}(x=1, y=2)"
    assert make(x=1) == make(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.x = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.x
    match one:
        case make(1, y):
            assert y == 2
        case _:
            pytest.fail("no match")
    assert not hasattr(one, "__dict__")
    assert pickle.loads(pickle.dumps(one)) == copy.copy(one) == copy.deepcopy(one) == one
    assert all(map(dataclasses.is_dataclass, (one, make)))
    assert dataclasses.asdict(one) == {"x": 1, "y": 2}
    assert dataclasses.replace(one, y=5) == make(1, 5)
    assert [(field.name, field.default) for field in dataclasses.fields(make)] == [
        ("x", dataclasses.MISSING),
        ("y", 0),
    ]


@pytest.mark.parametrize(("given", "named"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1, 2), {"y": 1})])
def test_arguments_are_checked(given: tuple[int, ...], named: dict[str, int]) -> None:
    """Missing, too many, unknown, twice."""
    with pytest.raises(TypeError, match="Point"):
        Point(*given, **named)
    with pytest.raises(TypeError):
        Twin(*given, **named)


def test_its_own_checks_and_methods_stay() -> None:
    with pytest.raises(ValueError, match="-1"):
        Point(1, -1)
    assert Point(1, 2).total == (1, 2)
    assert Point.__doc__ == "A place."
    assert Point[int](1) == Point(1)


def test_an_open_one_can_be_changed() -> None:
    mark = Mark(1)
    mark.text = "x"
    assert mark == Mark(1, "x")
    with pytest.raises(TypeError):
        hash(mark)


@record
class Weighed:
    """A thing."""

    grams: int
    name: str = ""


class Labelled(Weighed):
    """With more to it than fields."""

    __slots__ = ("label",)
    label: str


def test_a_subclass_has_the_fields_of_the_record() -> None:
    """Whichever is asked first."""
    assert [field.name for field in dataclasses.fields(Labelled)] == ["grams", "name"]
    assert dataclasses.replace(Labelled(1, "a"), grams=2) == Labelled(2, "a")
    assert dataclasses.asdict(Weighed(3)) == {"grams": 3, "name": ""}


def test_fields_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To make a class for each record that is replaced takes a millisecond."""
    point: Any = Point(1)
    assert dataclasses.replace(point, y=2) == Point(1, 2)
    monkeypatch.delattr(dataclasses, "make_dataclass")
    assert dataclasses.replace(point, y=3) == Point(1, 3)
    assert dataclasses.asdict(point) == {"x": 1, "y": 0}


def test_a_pool_is_imported_without_what_records_would_need() -> None:
    """dataclasses imports inspect, ast and dis: half of what the import of a pool took."""
    program = "import sys; from allcores import Pool; print(*sys.modules)"
    # Without site: what is installed beside us (a tracer of coverage, say) may import something when Python starts.
    environment = os.environ | {"PYTHONPATH": str(Path(allcores.__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, "-S", "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    # From 3.14 on typing itself needs ast for a NamedTuple.
    unwanted = {"dataclasses", "inspect", "dis", *(("ast",) if sys.version_info < (3, 14) else ())}
    assert not unwanted & set(ran.stdout.split())
