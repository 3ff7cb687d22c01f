"""Hosts out of the shipped fixtures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from wizard.facts.snapshot import load
from wizard.host.build import host_of
from wizard.host.model import Host

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


@cache
def host_from(name: str) -> Host:
    return host_of(load(str(FIXTURES / f"{name}.json")))


@pytest.fixture
def host() -> Callable[[str], Host]:
    return host_from
