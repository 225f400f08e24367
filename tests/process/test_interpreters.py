"""Interpreters as workers: what they refuse, in one sentence each, and that nothing hangs or crashes at their end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.process import interpreted, scripts
from tests.process.waiting import Bell, Gate, ring, wait_at

import allcores
from allcores import Limits, NotSupported, Pipeline, Pool
from allcores.cli.main import main

needed = pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreters need Python 3.14 or later")


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python has interpreters")
def test_an_older_python_is_told() -> None:
    with pytest.raises(NotSupported, match=r"needs Python 3\.14 or later .*this is 3\.1.*use backend='processes'"):
        Pool(2, backend="interpreters")


@needed
class TestRefused:
    @pytest.mark.parametrize(
        ("make", "sentence"),
        [
            (lambda: Pool(1, backend="interpreters", start_method="spawn"), "start_method='spawn' is for backend="),
            (lambda: Pool(1, backend="interpreters", limits=Limits(memory_per_worker=1 << 30)), "memory_per_worker"),
            (lambda: Pool(1, backend="interpreters", limits=Limits(items_per_worker=5)), "items_per_worker"),
            (lambda: Pool(1, backend="interpreters", logs=allcores.Logs(prints=True)), "prints=True"),
        ],
    )
    def test_what_needs_a_process(self, make: Callable[[], Pool], sentence: str) -> None:
        with pytest.raises(NotSupported, match=sentence):
            make()

    def test_what_a_task_cannot_have(self) -> None:
        with Pool(1, backend="interpreters") as pool:
            with pytest.raises(NotSupported, match="cannot end a task"):
                pool.map(interpreted.double, [1], timeout=1)
            with pytest.raises(ImportError) as caught:
                pool.map(interpreted.load_refused, [1])
            assert caught.value.name == "faulthandler"
            assert "The module faulthandler cannot be loaded by backend='interpreters'" in str(caught.value)
            assert "Use backend='processes'" in str(caught.value)
            # Who can do without it does.
            assert pool.map(interpreted.load_if_it_can_be, [1]) == ["without"]
            with pytest.raises(RuntimeError, match="fork not supported for isolated subinterpreters"):
                pool.map(interpreted.fork, [1])
            with pytest.raises(allcores.TaskExited):
                pool.map(interpreted.exit_with, [3])
            with pytest.raises(allcores.NotPicklable):
                pool.map(interpreted.double, [threading.Lock()])  # type: ignore[arg-type]
            assert pool.map(interpreted.double, range(3)) == [0, 2, 4]

    def test_a_package_that_needs_such_a_module_says_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "outer").mkdir()
        (tmp_path / "outer" / "__init__.py").write_text(
            "try:\n    from outer import inner\nexcept ImportError as error:\n"
            "    raise ImportError('PLEASE READ A LONG TEXT: ' + str(error)) from error\n"
        )
        (tmp_path / "outer" / "inner.py").write_text("import faulthandler\n")
        source = (
            "import sys, allcores\n"
            f"sys.path.insert(0, {str(tmp_path)!r})\n"
            "def load(_):\n    import outer\n"
            "with allcores.Pool(1, backend='interpreters') as pool:\n"
            "    outcome = next(pool.outcomes(load, [1]))\n"
            "    print(type(outcome.error).__name__, outcome.error)\n"
        )
        ended = scripts.run(source, tmp_path)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith("ImportError The module faulthandler cannot be loaded")


@needed
class TestWhereABackendIsNamed:
    def test_stages_of_a_pipeline(self) -> None:
        pipeline = (
            Pipeline()
            .map(interpreted.double, on="interpreters", workers=1)
            .map(interpreted.interpreter, on="interpreters", workers=1)
            .map(interpreted.interpreter, on="threads", workers=1)
        )
        found = list(pipeline.imap(range(20), workers=1))
        assert [number for (number, _), _ in found] == list(range(0, 40, 2))
        assert {(inner == 0, outer == 0) for (_, inner), outer in found} == {(False, True)}
        assert "1 interpreter, its own" in pipeline.explain(workers=1)
        with pytest.raises(NotSupported, match="a task of on='interpreters' cannot be ended"):
            Pipeline().map(interpreted.double, on="interpreters", timeout=1)
        with pytest.raises(NotSupported, match="backend='interpreters' cannot end a task"):
            Pipeline().map(interpreted.double, timeout=1).plan(backend="interpreters")

    def test_the_command(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "in.txt").write_text("1\n[2]\n")
        line = ["run", "json:loads", "in.txt", "-o", "out.jsonl", "--backend", "interpreters", "-q", "--workers", "2"]
        assert main([*line, "--no-journal"]) == 0
        assert (tmp_path / "out.jsonl").read_text().split() == ["1", "[2]"]
        assert main([*line, "--no-journal", "--timeout", "1"]) != 0
        assert "timeout=1 needs backend='processes'" in capsys.readouterr().err


@needed
class TestTheProcessIsThePrograms:
    def test_a_task_finds_what_the_caller_has(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with Pool(1, backend="interpreters") as pool:
            for word in ("first", "second"):
                monkeypatch.setenv("ALLCORES_TEST_WORD", word)
                monkeypatch.syspath_prepend(str(tmp_path / word))
                found, _, folder, pid = pool.map(interpreted.surroundings, ["ALLCORES_TEST_WORD"])[0]
                assert (found, folder, pid) == (word, os.getcwd(), os.getpid())
            # It has globals of its own.
            pool.map(interpreted.set_variable, ["ALLCORES_TEST_OTHER"])
            assert interpreted.STARTED == []
            assert "ALLCORES_TEST_OTHER" not in os.environ

    def test_a_late_task_does_not_undo_what_the_program_does(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Folder and environment are the process's: a worker that follows its caller must not set them back."""
        (tmp_path / "here").mkdir()
        with Bell(tmp_path / "bell") as bell, Gate(tmp_path / "gate") as gate, Pool(1, backend="interpreters") as pool:
            first = pool.submit(wait_at, gate.path)
            monkeypatch.setenv("ALLCORES_TEST_WORD", "old")
            second = pool.submit(ring, bell.path)
            monkeypatch.chdir(tmp_path / "here")
            monkeypatch.setenv("ALLCORES_TEST_WORD", "new")
            gate.open()
            first.result()
            second.result()
            assert os.getcwd() == str(tmp_path / "here")
            # What C code and programs that are started see.
            assert subprocess.run(["printenv", "ALLCORES_TEST_WORD"], stdout=subprocess.PIPE).stdout == b"new\n"


_CLOSING = """
import os, sys, allcores
sys.path.insert(0, {root!r})
from tests.process import interpreted
bell = sys.argv[1]
os.mkfifo(bell)
pool = allcores.Pool(1, backend="interpreters", limits=allcores.Limits(grace_s=0))
future = pool.submit(interpreted.{task}, bell)
heard = os.open(bell, os.O_RDONLY)
os.read(heard, 1)
{end}
print("closed", future.cancelled(), flush=True)
"""


@needed
class TestEnds:
    def test_a_python_loop_is_ended_with_its_pool(self, tmp_path: Path) -> None:
        source = _CLOSING.format(root=str(Path(__file__).parents[2]), task="turn", end="pool.close()")
        ended = scripts.run(source, tmp_path, str(tmp_path / "bell"))
        assert (ended.code, ended.err, ended.out) == (0, "", "closed True\n")

    def test_so_it_is_with_a_program_that_closes_nothing(self, tmp_path: Path) -> None:
        source = _CLOSING.format(root=str(Path(__file__).parents[2]), task="turn", end="")
        ended = scripts.run(source, tmp_path, str(tmp_path / "bell"))
        assert (ended.code, ended.err, ended.out) == (0, "", "closed False\n")

    def test_what_waits_in_c_code_does_not_hold_the_programs_end(self, tmp_path: Path) -> None:
        source = "import allcores.backends.interpreter_launcher as launcher\nlauncher.EXIT_S = 0.1\n" + _CLOSING.format(
            root=str(Path(__file__).parents[2]), task="wait_in_c", end="pool.close()"
        )
        ended = scripts.run(source, tmp_path, str(tmp_path / "bell"))
        assert (ended.code, ended.out) == (1, "closed True\n")
        assert "1 of the interpreters still run something that cannot be ended" in ended.err
        assert len(ended.err.splitlines()) == 1

    def test_nor_does_a_thread_that_a_task_left_running(self, tmp_path: Path) -> None:
        source = (
            "import sys, atexit, allcores, allcores.backends.interpreter_launcher as launcher\n"
            f"sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
            "from tests.process import interpreted\n"
            "launcher.EXIT_S = launcher.CLOSE_S = 0.1\n"
            "atexit.register(print, 'handlers are called')\n"
            "with allcores.Pool(1, backend='interpreters') as pool:\n"
            "    print(pool.map(interpreted.leave_a_thread, [1]))\n"
        )
        ended = scripts.run(source, tmp_path)
        assert (ended.code, ended.lines) == (1, ["[1]", "handlers are called"])
        assert "a thread that a task has started" in ended.err
