"""Settings that are kept: what they depend on, the files, and what is not believed."""

from __future__ import annotations

import functools
import json
import os
import stat
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allcores.errors import UsageError
from allcores.system import procfs
from allcores.tuned.facts import code_digest, facts_of, function_in, libraries_of
from allcores.tuned.files import Kept, Place, tuned_folder
from allcores.tuned.holds import Facts, differences, facts_from
from allcores.tuned.journal import SearchJournal, lines_of
from allcores.tuned.setting import PoolSetting, setting_from
from allcores.tuned.use import is_of, kept_for

SIZE = 10
_calls = 0


def helper(number: int) -> int:
    return number + SIZE


def work(number: int) -> int:
    global _calls
    _calls += 1
    return helper(number) * 2


FACTS = Facts("work.measure", "c0de", "CPython 3.11.9", 4, {"numpy": "1.26", "allcores": "0.1"}, "x86_64, model A")

# --- whether it holds -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({}, None),
        ({"cores": 2}, "the core budget was 4 and is 2"),
        ({"python": "CPython 3.12.1", "code": "other"}, "Python was CPython 3.11.9 and is CPython 3.12.1"),
        ({"code": "other"}, "the function's code, or that of a function it calls, has changed"),
        ({"libraries": {"numpy": "2.0", "allcores": "0.1"}}, "numpy was 1.26 and is 2.0"),
        ({"libraries": {"allcores": "0.1"}}, "numpy was 1.26 and is not installed"),
        ({"libraries": {**FACTS.libraries, "scipy": "1.0"}}, "scipy was not there, is 1.0"),
        ({"machine": "x86_64, model B"}, "the machine was x86_64, model A and is x86_64, model B"),
        ({"function": "work.other"}, "it was found for work.measure, not for work.other"),
        # other code may name other libraries
        (
            {"code": "other", "libraries": {"allcores": "0.1"}},
            "the function's code, or that of a function it calls, has changed",
        ),
    ],
)
def test_what_has_changed_is_said(changed: dict[str, Any], sentence: str | None) -> None:
    assert differences(FACTS, replace(FACTS, **changed)) == ([] if sentence is None else [sentence])


def test_several_changes_are_all_said() -> None:
    now = replace(FACTS, cores=1, libraries={"numpy": "2.0", "allcores": "0.2"})
    assert len(differences(FACTS, now)) == 3


facts = st.builds(
    Facts, st.text(), st.text(), st.text(), st.integers(1), st.dictionaries(st.text(), st.text()), st.text()
)
settings = st.builds(
    PoolSetting,
    st.sampled_from(["threads", "processes", "serial"]),
    st.integers(1, 4_096),
    st.none() | st.integers(1, 1 << 40),
    st.none() | st.integers(1, 4_096),
)


@given(facts)
def test_facts_come_back_from_json(one: Facts) -> None:
    assert facts_from(json.loads(json.dumps(one.as_dict()))) == one
    assert differences(one, one) == []


@given(facts, facts)
def test_two_that_differ_are_told_apart(one: Facts, other: Facts) -> None:
    assert bool(differences(one, other)) == (one != other)


@given(settings)
def test_settings_come_back_from_json(setting: PoolSetting) -> None:
    assert setting_from(json.loads(json.dumps(setting.as_dict()))) == setting


@pytest.mark.parametrize(
    "found",
    [
        None,
        {},
        {"backend": "rockets", "workers": 1, "chunk": None, "depth": None},
        {"backend": "threads", "workers": 0, "chunk": None, "depth": None},
        {"backend": "threads", "workers": 10**9, "chunk": None, "depth": None},
        {"backend": "threads", "workers": True, "chunk": None, "depth": None},
        {"backend": "threads", "workers": 2, "chunk": 1.5, "depth": None},
        {"backend": "threads", "workers": 2, "chunk": None, "depth": "deep"},
        {"backend": "threads", "workers": 2, "chunk": None, "depth": None, "more": 1},
    ],
)
def test_what_is_no_setting_is_refused(found: Any) -> None:
    with pytest.raises(ValueError, match=r"setting|backend|number"):
        setting_from(found)


# --- what it depends on ---------------------------------------------------------------------------


def variant(source: str) -> Any:
    """A function of a module of the program, which is made of that source."""
    module = types.ModuleType("variant")
    exec(compile(source, "/nowhere/variant.py", "exec"), module.__dict__)
    return module.__dict__["f"]


PLAIN = """
SIZE = 1
count = 0
def g(x):
    return x + SIZE
def f(x):
    global count
    count += 1
    return g(x)
"""
LATE = """
def f(x):
    import hypothesis.strategies
    import json
    return g(x)
def g(x):
    return x
"""


@pytest.mark.parametrize(
    ("source", "is_same"),
    [
        (PLAIN, True),
        (PLAIN.replace("return g(x)", "return g(x)  # a remark"), True),
        (PLAIN.replace("count = 0", "count = 7"), True),
        (PLAIN.replace("return g(x)", "return g(x) + 0"), False),
        (PLAIN.replace("x + SIZE", "x - SIZE"), False),
        (PLAIN.replace("SIZE = 1", "SIZE = 2"), False),
    ],
)
def test_code_is_what_a_function_does_and_calls_and_its_constants(source: str, is_same: bool) -> None:
    assert (code_digest(variant(source)) == code_digest(variant(PLAIN))) is is_same


def test_calling_it_changes_nothing() -> None:
    before = facts_of(work)
    work(1)
    assert facts_of(work) == before


class Counts:
    """An object with a state that changes, and is no code."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, number: int) -> int:
        self.calls += 1
        return number

    def method(self, number: int) -> int:
        return self(number)


@pytest.mark.parametrize("of", [lambda counts: counts, lambda counts: counts.method], ids=["object", "method"])
def test_the_state_of_an_object_is_no_code_and_its_class_is(of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts()
    before = code_digest(of(counts))
    of(counts)(1)
    assert code_digest(of(counts)) == before
    monkeypatch.setattr(Counts, "__call__", lambda self, number: number + 1)
    assert code_digest(of(counts)) != before


def test_it_is_the_same_in_each_process(tmp_path: Path) -> None:
    """Whatever its hash seed."""
    (tmp_path / "sets.py").write_text(
        "NAMES = frozenset({'a', 'b', 'c', 'd'})\ndef f(x):\n    return x in {'e', 'f', 'g', 'h'} or x in NAMES\n"
    )
    code = "import sets; from allcores.tuned.facts import code_digest; print(code_digest(sets.f))"
    found = set()
    for seed in range(4):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_what_is_bound_counts_as_far_as_it_has_bytes() -> None:
    import threading

    assert code_digest(functools.partial(work, 1)) != code_digest(functools.partial(work, 2))
    anything: Any = work
    locked = functools.partial(anything, threading.Lock())
    assert code_digest(locked) == code_digest(functools.partial(anything, threading.Lock()))


def test_libraries_are_those_that_are_named_also_within_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    late = variant(
        "def f(x):\n    import hypothesis.strategies\n    import json\n    return g(x)\ndef g(x):\n    return x\n"
    )
    assert set(libraries_of(late)) - {"allcores"} == {"hypothesis"}
    assert set(libraries_of(work)) - {"allcores"} == set()
    # one whose module has another name
    yaml = variant("def f(x):\n    import dateutil_or_so\n")
    monkeypatch.setattr("importlib.metadata.packages_distributions", lambda: {"dateutil_or_so": ["pytest"]})
    assert "pytest" in libraries_of(yaml)


class Adds:
    """An object that can be called."""

    def __call__(self, number: int) -> int:
        return number

    def method(self, number: int) -> int:
        return number


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (work, "work"),
        (functools.partial(functools.partial(work), 3), "work"),
        (functools.lru_cache(work), "work"),
        (Adds(), "Adds"),
        (Adds().method, "Adds.method"),
        (abs, "abs"),
        (lambda number: number, "<lambda>"),
    ],
)
def test_anything_that_can_be_called_has_facts_and_a_place(given: Any, name: str, tmp_path: Path) -> None:
    assert function_in(given).__qualname__.endswith(name)
    found = facts_of(given)
    assert found.function.endswith(name)
    assert facts_from(found.as_dict()) == found
    assert Path(Place(given, str(tmp_path)).path).name.isascii()


def test_functions_of_the_same_name_in_other_files_have_other_places(tmp_path: Path) -> None:
    one = variant(PLAIN)
    other: Any = types.FunctionType(one.__code__.replace(co_filename="/elsewhere/variant.py"), one.__globals__, "f")
    assert Place(one, str(tmp_path)).path != Place(other, str(tmp_path)).path


def test_another_machine_is_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Place(work, str(tmp_path)).path
    monkeypatch.setattr(procfs, "processor_model", lambda: "something else")
    assert Place(work, str(tmp_path)).path != here


# --- the files ------------------------------------------------------------------------------------

KEPT = Kept(PoolSetting("processes", 2, 64, None), FACTS, 1.9, 1.7e9)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(work, str(tmp_path / "home" / "tuned"))
    found.make()
    return found


def test_what_is_kept_is_read(place: Place) -> None:
    assert place.read() is None
    place.keep(KEPT)
    assert place.read() == KEPT
    place.keep(replace(KEPT, setting=PoolSetting("serial")))
    found = place.read()
    assert found is not None and found.setting == PoolSetting("serial")
    assert stat.S_IMODE(os.stat(place.folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(place.path).st_mode) == 0o600
    assert os.listdir(place.folder) == [os.path.basename(place.path)], "nothing else is left"


@pytest.mark.parametrize("cut", [0, 1, 10, 100, -2])
def test_a_torn_file_is_refused_and_stays(place: Place, cut: int) -> None:
    place.keep(KEPT)
    data = Path(place.path).read_bytes()[:cut]
    Path(place.path).write_bytes(data)
    with pytest.raises(UsageError, match=r"is damaged .* tune again"):
        place.read()
    assert Path(place.path).read_bytes() == data


def test_any_byte_that_was_changed_is_noticed(place: Place) -> None:
    place.keep(KEPT)
    data = bytearray(Path(place.path).read_bytes())
    for at in range(0, len(data) - 1, 7):
        spoiled = bytearray(data)
        spoiled[at] ^= 0x15
        Path(place.path).write_bytes(spoiled)
        with pytest.raises(UsageError, match="is damaged"):
            place.read()


@pytest.mark.parametrize("value", [b"[]", b'{"version": 1}', b'{"version": 2}', b"[" * 100_000])
def test_a_whole_file_of_something_else_is_refused(place: Place, value: bytes) -> None:
    import zlib

    Path(place.path).write_bytes(b"%08x %s\n" % (zlib.crc32(value), value))
    os.chmod(place.path, 0o600)
    with pytest.raises(UsageError, match="is damaged"):
        place.read()


def others_file(place: Place) -> None:
    os.chown(place.path, 54_321, 54_321)


def others_may_write(place: Place) -> None:
    os.chmod(place.path, 0o666)


def link(place: Place) -> None:
    os.rename(place.path, place.path + ".real")
    os.symlink(place.path + ".real", place.path)


def pipe(place: Place) -> None:
    os.unlink(place.path)
    os.mkfifo(place.path)
    os.chmod(place.path, 0o600)


def others_folder(place: Place) -> None:
    os.chown(place.folder, 54_321, 54_321)


def folder_for_all(place: Place) -> None:
    os.chmod(place.folder, 0o777)


@pytest.mark.parametrize("spoil", [others_file, others_may_write, link, pipe, others_folder, folder_for_all])
def test_what_others_may_have_written_is_not_believed(place: Place, spoil: Any) -> None:
    if spoil.__name__ in ("others_file", "others_folder") and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    place.keep(KEPT)
    spoil(place)
    before = os.lstat(place.path)
    with pytest.raises(UsageError, match=r"cannot be trusted"):
        place.read()
    after = os.lstat(place.path)
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)
    if "folder" not in spoil.__name__:
        with pytest.raises(UsageError, match=r"cannot be trusted"):
            place.keep(KEPT)
        with pytest.raises(UsageError, match="cannot be trusted"):
            os.symlink("/dev/null", place.journal)
            SearchJournal(place, {"version": 1})


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        Place(work, str(tmp_path / "file" / "tuned")).make()


def test_the_folder_is_that_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLCORES_HOME", "/somewhere")
    assert tuned_folder() == "/somewhere/tuned"
    monkeypatch.delenv("ALLCORES_HOME")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert tuned_folder() == "/state/allcores/tuned"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert tuned_folder() == os.path.expanduser("~/.local/state/allcores/tuned")


def test_two_at_a_time_are_one_too_many(place: Place) -> None:
    lock = place.locked()
    with pytest.raises(UsageError, match="this process already is tuning this function"):
        place.locked()
    lock.release()
    place.locked().release()


# --- the journal ----------------------------------------------------------------------------------

HEAD = {"version": 1, "what": "a search"}


def journal(place: Place, *lines: dict[str, Any], head: dict[str, Any] = HEAD) -> SearchJournal:
    opened = SearchJournal(place, head)
    for line in lines:
        opened.add(line)
    opened.close()
    return opened


def test_a_journal_is_gone_on_with(place: Place) -> None:
    journal(place, {"run": 1}, {"run": 2})
    again = journal(place, {"run": 3})
    assert again.lines == [{"run": 1}, {"run": 2}]
    assert not again.replaced
    assert journal(place).lines == [{"run": 1}, {"run": 2}, {"run": 3}]


def test_that_of_another_search_is_begun_anew(place: Place) -> None:
    journal(place, {"run": 1})
    other = journal(place, {"run": 2}, head={"version": 1, "what": "another"})
    assert other.lines == []
    assert other.replaced
    assert journal(place, head={"version": 1, "what": "another"}).lines == [{"run": 2}]


def test_a_torn_end_is_cut_off_and_written_again(place: Place) -> None:
    """At whichever byte the write of a line, the first one too, was ended."""
    journal(place, {"run": 1}, {"run": 2})
    whole = Path(place.journal).read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    for cut in range(len(whole)):
        Path(place.journal).write_bytes(whole[:cut])
        again = journal(place, {"run": 9})
        done = (cut >= len(first + second)) + (cut >= len(whole))
        assert len(again.lines) == (done if cut >= len(first) else 0)
        assert journal(place).lines == [*again.lines, {"run": 9}]
        assert third


def test_what_follows_a_damaged_line_is_measured_again(place: Place) -> None:
    journal(place, *({"run": number} for number in range(5)))
    data = bytearray(Path(place.journal).read_bytes())
    at = data.index(b'"run": 2')
    data[at + 2] ^= 1
    Path(place.journal).write_bytes(data)
    assert journal(place).lines == [{"run": 0}, {"run": 1}]


def test_a_journal_that_is_over_is_gone(place: Place) -> None:
    opened = SearchJournal(place, HEAD)
    opened.end()
    assert os.listdir(place.folder) == []


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_far_as_they_are_lines(data: bytes) -> None:
    found, size = lines_of(data)
    assert size <= len(data)
    assert bool(found) == bool(size)


# --- using it -------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def keep(**changed: Any) -> None:
    place = Place(work)
    place.make()
    place.keep(replace(KEPT, facts=replace(facts_of(work), **changed)))


def test_what_holds_is_used(home: Path) -> None:
    keep()
    assert kept_for(work).setting == KEPT.setting


def test_what_was_never_tuned_says_how(home: Path) -> None:
    with pytest.raises(UsageError, match=r"work was not tuned on this machine .*allcores tune MODULE:work INPUT"):
        kept_for(work)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cores": 999}, "the core budget was 999 and is"),
        ({"python": "CPython 2.7"}, "Python was CPython 2.7 and is"),
        ({"code": "other"}, "the function's code"),
        ({"libraries": {"numpy": "0.1"}}, "numpy was 0.1"),
    ],
)
def test_what_does_not_hold_any_more_is_refused_with_the_reason(home: Path, changed: Any, words: str) -> None:
    keep(**changed)
    with pytest.raises(UsageError, match=rf"does not hold any more: .*{words}.*Tune again: allcores tune"):
        kept_for(work)


def test_a_map_of_the_function_is_known_with_constants_too() -> None:
    assert is_of(work, work)
    assert is_of(work, functools.partial(functools.partial(work), 3))
    assert not is_of(work, helper)
    adds = Adds()
    assert is_of(adds.method, adds.method)
    bound = functools.partial(work, 1)
    assert is_of(bound, functools.partial(bound, number=2))
