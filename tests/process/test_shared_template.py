"""The program's template: pools have one in common, and notice of each other nothing but the time it saves."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest
from tests.process import crimes, scripts
from tests.process.surroundings import grandparent, seen, shared, surroundings
from tests.process.waiting import PATIENCE_S, Bell, wait_gone, wait_until

from allcores import Limits, Pool
from allcores.backends.processes import templates
from allcores.backends.processes.launchers import TemplateLauncher
from allcores.outcome import Kind
from allcores.system import procfs

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere each pool starts its own")


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    with Bell(tmp_path / "bell") as bell:
        yield bell


@pytest.mark.parametrize("method", ["template", "spawn"])
@pytest.mark.parametrize("options", [{}, {"preload": abs, "preload_args": (1,)}], ids=["plain", "preload"])
def test_pools_have_one_in_common(method: str, options: dict[str, Any]) -> None:
    if method == "spawn" and options:
        pytest.skip("has nothing in common")
    with Pool(1) as first, Pool(1, start_method=method, **options) as second:
        found = first.map(grandparent, [1])
        found += second.map(lambda *_: grandparent(), [1]) if options else second.map(grandparent, [1])
    with Pool(1) as third:
        found += third.map(grandparent, [1])
    assert found == [shared()] * 3


class TestWhatIsTakenOver:
    """Each pool's workers find what they would in a process that was started when the pool was made."""

    def test_folder_environment_path_and_the_like(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ALLCORES_TEST_GONE", "1")
        assert seen()["environ"]["ALLCORES_TEST_GONE"] == "1"
        template = shared()
        monkeypatch.delenv("ALLCORES_TEST_GONE")
        monkeypatch.setenv("ALLCORES_TEST_NEW", "ü=\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["other", "words"])
        umask = os.umask(0o027)
        try:
            found = seen()
        finally:
            os.umask(umask)
        assert shared() == template
        assert "ALLCORES_TEST_GONE" not in found["environ"]
        assert found["environ"]["ALLCORES_TEST_NEW"] == "ü=\n"
        assert found["folder"] == str(tmp_path)
        assert found["path"] == sys.path
        assert found["argv"] == ["other", "words"]
        assert found["umask"] == 0o027

    def test_a_folder_whose_name_is_gone(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = tmp_path / "before"
        folder.mkdir()
        (folder / "here").touch()
        monkeypatch.chdir(folder)
        folder.rename(tmp_path / "after")
        with Pool(1) as pool:
            assert pool.map(os.path.exists, ["here"]) == [True]

    def test_standard_output_that_was_redirected(self, tmp_path: Path) -> None:
        """By its descriptor, between two pools; and the former file is not kept open."""
        first = seen()["standard"]
        kept = os.dup(1)
        try:
            with open(tmp_path / "out", "wb") as file:
                os.dup2(file.fileno(), 1)
                inode = os.fstat(file.fileno()).st_ino
            with Pool(1, start_method="spawn") as pool:
                pool.map(print, ["spawned"])
            with Pool(1) as pool:
                pool.map(print, ["forked"])
                assert pool.map(surroundings, [0])[0]["standard"][1] == inode
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        assert (tmp_path / "out").read_text() == "spawned\nforked\n"
        assert seen()["standard"] == first
        held = [os.readlink(f"/proc/{shared()}/fd/{number}") for number in range(3)]
        assert held == [os.devnull] * 3

    def test_streams_are_those_of_a_fresh_python(self, tmp_path: Path) -> None:
        of_stream = ", ".join(f"sys.stdout.{name}" for name in ("encoding", "errors", "line_buffering", "name"))
        ending = scripts.run(f"import sys; print(({of_stream}))", tmp_path)
        script = (
            "import allcores\n"
            "from tests.process.surroundings import surroundings\n"
            "with allcores.Pool(1) as pool:\n"
            "    print(pool.map(surroundings, [0])[0]['null'])\n"
        )
        assert scripts.run(script, tmp_path).out == ending.out

    def test_what_no_copy_can_change_has_another_started(self, tmp_path: Path) -> None:
        """One change after the other, in a program of its own, for most cannot be undone."""
        changes = [
            "os.nice(3)",
            "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
            "os.setsid()",
            "os.environ['PYTHONHASHSEED'] = '5'",
        ]
        if len(os.sched_getaffinity(0)) > 1:
            changes.append("os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})")
        ending = scripts.run(
            "import os, resource, sys, allcores\n"
            "from tests.process.surroundings import seen, shared, surroundings\n"
            "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))\n"
            "os.fork() and (os.wait(), os._exit(0))\n"  # so that setsid is allowed
            "seen()\n"
            "for change in sys.argv[1:]:\n"
            "    former, before = shared(), surroundings()\n"
            "    exec(change)\n"
            "    found, here = seen(), surroundings()\n"
            "    for name in ('affinity', 'nice', 'limits', 'session'):\n"
            "        assert found[name] == here[name], (change, name)\n"
            "    assert found['environ'].get('PYTHONHASHSEED') == os.environ.get('PYTHONHASHSEED'), change\n"
            "    assert here != before, change\n"
            "    assert shared() != former, change\n"
            "    assert not os.path.exists(f'/proc/{former}'), f'{change}: nobody uses it any more'\n"
            "print('ok', flush=True)\n",
            tmp_path,
            *changes,
        )
        assert (ending.out, ending.err) == ("ok\n", "")


class TestEnds:
    def test_killed_while_pools_work(self) -> None:
        """They have theirs; those that come later start another."""
        with Pool(1) as first, Pool(1, preload=abs, preload_args=(1,)) as second:
            assert first.map(crimes.run, [1]) == [2]
            second.map(lambda *_: None, [1])
            former = shared()
            os.kill(former, signal.SIGKILL)
            assert first.map(crimes.run, range(50)) == [2 * number for number in range(50)]
            outcomes = list(first.outcomes(crimes.run, [1, "exit_at_once", 2]))
            assert [outcome.ok for outcome in outcomes] == [True, False, True]
            with Pool(1) as third:
                assert third.map(crimes.run, [1]) == [2]
            assert shared() != former

    def test_the_template_of_one_pool_concerns_no_other(self) -> None:
        with Pool(1) as first, Pool(1) as second:
            (template,) = first.map(crimes.run, ["look_for_parent"])
            before = second.map(crimes.who, [1])
            os.kill(template, signal.SIGKILL)
            assert first.map(crimes.run, [1]) == [2]
            assert second.map(crimes.who, [1]) == before

    def test_lost_as_a_worker_is_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What the worker was to inherit arrives nowhere: another template starts one that does."""
        resource_tracker.ensure_running()
        launch = TemplateLauncher.launch
        lost: list[object] = []

        def launch_and_lose(self: TemplateLauncher, *arguments: int) -> None:
            if not lost:
                lost.append(self.pid)
                self.kill()
                assert select.select(self.descriptors(), [], [], PATIENCE_S)[0]
            launch(self, *arguments)

        monkeypatch.setattr(TemplateLauncher, "launch", launch_and_lose)
        with Pool(1) as pool:
            assert pool.map(crimes.run, [1]) == [2]
        assert lost

    def test_a_program_that_is_killed_between_two_pools(self, tmp_path: Path, bell: Bell) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import signal, sys\n"
            "from tests.process.surroundings import seen, shared\n"
            "from tests.process.waiting import ring\n"
            "seen()\n"
            "ring(sys.argv[1], shared())\n"
            "signal.pause()\n"
        )
        with scripts.running([str(script), bell.path], folder=tmp_path) as process:
            ((_, word),) = bell.hear()
            process.kill()
            wait_gone([int(word)])

    def test_a_program_that_ends_leaves_none(self, tmp_path: Path) -> None:
        script = "from tests.process.surroundings import seen, shared\nseen()\nprint(shared())\n"
        ending = scripts.run(script, tmp_path)
        assert not os.path.exists(f"/proc/{int(ending.out)}")

    def test_a_fork_of_the_program_has_one_of_its_own(self, tmp_path: Path) -> None:
        ending = scripts.run(
            "import os\n"
            "from tests.process.surroundings import seen, shared\n"
            "seen()\n"
            "former = shared()\n"
            "if not os.fork():\n"
            "    seen()\n"
            "    print(shared() != former, flush=True)\n"
            "else:\n"
            "    os.wait()\n"
            "    seen()\n"
            "    print(shared() == former)\n",
            tmp_path,
        )
        assert (ending.out, ending.err) == ("True\nTrue\n", "")


def launcher_of(pool: Pool) -> TemplateLauncher:
    found = pool._driver.backend._worker_table.launcher  # type: ignore[attr-defined]
    assert isinstance(found, TemplateLauncher)
    return found


def stop(pool: Pool, who: str) -> tuple[int, int]:
    """Stop what starts a pool's workers and tells of their ends: its template, the program's, or both."""
    former = shared(), launcher_of(pool).pid
    for pid in {"its own": former[1:], "the program's": former[:1], "both": former}[who]:
        os.kill(pid, signal.SIGSTOP)
        wait_until(partial(procfs.is_stopped, pid))
    return former


def leave_one_behind(path: str, command: str) -> None:
    """Start a shell in a session of its own; it runs until it is killed, and this process is."""
    subprocess.Popen(["sh", "-c", command, path], start_new_session=True)
    time.sleep(PATIENCE_S)


def fields_of(pid: int) -> list[bytes]:
    """State, parent, ... of a process; of one that is gone none."""
    return procfs.stat_fields(pid) or []


class TestOrphans:
    """What killed tasks leave behind. Where the program is the first process of a container, nobody else reaps it."""

    def left_behind(self, pool: Pool, path: Path, command: str) -> int:
        call = pool.submit(leave_one_behind, str(path), command)
        pid = int(wait_until(lambda: path.exists() and path.read_text().strip()))
        call.cancel()
        wait_until(lambda: int(fields_of(pid)[1]) == shared(), "that it is adopted")
        return pid

    def test_they_are_reaped(self, tmp_path: Path) -> None:
        with Pool(1) as pool:
            pid = self.left_behind(pool, tmp_path / "pid", "echo $$ > $0; exec sleep 1000")
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not fields_of(pid), "that it is reaped")
            assert pool.map(crimes.run, [1]) == [2]

    def test_also_without_any_pool(self, tmp_path: Path) -> None:
        with Pool(1) as pool:
            pid = self.left_behind(pool, tmp_path / "pid", "echo $$ > $0; exec sleep 1000")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not fields_of(pid), "that it is reaped")

    def test_what_they_have_started_goes_on(self, tmp_path: Path) -> None:
        """A daemon's first process ends as soon as the daemon runs, which may have the same group."""
        daemon = tmp_path / "daemon"
        with Pool(1) as pool:
            command = f"sleep 1000 & echo $! > {daemon}; echo $$ > $0; read line < {tmp_path / 'gate'}"
            os.mkfifo(tmp_path / "gate")
            first = self.left_behind(pool, tmp_path / "pid", command)
            (tmp_path / "gate").write_text("go on\n")
            wait_until(lambda: not fields_of(first), "that it is reaped")
            pid = int(daemon.read_text())
            try:
                assert fields_of(pid)[:2] == [b"S", b"%d" % shared()]
            finally:
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not fields_of(pid), "that it is reaped")


@pytest.mark.parametrize("method", ["template", "spawn"])
@pytest.mark.parametrize("who", ["its own", "the program's", "both"])
class TestStopped:
    """Whoever waits for a template that somebody has stopped has it go on."""

    def test_while_a_worker_is_lost(self, who: str, method: str) -> None:
        with Pool(
            1,
            start_method=method,
        ) as pool:
            pool.map(crimes.run, [1])
            former = stop(pool, who)
            found = list(pool.outcomes(crimes.run, [1, "kill_itself", 3]))
            assert [outcome.kind for outcome in found] == [Kind.OK, Kind.WORKER_LOST, Kind.OK]
            assert "SIGKILL" in str(found[1].error)
            assert (shared(), launcher_of(pool).pid) == former

    def test_while_an_item_is_ended(self, who: str, method: str) -> None:
        with Pool(1, start_method=method, limits=Limits(grace_s=0)) as pool:
            pool.map(crimes.run, [1])
            former = stop(pool, who)
            (outcome,) = pool.outcomes(time.sleep, [PATIENCE_S], timeout=0.05)
            assert outcome.kind is Kind.TIMED_OUT
            assert pool.map(crimes.run, [1]) == [2]
            assert (shared(), launcher_of(pool).pid) == former

    def test_while_its_pool_is_closed(self, who: str, method: str) -> None:
        pool = Pool(1, start_method=method)
        pids = pool.map(crimes.who, [1])
        launcher, thread = launcher_of(pool), pool._driver.backend._thread  # type: ignore[attr-defined]
        pids += stop(pool, who)[1:]
        pool.close()
        # Not by the time that a close has, nor because it was killed.
        assert not thread.is_alive()
        assert launcher.status == 0
        wait_gone(pids)

    def test_while_another_pool_is_made(self, who: str, method: str) -> None:
        with Pool(1) as first:
            first.map(crimes.run, [1])
            former = stop(first, who)
            with Pool(1, start_method=method) as second:
                assert second.map(crimes.run, [1]) == [2]
            assert shared() == former[0]
            assert first.map(crimes.run, [1]) == [2]

    def test_while_it_is_given_up(self, who: str, method: str) -> None:
        template = templates.acquire()
        with Pool(1, start_method=method) as pool:
            pool.map(crimes.run, [1])
            stop(pool, who)
        templates.retire(template)
        templates.release(template)
        assert template.status == 0


def test_pools_made_by_many_threads_at_once() -> None:
    templates.shutdown()
    found: list[int] = []

    def work() -> None:
        with Pool(1) as pool:
            found.extend(pool.map(grandparent, [1]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [shared()] * 8


def test_nothing_is_started_by_an_import_or_a_pool_of_threads(tmp_path: Path) -> None:
    ending = scripts.run(
        "import allcores\n"
        "for name in allcores.__all__:\n"
        "    getattr(allcores, name)\n"
        "import allcores.backends.processes.backend\n"
        "with allcores.Pool(1, backend='threads') as pool:\n"
        "    pool.map(abs, [1])\n"
        "import os\n"
        "print(open(f'/proc/self/task/{os.getpid()}/children').read().split())\n",
        tmp_path,
    )
    assert ending.out == "[]\n", ending
