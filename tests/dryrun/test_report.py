"""The report: what is in it, that it is the same each time, and what is not rehearsed."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import msgspec
import pytest

from tests.dryrun.plans import NIC, NVME, SECOND_VF, VF, plan, two_vms, vm
from tests.tools.hosts import host
from wizard.base.errors import UsageError
from wizard.base.finding import Severity
from wizard.dryrun import SCENARIOS, Cancelled, Report, Status, dry_run, lay_out, report_lines, report_of_trace, trace_address, trace_of
from wizard.dryrun.address import parse
from wizard.host.build import host_of
from wizard.host.known import Known, Source
from wizard.plan.planner import make_plan
from wizard.plan.request import Layout, Mode, Request


@pytest.fixture(scope="module")
def report() -> Report:
    return dry_run(two_vms(), host())


def test_there_is_a_cell_for_every_function_and_scenario(report: Report) -> None:
    assert len(report.cells) == 3 * len(SCENARIOS)
    assert {cell.scenario for cell in report.cells} == {view.id for view in report.scenarios}
    assert [function.function for function in report.functions] == [NVME, NIC, VF]
    assert report.functions[0].stream_ids == (0x1400,)


def test_it_is_the_same_each_time_and_survives_json(report: Report) -> None:
    assert dry_run(two_vms(), host()) == report
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    assert msgspec.to_builtins(report)["schema"] == 1


def test_every_sentence_that_passes_says_something(report: Report) -> None:
    for cell in report.cells:
        assert cell.text
        assert not cell.text.endswith(".")


def test_every_cell_has_a_trace_on_demand() -> None:
    for scenario in SCENARIOS:
        cell = trace_of(two_vms(), host(), NVME, scenario.view.id)
        assert cell.status is not Status.FAILED
        with_dma = scenario.view.group in ("buffers", "interrupts", "events") and scenario.view.id not in ("msi-overlap", "event-kinds")
        if cell.status is Status.PASSED and with_dma:
            assert any(step.what in ("walk", "ste", "config") for step in cell.trace), scenario.view.id


def test_a_trace_names_the_words_that_were_read() -> None:
    cell = trace_of(two_vms(), host(), NVME, "unmapped")
    walks = [step for step in cell.trace if step.what == "walk"]
    assert walks
    assert all(step.address is not None for step in walks if step.words)
    assert any("F_TRANSLATION" in step.text for step in cell.trace)
    with pytest.raises(KeyError):
        trace_of(two_vms(), host(), NVME, "no such scenario")
    with pytest.raises(KeyError):
        trace_of(two_vms(), host(), "0000:00:1f.7", "mapped")


def test_progress_rises_to_the_total_and_it_can_be_stopped() -> None:
    seen: list[tuple[int, int]] = []
    dry_run(two_vms(), host(), progress=lambda done, total, label: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len({total for _, total in seen}) == 1
    assert seen[-1][0] == seen[-1][1]
    calls = iter(range(100))
    with pytest.raises(Cancelled):
        dry_run(two_vms(), host(), stop=lambda: next(calls) > 20)


def test_a_plan_with_errors_is_not_rehearsed() -> None:
    wrong = plan(vm("web", NVME, NVME))
    report = dry_run(wrong, host())
    assert not wrong.ok
    assert (report.ok, report.rehearsed, report.cells) == (False, False, ())
    assert report.findings == wrong.findings


def test_a_plan_of_another_host_names_the_missing_function() -> None:
    report = dry_run(two_vms(), host("x86-intel"))
    assert (report.ok, report.rehearsed) == (False, False)
    assert {f.subject for f in report.findings if f.code == "dry-run-missing-function"} == {NVME, NIC, VF}


@pytest.mark.parametrize("memory", [0, (1 << 30) + 1, 1 << 53])
def test_a_memory_layout_that_cannot_exist_is_a_finding(memory: int) -> None:
    good = two_vms()
    web = msgspec.structs.replace(good.vms[0], memory=msgspec.structs.replace(good.vms[0].memory, size=memory))
    report = dry_run(msgspec.structs.replace(good, vms=(web,)), host())
    assert (report.ok, report.rehearsed) == (False, False)
    assert report.findings[0].code == "dry-run-impossible-memory"


def test_modes_without_a_vsmmu_have_their_own_scenarios() -> None:
    report = dry_run(plan(vm("plain", NVME, mode=Mode.NONE)), host())
    assert report.ok
    passed = {cell.scenario for cell in report.cells if cell.status is Status.PASSED}
    assert {"bring-up", "msi-plain", "isolation", "end-of-memory"} <= passed
    assert not passed & {"mapped", "ste-stage-1", "event-guest"}


def test_two_vsmmus_of_one_smmu_share_vmid_and_asids() -> None:
    report = dry_run(plan(vm("split", VF, SECOND_VF, NVME, layout=Layout.PER_FUNCTION)), host())
    assert report.ok
    assert len({function.vsmmu for function in report.functions}) == 3
    assert {cell.text for cell in report.cells if cell.scenario == "bring-up"} == {"attached; VMID 1 of smmu3.0x000000000c000000"}
    assert {cell.status for cell in report.cells if cell.scenario == "same-asid"} == {Status.PASSED}


def test_text_says_what_failed_and_what_it_follows(report: Report) -> None:
    text = "\n".join(report_lines(report))
    assert "FAIL" not in text
    assert "Isolation of web on smmu3.0x000000000c000000: proved" in text
    assert "F_TRANSLATION, which reaches the guest [hardware]" in text


def test_text_says_what_does_not_apply_and_what_cannot_be_offered(report: Report) -> None:
    """PRI, stall and HTTU are reported, not passed over (sources: design-scenarios)."""
    lines = list(report_lines(report))
    at = lines.index("  cannot be offered on Linux 7.2, 7.3 and QEMU 11.1")
    assert [line.split(" (")[0].strip() for line in lines[at + 1 : at + 4]] == [
        "n/a  page requests", "n/a  stalled transactions", "n/a  hardware update of access flag and dirty state",
    ]  # fmt: skip
    assert "    n/a  S1DSS: transactions without a PASID (without substreams S1DSS is ignored)" in lines
    for cell in report.cells:
        title = next(view.title for view in report.scenarios if view.id == cell.scenario)
        assert any(title in line for line in lines), cell


def test_a_trace_is_a_report_of_its_own() -> None:
    fine = report_of_trace(two_vms(), host(), NVME, 0x1000)
    assert (fine.ok, fine.rehearsed) == (True, True)
    made = lay_out(two_vms(), host())
    alone = replace(made, functions=tuple(replace(f, canwbs=False) for f in made.functions))
    refused = report_of_trace(two_vms(), host(), NVME, 0x1000, layout=alone)
    assert (refused.ok, refused.rehearsed) == (False, True)
    assert refused.trace is not None
    assert all("EOPNOTSUPP from arm_smmu_get_viommu_size()" in situation.outcome for situation in refused.trace.situations)
    wrong = plan(vm("web", NVME, NVME))
    assert report_of_trace(wrong, host(), NVME, 0).findings == wrong.findings


def test_a_trace_that_comes_up_only_in_part_is_not_fine() -> None:
    """One function of a larger group: QEMU starts, and the guest's first entry is refused."""
    made = lay_out(two_vms(), host())
    vf = next(f for f in made.functions if f.address == VF)
    idle = replace(vf, address="0000:11:10.7", streams=(0x11F7,), vm=None, vsmmu=None, vsid=None, bars=())
    report = report_of_trace(two_vms(), host(), VF, 0x1000, layout=replace(made, functions=(*made.functions, idle)))
    assert report.trace is not None
    assert [situation.came_up for situation in report.trace.situations] == [True, True, False, False]
    assert not report.ok


def test_what_is_only_assumed_to_be_missing_is_taken_as_the_plan_needs_it() -> None:
    """A verdict makes no `no` of it either; the report says what speaks against it."""
    good = host("kunpeng-920")
    made = plan(vm("guest", "0000:75:00.1"), on="kunpeng-920")
    name = made.vms[0].devices[0].smmu or ""
    smmu = good.smmus[name]
    doubt = {name: Known(value, Source.ASSUMED, "mask 0x1") for name, value in (("nesting", False), ("s2fwb", False), ("cmdq_force_sync", True))}
    changed = msgspec.structs.replace(smmu, capabilities={**smmu.capabilities, **doubt})
    report = dry_run(made, msgspec.structs.replace(good, smmus={**good.smmus, name: changed}))
    assert [(cell.scenario, cell.text) for cell in report.failures()] == []
    for text in ("nesting is taken as yes", "s2fwb is taken as yes", "cmdq_force_sync is taken as no"):
        assert f"{name}: {text}, although mask 0x1 speaks against it; nobody measured it." in report.assumptions


def test_a_trace_in_a_memory_layout_that_cannot_exist_is_a_finding() -> None:
    good = two_vms()
    web = msgspec.structs.replace(good.vms[0], memory=msgspec.structs.replace(good.vms[0].memory, size=(1 << 30) + 1))
    report = report_of_trace(msgspec.structs.replace(good, vms=(web,)), host(), NVME, 0x1000)
    assert (report.ok, report.rehearsed, report.trace) == (False, False, None)
    assert report.findings[0].code == "dry-run-impossible-memory"


def test_an_address_in_each_situation() -> None:
    view = trace_address(two_vms(), host(), NVME, 0x8000040)
    outcomes = {(s.situation, s.access): s.outcome for s in view.situations}
    assert len(outcomes) == 4
    assert all("the host's ITS page" in outcome for outcome in outcomes.values())
    outside = trace_address(two_vms(), host(), NVME, 0x1000)
    assert all(s.outcome.startswith("F_TRANSLATION") for s in outside.situations)
    with pytest.raises(UsageError, match="not among the functions"):
        trace_address(two_vms(), host(), SECOND_VF, 0)


@pytest.mark.parametrize("text", ["", "0000:14:00.0", "@0x1000", "0000:14:00.0@", "0000:14:00.0@zz", "0000:14:00.0@-1", f"0000:14:00.0@{1 << 64}"])
def test_what_is_no_function_and_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_function_and_address() -> None:
    assert parse("14:00.0@0xFFFFF000") == (NVME, 0xFFFF_F000)


def test_layouts_do_not_depend_on_the_run() -> None:
    assert lay_out(two_vms(), host()) == lay_out(two_vms(), host())


def test_its_schema_is_the_models(report: Report) -> None:
    schema = msgspec.json.schema(Report)
    jsonschema.validate(json.loads(msgspec.json.encode(report)), schema)
    assert {"functions", "scenarios", "cells", "proofs", "costs", "trace"} <= set(schema["$defs"]["Report"]["properties"])


# What a status rests on


def assuming(on: str, function: str, **changes: object) -> dict[str, tuple[str, ...]]:
    """Scenario -> what its cell assumes, on a recorded host with ``changes`` of its facts."""
    made = host_of(msgspec.structs.replace(host(on).facts, **changes))
    request = vm("web", function)
    report = dry_run(make_plan(made, Request(vms=(request,))), made)
    assert report.rehearsed
    return {cell.scenario: cell.assuming for cell in report.cells}


def test_where_everything_was_read_nothing_is_assumed() -> None:
    assert not any(assuming("arm64-virt-canwbs", NVME).values())


def test_every_assumption_of_the_registers_is_in_the_cells_that_rest_on_it() -> None:
    """GB200: nobody published its registers, its groups or its firmware; the exit status is as it was."""
    found = assuming("gb200", "0000:03:00.0")
    assert found["oas"] == ("OAS 48",)
    assert found["ssidsize"] == ("SSIDSIZE 0",)
    assert {"OAS 48", "SSIDSIZE 0", "ril no"} == set(found["compare"])
    assert {"nesting yes", "OAS 48", "StreamID 0x300", "a group of its own", "CANWBS yes"} <= set(found["bring-up"])
    assert set(found["bring-up"]) <= set(found["mapped"])
    assert {"ats yes"} <= set(found["ats-off"])
    assert not found["pri"]  # no host has it
    assert found["ats"] == ("ats yes", "a function without ATS")  # that it does not apply is as little known


def test_a_fact_that_was_taken_away_is_assumed_in_place_of_read() -> None:
    facts = host().facts
    less = assuming("arm64-virt-canwbs", NVME, kernel=msgspec.structs.replace(facts.kernel, page_size=None))
    assert less["bring-up"] == less["mapped"] == ("pages of 4 KiB",)
    assert not less["oas"]
    unread = tuple(msgspec.structs.replace(group, reserved_regions=None) for group in facts.groups)
    assert assuming("arm64-virt-canwbs", NVME, groups=unread)["group"] == ("no memory that the firmware wants 1:1",)
    unnamed = assuming("arm64-virt-canwbs", NVME, kernel=msgspec.structs.replace(facts.kernel, release=""))
    assert unnamed["malformed-passed"] == unnamed["malformed-commands"] == ("a kernel before 7.3",)
    assert not unnamed["bring-up"]
    unprobed = assuming("arm64-virt-canwbs", NVME, hw_info=(), log=tuple(line for line in facts.log if "arm-smmu" not in line))
    assert {"nesting yes", "OAS 44"} <= set(unprobed["bring-up"])
    assert "OAS 44" in unprobed["beyond-memory"]


def test_the_text_says_what_is_assumed_once_whole_and_then_as_the_same() -> None:
    made = host("gb200")
    lines = list(report_lines(dry_run(make_plan(made, Request(vms=(vm("web", "0000:03:00.0"),))), made)))
    first = next(line for line in lines if "QEMU starts" in line)
    assert "assuming" in first
    assert "OAS 48" in first
    assert any("output address size: 48 of 48 bits, assuming OAS 48" in line for line in lines)
    assert any(line.endswith("assuming the same as QEMU's start [hardware]") for line in lines)
    assert any("(without substreams S1DSS is ignored, assuming SSIDSIZE 0)" in line for line in lines)


def test_a_vm_with_errors_does_not_keep_the_others_from_being_played() -> None:
    """The second VM asks for a function that the host does not have: the first one's cells and proof are what they are without it."""
    alone = dry_run(plan(vm("web", NVME)), host())
    beside = dry_run(plan(vm("web", NVME), vm("lost", "0000:77:00.0")), host())
    assert beside.not_played == ("lost",)
    assert beside.rehearsed
    assert not beside.ok
    assert beside.cells == alone.cells
    assert beside.proofs == alone.proofs
    assert any(finding.severity is Severity.ERROR and finding.subject == "0000:77:00.0" for finding in beside.findings)
    traced = report_of_trace(plan(vm("web", NVME), vm("lost", "0000:77:00.0")), host(), NVME, 0x40000000)
    assert traced.trace is not None
    assert not report_of_trace(plan(vm("web", NVME), vm("lost", "0000:77:00.0")), host(), "0000:77:00.0", 0x40000000).rehearsed


def test_two_vms_that_ask_for_the_same_function_are_both_not_played() -> None:
    report = dry_run(plan(vm("web", NVME), vm("storage", NVME)), host())
    assert not report.rehearsed
    assert report.not_played == ("web", "storage")
