"""system/cores.py: cores, threads and memory, from made-up machines laid out as files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from allcores.errors import UsageError
from allcores.system.cores import (
    BUDGET_VARIABLE,
    NO_LIMIT,
    OURS_VARIABLE,
    Budget,
    MemoryGauge,
    core_budget,
    machine_memory,
    oom_kills,
    thread_environment,
)

GIB = 1024**3

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
OTHER_MOUNTS = "23 1 8:1 / / rw - ext4 /dev/sda1 rw\n24 23 0:5 / /proc rw - proc proc rw\nnonsense\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class Machine:
    """A folder that looks like a machine's root."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = str(folder)

    def write(self, path: str, text: str) -> None:
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def groups(self, cgroup: str, mounts: str) -> Machine:
        self.write("/proc/self/cgroup", cgroup)
        self.write("/proc/self/mountinfo", OTHER_MOUNTS + mounts)
        return self

    def cores(self, **environ: str) -> Budget:
        return core_budget(root=self.root, environ=environ, logical=16, affinity=8)


# --- cores ----------------------------------------------------------------------------------------


def test_bare_machine(machine: Machine) -> None:
    """Without any file and limit, the affinity is the budget, and each figure has a reason."""
    budget = machine.cores()
    assert budget == Budget(8, 16, 8, None, None, budget.reasons)
    assert budget.reasons == (
        "the machine has 16 cores",
        "this process may run on 8 of them (affinity)",
    )


@pytest.mark.parametrize(
    ("limits", "quota", "workers"),
    [
        ({"": "max 100000"}, None, 8),
        ({"": "max"}, None, 8),
        ({"/a/b": "200000 100000"}, 2.0, 2),
        ({"/a/b": "150000 100000"}, 1.5, 2),
        ({"/a/b": "10000 100000"}, 0.1, 1),
        ({"/a/b": "300000"}, 3.0, 3),
        ({"/a/b": "99999 33333"}, 3.0, 3),
        ({"/a/b": "9900000 100000"}, 99.0, 8),
        # each level counts, the smallest wins
        ({"/a/b": "max 100000", "/a": "400000 100000"}, 4.0, 4),
        ({"/a/b": "400000 100000", "/a": "200000 100000", "": "600000 100000"}, 2.0, 2),
        # neighbours do not
        ({"/a/c": "100000 100000", "/b": "100000 100000"}, None, 8),
        # what makes no sense is no quota
        ({"/a/b": ""}, None, 8),
        ({"/a/b": "-5 100000"}, None, 8),
        ({"/a/b": "0 100000"}, None, 8),
        ({"/a/b": "100000 0"}, None, 8),
        ({"/a/b": "lots 100000"}, None, 8),
    ],
)
def test_quota_version_2(machine: Machine, limits: dict[str, str], quota: float | None, workers: int) -> None:
    """cpu.max is read at the process's group and each one above; the quota is rounded up."""
    machine.groups("0::/a/b\n", V2)
    for group, text in limits.items():
        machine.write(f"/sys/fs/cgroup{group}/cpu.max", text + "\n")
    budget = machine.cores()
    assert (budget.quota, budget.workers) == (quota, workers)
    assert any("quota" in reason for reason in budget.reasons) == (quota is not None)


def test_quota_reason(machine: Machine) -> None:
    """The reason names the file that holds the quota, and the rounding."""
    machine.groups("0::/a/b\n", V2)
    machine.write("/sys/fs/cgroup/a/cpu.max", "150000 100000")
    reason = "the container's quota is 1.5 cores, rounded up to 2 (/sys/fs/cgroup/a/cpu.max)"
    assert reason in machine.cores().reasons


@pytest.mark.parametrize(
    ("quota_us", "period_us", "quota"),
    [("-1", "100000", None), ("250000", "100000", 2.5), ("50000", "50000", 1.0), ("250000", "", None)],
)
def test_quota_version_1(machine: Machine, quota_us: str, period_us: str, quota: float | None) -> None:
    """cpu.cfs_quota_us over cpu.cfs_period_us, where controllers share a hierarchy."""
    machine.groups("5:memory:/m\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/x\n", V1_CPU + V1_MEMORY)
    machine.write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", quota_us)
    machine.write("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", period_us)
    assert machine.cores().quota == quota


def test_hybrid(machine: Machine) -> None:
    """Where both versions are mounted, both are read."""
    unified = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    machine.groups("1:cpu:/a\n0::/b\n", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n" + unified)
    machine.write("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000")
    machine.write("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000")
    assert machine.cores().quota == 3.0
    machine.write("/sys/fs/cgroup/unified/b/cpu.max", "200000 100000")
    assert machine.cores().quota == 2.0


@pytest.mark.parametrize(
    ("path", "root", "mount", "file"),
    [
        # a container with a cgroup namespace of its own
        ("/", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu.max"),
        # without one: the container's long name on both sides
        ("/docker/abc", "/docker/abc", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu.max"),
        ("/docker/abc/child", "/docker/abc", "/sys/fs/cgroup", "/sys/fs/cgroup/child/cpu.max"),
        # the mount shows another part of the hierarchy than the one we are in
        ("/docker/abcdef", "/docker/abc", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu.max"),
        ("/../other", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu.max"),
        ("/", "/../..", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu.max"),
        # the group's folder cannot be seen, but the mount's own can
        ("/docker/abc", "/", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu.max"),
        # another mount point, with a space in it
        ("/a", "/", "/mnt/my\\040groups", "/mnt/my groups/a/cpu.max"),
    ],
)
def test_mounts_in_containers(machine: Machine, path: str, root: str, mount: str, file: str) -> None:
    """The group is found whatever part of the hierarchy the container sees, and where."""
    machine.groups(f"0::{path}\n", f"31 23 0:28 {root} {mount} rw - cgroup2 cgroup2 rw\n")
    machine.write(file, "200000 100000")
    assert machine.cores().quota == 2.0


def test_not_mounted(machine: Machine) -> None:
    """A group that is mounted nowhere is no group."""
    machine.groups("0::/a\n3:cpu:/a\n", "")
    assert machine.cores().quota is None


@pytest.mark.parametrize(
    ("text", "inherited", "workers", "words"),
    [
        ("3", 3, 3, "allows 3 cores"),
        (" 1 ", 1, 1, "allows 1 core "),
        ("64", 64, 8, "allows 64 cores"),
        ("0", None, 8, "ignored"),
        ("-2", None, 8, "ignored"),
        ("2.5", None, 8, "ignored"),
        ("many", None, 8, "'many' is ignored"),
        ("²", None, 8, "ignored"),
    ],
)
def test_share_of_an_outer_pool(machine: Machine, text: str, inherited: int | None, workers: int, words: str) -> None:
    """ALLCORES_BUDGET lowers the budget and never raises it; nonsense is ignored and said to be."""
    budget = machine.cores(**{BUDGET_VARIABLE: text})
    assert (budget.inherited, budget.workers) == (inherited, workers)
    assert words in budget.reasons[-1]


def test_empty_share_is_none(machine: Machine) -> None:
    """An empty ALLCORES_BUDGET is as good as none."""
    assert machine.cores(**{BUDGET_VARIABLE: ""}) == machine.cores()


def test_this_machine() -> None:
    """On the machine that runs this, whatever it is, the figures hang together."""
    budget = core_budget()
    assert 1 <= budget.workers <= max(budget.affinity, budget.logical)
    assert budget.logical == os.cpu_count()
    assert budget.reasons


def test_elsewhere_than_on_linux(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without affinity, /proc and sysconf, Python's own count is the answer, without an error."""
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    budget = core_budget(root=machine.root, environ={})
    assert budget == Budget(12, 12, 12, None, None, ("the machine has 12 cores",))
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert core_budget(root=machine.root, environ={}).workers == 1
    memory = machine_memory(root=machine.root)
    assert (memory.total, memory.available, memory.limit, memory.reasons) == (None, None, None, ())
    assert oom_kills(root=machine.root) is None


def test_process_cpu_count_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python knows better than the affinity (PYTHON_CPU_COUNT), it is believed."""
    monkeypatch.setattr(os, "process_cpu_count", lambda: 3, raising=False)
    assert core_budget(environ={}, root="/nowhere").affinity == 3


def test_import_is_light() -> None:
    """Importing budget loads none of the modules that make an import slow."""
    heavy = "{'pathlib', 'subprocess', 'multiprocessing', 'ctypes', 'typing_extensions', 'cloudpickle'}"
    code = (
        "import sys; before = set(sys.modules); import allcores.system.cores; "
        f"print(sorted((set(sys.modules) - before) & {heavy}))"
    )
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# --- threads --------------------------------------------------------------------------------------


def test_threads_of_one() -> None:
    """One thread: every library gets 1, and tokenizers is told not to start any."""
    settings = thread_environment(1, environ={})
    ours = settings.pop(OURS_VARIABLE)
    assert ours == ",".join(sorted(settings))
    assert settings.pop("TOKENIZERS_PARALLELISM") == "false"
    assert set(settings.values()) == {"1"}
    assert settings.keys() >= {
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "RAYON_NUM_THREADS",
    }


def test_threads_of_several() -> None:
    """Several threads: tokenizers is left to follow RAYON_NUM_THREADS."""
    settings = thread_environment(4, environ={})
    assert "TOKENIZERS_PARALLELISM" not in settings
    assert settings["RAYON_NUM_THREADS"] == settings["OMP_NUM_THREADS"] == "4"


def test_what_the_user_has_set_stays() -> None:
    """A variable that is set is left alone; with OMP_NUM_THREADS so are those that follow it."""
    settings = thread_environment(1, environ={"MKL_NUM_THREADS": "8", "TOKENIZERS_PARALLELISM": "true"})
    assert "MKL_NUM_THREADS" not in settings and "TOKENIZERS_PARALLELISM" not in settings
    assert settings["OMP_NUM_THREADS"] == settings["OPENBLAS_NUM_THREADS"] == "1"
    settings = thread_environment(1, environ={"OMP_NUM_THREADS": "8"})
    assert not settings.keys() & {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}
    assert settings["NUMBA_NUM_THREADS"] == "1"


def test_nested_pools_may_lower_what_an_outer_pool_set() -> None:
    """What an outer pool has set is not mistaken for the user's wish; the user's stays, at any depth."""
    user = {"MKL_NUM_THREADS": "8"}
    outer = user | thread_environment(4, environ=user)
    inner = outer | thread_environment(1, environ=outer)
    innermost = inner | thread_environment(1, environ=inner)
    assert outer["OMP_NUM_THREADS"] == "4"
    assert inner["OMP_NUM_THREADS"] == innermost["OMP_NUM_THREADS"] == "1"
    assert innermost["MKL_NUM_THREADS"] == "8"


def test_threads_below_one() -> None:
    """Less than one thread is a mistake."""
    with pytest.raises(UsageError, match="threads=0"):
        thread_environment(0, environ={})


# --- memory ---------------------------------------------------------------------------------------

MEMINFO = f"""MemTotal:       {16 * 1024**2} kB
MemFree:  100 kB
MemAvailable:   {10 * 1024**2} kB
HugePages_Total: 0
"""


def test_memory_of_a_bare_machine(machine: Machine) -> None:
    """Without a group, the figures of /proc/meminfo count."""
    machine.write("/proc/meminfo", MEMINFO)
    memory = machine_memory(root=machine.root)
    assert (memory.total, memory.available, memory.limit) == (16 * GIB, 10 * GIB, None)
    assert memory.reasons == ("the machine has 16 GB of memory", "10 GB are available")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        ({"/a/b": "max"}, None),
        ({"/a/b": str(4 * GIB)}, 4 * GIB),
        ({"/a/b": "max", "/a": str(2 * GIB), "": str(8 * GIB)}, 2 * GIB),
        ({"/a/b": str(64 * GIB)}, None),  # more than the machine has
        ({"/a/b": str(NO_LIMIT)}, None),
        ({"/a/b": "nonsense"}, None),
    ],
)
def test_memory_limit_version_2(machine: Machine, limits: dict[str, str], limit: int | None) -> None:
    """memory.max is read at each level, and the smallest below the machine's memory counts."""
    machine.write("/proc/meminfo", MEMINFO)
    machine.groups("0::/a/b\n", V2)
    for group, text in limits.items():
        machine.write(f"/sys/fs/cgroup{group}/memory.max", text + "\n")
    memory = machine_memory(root=machine.root)
    assert (memory.total, memory.limit) == (16 * GIB, limit)
    assert any("limit" in reason for reason in memory.reasons) == (limit is not None)


def test_memory_left_within_a_limit(machine: Machine) -> None:
    """What is left is the limit less what is used, where old pages of files do not count as used."""
    machine.write("/proc/meminfo", MEMINFO)
    machine.groups("0::/a\n", V2)
    machine.write("/sys/fs/cgroup/a/memory.max", str(4 * GIB))
    machine.write("/sys/fs/cgroup/a/memory.current", str(3 * GIB))
    machine.write("/sys/fs/cgroup/a/memory.stat", f"anon 5\ninactive_file {GIB}\n")
    assert machine_memory(root=machine.root).available == 2 * GIB
    machine.write("/sys/fs/cgroup/a/memory.current", str(6 * GIB))
    assert machine_memory(root=machine.root).available == 0


def test_memory_limit_version_1(machine: Machine) -> None:
    """The same from version 1's files, whose "no limit" is a huge number."""
    machine.write("/proc/meminfo", MEMINFO)
    machine.groups("4:memory:/docker/abc\n", V1_MEMORY)
    machine.write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert machine_memory(root=machine.root).limit is None
    machine.write("/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", str(2 * GIB))
    machine.write("/sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", str(GIB))
    machine.write("/sys/fs/cgroup/memory/docker/abc/memory.stat", f"total_inactive_file {GIB // 2}\n")
    memory = machine_memory(root=machine.root)
    assert (memory.limit, memory.available) == (2 * GIB, GIB + GIB // 2)


def gauge_of(machine: Machine) -> MemoryGauge:
    return MemoryGauge(root=machine.root)


def test_the_gauge_says_what_the_tightest_group_leaves(machine: Machine) -> None:
    """Of the process's own group and those above it, at each look; the total is that of the smallest limit."""
    machine.write("/proc/meminfo", MEMINFO)
    machine.groups("0::/a/b\n", V2)
    gauge = gauge_of(machine)
    assert gauge() == (10 * GIB, 16 * GIB)
    for group, limit, used in [("/a/b", 8, 1), ("/a", 12, 11)]:
        machine.write(f"/sys/fs/cgroup{group}/memory.max", str(limit * GIB))
        machine.write(f"/sys/fs/cgroup{group}/memory.current", str(used * GIB))
    assert gauge_of(machine)() == (1 * GIB, 8 * GIB)


def test_the_gauge_counts_pages_that_the_kernel_drops(machine: Machine) -> None:
    """Old pages of files are as good as free, of newer ones half: a program may need those."""
    machine.write("/proc/meminfo", MEMINFO)
    machine.groups("4:memory:/m\n", V1_MEMORY)
    machine.write("/sys/fs/cgroup/memory/m/memory.limit_in_bytes", str(4 * GIB))
    machine.write("/sys/fs/cgroup/memory/m/memory.usage_in_bytes", str(4 * GIB))
    machine.write("/sys/fs/cgroup/memory/m/memory.stat", f"total_inactive_file {GIB}\ntotal_active_file {GIB}\n")
    gauge = gauge_of(machine)
    assert gauge() == (GIB + GIB // 2, 4 * GIB) == (machine_memory(root=machine.root).available, 4 * GIB)
    machine.write("/sys/fs/cgroup/memory/m/memory.usage_in_bytes", str(3 * GIB))
    assert gauge() == (2 * GIB + GIB // 2, 4 * GIB)


def test_the_gauge_follows_a_process_that_is_moved(machine: Machine) -> None:
    machine.write("/proc/meminfo", MEMINFO)
    machine.groups("0::/a\n", V2)
    machine.write("/sys/fs/cgroup/b/memory.max", str(2 * GIB))
    machine.write("/sys/fs/cgroup/b/memory.current", str(GIB))
    gauge = gauge_of(machine)
    assert gauge() == (10 * GIB, 16 * GIB)
    machine.write("/proc/self/cgroup", "0::/b\n")
    assert gauge() == (GIB, 2 * GIB)


def test_the_gauge_says_nothing_where_nothing_is_known(machine: Machine) -> None:
    assert gauge_of(machine)() is None


def test_memory_of_this_machine() -> None:
    """On the machine that runs this, whatever it is, the figures hang together."""
    memory = machine_memory()
    if memory.total is not None:
        assert memory.limit is None or 0 < memory.limit < memory.total
        assert memory.available is None or 0 <= memory.available <= memory.total


def test_kills_version_2(machine: Machine) -> None:
    """The count of the process's own group; a group above counts strangers and is not asked."""
    machine.groups("0::/a/b\n", V2)
    machine.write("/proc/vmstat", "pgfault 12\noom_kill 7\n")
    machine.write("/sys/fs/cgroup/a/memory.events", "low 0\noom 9\noom_kill 9\noom_group_kill 0\n")
    assert oom_kills(root=machine.root) == 7
    machine.write("/sys/fs/cgroup/a/b/memory.events", "low 0\nhigh 4\noom 3\noom_kill 2\n")
    assert oom_kills(root=machine.root) == 2


def test_kills_version_1(machine: Machine) -> None:
    """The same from version 1's memory.oom_control; older kernels do not count there."""
    machine.groups("4:memory:/a\n", V1_MEMORY)
    machine.write("/sys/fs/cgroup/memory/a/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    assert oom_kills(root=machine.root) is None
    machine.write("/sys/fs/cgroup/memory/a/memory.oom_control", "oom_kill_disable 0\noom_kill 5\n")
    assert oom_kills(root=machine.root) == 5
