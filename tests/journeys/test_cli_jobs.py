"""`allcores jobs` on a store that nobody runs: submit, list, show, cancel, retry, remove, count."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.process.scripts import environment
from tests.process.warm import Interpreter

from allcores.cli.exits import Exit

pytest.importorskip("sqlalchemy")
from allcores.jobs import JobStore, health
from allcores.jobs.model import Submission

pytestmark = pytest.mark.slow

TASKS = """\
from allcores.jobs import task

@task(retries=3, tags=["sums"])
def add(a: int, b: int = 1) -> int:
    return a + b
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


Jobs = Callable[..., str]


@pytest.fixture
def jobs(folder: Path, warm_jobs: Interpreter) -> Jobs:
    """What the command prints; of one that fails, its sentence. test_serve.py has a fresh one."""

    def jobs(*arguments: str, code: int = 0) -> str:
        done = warm_jobs.run("jobs", "--store", "jobs.sqlite", *arguments, folder=folder)
        assert done.code == code, done.out + done.err
        assert "Traceback" not in done.err
        return done.out if code == 0 else done.err

    return jobs


def test_a_job_that_the_supervisor_cannot_run_is_told(folder: Path, warm_jobs: Interpreter) -> None:
    """It waits until one is there that has the task; who submitted it would wait as long."""
    now = time.time()
    with JobStore.open(folder / "jobs.sqlite") as store:
        health.write(store.folder, health.SupervisorHealth(os.getpid(), now + 600, now, "working", tasks=("add",)))
    done = warm_jobs.run("jobs", "--store", "jobs.sqlite", "submit", "ad", "a=1", folder=folder)
    reason = f"waits: the supervisor that runs (process {os.getpid()}) has no task 'ad': did you mean 'add'?"
    assert done.code == 0 and reason in done.err
    shown = warm_jobs.run("jobs", "--store", "jobs.sqlite", "show", done.out.strip(), folder=folder)
    assert shown.code == 0 and reason in shown.err
    assert warm_jobs.run("jobs", "--store", "jobs.sqlite", "submit", "add", "a=1", folder=folder).err == ""


@pytest.mark.parametrize("command", ["submit", "show", "wait"])
def test_a_job_that_nobody_runs_is_told(folder: Path, warm_jobs: Interpreter, command: str) -> None:
    """A store that was named wrongly, for one, or not named: whoever waits for the job would wait for ever."""
    submitted = warm_jobs.run("jobs", "--store", "jobs.sqlite", "submit", "add", "a=1", folder=folder)
    job = submitted.out.strip()
    words = {"show": ["show", job], "wait": ["wait", job, "--timeout", "0"]}.get(command)
    done = submitted if words is None else warm_jobs.run("jobs", "--store", "jobs.sqlite", *words, folder=folder)
    reason = f"job {job} waits: no supervisor runs the jobs of {folder / 'jobs.sqlite'}: start one, with allcores work"
    assert reason in done.err
    with JobStore.open(folder / "jobs.sqlite") as store:
        lock = store.become_supervisor()
        done = warm_jobs.run("jobs", "--store", "jobs.sqlite", "show", job, folder=folder)
        assert "waits" not in done.err
        lock.release()


@pytest.mark.parametrize("command", ["list", "show x", "wait x", "retry x", "cancel x", "rm x", "stats"])
def test_a_store_that_is_not_there_is_named_and_not_made(jobs: Jobs, folder: Path, command: str) -> None:
    """A name that was mistyped would have an empty store of its own."""
    before = os.listdir(folder)
    said = jobs(*command.split(), "--store", "typo.sqlite", code=2)
    assert f"there is no store of jobs at {folder / 'typo.sqlite'}: name the one that" in said
    assert os.listdir(folder) == before


def test_submit_list_show_and_wait(jobs: Jobs, folder: Path) -> None:
    JobStore.open(folder / "jobs.sqlite").close()
    assert "no jobs yet" in jobs()
    made = json.loads(jobs("submit", "--tasks", "tasks.py", "add", "a=1", "--priority", "2", "--json"))
    assert (made["state"], made["arguments"], made["priority"]) == ("queued", {"a": 1}, 2)
    assert (made["retries"], made["tags"], made["replayed"]) == (3, ["sums"], False)
    assert "(shell)" in made["submitted_by"]
    listed = jobs("list")
    assert made["id"] in listed and "queued" in listed
    assert made["id"] in jobs("show", made["id"][:20])
    assert [each["id"] for each in json.loads(jobs("list", "--tag", "sums", "--json"))["jobs"]] == [made["id"]]
    assert "not at an end yet" in jobs("wait", made["id"], "--timeout", "0.05", code=8)


def test_a_task_that_is_not_known_here_has_retries_of_its_own(jobs: Jobs) -> None:
    """As it has a deadline: both are known where it runs. What is given holds."""
    made = json.loads(jobs("submit", "add", "a=1", "--json"))
    assert (made["retries"], made["timeout"]) == (None, None)
    assert "0 attempts (as many as its task says)" in jobs("show", made["id"])
    given = json.loads(jobs("submit", "add", "a=1", "--retries", "0", "--json"))
    assert given["retries"] == 0
    assert "0 attempts (1 at most)" in jobs("show", given["id"])


def test_a_time_and_an_address(jobs: Jobs) -> None:
    words = (
        "submit",
        "add",
        "a=1",
        "--run-at",
        "2040-01-01T00:00:00Z",
        "--webhook",
        "https://example.org/ended",
        "--json",
    )
    made = json.loads(jobs(*words))
    assert (made["run_at"], made["webhook"]) == (2_208_988_800.0, "https://example.org/ended")


def test_failed_items_of_a_job_that_has_none(jobs: Jobs) -> None:
    job = jobs("submit", "add", "a=1").strip()
    assert f"job {job} is queued: its failed items can run again once it has ended" in jobs(
        "retry", "--failed-items", job, code=2
    )


def test_the_same_key_is_the_same_job(jobs: Jobs) -> None:
    first = jobs("submit", "add", "a=1", "--key", "k")
    assert jobs("submit", "add", "a=1", "--key", "k") == first
    assert "k" in jobs("submit", "add", "a=2", "--key", "k", code=2)


def test_what_is_changed(jobs: Jobs) -> None:
    ids = [jobs("submit", "add", f"a={number}").strip() for number in range(3)]
    assert json.loads(jobs("cancel", *ids[:2], "--json"))["count"] == 2
    assert json.loads(jobs("stats", "--json"))["by_state"]["cancelled"] == 2
    assert json.loads(jobs("retry", ids[0], "--json"))["count"] == 1
    jobs("retry", ids[0], code=1)  # it waits already
    assert json.loads(jobs("rm", "--state", "cancelled", "--json"))["count"] == 1
    assert "no job" in jobs("show", ids[1], code=2)
    jobs("rm", ids[0], code=1)  # it has not ended
    assert json.loads(jobs("stats", "--json"))["total"] == 2


def test_more_than_a_page(jobs: Jobs) -> None:
    ids = [jobs("submit", "add", f"a={number}").strip() for number in range(3)]
    first = json.loads(jobs("list", "--limit", "2", "--json"))
    assert [each["id"] for each in first["jobs"]] == ids[:0:-1]
    rest = json.loads(jobs("list", "--limit", "2", "--after", str(first["older"]), "--json"))
    assert [each["id"] for each in rest["jobs"]] == ids[:1]


def test_old_jobs_and_long_lists_of_a_large_store(jobs: Jobs, folder: Path) -> None:
    """A beginning of an id is found however many jobs came since, or have it in arguments; a list has its limit."""
    first = jobs("submit", "add", "a=1").strip()
    with JobStore.open(folder / "jobs.sqlite") as store:
        store.submit_many([Submission("add", {"like": first[:20]})] * 1_200)
        other = store.page(limit=1).jobs[0].id
    assert json.loads(jobs("show", first[:24], "--json"))["id"] == first
    assert "or more jobs' ids, like" in jobs("show", other[:4], code=2)
    listed = json.loads(jobs("list", "--limit", "1100", "--json"))
    assert len({each["id"] for each in listed["jobs"]}) == 1_100
    rest = json.loads(jobs("list", "--limit", "9999", "--after", str(listed["older"]), "--json"))
    assert (len(rest["jobs"]), rest["jobs"][-1]["id"], rest["older"]) == (101, first, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "nothing"], "there is no job 'nothing'"),
        (["cancel", "nothing"], "there is no job 'nothing'"),
        (["list", "--state", "done"], "there are queued, running, succeeded"),
        (["submit", "add", "a"], "write NAME=VALUE"),
        (["submit", "add", "--arguments", "[1]"], "has to be a JSON object"),
        (["submit", "add", "--arguments", "{"], "is no JSON"),
        (["list", "--task", "a\udcff"], "half of a surrogate pair"),
        (["list", "--text", "a\udcff"], "half of a surrogate pair"),
        (["submit", "add", "a=x\udcff"], "half of a surrogate pair"),
        (["submit", "add", "--arguments", '{"a": 1, "a": 2}'], "the name 'a' occurs twice in one object"),
        (["submit", "add", 'a={"x": 1, "x": 2}'], "the name 'x' occurs twice in one object"),
        (["submit", "add", "a=1", "a=2"], "the argument a is given twice"),
        (["submit", "add", "a=1", "--arguments", '{"a": 2}'], "the argument a is given twice"),
        (["submit", "--tasks", "tasks.py", "add", "a=x"], "should be a valid integer"),
        (["submit", "--tasks", "tasks.py", "ad"], "did you mean 'add'"),
        (["submit", "--tasks", "nothing.py", "add"], "there is no file nothing.py"),
        (["submit", "add", "--run-at", "tomorrow"], "--run-at 'tomorrow': it is no time like 2026-11-26T18:30"),
        (["submit", "add", "--run-at", "2030-01-01", "--delay", "5"], "--delay and --run-at both say when"),
        (["submit", "add", "--webhook", "localhost:80"], "begins with http:// or https://, not 'localhost:80'"),
        (["retry", "--failed-items", "nothing"], "there is no job 'nothing'"),
        (["rm"], "name jobs, or a --state"),
        (["rm", "--state", "queued"], "cancel the others first"),
    ],
)
def test_what_is_refused_in_one_sentence(arguments: list[str], sentence: str, jobs: Jobs, folder: Path) -> None:
    JobStore.open(folder / "jobs.sqlite").close()
    said = jobs(*arguments, code=2)
    assert sentence in said
    assert len(said.strip().splitlines()) == 1


def test_numbers_that_are_none(jobs: Jobs) -> None:
    assert "is not in the range" in jobs("list", "--after", "9" * 30, code=2)
    assert "'nan' is no number of seconds" in jobs("wait", "nothing", "--timeout", "nan", code=2)


def test_a_store_that_is_none(jobs: Jobs, folder: Path) -> None:
    (folder / "jobs.sqlite").write_text("this is a text")
    said = jobs("list", code=4)
    assert "jobs.sqlite" in said


@pytest.mark.parametrize(
    ("command", "code"),
    [("list", 0), ("stats", 0), ("submit add a=1", 0), ("show ID", 0), ("cancel ID", 0), ("wait ID", 1), ("rm ID", 0)],
)
def test_the_store_may_stand_behind_the_command(
    command: str, code: int, jobs: Jobs, warm_jobs: Interpreter, folder: Path
) -> None:
    """It counts more than the group's, which may come from the environment."""
    job = json.loads(jobs("submit", "add", "a=1", "--json"))["id"]
    if command in ("wait ID", "rm ID"):
        jobs("cancel", job)
    words = command.replace("ID", job).split()
    elsewhere = {"ALLCORES_STORE": "nowhere/else.sqlite"}
    done = warm_jobs.run("jobs", *words, "--store", "jobs.sqlite", folder=folder, environ=elsewhere)
    assert done.code == code, done.out + done.err
    assert "nowhere" not in done.out + done.err
    assert done.out or done.err


def with_closed_output(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of jobs that is begun with standard output closed."""
    return subprocess.run(
        ["sh", "-c", '"$0" -m allcores jobs --store jobs.sqlite "$@" >&-', sys.executable, *words],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("words", [["submit", "add", "a=1"], ["submit", "add", "a=1", "--json"]])
def test_no_job_is_submitted_whose_id_nobody_is_told(folder: Path, words: list[str]) -> None:
    """With standard output closed (some daemons) it is refused at once: who tries again would have two jobs."""
    done = with_closed_output(folder, *words)
    assert done.returncode == Exit.USAGE
    assert "standard output is closed" in done.stderr
    assert not (folder / "jobs.sqlite").exists()


def test_jobs_that_nobody_would_be_told_of_are_not_removed(jobs: Jobs, folder: Path) -> None:
    """`--json` with standard output closed: nothing is done before that is said."""
    job = jobs("submit", "add", "a=1").strip()
    jobs("cancel", job)
    done = with_closed_output(folder, "rm", "--state", "cancelled", "--json")
    assert done.returncode == Exit.USAGE
    assert json.loads(jobs("show", job, "--json"))["id"] == job
