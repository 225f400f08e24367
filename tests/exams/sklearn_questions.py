"""scikit-learn's own tests of what it does in parallel, with joblib's calls on the backend "allcores".

    python -m tests.exams.sklearn_questions PART PARTS [BACKEND]

They are those of the installed scikit-learn. Each `Parallel` in them that names no backend of its own has allcores, and
two workers where it does not say how many. Run in one process, each PARTS-th of them from PART on; the exit status is
pytest's. With BACKEND, "loky" say, the same is asked of that one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

#: below scikit-learn's folder
FILES = (
    "utils/tests/test_parallel.py",
    "model_selection/tests/test_validation.py",
    "model_selection/tests/test_search.py",
    "ensemble/tests/test_forest.py",
)
#: takes a minute, with any backend
LONG = "test_parallel_train"
#: not asked: what they look at (a list that is filled, a callback's object, output or warnings of the program) stays
#: in the workers' processes. With loky and two workers they fail as well.
EXCLUDED = {
    "test_cross_val_predict",
    "test_cross_val_score_failing_scorer",
    "test_cross_val_score_score_func",
    "test_cross_validate_failing_scorer",
    "test_cross_validate_invalid_scoring_param",
    "test_grid_search_cv_splits_consistency",
    "test_learning_curve_exploit_incremental_learning_routing",
    "test_multi_metric_search_forwards_metadata",
    "test_parallel_delayed_warnings",
    "test_search_callbacks_receive_search_instance",
    "test_search_callbacks_with_partial_fit_failures",
    "test_search_cv_verbose_3",
    "test_searchcv_raise_warning_with_non_finite_score",
    "test_validation_functions_routing",
}


class Chooser:
    """The plugin of pytest that chooses the tests, and what they run on."""

    def __init__(self, part: int, of: int, backend: str) -> None:
        self._part, self._of, self._backend = part, of, backend

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        asked = [item for item in items if item.originalname not in {*EXCLUDED, LONG}]
        assert len(asked) > 400, f"{len(asked)} tests of scikit-learn were found"
        items[:] = asked[self._part :: self._of]

    @pytest.fixture(autouse=True)
    def on_a_backend(self) -> Iterator[None]:
        """For one test."""
        import joblib

        from allcores.adapters.joblib import register

        register()
        with joblib.parallel_config(self._backend, n_jobs=2):
            yield


def main(part: int, of: int, backend: str = "allcores") -> int:
    """Run them; returns the exit status."""
    import sklearn

    folder = os.path.dirname(sklearn.__file__)
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "ignore", "-c", os.devnull, "-ra"]
    files = [os.path.join(folder, name) for name in FILES]
    return int(pytest.main([*options, "--rootdir", folder, *files], plugins=[Chooser(part, of, backend)]))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
