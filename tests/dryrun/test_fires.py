"""Every finding of the dry run, held whole (tests/tools/golden.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.dryrun.plans import two_vms
from tests.dryrun.test_wrong_plans import run, shared_page, without_doorbell
from tests.tools import golden
from tests.tools.hosts import host
from wizard.base.finding import Definition, Finding
from wizard.dryrun import findings, lay_out
from wizard.plan.model import NodePlan, Plan

GOLDEN = Path(__file__).parent / "golden/findings.txt"
GIB = 1 << 30
CASES: dict[str, Callable[[], Iterable[Finding]]] = {}


def with_memory(**values: Any) -> Plan:
    """The plan of two VMs, the first of them with other memory than anybody plans."""
    good = two_vms()
    web = good.vms[0]
    return replace(good, vms=(replace(web, memory=replace(web.memory, **values)), good.vms[1]))


CASES["dry-run-impossible-memory"] = lambda: chain.from_iterable(
    lay_out(with_memory(**values), host()).findings
    for values in (
        {"size": 0},
        {"size": GIB + 1},
        {"size": 1 << 20},
        {"hugepages": 3 << 20},
        {"hugepages": 1 << 11},
        {"nodes": (NodePlan(id=0, memory=GIB // 2, cpus=(0, 1)),)},
        {"mmio_window": 3 * GIB},
        {"mmio_window": 0},
        {"size": 1 << 46},
        {"size": 1 << 53},
    )
)
CASES["dry-run-missing-function"] = lambda: lay_out(two_vms(), host("x86-intel")).findings
CASES["dry-run-failed"] = lambda: run(without_doorbell()).findings
CASES["dry-run-not-isolated"] = lambda: run(shared_page()).findings


def _codes() -> Iterator[str]:
    yield from sorted(value.code for value in vars(findings).values() if isinstance(value, Definition))


@pytest.mark.parametrize("code", list(_codes()))
def test_fires(code: str) -> None:
    """Severity, subject and every sentence are as they were read."""
    golden.fires(GOLDEN, code, CASES)


def test_no_text_of_a_code_that_is_gone() -> None:
    golden.only(GOLDEN, _codes())
