"""Values of tasks as JSON: what would be lost is refused, by the place where it is."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
import sys
from typing import Any

import numpy as np
import pydantic
import pytest

from allcores.errors import UsageError
from allcores.jobs import results
from allcores.jobs.errors import BadJob
from allcores.jobs.json_values import NotJson, plain_json
from allcores.jobs.rows import dumps
from allcores.sinks.json_text import to_json


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Box:
    inside: Any


class Model(pydantic.BaseModel):
    inside: dict[Any, Any]
    size: float = 0.0


DAY = datetime.date(2026, 11, 26)

SAME_KEYS = [
    ({1: "a", "1": "b"}, "value has the keys 1 and '1', which are both '1' in JSON"),
    ({"deep": [0, {None: 1, "null": 2}]}, "value['deep'][1] has the keys None and 'null'"),
    ({True: 1, "true": 2}, "the keys True and 'true'"),
    ({2.0: 1, "2.0": 2}, "the keys 2.0 and '2.0'"),
    ({DAY: 1, "2026-11-26": 2}, "and '2026-11-26', which are both '2026-11-26'"),
    ({Colour.RED: 1, "red": 2}, "and 'red', which are both 'red'"),
    (Box([Box({1: 1, "1": 2})]), "value['inside'][0]['inside'] has the keys 1 and '1'"),
    (Model(inside={1: 1, "1": 2}), "two keys that are both '1'"),
]


@pytest.mark.parametrize(("value", "sentence"), SAME_KEYS)
def test_two_keys_that_are_one_are_named(value: Any, sentence: str) -> None:
    """Nothing is lost in silence, neither here nor where a run writes."""
    with pytest.raises(NotJson) as caught:
        plain_json(value)
    assert sentence in str(caught.value)
    if not isinstance(value, Model):
        with pytest.raises(TypeError):
            to_json(value)


loop: list[Any] = []
loop.append(loop)

REFUSED = [
    ({(1, 2): 0}, "value has the key (1, 2), a tuple: keys of JSON are texts"),
    ({object: 0}, "value has a key of the type type"),
    ({math.nan: 0}, "value has the key nan"),
    ([Box({"a": math.nan})], "value[0]['inside']['a'] is nan"),
    (Model(inside={}, size=math.inf), "value['size'] is inf"),
    (np.array([1.0, math.nan]), "value[1] is nan"),
    ({"a": [10**5000]}, "value['a'][0] is a whole number of more digits"),
    ({"a": {10**5000: 0}}, "value['a'] has a key"),
    ([object()], "value[0] is an object"),
    (np.datetime64("NaT", "s"), "value is no time"),
    (b"\xff", "invalid utf-8"),
    (loop, "value is deeper than 100 lists and dicts in each other, or contains itself"),
    (json.loads("[" * 150 + "]" * 150), "value is deeper than 100"),
]


@pytest.mark.parametrize(("value", "sentence"), REFUSED, ids=[sentence for _, sentence in REFUSED])
def test_what_json_does_not_have_is_refused_by_its_place(value: Any, sentence: str) -> None:
    with pytest.raises(NotJson) as caught:
        plain_json(value)
    assert sentence in str(caught.value)
    with pytest.raises(UsageError, match="write a file to job"):
        results.encode(value)


KEPT = [
    ({1: "a", "2": "b", None: 0}, {"1": "a", "2": "b", "null": 0}),
    ({"b": (1, 2.5), "a": {"x"}}, {"b": [1, 2.5], "a": ["x"]}),
    ([2**200, -(2**64), True, None], [2**200, -(2**64), True, None]),
    ({"\udcff": "\udcff"}, {"\udcff": "\udcff"}),
    ({DAY: DAY, Colour.RED: Colour.RED}, {"2026-11-26": "2026-11-26", "red": "red"}),
    (Box(Model(inside={1: 2})), {"inside": {"inside": {"1": 2}, "size": 0.0}}),
    (np.int64(3), 3),
    (map(str, range(2)), ["0", "1"]),
    ({"a": np.arange(3)}, {"a": [0, 1, 2]}),
    (np.float64(0.5), 0.5),
]


@pytest.mark.parametrize(("value", "plain"), KEPT)
def test_what_json_has_comes_back(value: Any, plain: Any) -> None:
    """Whatever it is made of; names of files that are no text, too."""
    assert repr(json.loads(results.encode(value))) == repr(plain)
    assert isinstance(value, map) or repr(plain_json(value)) == repr(plain)


def test_halves_of_characters_are_refused_where_other_programs_read() -> None:
    for value in ("a\ud800", ["\udcff"], {"\udcff": 1}):
        with pytest.raises(NotJson, match="half of a surrogate pair"):
            plain_json(value, characters=True)
    assert plain_json(["☃\U0001f600\0"], characters=True) == ["☃\U0001f600\0"]


def test_how_many_digits_a_number_has_does_not_hang_on_what_python_is_told() -> None:
    """A task may tell it to write any number; those who read the store were not told so."""
    told = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        for value in (10**4300, -(10**4300)):
            with pytest.raises(NotJson, match=r"value\[0\] is a whole number of more digits"):
                plain_json([value])
            with pytest.raises(BadJob, match="it is a whole number of more than 4,300 digits"):
                dumps(value, "it")
        most = 10**4300 - 1
        assert (plain_json(most), json.loads(dumps(-most, "it"))) == (most, -most)
    finally:
        sys.set_int_max_str_digits(told)
