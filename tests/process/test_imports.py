"""What workers have imported when they start, and the program by the time it has its first result."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.process import scripts


@pytest.mark.quick
def test_cloudpickle_is_for_pools_whose_functions_need_it(tmp_path: Path) -> None:
    """It takes as long as the start of everything else; once one needs it, workers to come have it from the start."""
    ending = scripts.run(
        "from allcores import Kind, Pool\n"
        "from tests.process import crimes\n"
        "with Pool(1) as pool:\n"
        "    print(pool.map(crimes.has_imported, ['cloudpickle']))\n"
        "    print(pool.map(lambda number: number + 1, [1]))\n"
        "    print([lost.kind is Kind.WORKER_LOST for lost in pool.outcomes(crimes.run, ['exit_at_once'])])\n"
        "    print(pool.map(crimes.has_imported, ['cloudpickle']))\n"
        "with Pool(1) as pool:\n"
        "    print(pool.map(crimes.has_imported, ['cloudpickle']))\n",
        tmp_path,
    )
    assert (ending.lines, ending.err) == (["[False]", "[2]", "[True]", "[True]", "[True]"], "")


@pytest.mark.quick
def test_the_template_starts_before_the_rest_is_imported(tmp_path: Path) -> None:
    """And what costs most to import is not imported at all."""
    ending = scripts.run(
        "import subprocess, sys\n"
        "start = subprocess.Popen\n"
        "def noted(*arguments, **options):\n"
        "    print('allcores.pool.pool' in sys.modules, 'allcores.backends.processes.backend' in sys.modules)\n"
        "    return start(*arguments, **options)\n"
        "subprocess.Popen = noted\n"
        "import allcores\n"
        "verb = allcores.map\n"
        "print('imported')\n"
        "print(verb(abs, [-1]))\n"
        "print({'dataclasses', 'inspect', 'logging', 'asyncio'} & sys.modules.keys())\n",
        tmp_path,
    )
    assert (ending.lines, ending.err) == (["imported", "False False", "[1]", "set()"], "")
