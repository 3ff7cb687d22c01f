"""What nobody read is neither a value nor a no, in whatever other projects read of a host, in a baseline and in a match."""

from __future__ import annotations

import random

import pytest
from msgspec.structs import replace

from tests.fleet.hosts import bound
from tests.tools.hosts import facts as fixture
from tests.tools.removals import one_less
from wizard.facts.model import Facts
from wizard.fleet.baseline import conclude, merge, part_of
from wizard.fleet.devicekind import DeviceKind
from wizard.fleet.engines import OF_HOST, REMARKS, nfd
from wizard.fleet.match import answer_of
from wizard.fleet.request import FleetRequest, Wish
from wizard.fleet.summary import HostSummary, SmmuSummary, summarise
from wizard.fleet.text import baseline_lines
from wizard.plan.properties import NAMES
from wizard.plan.request import VmRequest

ANY = DeviceKind()


def attributes(summary: HostSummary) -> dict[str, str]:
    lines = OF_HOST["opennebula-host"](summary).splitlines()
    return {name: value.strip('"') for name, _, value in (line.partition(" = ") for line in lines)}


@pytest.mark.parametrize("name", ["vfio-arm64-virt-canwbs", "grace-cmdqv"])
def test_no_label_says_more_or_no_for_want_of_a_fact(name: str) -> None:
    """One fact after the other taken away: a label stays, goes, or says unknown; of functions fewer may be known to be able."""
    facts = fixture(name)
    # in_use is no fact of the hardware: what the host needs is looked up anew by the preparation script.
    removals = [(label, less) for label, less in one_less(facts) if label != "in_use"]
    for what in (lambda s: dict(nfd.labels(s)), attributes):
        before, wrong = what(summarise(facts)), []
        for label, less in random.Random(name).sample(removals, min(80, len(removals))):
            for key, value in what(summarise(less)).items():
                fewer = value.isdigit() and 0 < int(value) <= int(before.get(key, "0") or 0)
                if value not in (before.get(key), "unknown") and not fewer:
                    wrong.append(f"{key} without {label}: {before.get(key)} became {value}")
        assert not wrong, "\n".join(wrong[:20])


def with_smmus(facts: Facts, **changes: object) -> HostSummary:
    """The summary of a host with every SMMU changed in the same way."""
    summary = summarise(facts)
    return replace(summary, smmus=tuple(replace(smmu, **changes) for smmu in summary.smmus))


def open_(smmu: SmmuSummary, name: str) -> SmmuSummary:
    """One property that nobody knows."""
    offers = list(smmu.offers)
    offers[NAMES.index(name)] = replace(smmu.offer(name), richest=0, compared=None, measured=False, automatic=None, told=False)
    return replace(smmu, offers=tuple(offers))


def test_a_property_of_an_smmu_that_was_not_read_is_left_out_and_named() -> None:
    summary = summarise(bound("h1", ats=True, ssidsize=20, oas=48))
    for name in ("ats", "ssidsize", "cmdqv"):
        less = replace(summary, smmus=tuple(open_(smmu, name) for smmu in summary.smmus))
        assert name in dict(nfd.labels(summary))
        assert name not in dict(nfd.labels(less))
        assert f"SMMU_{name.upper()}" not in attributes(less)
        for format in ("nfd", "opennebula-host"):
            assert any(f"left out or unknown: {name}." in remark for remark in REMARKS[format](less))
            assert not REMARKS[format](summary)


def test_one_smmu_that_lacks_it_answers_for_all() -> None:
    """ATS that one SMMU is known not to have is no ATS for a VM that may land behind any of them, whatever the others have."""
    summary = summarise(bound("h1", ats=False, ssidsize=20, oas=48))
    less = replace(summary, smmus=(open_(summary.smmus[0], "ats"), *summary.smmus[1:]))
    assert dict(nfd.labels(less))["ats"] == "false"


def test_granules_that_were_not_read_have_no_label_and_are_no_off_in_a_baseline() -> None:
    whole, less = summarise(bound("h1")), with_smmus(bound("h2"), granules=("4k",), granules_unknown=("16k", "64k"))
    assert "granules" not in dict(nfd.labels(less))
    view = conclude(merge(part_of("h1", whole, ANY), part_of("h2", less, ANY)), ANY)
    assert view.granules == ("4k",)
    assert [(held.property, held.value, held.not_known.names) for held in view.granules_missing] == [
        ("16k", "unknown", ("h2",)), ("64k", "unknown", ("h2",)),
    ]  # fmt: skip
    assert "16k not known of h2" in "\n".join(baseline_lines(view))
    lacking = with_smmus(bound("h3"), granules=("4k",))
    view = conclude(merge(part_of("h1", whole, ANY), part_of("h3", lacking, ANY)), ANY)
    assert [held.value for held in view.granules_missing] == ["off", "off"]


def test_a_baseline_says_of_whom_a_property_is_not_known() -> None:
    rich, poor = summarise(bound("h1", ats=True)), summarise(bound("h2", ats=False))
    unread = replace(rich, smmus=tuple(open_(smmu, "ats") for smmu in rich.smmus))
    for other, names in ((unread, ("h2",)), (poor, ())):
        view = conclude(merge(part_of("h1", rich, ANY), part_of("h2", other, ANY)), ANY)
        ats = next(held for held in view.properties if held.property == "ats")
        assert (ats.value, ats.held_down_by.names, ats.not_known.names) == ("off", ("h2",), names)
        said = next(finding.why for finding in view.findings if finding.subject == "ats")
        assert ("nobody read it" in said) is bool(names)


def test_functions_that_were_not_read_are_no_lack_of_functions() -> None:
    cut = summarise(replace(fixture("arm64-virt"), functions=(), unread={"/sys/bus/pci/devices": "not in this tree"}))
    none = summarise(replace(fixture("arm64-virt"), functions=(), origin="root"))
    assert dict(nfd.labels(cut)) == {"accel": "unknown"}
    assert dict(nfd.labels(none))["accel"] == "no"
    for summary, code in ((cut, "not-looked-at"), (none, "no-such-device")):
        assert [one.code for one in conclude(part_of("h", summary, ANY), ANY).unable] == [code]
        answer = answer_of("h", summary, FleetRequest(vm=VmRequest(name="vm"), wishes=(Wish(ANY, 1),)))
        assert answer.miss is not None
        assert answer.miss.code == code


def test_a_match_names_what_of_a_host_was_not_read() -> None:
    facts = bound("h1")
    request = FleetRequest(vm=VmRequest(name="vm"), wishes=(Wish(ANY, 1),))
    assert "/dev/kvm" not in answer_of("h", summarise(replace(facts, kvm=True)), request).not_known
    answer = answer_of("h", summarise(replace(facts, kvm=None, memory_total=None)), request)
    assert answer.can
    assert {"/dev/kvm", "memory"} <= set(answer.not_known)
