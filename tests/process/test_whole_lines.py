"""Where Python is unbuffered, what tasks print is whole lines all the same, however many workers print."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.process.scripts import environment
from tests.process.waiting import PATIENCE_S

#: its standard output is a socket of which each message is one write; what is sent to it is a leave to go on
PROGRAM = """
import os, pickle, sys
import allcores

def work(_):
    print("one", 7, sep="-")
    print("two\\n" * 2, end="")
    print("three", file=sys.stdout, flush=True)
    print("four", file=sys.stderr)
    print(*"five", sep=None, end=None)
    try:
        print("no", sep=1)
    except TypeError as error:
        print(error)
    for k in range(200):
        print(k, "x" * 60)
    assert pickle.loads(pickle.dumps(print)) is print
    print(".", end="")
    os.read(1, 1)
    sys.stdout.write("|")
    os.read(1, 1)
    print(".", end=" ")
    os.read(1, 1)
    print()

if __name__ == "__main__":
    with allcores.Pool(workers=1, start_method=sys.argv[1]) as pool:
        pool.map(work, [0])
"""


@pytest.mark.parametrize("method", ["template", "fork", "spawn", "forkserver"])
def test_a_printed_line_is_one_write(method: str, tmp_path: Path) -> None:
    """And what is no line is written at once, so that progress is seen."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(PATIENCE_S)
    environ = environment(PYTHONUNBUFFERED="1", PYTHONWARNINGS="ignore")
    with ours, subprocess.Popen(
        [sys.executable, str(script), method],
        cwd=tmp_path, env=environ, stdin=subprocess.DEVNULL, stdout=theirs.fileno(),
        stderr=theirs.fileno(),
    ) as process:  # fmt: skip
        theirs.close()
        try:
            told = [ours.recv(1 << 16).decode() for _ in range(206)]
            assert told[:6] == [
                "one-7\n",
                "two\ntwo\n",
                "three\n",
                "four\n",
                "f i v e\n",
                "sep must be None or a string, not int\n",
            ]
            assert told[6:] == [f"{k} {'x' * 60}\n" for k in range(200)]
            for part in (".", "|", ". "):
                assert ours.recv(1 << 16).decode() == part
                ours.send(b"!")
            assert ours.recv(1 << 16).decode() == "\n"
            assert ours.recv(1 << 16) == b""
        finally:
            process.kill()
    assert process.returncode == 0
