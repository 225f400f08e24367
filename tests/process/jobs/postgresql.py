"""A PostgreSQL of a test run's own, started where its programs are found; it ends with the run, however that ends."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from allcores.system import procfs

#: the user that the server runs as if this is root, which PostgreSQL refuses
OTHER_USER = "nobody"
#: ends the server and removes its files once this process is gone, or says so: a process of nobody's, or the leak check
#: would take it for a test's
_KEEPER = (
    '(while [ -d "/proc/$3" ] && [ ! -e "$2/over" ]; do sleep 0.2; done;'
    ' "$1/pg_ctl" stop -D "$2/data" -m immediate; rm -rf -- "$2") >/dev/null 2>&1 </dev/null &'
)


def programs() -> str | None:
    """The folder with initdb and pg_ctl; None if there is none."""
    found = shutil.which("initdb")
    folders = [*([os.path.dirname(os.path.realpath(found))] if found else []), *glob.glob("/usr/lib/postgresql/*/bin")]
    for each in folders:
        if all(os.access(os.path.join(each, name), os.X_OK) for name in ("initdb", "pg_ctl", "postgres")):
            return each
    return None


def why_not() -> str | None:
    """Why no server can be started; None if one can."""
    if programs() is None:
        return "PostgreSQL is not installed (initdb is not found)"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL refuses to be run by root, and setpriv is not found"
    return None


class Server:
    """A running server; it listens on a socket in its own folder alone."""

    def __init__(self, folder: str, control: Callable[..., None]) -> None:
        self.folder = folder
        self._control = control
        self._count = 0

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=60"
        # Others may look at what is left in /dev/shm.
        options += " -c dynamic_shared_memory_type=mmap"
        self._control("start", "-w", "-o", options, "-l", f"{self.folder}/log")

    def stop(self, how: str = "fast") -> None:
        """End it, and wait for that.

        Args:
            how: "fast": it ends its sessions and is whole. "immediate": it crashes.
        """
        self._control("stop", "-w", "-m", how)

    def send(self, number: int) -> None:
        """Send a signal to all its processes: SIGSTOP freezes it, as a disk that hangs does."""
        with open(f"{self.folder}/data/postmaster.pid") as file:
            first = int(file.readline())
        for pid in list(procfs.tree(first)):
            with contextlib.suppress(ProcessLookupError):  # a session that has just ended
                os.kill(pid, number)

    def url(self, database: str) -> str:
        return f"postgresql://allcores@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Address of an empty database."""
        self._count += 1
        name = f"test_{self._count}"
        self.execute(f"CREATE DATABASE {name}", "postgres")
        return self.url(name)

    def start_again(self) -> None:
        """Start it, unless it runs."""
        if not os.path.exists(f"{self.folder}/data/postmaster.pid"):
            self.start()

    def end_sessions(self, url: str) -> None:
        """End all sessions of a database, as the server does when it ends."""
        name = url.partition("@/")[2].partition("?")[0]
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'", "postgres")

    def execute(self, statement: str, database: str) -> None:
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server for as long as the block lasts."""
    bin_folder = programs()
    assert bin_folder is not None
    folder = tempfile.mkdtemp(prefix="allcores-postgresql-")
    # Not marked as a part of this test run: its processes come and go with connections.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "ALLCORES"))}
    run: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, OTHER_USER)
        user = pwd.getpwnam(OTHER_USER)
        run = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    keeper = [*run, "sh", "-c", _KEEPER, "keeper", bin_folder, folder, str(os.getpid())]
    subprocess.run(keeper, check=True, env=environ, cwd=folder, start_new_session=True, timeout=60)
    try:
        initdb = [f"{bin_folder}/initdb", "-D", f"{folder}/data", "-U", "allcores", "-A", "trust", "--no-sync"]
        subprocess.run([*run, *initdb], check=True, capture_output=True, env=environ, cwd=folder, timeout=120)

        def control(what: str, *words: str) -> None:
            command = [*run, f"{bin_folder}/pg_ctl", what, "-D", f"{folder}/data", *words]
            subprocess.run(command, check=True, capture_output=True, env=environ, cwd=folder, timeout=120)

        made = Server(folder, control)
        made.start()
        yield made
    finally:
        subprocess.run([*run, "touch", f"{folder}/over"], check=True, env=environ, cwd="/", timeout=60)
