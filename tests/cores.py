"""Tests of what pays on several cores, left out where this process may use a single one: there a loop is the answer."""

from __future__ import annotations

import pytest

from allcores import core_budget

several_cores = pytest.mark.skipif(core_budget().workers < 2, reason="there is one core here: nothing beats a loop")
