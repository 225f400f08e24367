"""`python -m allcores`, and what the `allcores` command calls."""

from __future__ import annotations

import sys

from allcores.system import first_process, own_imports

if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.pop(0)  # the working folder, which may hold any file
own_imports.install()

import os  # noqa: E402
import signal  # noqa: E402

#: the exit code of a program that Ctrl-C ended
_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its code."""
    first_process.step_aside()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _once)
    try:
        code = _run()
    except KeyboardInterrupt:  # while modules were imported, for one
        os.write(2, b"allcores: interrupted\n")
        code = _INTERRUPTED
    if signal.getsignal(signal.SIGINT) is _once:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # all that is left is to end
    sys.exit(code)


def _run() -> int | str:
    try:
        import click  # noqa: F401
    except ImportError:
        return "allcores: the command line needs click: pip install 'allcores[cli]'"
    from allcores.cli.main import main as run_command

    return run_command()


def _once(number: int, frame: object) -> None:
    """The first Ctrl-C ends the command with a sentence; one more ends the process at once, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
