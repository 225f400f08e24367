"""What is said where the library of an extra is not installed: which one, and the command that installs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import allcores


def run_without(library: str, code: str) -> subprocess.CompletedProcess[str]:
    """A program in which a library is not installed."""
    program = f"import sys; sys.modules[{library!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("library", "extra", "code"),
    [
        ("joblib", "joblib", "from allcores.adapters import joblib"),
        ("celery", "celery", "from allcores.adapters import celery"),
        ("rq", "rq", "from allcores.adapters import rq"),
        ("distributed", "dask", "import allcores; allcores.Pool(backend='dask', address='tcp://127.0.0.1:1')"),
        ("ray", "ray", "import allcores; allcores.Pool(backend='ray')"),
        ("matplotlib", "picture", "from allcores.advisor import picture; picture.figure_class()"),
        ("jinja2", "report", "from allcores.timeline.html_report import environment; environment()"),
    ],
)
def test_it_is_one_sentence_with_the_command(library: str, extra: str, code: str) -> None:
    run = run_without(library, f"try:\n    {code}\nexcept Exception as error: print(error)")
    assert run.returncode == 0, run.stderr
    assert f"pip install 'allcores[{extra}]'" in run.stdout
    assert len(run.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("library", "extra", "code"),
    [
        ("rich", "progress", "import allcores; allcores.map(abs, [1], progress=True)"),
        ("rich", "progress", "import allcores; allcores.ProgressBar()"),
        ("rich", "progress", "import allcores; allcores.LiveView()"),
        ("prometheus_client", "metrics", "import allcores; allcores.metrics.Prometheus()"),
        ("opentelemetry", "otel", "import allcores; allcores.metrics.OpenTelemetry()"),
        ("ray", "ray", "import allcores; allcores.Pool(backend='ray')"),
        ("h5py", "hdf5", "from allcores import slices; slices.hdf5('x.h5', 'data')"),
    ],
)
def test_it_is_shown_at_the_line_of_the_program(library: str, extra: str, code: str) -> None:
    """Frames of ours say nothing about a library that is missing, and make it look like a mistake of ours."""
    run = run_without(library, code)
    assert f"pip install 'allcores[{extra}]'" in run.stderr.splitlines()[-1]
    assert str(Path(allcores.__file__).parent) not in run.stderr
