"""Libraries with threads or processes of their own, as far as they are loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from allcores.advisor.model.probes import Library

#: module -> its own way to more cores, and what caps its threads
KNOWN = {
    "torch": ("torch.set_num_threads(n)", "torch.set_num_threads(1)"),
    "tokenizers": ("TOKENIZERS_PARALLELISM=true and encode_batch(texts)", "TOKENIZERS_PARALLELISM=false"),
    "sklearn": ("n_jobs=-1", "n_jobs=1"),
    "spacy": ("nlp.pipe(texts, n_process=-1)", "OMP_NUM_THREADS=1"),
    "datasets": ("dataset.map(fn, num_proc=n)", "num_proc=1"),
    "polars": ("POLARS_MAX_THREADS", "POLARS_MAX_THREADS=1"),
    "pyarrow": ("pyarrow.set_cpu_count(n)", "pyarrow.set_cpu_count(1)"),
    "numba": ("@njit(parallel=True)", "NUMBA_NUM_THREADS=1"),
    "onnxruntime": ("SessionOptions.intra_op_num_threads", "intra_op_num_threads = 1"),
    "cv2": ("cv2.setNumThreads(n)", "cv2.setNumThreads(1)"),
    "xgboost": ("n_jobs=-1", "n_jobs=1"),
    "lightgbm": ("n_jobs=-1", "n_jobs=1"),
}
#: what caps the threads of numeric libraries
CAPS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def loaded(environ: Mapping[str, str] | None = None) -> tuple[Library, ...]:
    """Those that this process has loaded; NumPy's linear algebra with the number of threads that it uses."""
    environ = os.environ if environ is None else environ
    found = []
    if "numpy" in sys.modules:
        found.append(
            Library("numpy", _blas_threads(environ), "OMP_NUM_THREADS=n, for linear algebra", "OMP_NUM_THREADS=1")
        )
    for name, (switch, cap) in KNOWN.items():
        if name in sys.modules:
            found.append(Library(name, _threads_of(name, environ), switch, cap))
    return tuple(found)


def _blas_threads(environ: Mapping[str, str]) -> int | None:
    """Threads of the linear algebra library; None if neither threadpoolctl nor the environment tells."""
    controller = sys.modules.get("threadpoolctl")
    if controller is None:
        try:
            import importlib

            controller = importlib.import_module("threadpoolctl")
        except ImportError:
            controller = None
    if controller is not None:
        try:
            numbers = [each["num_threads"] for each in controller.threadpool_info() if each.get("user_api") == "blas"]
        except Exception:
            numbers = []
        if numbers:
            return int(max(numbers))
    for name in CAPS:
        if environ.get(name, "").isdecimal():
            return int(environ[name])
    return None


def _threads_of(name: str, environ: Mapping[str, str]) -> int | None:
    if name == "torch":
        get = getattr(sys.modules["torch"], "get_num_threads", None)
        return int(get()) if get is not None else None
    if name == "tokenizers" and environ.get("TOKENIZERS_PARALLELISM", "").lower() in (
        "false",
        "off",
        "no",
        "f",
        "n",
        "0",
    ):
        return 1
    return None
