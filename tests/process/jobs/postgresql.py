"""A PostgreSQL of a test run's own, started where its programs are found; it ends with the run, however that ends."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator

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

    def __init__(self, folder: str, run: list[str]) -> None:
        self.folder = folder
        self._run = run
        self._count = 0

    def url(self, database: str) -> str:
        return f"postgresql://allcores@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """Address of an empty database."""
        self._count += 1
        name = f"test_{self._count}"
        self.execute(f"CREATE DATABASE {name}", "postgres")
        return self.url(name)

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
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off -c max_connections=60"
        # Others may look at what is left in /dev/shm.
        options += " -c dynamic_shared_memory_type=mmap"
        start = [f"{bin_folder}/pg_ctl", "start", "-w", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log"]
        subprocess.run([*run, *start], check=True, capture_output=True, env=environ, cwd=folder, timeout=120)
        yield Server(folder, run)
    finally:
        subprocess.run([*run, "touch", f"{folder}/over"], check=True, env=environ, cwd="/", timeout=60)
