"""A pytest plugin for these tests themselves: each ``Smmu`` that they make notes what it exercises; the tests of each behaviour are written down.

SMMU_WIZARD_OBSERVED=FILE python -m pytest -p tests.smmu.observed tests/smmu/test_queues.py …
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wizard.smmu
from wizard.smmu.coverage import Coverage, Observed

COVERAGE = Coverage()
SEEN: dict[str, list[str]] = {}


class Noting(Observed):
    """An ``Smmu`` as tests make it."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, coverage=COVERAGE, **named)


# Before the tests are imported, which take the name from here.
wizard.smmu.Smmu = Noting  # type: ignore[misc] # so that tests which know nothing of it are observed


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Whose test it is."""
    COVERAGE.counts.clear()
    yield
    for one in COVERAGE.exercised:
        SEEN.setdefault(one.key, []).append(item.nodeid)


def pytest_sessionfinish() -> None:
    """Write down what was seen where."""
    if where := os.environ.get("SMMU_WIZARD_OBSERVED"):
        Path(where).write_text(json.dumps(SEEN))
