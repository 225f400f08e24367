"""Programs of their own: the tests write them to a file, run them, and read what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.process.waiting import PATIENCE_S

#: where `allcores` and `tests` are imported from, for a program that starts anywhere
PATHS = [str(Path(__file__).parents[2]), str(Path(__file__).parents[2] / "src")]


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def environment(**more: str) -> dict[str, str]:
    """Where the program finds us, and nothing that changes what it prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": os.pathsep.join(PATHS), "PYTHONWARNINGS": "error", **more}


@contextmanager
def running(
    arguments: list[str],
    *,
    folder: Path,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    environ: dict[str, str] | None = None,
    **options: object,
) -> Iterator[subprocess.Popen[bytes]]:
    """Python with these arguments, for as long as the block lasts; then it is ended if it still runs."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment() if environ is None else environ,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def finish(process: subprocess.Popen[bytes], text: str | None = None) -> Ended:
    """Wait for the end, which has to come in time."""
    out, err = process.communicate(text.encode() if text is not None else None, timeout=PATIENCE_S)
    return Ended(process.returncode, out.decode(), err.decode())


def run(source: str, folder: Path, *arguments: str) -> Ended:
    """A script file, run to its end."""
    script = folder / "script.py"
    script.write_text(source)
    with running([str(script), *arguments], folder=folder) as process:
        return finish(process)
