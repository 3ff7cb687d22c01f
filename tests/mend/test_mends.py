"""Every mend: a plan with the error, mended; the error is gone, nothing else came, and what was not wrong is as it was."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from tests.tools.hosts import E1000E, NVME, PAIR, SMMU1, VF0, VF1, codes, host, plan, rich, vm
from wizard.base.finding import REGISTRY, Severity
from wizard.existing.load import open_text as opened
from wizard.host.model import Host
from wizard.mend import Mended, mend
from wizard.mend.wrongs import MENDS
from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FunctionRequest,
    HotplugRequest,
    MachineRequest,
    Mode,
    NetworkRequest,
    NodeRequest,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.written import written
from wizard.profile import read_profile, write_profile

GIB = 1 << 30


def whole() -> VmRequest:
    """A profile as plan writes it: two vSMMUs, a free port, a disk and a network, every choice written."""
    asked = vm(NVME, VF0, E1000E, hotplug=(HotplugRequest(functions=(VF1,)),), disks=(DiskRequest(path="/d"),), networks=(NetworkRequest(),))
    made = plan(asked).vms[0]
    assert made.ok
    return written(made)


def vsmmus(change: Callable[[VsmmuRequest], VsmmuRequest], *places: int) -> VmRequest:
    request = whole()
    return replace(request, vsmmus=tuple(change(one) if place in places else one for place, one in enumerate(request.vsmmus)))


def functions(change: Callable[[FunctionRequest], FunctionRequest], place: int) -> VmRequest:
    request = whole()
    return replace(request, functions=tuple(change(one) if at == place else one for at, one in enumerate(request.functions)))


def machine(**values: object) -> VmRequest:
    return replace(whole(), machine=replace(whole().machine, **values))


def properties(**values: object) -> Callable[[VsmmuRequest], VsmmuRequest]:
    return lambda one: replace(one, properties=replace(one.properties, **values))


# code -> what is wrong, and what the mended request has in its place
WRONG: dict[str, tuple[Callable[[], VmRequest], Callable[[VmRequest], object], object]] = {
    "property-exceeds-host": (lambda: vsmmus(properties(oas=48), 0, 1), lambda vm: [one.properties.oas for one in vm.vsmmus], [44, 44]),
    "property-value": (lambda: vsmmus(properties(oas=52), 1), lambda vm: [one.properties.oas for one in vm.vsmmus], [44, 44]),
    "hotplug-property": (
        lambda: written_of(vm(hotplug=(HotplugRequest(functions=(VF0,)),)), properties=Properties(oas=48)),
        lambda vm: [one.properties.oas for one in vm.vsmmus], [44],
    ),
    "auto-without-function": (
        lambda: written_of(vm(hotplug=(HotplugRequest(functions=(VF0,)),)), each=properties(oas="auto", ril="auto")),
        lambda vm: (vm.vsmmus[0].properties.oas, vm.vsmmus[0].properties.ril), (44, "on"),
    ),
    "bus-number": (lambda: vsmmus(lambda one: replace(one, bus_nr=255), 1), lambda vm: vm.vsmmus[0].bus_nr, 8),
    "bus-number-twice": (lambda: vsmmus(lambda one: replace(one, bus_nr=8), 1), lambda vm: vm.vsmmus[0].bus_nr, 8),
    "bus-range": (lambda: vsmmus(lambda one: replace(one, bus_nr=10), 1), lambda vm: vm.vsmmus[0].bus_nr, 8),
    "slot-twice": (lambda: vsmmus(lambda one: replace(one, slot=1), 1), lambda vm: vm.vsmmus[0].slot, 1),
    "chassis-twice": (lambda: functions(lambda one: replace(one, chassis=1), 2), lambda vm: vm.functions[0].chassis, 1),
    "id-twice": (lambda: functions(lambda one: replace(one, id="pcie.1.port1"), 1), lambda vm: vm.functions[1].id, "function1"),
    "id-reserved": (lambda: functions(lambda one: replace(one, id="mem0"), 1), lambda vm: vm.functions[1].id, "function1"),
    "vfio-without-iommufd": (lambda: functions(lambda one: replace(one, iommufd=False), 2), lambda vm: vm.functions[2].iommufd, True),
    "emulated-behind-accel": (
        lambda: replace(whole(), networks=(replace(whole().networks[0], bus="pcie.1", slot=9),)), lambda vm: vm.networks[0].bus, "pcie.0",
    ),
    "unknown-bus": (lambda: replace(whole(), disks=(replace(whole().disks[0], bus="pcie.7"),)), lambda vm: vm.disks[0].bus, "pcie.0"),
    "smmus-joined": (
        lambda: functions(lambda one: replace(one, vsmmu="smmuv3.1", port="x", port_slot=7), 2), lambda vm: vm.functions[2].vsmmu, "smmuv3.2",
    ),
    "hotplug-reserve-range": (lambda: hotplugged(mem_reserve=4 * GIB), lambda vm: (vm.hotplug[0].mem_reserve or 0) < 4 * GIB, True),
    "hotplug-reserve-small": (lambda: hotplugged(mem_reserve=0, pref64_reserve=0), lambda vm: vm.hotplug[0].mem_reserve, 2 << 20),
    "mmio-window-size": (lambda: replace(whole(), mmio_window=3 * GIB), lambda vm: vm.mmio_window, 512 * GIB),
    "machine-not-in-qemu": (lambda: machine(type="virt-12.0"), lambda vm: vm.machine.type, "virt-11.1"),
    "no-acpi": (lambda: machine(acpi=False), lambda vm: vm.machine.acpi, True),
    "no-msi-doorbell": (lambda: machine(its=False), lambda vm: vm.machine.its, True),
    "gic-impossible": (lambda: machine(gic="4"), lambda vm: vm.machine.gic, "3"),
    "vfio-ats-needs-smmu": (lambda: functions(lambda one: replace(one, ats="on"), 0), lambda vm: vm.functions[0].ats, None),
}  # fmt: skip
ELSEWHERE = {
    "slot-range",
    "chassis-range",
    "id-grammar",
    "cmdqv-without-function",
    "ats-not-the-same",
    "two-vsmmus-on-one-bus",
    "vsmmu-on-root-bus",
    "mmio-window-small",
}
"""Mends whose error takes another host or layout (each has a test below), or no profile can have (test_texts.py)."""


def written_of(asked: VmRequest, *, properties: Properties | None = None, each: Callable[[VsmmuRequest], VsmmuRequest] | None = None) -> VmRequest:
    request = written(plan(asked).vms[0])
    if properties is not None:
        request = replace(request, properties=properties, vsmmus=tuple(replace(one, properties=properties) for one in request.vsmmus))
    return replace(request, vsmmus=tuple(map(each, request.vsmmus))) if each else request


def hotplugged(**values: object) -> VmRequest:
    return replace(whole(), hotplug=tuple(replace(one, **values) for one in whole().hotplug))


def found(request: VmRequest, on: Host | None = None) -> set[tuple[str, str]]:
    return {(f.code, f.subject) for f in plan(request, on=on).findings if f.severity is not Severity.INFO}


@pytest.mark.parametrize("code", sorted(WRONG))
def test_a_mend_mends_and_brings_nothing(code: str) -> None:
    make, look, wanted = WRONG[code]
    request = make()
    before = found(request)
    assert code in {one for one, _ in before}
    text = commented(write_profile(request))
    mended = mend(host(), {"vm.toml": text}, opened)
    assert [change.finding.code for change in mended.changes][:1] == [code], mended.left
    assert mended.left == ()
    now = mended.vms[0]
    assert look(now) == wanted
    assert found(now) <= before - {one for one in before if one[0] == code}
    # The text that it came from: with comments, changed only where something was wrong.
    edited = mended.texts["vm.toml"]
    again, errors = read_profile(edited)
    assert not errors
    assert again == now
    assert [line for line in text.splitlines() if line.startswith("# kept")] == [line for line in edited.splitlines() if line.startswith("# kept")]
    changed = [line for line in difflib.ndiff(text.splitlines(), edited.splitlines()) if line[:1] in "+-"]
    assert 0 < len(changed) <= 12, changed
    # A second look finds nothing to mend.
    assert mend(host(), mended.texts, opened).changes == ()


def commented(text: str) -> str:
    return "\n".join(f"# kept {number}\n{line}" if line.startswith("[") else line for number, line in enumerate(text.splitlines())) + "\n"


def test_every_mend_has_a_test_and_a_code_that_there_is() -> None:
    assert set(MENDS) == set(WRONG) | ELSEWHERE
    assert all(REGISTRY[code].severity is Severity.ERROR for code in MENDS)


def mended_of(request: VmRequest, on: Host | None = None) -> Mended:
    return mend(on or host(), {"vm.toml": write_profile(request)}, opened)


def test_ats_is_the_same_for_all() -> None:
    on = rich()
    request = written(plan(vm(NVME, E1000E), on=on).vms[0])
    mixed = replace(request, vsmmus=(replace(request.vsmmus[0], properties=replace(request.vsmmus[0].properties, ats="off")),
                                     replace(request.vsmmus[1], properties=replace(request.vsmmus[1].properties, ats="on"))))  # fmt: skip
    if "ats-not-the-same" not in codes(plan(mixed, on=on)):
        pytest.fail("the host of this test has ATS behind one SMMU at least")
    mended = mended_of(mixed, on)
    assert {one.properties.ats for one in mended.vms[0].vsmmus} == {"off"}
    assert "ats-not-the-same" not in {finding.code for finding in [one.finding for one in mended.left]}


def test_two_vsmmus_on_one_bus_get_one_each() -> None:
    crowded = vsmmus(lambda one: replace(one, bus="pcie.1", bus_nr=8, slot=1), 1)
    mended = mended_of(crowded)
    assert next(change.finding.code for change in mended.changes) == "two-vsmmus-on-one-bus"
    assert len({one.bus for one in mended.vms[0].vsmmus}) == 2


def test_a_vsmmu_leaves_the_root_bus() -> None:
    asked = vm(NVME, networks=(NetworkRequest(),), vsmmus=(VsmmuRequest(id="v", bus="pcie.0", smmu=SMMU1),))
    assert "vsmmu-on-root-bus" in codes(plan(asked))
    mended = mended_of(asked)
    assert mended.left == ()
    assert mended.vms[0].vsmmus[0].bus != "pcie.0"


def test_a_window_grows_with_what_it_has_to_hold() -> None:
    on = host("gb200")
    gpus = ("0008:01:00.0", "0009:01:00.0", "0018:01:00.0", "0019:01:00.0")
    asked = vm(*gpus, memory=8 * GIB, assume_accel=True, mmio_window=512 * GIB)
    assert "mmio-window-small" in codes(plan(asked, on=on))
    assert mended_of(asked, on).left == ()
    assert (mended_of(asked, on).vms[0].mmio_window or 0) > 512 * GIB


def test_what_somebody_has_to_decide_is_left_and_said() -> None:
    """A function in two VMs, more memory than there is, a group that is not whole: no rule knows what is meant."""
    asked = (vm(NVME), vm(NVME, name="web"), vm(PAIR[0], name="x", mode=Mode.NONE, memory=1 << 40))
    mended = mend(host(), {f"{one.name}.toml": write_profile(one) for one in asked}, opened)
    left = {one.finding.code: one.because for one in mended.left}
    assert {"function-in-two-vms", "memory-over-host", "group-not-whole"} <= set(left)
    assert "somebody has to decide" in left["function-in-two-vms"]
    assert mended.changes == ()


def test_the_name_that_a_node_follows_is_changed_with_the_function() -> None:
    """The cover letter's VM: a root port and a function with one id, which eight nodes name."""
    nodes = (NodeRequest(memory=GIB, cpus="0-1"), *(NodeRequest(memory=0, initiator="gpu") for _ in range(8)))
    asked = vm(FunctionRequest(host=NVME, id="gpu", port="gpu"), numa=nodes)
    assert "id-twice" in codes(plan(asked))
    now = mended_of(asked).vms[0]
    assert now.functions[0].port == "gpu"
    assert {node.initiator for node in (now.numa or ())[1:]} == {now.functions[0].id}
    assert plan(now).ok


def test_a_mend_that_would_break_something_else_is_not_made() -> None:
    """ACPI comes back, and the window stays what somebody wrote: one mend does not touch another's place."""
    request = replace(machine(acpi=False), mmio_window=1 << 40)
    assert mended_of(request).vms[0].mmio_window == 1 << 40


def test_machine_requests_that_are_right_stay() -> None:
    assert mended_of(replace(whole(), machine=MachineRequest(type="virt-11.0"))).changes == ()
