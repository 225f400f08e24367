"""Starts the sampler in a process that `allcores profile` measures: the folder of this file is first in its PYTHONPATH.

Python imports `sitecustomize` by itself, in each process that is started with this environment, whatever starts it. The
folder leaves `sys.path` again, and the `sitecustomize` that the process would have had without this one is imported.
"""

import os
import sys


def _start() -> None:
    """Load the sampler by its path: the process may belong to a Python that has no allcores."""
    settings = os.environ.get("ALLCORES_PROFILE", "")
    if not settings or any("resource_tracker" in each for each in sys.orig_argv):
        return  # a process that only waits until the others have gone
    from importlib.machinery import SourceFileLoader

    name = "allcores_sampler"
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sampler.py")
    code = SourceFileLoader(name, path).get_code(name)
    if code is not None:
        space: dict[str, object] = {"__name__": name, "__file__": path}
        exec(code, space)
        start = space["start"]
        if callable(start):
            start(settings)


try:
    _start()
except Exception:  # it is measured, or it is not; either way it runs as it would have run
    pass
finally:
    _HERE = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [each for each in sys.path if os.path.abspath(each or os.curdir) != _HERE]
    sys.path_importer_cache.pop(_HERE, None)
    sys.modules.pop("sitecustomize", None)

import sitecustomize  # type: ignore[import-not-found]  # noqa: E402, F401  # without one Python goes on, as ever
