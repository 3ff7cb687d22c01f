"""Where scripts/debian-tools and scripts/armhost put what they build."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

PROJECT = Path(__file__).resolve().parents[2]

#: A skip that begins so is listed once more at the end of the run: something real was not asked.
LOUD = "NOT RUN: "
#: A property of a test that says what it left out, though it passed: listed at the end too.
LEFT_OUT = "left out"


def cache() -> Path:
    """The cache directory, by the same rule as scripts/lib/debian.sh."""
    if named := os.environ.get("SMMU_WIZARD_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smmu-wizard"


def skip_loudly(what: str, how: str) -> NoReturn:
    """Skip a test whose real counterpart is not on this machine, saying how to get it."""
    pytest.skip(f"{LOUD}{what}; {how}")
