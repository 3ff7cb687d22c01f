"""Plans: topology by the rules of QEMU, the ladder, properties, memory; and that planning what is written gives the same plan."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.tools.hosts import E1000E, FIXTURES, NVME, PAIR, PF, SMMU1, SMMU2, VF0, VF1, VIRTIO, changed, cmdqv, codes, host, plan, planned, vm
from tests.tools.requests import ENDPOINTS, requests, switches
from wizard.facts.model import InUse
from wizard.plan.model import VmPlan
from wizard.plan.planner import make_plan
from wizard.plan.properties import Properties
from wizard.plan.regions import high_window
from wizard.plan.request import (
    DiskRequest,
    FunctionRequest,
    HotplugRequest,
    Layout,
    MachineRequest,
    MadeFor,
    Mode,
    NetworkRequest,
    NodeRequest,
    Request,
    VmRequest,
    VsmmuRequest,
)
from wizard.plan.written import written

GIB = 1 << 30


def test_one_vsmmu_for_each_smmu() -> None:
    made = planned(NVME, VF0, E1000E)
    assert [(v.smmu, [d.host for d in made.devices_of(v)]) for v in made.vsmmus] == [(SMMU1, [NVME, VF0]), (SMMU2, [E1000E])]
    assert len({bus.bus_nr for bus in made.buses}) == 2
    assert {port.chassis for port in made.ports} == {1, 2, 3}


def test_stream_id_is_the_predicted_requester_id() -> None:
    made = planned(NVME, VF0, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus_nr=8),))
    # One port: buses 0x8 and 0x9, and IORT maps 0x800..0x9ff one to one (sources: qemu-P7).
    assert [device.vsid for device in made.devices] == [0x900, 0xA00]


def test_per_function_gives_each_its_own() -> None:
    made = planned(NVME, VF0, layout=Layout.PER_FUNCTION)
    assert [len(made.devices_of(vsmmu)) for vsmmu in made.vsmmus] == [1, 1]
    assert "smmu-split" in codes(made)
    assert made.ok


def test_split_names_one_smmu() -> None:
    made = planned(NVME, VF0, E1000E, VIRTIO, split=(SMMU2,))
    assert [len(made.devices_of(vsmmu)) for vsmmu in made.vsmmus] == [2, 1, 1]


def test_a_group_is_given_whole_without_a_viommu() -> None:
    made = planned(*PAIR, mode=Mode.NONE)
    assert made.ok
    # Companion functions share a port, with the function numbers that they have on the host.
    assert [(d.port, d.function, d.multifunction) for d in made.devices] == [("pcie.0.port1", 0, True), ("pcie.0.port1", 1, True)]
    assert not made.vsmmus


@pytest.mark.parametrize("functions", [PAIR, PAIR[:1], PAIR[1:]])
@pytest.mark.parametrize("assume", [False, True])
def test_a_group_of_several_is_never_accelerated(functions: tuple[str, ...], assume: bool) -> None:
    """Both cases of it, with whatever option (sources: problem-31)."""
    made = planned(*functions, assume_accel=assume)
    assert not made.ok
    assert "group-shared-accelerated" in codes(made)


def test_cmdqv_off_is_what_a_qemu_without_it_does() -> None:
    """11.0 has no such property: off is nothing on its command line, and stays written for a newer QEMU; on is too much for it."""
    made = planned(NVME, target="qemu=11.0", properties=Properties(cmdqv="off"))
    assert made.ok, made.errors
    assert made.vsmmus[0].cmdqv.written is None
    assert [vsmmu.properties.cmdqv for vsmmu in written(made).vsmmus] == ["off"]
    assert [vsmmu.properties.cmdqv for vsmmu in written(planned(NVME, target="qemu=11.0")).vsmmus] == ["off"]
    assert "plan-needs-newer-qemu" in codes(planned(NVME, target="qemu=11.0", properties=Properties(cmdqv="on")))


def test_one_function_may_go_without_beside_accelerated_ones() -> None:
    made = planned(NVME, FunctionRequest(host=E1000E, mode=Mode.NONE))
    assert made.ok
    assert [(d.vsmmu is None, d.port.startswith("pcie.0")) for d in made.devices] == [(False, False), (True, True)]


def test_nothing_falls_without_leave() -> None:
    on = host("arm64-virt")
    assert not planned(NVME, on=on).ok
    fallen = planned(NVME, on=on, fall_back=True)
    assert fallen.ok
    assert fallen.mode is Mode.VIRTIO_IOMMU
    assert fallen.virtio_iommu is not None
    assert (fallen.virtio_iommu.granule, fallen.virtio_iommu.aw_bits) == ("4k", 48)


def test_falls_to_none_where_a_virtio_iommu_is_no_way() -> None:
    fallen = planned(*PAIR, fall_back=True)
    assert fallen.mode is Mode.NONE
    assert fallen.ok


def test_the_richest_that_the_host_supplies_is_written() -> None:
    # hw_info of the recorded host: IDR0.ATS 0, IDR1.SSIDSIZE 0, IDR3.RIL 1, IDR5.OAS 44 bits (tests of the emulated host).
    vsmmu = planned(NVME).vsmmus[0]
    assert [(name, prop.written) for name, prop in vsmmu.properties()] == [
        ("ats", "off"), ("ril", "on"), ("ssidsize", "0"), ("oas", "44"), ("cmdqv", "off"),
    ]  # fmt: skip


def test_auto_says_what_it_comes_to_and_who_decides() -> None:
    vsmmu = planned(VF0, NVME, properties=Properties(ril="auto", oas="auto")).vsmmus[0]
    assert (vsmmu.ril.resolved, vsmmu.oas.resolved, vsmmu.oas.decided_by) == (1, 44, VF0)
    assert vsmmu.oas.show() == "auto (will be 44)"


def test_an_assumed_value_is_never_taken_by_itself() -> None:
    vsmmu = planned("0008:01:00.0", on=host("gb200")).vsmmus[0]
    assert vsmmu.ssidsize.written == "0"
    taken = planned("0008:01:00.0", on=host("gb200"), assume_accel=True).vsmmus[0]
    assert taken.oas.written == "48"


def test_no_accel_properties_for_a_qemu_without_them() -> None:
    made = planned(NVME, target="qemu=10.2")
    assert all(prop.written is None for vsmmu in made.vsmmus for _, prop in vsmmu.properties())
    assert made.machine.type == "virt-10.2"


def test_vfs_to_be_made_have_predicted_addresses() -> None:
    # The recording after binding has no VFs; the one at boot shows where the kernel had put them.
    after, at_boot = host("vfio-arm64-virt-canwbs"), host()
    made = planned(*(f for f in at_boot.functions[PF].facts.virtfns), on=after)
    assert [(d.host, d.vf_index, d.pf, d.to_make) for d in made.devices] == [(VF0, 0, PF, True), (VF1, 1, PF, True)]
    assert [d.ids for d in made.devices] == [at_boot.functions[VF0].ids] * 2
    assert made.devices[0].smmu == at_boot.functions[VF0].smmu


def test_a_pf_with_live_vfs_is_not_given() -> None:
    assert "pf-has-vfs" in codes(planned(PF))


def test_used_functions_are_refused_unless_told() -> None:
    on = host("host-in-use")
    used = next(use.address for use in on.facts.in_use if use.address in on.functions)
    assert not planned(used, on=on).ok
    assert "in-use-allowed" in codes(planned(used, on=on, allow_in_use=(used,)))


def test_numa_nodes_follow_the_functions() -> None:
    on = host("gb200")
    made = planned("0008:01:00.0", "0018:01:00.0", on=on, assume_accel=True, memory=16 * GIB, cpus=8)
    cells = [node for node in made.memory.nodes if node.memory]
    assert [(node.host_node, node.memory, node.cpus) for node in cells] == [(0, 8 * GIB, (0, 1, 2, 3)), (1, 8 * GIB, (4, 5, 6, 7))]
    assert [(bus.host_node, bus.numa_node) for bus in made.buses] == [(0, 0), (1, 1)]
    # Eight memory-less nodes for each Grace GPU, tied to it by generic initiators (OpenNebula: ACPI_NODES="2-9", "10-17").
    assert [node.id for node in made.memory.nodes if node.initiator == made.devices[0].id] == list(range(2, 10))
    assert [node.id for node in made.memory.nodes if node.initiator == made.devices[1].id] == list(range(10, 18))


def test_grace_gpu_memory_is_a_bar_of_the_next_power_of_two() -> None:
    made = planned("0008:01:00.0", on=host("gb200"), assume_accel=True)
    assert max(made.devices[0].bars) == 256 * GIB  # 189,471 MiB
    assert made.devices[0].driver == "nvgrace_gpu_vfio_pci"


@pytest.mark.parametrize(
    ("complexes", "emulated", "expected"),
    [
        # What AAVMF 2026.08 placed, and what it left without an address, with pci-testdev BARs of these sizes.
        ([[], [(256 * GIB, 256 * GIB)]], True, 512 * GIB),
        ([[], [(256 * GIB, 256 * GIB)] * 2], True, 1024 * GIB),
        ([[], [(256 * GIB, 256 * GIB), (128 * GIB, 128 * GIB), (64 * GIB, 64 * GIB)]], True, 1024 * GIB),
        ([[], [(256 * GIB, 256 * GIB)] * 4], True, 2048 * GIB),
        ([[], [(256 * GIB, 256 * GIB)], [(256 * GIB, 256 * GIB)]], False, 512 * GIB),
    ],
)
def test_mmio_window(complexes: list[list[tuple[int, int]]], emulated: bool, expected: int) -> None:
    assert high_window(complexes, emulated=emulated) == expected


def test_memlock_is_the_sum_of_a_users_vms() -> None:
    made = plan(vm(NVME, user="qemu"), vm(E1000E, name="web", user="qemu"))
    said = next(finding for finding in made.findings if finding.code == "memlock")
    assert "2097160 KiB (2.0 GiB)" in said.what  # 2 GiB rounded down would keep one of them from starting
    assert "2097160" in said.fix
    assert "db1, web" in said.what


def test_guest_passthrough_costs_isolation_and_no_interrupts() -> None:
    """Run on a real guest with iommu.passthrough=1: DMA and MSI-X work, and the groups are identity."""
    said = next(finding for finding in planned(NVME).findings if finding.code == "guest-needs")
    passthrough = said.why[said.why.index("With iommu.passthrough=1") :]
    assert "data and interrupts still move" in passthrough
    assert "nothing is isolated" in passthrough
    assert "interrupts" not in said.fix


def test_bus_numbers_leave_room() -> None:
    made = planned(NVME, VF0, VF1, E1000E, VIRTIO, hotplug=(HotplugRequest(functions=(NVME,), bus_reserve=3),))
    spans = sorted((bus.bus_nr, bus.last) for bus in made.buses)
    assert spans[0][1] < spans[1][0]
    hot = next(port for port in made.ports if port.hotplug)
    assert hot.subordinate - hot.secondary == 3
    assert made.ok


def test_hot_plug_alone_makes_an_empty_vsmmu_with_everything_written() -> None:
    made = planned(hotplug=(HotplugRequest(functions=(NVME,)),))
    assert [v.smmu for v in made.vsmmus] == [SMMU1]
    assert not any(prop.auto for _, prop in made.vsmmus[0].properties())
    assert made.ok


def test_the_mac_follows_from_the_name() -> None:
    one, two = (planned(NVME, name=name, networks=(NetworkRequest(), NetworkRequest())) for name in ("a", "b"))
    assert len({network.mac for made in (one, two) for network in made.networks}) == 4
    assert planned(NVME, name="a", networks=(NetworkRequest(),)).networks[0].mac == one.networks[0].mac


def as_told(made: VmPlan) -> dict[str, object]:
    """A plan without what may differ when everything is written: who wrote it."""
    told = msgspec.to_builtins(replace(made, request=VmRequest(name="x"), findings=()))
    for vsmmu in told["vsmmus"]:
        for name in ("ats", "ril", "ssidsize", "oas", "cmdqv"):
            vsmmu[name].pop("origin")
    return dict(told)


@settings(max_examples=100, deadline=None)
@given(requests)
def test_planning_what_is_written_gives_the_same_plan(request: VmRequest) -> None:
    first = make_plan(host(), Request(vms=(request,))).vms[0]
    again = make_plan(host(), Request(vms=(written(first),))).vms[0]
    assert as_told(again) == as_told(first)
    assert again.ok == first.ok
    assert written(again) == written(first)


odd = st.one_of(st.none(), st.integers(-(1 << 70), 1 << 70))


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.one_of(st.none(), strategy)


def few(strategy: st.SearchStrategy[object], most: int = 2) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


short = st.text(max_size=12)
odd_functions = st.builds(
    FunctionRequest, host=st.one_of(short, st.sampled_from(ENDPOINTS)), id=maybe(short), vsmmu=maybe(st.sampled_from(["a", "b"])),
    port=maybe(st.sampled_from(["p", "q"])), port_slot=odd, chassis=odd, function=odd, ats=switches,
)  # fmt: skip
odd_nodes = st.builds(NodeRequest, memory=st.integers(-5, 1 << 60), cpus=short, host_node=odd)
odd_vsmmus = st.builds(
    VsmmuRequest, id=st.one_of(short, st.sampled_from(["a", "b"])), bus=maybe(st.sampled_from(["pcie.0", "p"])),
    smmu=maybe(st.sampled_from([SMMU1, "x"])), bus_nr=odd, slot=odd, numa_node=odd,
    properties=st.builds(Properties, ats=switches, oas=odd, ssidsize=st.one_of(odd, st.sampled_from(["²", "x"]))),
)  # fmt: skip
odd_hotplug = st.builds(
    HotplugRequest, functions=few(st.one_of(short, st.sampled_from(ENDPOINTS))), vsmmu=maybe(st.sampled_from(["a", "b"])),
    bus_reserve=odd, mem_reserve=odd, pref64_reserve=odd,
)  # fmt: skip
odd_networks = st.builds(NetworkRequest, kind=st.sampled_from(["user", "tap", "bridge"]), source=short, mac=maybe(st.text(max_size=18)), slot=odd)
nonsense = st.builds(
    VmRequest,
    name=st.text(max_size=70),
    functions=few(odd_functions, 5),
    mode=st.sampled_from(Mode),
    fall_back=st.booleans(),
    layout=st.sampled_from(Layout),
    split=few(st.sampled_from([SMMU1, "", "²"])),
    allow_in_use=few(short),
    assume_accel=st.booleans(),
    memory=st.integers(-(1 << 70), 1 << 70),
    hugepages=maybe(st.one_of(st.integers(-5, 1 << 40), st.just(2 << 20))),
    cpus=st.integers(-5, 5000),
    numa=maybe(few(odd_nodes, 3)),
    machine=st.builds(MachineRequest, type=maybe(short), its=st.booleans(), acpi=st.booleans()),
    vsmmus=few(odd_vsmmus, 3),
    hotplug=few(odd_hotplug),
    networks=few(odd_networks),
    disks=few(st.builds(DiskRequest, path=short, slot=odd, bus=maybe(short))),
    mmio_window=odd,
    user=short,
    target=maybe(short),
    uuid=maybe(short),
    qmp=maybe(short),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(nonsense, min_size=1, max_size=2))
def test_nonsense_is_findings_and_never_an_exception(vms: list[VmRequest]) -> None:
    for on in (host(), host("gb200"), host("x86-intel")):
        made = make_plan(on, Request(vms=tuple(vms)))
        for one in made.vms:
            written(one)


def test_bytes_that_are_no_text_are_findings() -> None:
    """What a shell passes on as it is comes as lone surrogates."""
    bad = "/\udcff"
    made = planned(NVME, name=bad, notes=bad, user=bad, target=bad, disks=(DiskRequest(path=bad),), qmp=bad, uuid=bad, split=(bad,))
    assert codes(made) >= {"vm-name", "notes-not-unicode", "user-name", "target-unknown", "path-impossible", "uuid-impossible"}
    for finding in made.findings:
        (finding.what + finding.why + finding.fix + finding.subject).encode()


def test_every_fixture_gives_plans() -> None:
    for name in sorted(path.stem for path in FIXTURES.glob("*.json")):
        on = host(name)
        for address in on.functions:
            made = planned(address, on=on)
            assert made.ok or made.errors[0].what


def test_the_profile_says_when_the_host_has_changed() -> None:
    made = planned(NVME)
    assert not codes(plan(written(made))) & {"host-changed", "made-for-another-host"}
    moved = changed(cpus=5)
    assert "host-changed" in codes(plan(written(made), on=moved))


def test_another_product_is_another_host_where_no_machine_id_was_recorded() -> None:
    assert host().facts.identity.host is None
    found = codes(planned(NVME, made_for=MadeFor(product="GB200 NVL", digest="sha256:0")))
    assert "made-for-another-host" in found
    assert "host-changed" not in found


@pytest.mark.parametrize(
    ("kind", "owner", "redacted", "allowed", "severity"),
    [
        ("vm", "db", False, False, "error"),
        ("vm", None, False, False, "error"),  # DPDK, SPDK: no VM that could be this one
        ("vm", "web", False, False, None),  # the VM itself, which runs
        ("vm", "name-1f2e3d4c", True, False, "warning"),  # it may be the VM itself: a redacted snapshot does not tell
        ("pool", "fast", False, False, "error"),
        ("domain", "db", False, False, "warning"),
        ("domain", "web", False, False, None),
        ("vm", "db", False, True, "allowed"),
    ],
)
def test_who_else_has_a_function(kind: str, owner: str | None, redacted: bool, allowed: bool, severity: str | None) -> None:
    """Said of who wants it too, unless that is the same VM; allowed, it is said as that."""
    on = changed(in_use=(InUse(address=NVME, kind=kind, detail="process 7 (x) has /dev/vfio/3 open", owner=owner),), redacted=redacted)
    made = planned(NVME, name="web", on=on, allow_in_use=(NVME,) if allowed else ())
    said = {f.code: f.severity.value for f in made.findings if f.code in ("another-vm-has-it", "in-network-pool", "in-another-domain")}
    assert list(said.values()) == ([severity] if severity in ("error", "warning") else [])
    assert ("in-use-allowed" in codes(made)) is allowed


def test_an_smmus_cmdqv_goes_to_those_who_ask_for_it_and_then_in_order() -> None:
    """63 VINTFs are for VMs (tegra241-cmdqv.c: VINTF 0 is the kernel's): the last of 64 asks, so the one before it does without, and is told."""
    asks = vm(NVME, name="last", properties=Properties(cmdqv="on"))
    made = plan(*(vm(NVME, name=f"vm{n}") for n in range(63)), asks, on=cmdqv())
    got = [one.name for one in made.vms if one.vsmmus[0].cmdqv.resolved]
    assert got == [*(f"vm{n}" for n in range(62)), "last"]
    assert [finding.subject for finding in made.findings if finding.code == "cmdqv-used-up"] == ["vm62"]
    assert "cmdqv-vms-too-many" not in codes(made)
    assert all(one.vsmmus[0].cmdqv.resolved for one in plan(*(vm(NVME, name=f"vm{n}") for n in range(63)), on=cmdqv()).vms)
