"""Cases of others' own tests: OpenVMM's, Linux's KUnit test of STE and CD updates, QEMU's qtests, Arm's compliance suite. And faults that were.

``data/*.json`` is in the format of ``smmu-wizard translate``; ``expect`` is what the specification asks for, and was not taken from a run of ours.
``openvmm.peer.json`` says what OpenVMM's test expects of the same situation, with a verdict where that is something else; ``kunit.plan.json``
which of the DMAs of a case come before, between and after the stores of an update.
"""

from __future__ import annotations

import json
import lzma
import re
from pathlib import Path
from typing import Any

import pytest

from tests.smmu.test_cases import contained
from wizard.smmu.cases import run_plain

DATA = Path(__file__).parent / "data"


def load(name: str) -> Any:
    path = DATA / name
    return json.loads(lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes())


CASES: dict[str, dict[str, Any]] = {
    case["name"]: case for name in ("faults.json", "openvmm.json.xz", "kunit.json.xz", "qemu_qtest.json.xz", "acs.json.xz") for case in load(name)
}
PEER: dict[str, dict[str, Any]] = load("openvmm.peer.json.xz")
PLAN: dict[str, dict[str, Any]] = load("kunit.plan.json.xz")


@pytest.mark.parametrize("name", CASES)
def test_case_ends_as_the_specification_says(name: str) -> None:
    answer = run_plain(CASES[name])
    assert contained(CASES[name]["expect"], answer), f"expected {CASES[name]['expect']}, got {answer}"


def says_something(expected: Any) -> bool:
    """Whether an expectation has a value anywhere: OpenVMM's test of one situation asserts less than the case asks for."""
    if isinstance(expected, dict):
        return any(map(says_something, expected.values()))
    return any(map(says_something, expected)) if isinstance(expected, list) else True


@pytest.mark.parametrize("name", [name for name, peer in PEER.items() if says_something(peer["peer"])])
def test_openvmm_expects_the_same_but_where_a_verdict_says_why_not(name: str) -> None:
    """A difference without a verdict is a fault of ours or a find; a verdict that no longer holds is an old one."""
    agrees = contained(PEER[name]["peer"], run_plain(CASES[name]))
    assert agrees or PEER[name]["verdict"], f"OpenVMM expects {PEER[name]['peer']}"
    assert not agrees or not PEER[name]["verdict"].startswith("peer wrong"), PEER[name]["verdict"]


FAULTS = {case["name"] for case in load("faults.json")}
OPENVMM = ("translate.rs:", "shared.rs:", "emulator.rs:", "pt.rs:")


def test_every_case_says_whose_it_is_and_every_verdict_why() -> None:
    """data/SOURCES.md has the repositories and versions. The 27 transitions are 22 functions of the kernel's, some of them with several."""
    assert all(PEER[name]["test"].startswith(OPENVMM) for name in CASES if name.startswith("openvmm_"))
    assert {name for name in CASES if name.startswith("openvmm_")} == PEER.keys()
    assert all(re.search(r"\b\d+\.\d|DDI 0487", peer["verdict"]) for peer in PEER.values() if peer["verdict"])
    functions = {CASES[name]["note"].split(" written")[0] for name in CASES if name.startswith("kunit_")}
    assert len(functions) == 22
    assert all(name.startswith("arm_smmu_v3_write_") for name in functions)
    assert {name for name in CASES if name.startswith("kunit_")} == PLAN.keys()
    assert all(case.get("note") for name, case in CASES.items() if name not in FAULTS)


def by_mark(name: str) -> list[list[dict[str, Any]]]:
    """The answers of a case's DMAs in groups: one for each mark of its plan."""
    answers = [answer for answer in run_plain(CASES[name])["steps"] if "cmd" not in answer]
    size = PLAN[name]["per"]
    groups = [answers[at : at + size] for at in range(0, len(answers), size)]
    assert len(groups) == len(PLAN[name]["marks"])
    return groups


def hitless(name: str) -> bool:
    """Whether every DMA is answered as before the update or as after it."""
    groups, marks = by_mark(name), PLAN[name]["marks"]
    old, new = groups[marks.index("old")], groups[marks.index("new")]
    return all(answer in (before, after) for group in groups for answer, before, after in zip(group, old, new, strict=True))


@pytest.mark.parametrize("name", [name for name, plan in PLAN.items() if not plan.get("naive")])
def test_the_kernels_order_of_stores_is_hitless_where_it_claims_to_be(name: str) -> None:
    """arm_smmu_write_entry(), Linux 7.2: each of the 27 transitions, with caches off after each store and with caches and its syncs."""
    assert hitless(name) == PLAN[name]["hitless"]


def test_naive_orders_break_what_the_kernels_order_keeps() -> None:
    """Words stored upwards or downwards: 25 of the 54 show a DMA something that neither entry says."""
    naive = [name for name, plan in PLAN.items() if plan.get("naive")]
    assert (len(naive), sum(not hitless(name) for name in naive)) == (54, 25)
