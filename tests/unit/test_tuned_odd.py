"""What a found setting depends on, of functions and libraries that are rarely met."""

from __future__ import annotations

import functools
import operator
from pathlib import Path
from typing import Any

import pytest

from allcores.tuned.facts import facts_of, libraries_of
from allcores.tuned.files import Place
from allcores.tuned.holds import facts_from
from allcores.tuned.use import is_of


def work(values: Any, number: int = 0) -> int:
    return number


def imports(number: int) -> int:
    import halfway  # type: ignore[import-not-found]
    import renamed  # type: ignore[import-not-found]  # noqa: F401

    return int(halfway.number) + number


@pytest.mark.parametrize("given", [str.upper, "".join, dict.fromkeys, operator.itemgetter(0), len, int])
def test_what_is_written_in_c_has_facts_and_a_place(given: Any, tmp_path: Path) -> None:
    found = facts_of(given)
    assert facts_from(found.as_dict()) == found
    assert Path(Place(given, str(tmp_path)).path).name.isascii()


@pytest.mark.parametrize("loaded", ["importlib.metadata", "importlib_metadata"])
def test_what_an_installation_has_left_is_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: str
) -> None:
    """Folders without what names a library and its version stay where its removal was cut short.

    The backport of Python's module, once it is loaded, is asked in its place, and has errors of its own.
    """
    pytest.importorskip(loaded)
    (tmp_path / "halfway-1.0.dist-info").mkdir()
    (tmp_path / "other-2.0.dist-info").mkdir()
    (tmp_path / "other-2.0.dist-info" / "top_level.txt").write_text("renamed\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(libraries_of(imports)) <= {"allcores"}
    found = facts_of(imports)
    assert facts_from(found.as_dict()) == found


def test_what_is_bound_and_cannot_be_compared_is_not_the_same() -> None:
    numpy = pytest.importorskip("numpy")
    one, other = numpy.arange(3), numpy.arange(3)
    assert is_of(functools.partial(work, one), functools.partial(work, one))
    assert not is_of(functools.partial(work, one), functools.partial(work, other))
    assert not is_of(functools.partial(work, values=one), functools.partial(work, values=other))
