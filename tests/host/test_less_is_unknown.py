"""What was not read is no answer: every recording with one fact after the other taken away.

A verdict that loses a fact stays what it was or becomes unknown: it never becomes yes, and never no. The same of "can be given to a VM
at all", of what doctor calls an error, and of plans.

The first recordings are gone through whole; of the others a part is tried, the same at each run: SMMU_WIZARD_EXHAUSTIVE=1 tries all.
"""

from __future__ import annotations

import os
import random
from functools import cache
from itertools import islice

import pytest
from msgspec.structs import replace

from tests.host.conftest import FIXTURES, host_from
from tests.tools.removals import Removal, one_less
from wizard.base.finding import REGISTRY, Finding, Kind, Severity
from wizard.facts.snapshot import decode
from wizard.host.build import host_of
from wizard.host.conditions.evidence import Answer, fails, not_known
from wizard.host.doctor import diagnose
from wizard.host.known import UNKNOWN, Known, Source
from wizard.host.model import Accel, Host, Verdict
from wizard.plan.planner import make_plan
from wizard.plan.request import Mode, Request, VmRequest, function

NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))
WHOLE = ("arm64-virt-canwbs", "arm64-virt")
SOME = 60  # removals of any other recording
FEW = 25  # where a removal costs the verdicts of the whole host
FUNCTIONS = 40  # of a big host that are looked at
EXHAUSTIVE = bool(os.environ.get("SMMU_WIZARD_EXHAUSTIVE"))


@cache
def removals(name: str) -> tuple[Removal, ...]:
    # A host of hundreds of functions is tried on what its first ones rest on: the others are of the same kinds.
    found = list(islice(one_less(host_from(name).facts), None if EXHAUSTIVE else 2000))
    if EXHAUSTIVE or name in WHOLE:
        return tuple(found)
    return tuple(random.Random(name).sample(found, min(SOME, len(found))))


def addresses(host: Host) -> list[str]:
    return list(host.functions)[: None if EXHAUSTIVE else FUNCTIONS]


@pytest.mark.parametrize("name", NAMES)
def test_a_verdict_that_loses_a_fact_stays_or_becomes_unknown(name: str) -> None:
    host, wrong = host_from(name), []
    for label, less in removals(name):
        after = host_of(less)
        for address in addresses(after):
            old, new = host.verdict(address), after.verdict(address)
            if new.accel not in (old.accel, Accel.UNKNOWN):
                wrong.append(f"{address} without {label}: {old.accel} became {new.accel} ({', '.join(reason.code for reason in new.reasons)})")
            if new.assignable not in (old.assignable, None):
                wrong.append(f"{address} without {label}: assignable was {old.assignable} and became {new.assignable}")
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.parametrize("name", NAMES)
def test_doctor_calls_nothing_an_error_for_want_of_a_fact(name: str) -> None:
    """An error of a verdict is said of functions that had one before; what is to be done on the host is no more than it was."""

    def errors(host: Host) -> set[tuple[str, str]]:
        items = (item for area in diagnose(host).areas for item in area.findings if item.finding.severity is Severity.ERROR)
        return {(item.finding.code, subject) for item in items for subject in item.subjects}

    host = host_from(name)
    before = errors(host)
    refused = {subject for _, subject in before}
    wrong = []
    for label, less in random.Random(name).sample(removals(name), min(FEW, len(removals(name)))):
        for code, subject in errors(host_of(less)) - before:
            if REGISTRY[code].kind is Kind.TODO or subject not in refused:
                wrong.append(f"{code} of {subject} without {label}")
    assert not wrong, "\n".join(wrong[:20])


def test_a_function_that_was_not_recorded_makes_no_other_better() -> None:
    """Its neighbours lose a bridge, a group's member or who shares their StreamID."""
    for name in WHOLE:
        host = host_from(name)
        for gone in host.functions:
            after = host_of(replace(host.facts, functions=tuple(f for f in host.facts.functions if f.address != gone)))
            for address in after.functions:
                assert after.verdict(address).accel in (host.verdict(address).accel, Accel.UNKNOWN), (gone, address)


def errors_of(host: Host, address: str, mode: Mode) -> set[str]:
    plan = make_plan(host, Request(vms=(VmRequest(name="web", mode=mode, functions=(function(address),)),)))
    return {finding.code for finding in plan.vms[0].findings if finding.severity is Severity.ERROR}


SAYS_SO = frozenset({"accel-not-known", "assignable-not-known", "virtio-iommu-not-known", "unknown-function"})


@pytest.mark.parametrize("name", ["arm64-virt-canwbs", "arm64-virt", "gb10", "x86-intel"])
def test_a_plan_that_loses_a_fact_is_no_better_and_names_what_it_lacks(name: str) -> None:
    host = host_from(name)
    some = [address for address in host.functions if not host.functions[address].is_bridge][:3]
    before = {(address, mode): errors_of(host, address, mode) for address in some for mode in Mode}
    of_them = [one for one in one_less(host.facts) if not one[0].startswith("functions.") or any(address in one[0] for address in some)]
    of_them = [one for one in of_them if one[0] != "in_use"]  # no verdict: what the host needs is looked up anew by the preparation script
    for label, less in of_them if EXHAUSTIVE else random.Random(name).sample(of_them, min(SOME, len(of_them))):
        after = host_of(less)
        for (address, mode), old in before.items():
            new = errors_of(after, address, mode)
            assert new - old <= SAYS_SO, (label, address, mode)
            assert bool(new) >= bool(old), (label, address, mode, old)


def test_a_collection_that_a_snapshot_does_not_name_was_not_read() -> None:
    import msgspec

    data = msgspec.json.decode((FIXTURES / "arm64-virt-canwbs.json").read_bytes())
    for name in ("iommus", "groups", "log", "acpi"):
        cut = decode(msgspec.json.encode({key: value for key, value in data.items() if key != name}), "cut")
        assert "not in this snapshot" in cut.unread.values(), name
        told = {item.finding.code: item.finding.what for area in diagnose(host_of(cut)).areas for item in area.findings}
        assert "not in this snapshot" in told["not-looked-at"], name
        assert "smmu-off" not in told, name
    empty = decode(msgspec.json.encode(data | {"groups": []}), "empty")
    assert not empty.unread


# The types themselves


def test_a_known_value_is_no_condition_by_itself() -> None:
    for value in (UNKNOWN, Known(True, Source.LOG), Known(0, Source.LOG)):
        with pytest.raises(TypeError):
            bool(value)


def test_true_false_and_not_read_are_three_things() -> None:
    assert [(k.is_true, k.is_false) for k in (Known(True), Known(False), Known(None))] == [(True, False), (False, True), (False, False)]
    assumed = Known(False, Source.ASSUMED)
    assert (assumed.is_false, assumed.refuted, assumed.proved) == (True, False, False)
    assert Known(True, Source.IORT).proved


def test_an_answer_without_a_finding_can_only_be_one_that_holds() -> None:
    finding = Finding("x", Severity.INFO, "y", "what", "why", "fix")
    for holds, told in ((False, None), (None, None), (True, finding)):
        with pytest.raises(ValueError, match="says why"):
            Answer(holds, told)
    with pytest.raises(TypeError):
        Answer(0, finding)  # type: ignore[arg-type] # equal to False, and no answer
    assert fails(finding).holds is False
    assert not_known(finding).holds is None


def test_a_verdict_without_reasons_can_only_be_yes() -> None:
    finding = Finding("x", Severity.INFO, "y", "what", "why", "fix")
    for accel, reasons in ((Accel.NO, ()), (Accel.UNKNOWN, ()), (Accel.YES, (finding,))):
        with pytest.raises(ValueError, match="reasons"):
            Verdict(accel, reasons, lambda: ())
