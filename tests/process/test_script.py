"""Programs as people write them: without a main guard, with functions of their own, under every start method."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process import scripts

ROOT = Path(__file__).resolve().parents[2]
METHODS = ["template", "fork", "spawn"]

SCRIPT = """
import sys
import functools
from dataclasses import dataclass

import allcores

print("once")
OFFSET = 100

@dataclass
class Point:
    x: int

    def moved(self, by):
        return Point(self.x + by)

class Refusal(Exception):
    def __init__(self, number):
        super().__init__(number)
        self.number = number

def shift(number):
    return helper(number) + OFFSET

def helper(number):
    return number * 2

def refuse(number):
    raise Refusal(number)

def load(value):
    return {"value": value}

def add_state(state, number):
    return state["value"] + number

method = None if sys.argv[1] == "template" else sys.argv[1]
with allcores.Pool(2, start_method=method, setup=None) as pool:
    print(pool.map(shift, range(4)))
    print(pool.map(lambda number: number + OFFSET, [1]))
    print(list(pool.imap(Point(5).moved, [1, 2])))
    print(pool.map(functools.partial(shift), [Point and 1]))
    print([type(point) is Point for point in pool.map(Point, [1])])
    try:
        pool.map(refuse, [7])
    except Refusal as error:
        print("refused", error.number)
    print(pool.submit(shift, 5).result())
with allcores.Pool(1, start_method=method, setup=load, setup_args=(40,)) as pool:
    print(pool.map(add_state, [2]))
"""

EXPECTED = [
    "once",
    "[100, 102, 104, 106]",
    "[101]",
    "[Point(x=6), Point(x=7)]",
    "[102]",
    "[True]",
    "refused 7",
    "110",
    "[42]",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.quick
def test_a_script_without_a_main_guard(tmp_path: Path, method: str) -> None:
    """It is run once, not once per worker."""
    ending = scripts.run(SCRIPT, tmp_path, method)
    assert (ending.lines, ending.err, ending.code) == (EXPECTED, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_python_c(tmp_path: Path, method: str) -> None:
    with scripts.running(["-c", SCRIPT, method], folder=tmp_path) as process:
        ending = scripts.finish(process)
    assert (ending.lines, ending.err, ending.code) == (EXPECTED, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_script_from_standard_input(tmp_path: Path, method: str) -> None:
    with scripts.running(["-", method], folder=tmp_path, stdin=subprocess.PIPE) as process:
        ending = scripts.finish(process, SCRIPT)
    assert (ending.lines, ending.err, ending.code) == (EXPECTED, "", 0)


def test_a_module_run_with_m(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "other.py").write_text("def triple(number):\n    return number * 3\n")
    (package / "__main__.py").write_text(
        "import allcores\n"
        "from . import other\n"
        "def shift(number):\n"
        "    return other.triple(number) + 1\n"
        "print(allcores.map(shift, [1, 2]), allcores.map(other.triple, [1, 2]))\n"
    )
    with scripts.running(["-m", "package"], folder=tmp_path) as process:
        ending = scripts.finish(process)
    assert (ending.out, ending.err, ending.code) == ("[4, 7] [3, 6]\n", "", 0)


def test_modules_beside_the_script_are_found(tmp_path: Path) -> None:
    """Also those that are only found since the script changed its search path, and its folder."""
    beside, elsewhere = tmp_path / "beside.py", tmp_path / "lib" / "far_away.py"
    elsewhere.parent.mkdir()
    beside.write_text("def one(number):\n    return number + 1\n")
    elsewhere.write_text("def two(number):\n    return number + 2\n")
    ending = scripts.run(
        "import os, sys, allcores\n"
        f"sys.path.append({str(elsewhere.parent)!r})\n"
        "os.chdir('/')\n"
        "import beside, far_away\n"
        "print(allcores.map(beside.one, [1]), allcores.map(far_away.two, [1]), allcores.map(os.path.abspath, ['x']))\n",
        tmp_path,
    )
    assert (ending.out, ending.err, ending.code) == ("[2] [3] ['/x']\n", "", 0)


def test_a_search_path_that_grows_after_the_pool_has_started(tmp_path: Path) -> None:
    library = tmp_path / "late"
    library.mkdir()
    (library / "arrived_late.py").write_text("def one(number):\n    return number + 1\n")
    ending = scripts.run(
        "import sys, allcores\n"
        "print(allcores.map(abs, [-1]))\n"
        f"sys.path.append({str(library)!r})\n"
        "import arrived_late\n"
        "print(allcores.map(arrived_late.one, [1]))\n",
        tmp_path,
    )
    assert (ending.out, ending.err, ending.code) == ("[1]\n[2]\n", "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_that_is_defined_again_is_used_as_it_is_now(tmp_path: Path, method: str) -> None:
    """As cells of a notebook do: same name, same module, other code."""
    ending = scripts.run(
        "import sys, allcores\n"
        "with allcores.Pool(2, start_method=sys.argv[1]) as pool:\n"
        "    for number in range(5):\n"
        "        source = f'def shift(item):\\n    return item + {number}\\n'\n"
        "        exec(source, globals())\n"
        "        print(pool.map(shift, [10, 20]))\n",
        tmp_path,
        method,
    )
    assert ending.lines == [f"[{10 + number}, {20 + number}]" for number in range(5)]
    assert (ending.err, ending.code) == ("", 0)


def test_globals_of_a_notebook_are_seen_as_they_are_now() -> None:
    """A function of `__main__` takes the values of its globals along with each pool it goes to."""
    from allcores import Pool

    notebook: dict[str, object] = {"__name__": "__main__"}
    exec("RATE = 2\ndef taxed(amount):\n    return amount * RATE", notebook)
    with Pool(1) as pool:
        assert pool.map(notebook["taxed"], [10]) == [20]  # type: ignore[call-overload]
    notebook["RATE"] = 3
    with Pool(1) as pool:
        assert pool.map(notebook["taxed"], [10]) == [30]  # type: ignore[call-overload]


@pytest.mark.parametrize("method", METHODS)
def test_what_was_printed_before_the_pool_is_printed_once(tmp_path: Path, method: str) -> None:
    """Output that waits in a buffer is not copied into the workers."""
    ending = scripts.run(
        "import sys, allcores\n"
        "sys.stdout.write('before ')\n"
        "with allcores.Pool(2, start_method=sys.argv[1]) as pool:\n"
        "    pool.map(abs, range(100))\n"
        "sys.stdout.write('after')\n",
        tmp_path,
        method,
    )
    assert (ending.out, ending.err, ending.code) == ("before after", "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_what_tasks_print_is_not_lost(tmp_path: Path, method: str) -> None:
    ending = scripts.run(
        "import sys, allcores\n"
        "def talk(number):\n"
        "    print('item', number)\n"
        "    print('error', number, file=sys.stderr)\n"
        "with allcores.Pool(2, start_method=sys.argv[1]) as pool:\n"
        "    pool.map(talk, range(20))\n",
        tmp_path,
        method,
    )
    assert sorted(ending.lines) == sorted(f"item {number}" for number in range(20))
    assert sorted(ending.err.splitlines()) == sorted(f"error {number}" for number in range(20))


UNREAD = """
import os, sys, allcores
from allcores.scheduler import timeouts
from allcores.transport.positions import PHASE_OUTPUT

timeouts.START_NS = 1_000_000
look, looks = timeouts.Timeouts.on_timer, []

def looked(self, timer, worker_state, due_ns, now, **more):
    look(self, timer, worker_state, due_ns, now, **more)
    progress = self._state.progress(worker_state.worker)
    if progress is not None and progress.phase == PHASE_OUTPUT and worker_state.chunks:
        looks.append(now)
        if len(looks) == 20:
            os.write(2, b"often\\n")

timeouts.Timeouts.on_timer = looked

def talk(number):
    print("y" * 500)

with allcores.Pool(2) as pool:
    pool.map(talk, range(600), chunk=1)
os.write(2, b"done\\n")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pipes are larger elsewhere, or smaller")
def test_output_that_is_not_read_for_long_is_not_lost(tmp_path: Path) -> None:
    """A worker that waits for it is not taken for one that does not begin."""
    (tmp_path / "talk.py").write_text(UNREAD)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, str(tmp_path / "talk.py")]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None and program.stderr is not None
        assert program.stderr.readline() == "often\n"
        out, err = program.communicate(timeout=120)
    assert (out, err) == (600 * f"{'y' * 500}\n", "done\n")


@pytest.mark.parametrize("flag", ["-I", "-S", "-O", "-X dev", "-B -E", "-X importtime"])
def test_flags_of_the_interpreter(tmp_path: Path, flag: str) -> None:
    """An isolated interpreter has isolated workers; what it finds, they find."""
    source = (
        f"import sys; sys.path[:0] = {scripts.PATHS!r}\n"
        "import site; site.main() if 'site' in sys.modules and sys.flags.no_site else None\n"
        "import allcores\n"
        "def flags(_):\n"
        "    import sys\n"
        "    return sys.flags.isolated, sys.flags.optimize, sys.flags.dev_mode\n"
        "print(allcores.map(flags, [1]) == [flags(1)])\n"
    )
    script = tmp_path / "script.py"
    script.write_text(source)
    with scripts.running([*flag.split(), str(script)], folder=tmp_path) as process:
        ending = scripts.finish(process)
    assert (ending.out, ending.code) == ("True\n", 0), ending.err


def test_a_task_that_fails_shows_the_line_of_the_script(tmp_path: Path) -> None:
    ending = scripts.run(
        "import allcores\ndef invert(number):\n    return 1 / number  # fails for 0\nallcores.map(invert, [1, 2, 0])\n",
        tmp_path,
    )
    assert ending.code == 1
    assert "return 1 / number  # fails for 0" in ending.err
    assert "ZeroDivisionError" in ending.err
    assert "items[2] (0)" in ending.err


@pytest.mark.parametrize("method", ["template", "spawn", "fork"])
def test_functions_in_wrappers_of_functools(method: str) -> None:
    """Cached, generic and decorated functions of a script are called like its others; one that comes back the same."""
    command = [sys.executable, "-m", "tests.process.wrapped", method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout == "16 8 16 12 16 7 16\nTrue 16\n"


GLOBALS = """
import sys
import allcores

MODEL = None
CACHE = {}
LIMIT = 1

class Settings:
    level = 0

def prepare(value):
    global MODEL, MADE
    MODEL = MADE = value
    CACHE["model"] = value
    Settings.level = value

def helper():
    return CACHE["model"], Settings.level

def look(item):
    return MODEL, MADE, *helper()

def limit(item):
    return LIMIT

method = None if sys.argv[1] == "template" else sys.argv[1]
with allcores.Pool(1, start_method=method, setup=prepare, setup_args=(5,)) as pool:
    print(pool.map(look, [1]), pool.map(lambda item: MODEL, [1]), pool.submit(look, 1).result())
    LIMIT = 2
    print(pool.map(limit, [1]))
if method != "spawn":
    with allcores.Pool(1, start_method=method, preload=prepare, preload_args=(6,)) as pool:
        print(pool.map(look, [1]))
with allcores.Executor(1, initializer=prepare, initargs=(7,)) as executor:
    print(list(executor.map(look, [1])))
"""


@pytest.mark.parametrize("method", METHODS)
def test_what_a_setup_binds_the_tasks_of_a_script_see(tmp_path: Path, method: str) -> None:
    """Globals that are bound or filled, and attributes of classes, as if workers had imported the script."""
    ending = scripts.run(GLOBALS, tmp_path, method)
    expected = ["[(5, 5, 5, 5)] [5] (5, 5, 5, 5)", "[2]", "[(6, 6, 6, 6)]", "[(7, 7, 7, 7)]"]
    if method == "spawn":
        del expected[2]
    assert (ending.lines, ending.err, ending.code) == (expected, "", 0)


@pytest.mark.parametrize("method", METHODS)
def test_what_a_function_refers_to_is_sent_again_wherever_it_has_changed(tmp_path: Path, method: str) -> None:
    """A name that was not there yet, a class, what its methods name, what is further down, an attribute."""
    ending = scripts.run(
        "import operator, functools, sys, allcores\n"
        "class Tax:\n"
        "    rate = 1\n"
        "    def of(self, number): return number * Tax.rate * FACTOR\n"
        "FACTOR, tax, nested = 1, Tax(), {'a': {'b': 0}}\n"
        "def helper(number): return number + helper.more\n"
        "helper.more = 0\n"
        "def work(number):\n"
        "    return tax.of(number) + nested['a']['b'] + helper(0) + (LATE if number < 0 else 0)\n"
        "words = ['a']\n"
        "known = functools.partial(operator.contains, words)\n"
        "with allcores.Pool(1, start_method=sys.argv[1]) as pool:\n"
        "    print(pool.map(work, [1]), pool.map(known, 'ab'))\n"
        "    Tax.rate = 2; print(pool.map(work, [1]))\n"
        "    FACTOR = 2; print(pool.map(work, [1]))\n"
        "    nested['a']['b'] = 10; print(pool.map(work, [1]))\n"
        "    helper.more = 100; print(pool.map(work, [1]))\n"
        "    print(type(next(iter(pool.outcomes(work, [-1]))).error).__name__)\n"
        "    LATE = 1000; print(pool.map(work, [-1]))\n"
        "    words.append('b'); print(pool.map(known, 'ab'))\n",
        tmp_path,
        method,
    )
    assert ending.lines == [
        "[1] [True, False]", "[2]", "[4]", "[14]", "[114]", "NameError", "[1106]", "[True, True]",
    ]  # fmt: skip
    assert (ending.err, ending.code) == ("", 0)
