"""`python -m allcores`, and what the `allcores` command calls."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        import click  # noqa: F401
    except ImportError:
        sys.exit("allcores: the command line needs click: pip install 'allcores[cli]'")
    from allcores.cli.main import main as run_command

    sys.exit(run_command())


if __name__ == "__main__":
    main()
