"""`allcores --help` is quick: it loads no command."""

from __future__ import annotations

import subprocess
import sys

from click import Context

from allcores.cli.main import group

CODE = """
import sys
from allcores.cli.main import group
group.main(["--help"], standalone_mode=False)
slow = {"importlib.metadata", "importlib.resources", "sqlite3", "allcores.pool.pool", "allcores.cli.run"}
sys.exit(", ".join(sorted(slow & set(sys.modules))) or 0)
"""


def test_it_loads_no_command() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "  doctor " in done.stdout


def test_it_says_of_each_command_what_that_says_of_itself() -> None:
    context = Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        assert command.help is not None
        words = " ".join(command.help.split())
        assert words.startswith(group.names[name].removesuffix(".")), name
