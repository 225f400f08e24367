"""`python -m allcores.patch script.py`: the program as it is, its pools on allcores. `allcores.patch()` within one.

python -m allcores.patch [--report FILE] [--quiet] script.py [arguments]
python -m allcores.patch [--report FILE] [--quiet] -m module [arguments]
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USAGE = "usage: python -m allcores.patch [--report FILE] [--quiet] (script.py | -m module) [arguments]"


class _Callable(ModuleType):
    """This module can be called as the function: `allcores.patch` is both."""

    def __call__(self, **options: Any) -> Any:
        from allcores.adapters.patching import patch

        return patch(**options)


sys.modules[__name__].__class__ = _Callable


#: what it ends with where it was called wrongly, as python does: the script's own failures are 1
_USAGE = 2


def _wrong(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return _USAGE


def _main(arguments: list[str]) -> int:
    report, quiet, module = None, False, None
    while arguments and arguments[0].startswith("-"):
        option = arguments.pop(0)
        if option in ("-h", "--help"):
            sys.stdout.write(f"{USAGE}\n")
            return 0
        if option == "--quiet":
            quiet = True
        elif option == "--report" and arguments:
            report = arguments.pop(0)
        elif option == "-m" and arguments:
            module = arguments.pop(0)
            break
        else:
            return _wrong(f"{USAGE}\nallcores.patch: {option!r} is no option of it, or lacks its value")
    if module is None and not arguments:
        return _wrong(f"{USAGE}\nallcores.patch: the script to run is missing")
    if module is None and not os.path.exists(arguments[0]):
        return _wrong(f"allcores.patch: there is no file {arguments[0]!r}")
    import runpy

    from allcores.adapters.patching import patch

    patched = patch(summary=not quiet, report=report)
    try:
        if module is not None:
            sys.argv[:] = [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = arguments
            if not sys.flags.safe_path:
                # As `python script.py` has it: its folder instead of the working folder.
                sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        patched.end()
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
