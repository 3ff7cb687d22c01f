"""Where a limit lies, who is meant, and what is not said: rules on both sides of their edge."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tools.hosts import (
    E1000E,
    NVME,
    PAIR,
    PF,
    SMMU1,
    SMMU2,
    VF0,
    VF1,
    changed,
    cmdqv,
    codes,
    facts,
    host,
    kernel,
    plan,
    planned,
    pools,
    regions,
    rich,
    two_nodes,
    vm,
    with_oas,
)
from tests.tools.processes import LIMIT
from wizard.facts.model import FirmwareImage, Node
from wizard.plan.model import VmPlan
from wizard.plan.properties import Properties
from wizard.plan.request import (
    DiskRequest,
    FirmwareRequest,
    FunctionRequest,
    HotplugRequest,
    Layout,
    MachineRequest,
    Mode,
    NetworkRequest,
    NodeRequest,
    VsmmuRequest,
)
from wizard.plan.written import written

GIB = 1 << 30


def errors(made: VmPlan) -> set[str]:
    """The codes that stop it."""
    return {finding.code for finding in made.errors}


# --- the ladder


@pytest.mark.parametrize(
    ("asked", "lost"),
    [
        ({"target": "qemu=10.2"}, "QEMU 10.2 has no such thing"),
        ({"properties": Properties(oas=48)}, "oas=48"),
        ({"on": regions(NVME, "0x00000000a0000000 0x00000000a00fffff msi", besides=False)}, "0xa0000000"),
    ],
)
def test_whatever_the_host_can_not_supply_goes_down_the_ladder(asked: dict[str, object], lost: str) -> None:
    """Accel is "every asked property met": a property, a QEMU that is too old or the place of MSIs counts as a verdict does."""
    assert not planned(NVME, **asked).ok  # type: ignore[arg-type]
    fallen = planned(NVME, fall_back=True, **asked)  # type: ignore[arg-type]
    assert (fallen.ok, fallen.mode) == (True, Mode.VIRTIO_IOMMU)
    said = next(finding for finding in fallen.findings if finding.code == "fell-back")
    assert lost in said.why
    assert written(fallen).properties == Properties()


def test_what_no_mode_mends_is_no_reason_to_fall() -> None:
    made = planned(NVME, fall_back=True, cpus=0)
    assert made.mode is Mode.ACCEL
    assert errors(made) == {"cpus-impossible"}


def test_what_falls_says_why_each_mode_between_is_no_way() -> None:
    fallen = planned(*PAIR, fall_back=True)
    said = next(finding for finding in fallen.findings if finding.code == "fell-back")
    assert fallen.mode is Mode.NONE
    assert "share an IOMMU group" in said.why


@pytest.mark.parametrize(
    "more",
    [{}, {"disks": (DiskRequest(path="/d"),), "networks": (NetworkRequest(),)}, {"hotplug": (HotplugRequest(functions=(VF1,)),)}],
)
def test_a_profile_that_was_accelerated_may_fall_on_another_host(more: dict[str, object]) -> None:
    """Its vSMMUs, and the slots of ports below them, say nothing where there are none."""
    profile = written(planned(NVME, VF0, E1000E, fall_back=True, **more))  # type: ignore[arg-type]
    fallen = plan(profile, on=host("arm64-virt")).vms[0]
    assert fallen.ok, fallen.errors
    assert (fallen.mode, fallen.vsmmus) == (Mode.VIRTIO_IOMMU, ())
    assert plan(written(fallen), on=host("arm64-virt")).ok


def test_a_function_without_a_viommu_keeps_a_vm_from_a_virtio_iommu() -> None:
    """It is machine-wide: the function would get one all the same."""
    fallen = planned(NVME, FunctionRequest(host=VF0, mode=Mode.NONE), fall_back=True, on=host("arm64-virt"))
    assert (fallen.ok, fallen.mode) == (True, Mode.NONE)


@pytest.mark.parametrize(("mode", "own"), [(mode, own) for mode in Mode for own in Mode])
def test_a_functions_own_mode(mode: Mode, own: Mode) -> None:
    """Either it is had, or it is refused."""
    made = planned(FunctionRequest(host=NVME, mode=own), mode=mode)
    assert ("function-mode" in codes(made)) is (made.devices[0].mode is not own or (own is Mode.VIRTIO_IOMMU and mode is not own))


# --- virtio-iommu: every IOVA range and page size


@pytest.mark.parametrize(
    ("bits", "memory", "fits"), [("39", 511 * GIB, True), ("39", 512 * GIB, False), ("48", 512 * GIB, True), ("52", 512 * GIB, True)]
)
def test_virtio_iommu_reaches_what_the_hosts_tables_reach(bits: str, memory: int, fits: bool) -> None:
    """min(48, VA_BITS) in arm_smmu_domain_finalise(); memory begins at 1 GiB."""
    made = planned(NVME, mode=Mode.VIRTIO_IOMMU, memory=memory, on=kernel(CONFIG_ARM64_VA_BITS=bits))
    assert made.virtio_iommu is not None
    assert made.virtio_iommu.aw_bits == min(48, int(bits))
    assert ("virtio-iommu-impossible" in codes(made)) is not fits


@pytest.mark.parametrize(("page", "granule"), [(4096, "4k"), (16384, "16k"), (65536, "64k")])
def test_virtio_iommu_maps_by_the_hosts_pages(page: int, granule: str) -> None:
    made = planned(NVME, mode=Mode.VIRTIO_IOMMU, on=kernel(page_size=page))
    assert made.virtio_iommu is not None
    assert made.virtio_iommu.granule == granule
    assert ("virtio-iommu-guest-pages" in codes(made)) is (page > 4096)


# --- memory


@pytest.mark.parametrize(
    ("functions", "mode", "spaces"),
    [
        ((NVME, VF0, E1000E), Mode.ACCEL, 1),  # all accelerated vSMMUs share one address space of QEMU
        ((NVME, FunctionRequest(host=E1000E, mode=Mode.NONE)), Mode.ACCEL, 2),  # and those without a vIOMMU another
        ((NVME, VF0, E1000E), Mode.NONE, 1),
        ((NVME, VF0, E1000E), Mode.VIRTIO_IOMMU, 3),  # one for each function
    ],
)
def test_memory_is_locked_once_for_each_address_space(functions: tuple[str | FunctionRequest, ...], mode: Mode, spaces: int) -> None:
    """Each IOAS pins guest memory and QEMU's pvtime for itself, and iommufd charges each pin; BARs it does not charge."""
    made = planned(*functions, mode=mode)
    assert all(device.bars for device in made.devices)
    assert made.memory.memlock == spaces * (GIB + 4096)


@pytest.mark.parametrize(
    ("page", "cpus", "pvtime"), [(4096, 1, 4096), (4096, 64, 4096), (4096, 65, 8192), (4096, 512, 32768), (16384, 512, 32768), (65536, 512, 65536)]
)
def test_pvtime_is_locked_beside_the_memory(page: int, cpus: int, pvtime: int) -> None:
    """virt_cpu_post_init() of QEMU: max_cpus times PVTIME_SIZE_PER_CPU (64), aligned to the real host's page."""
    assert planned(NVME, cpus=cpus, on=kernel(page_size=page)).memory.memlock == GIB + pvtime


def test_where_the_page_size_was_not_read_the_largest_counts() -> None:
    unread = changed(kernel=replace(facts("arm64-virt-canwbs").kernel, page_size=None))
    made = plan(vm(NVME, user="qemu"), on=unread)
    assert made.vms[0].memory.memlock == GIB + 65536
    said = next(finding for finding in made.findings if finding.code == "memlock")
    assert "1048640 KiB" in said.what
    assert "not read; 64K" in said.why


def test_free_hugepages_are_no_part_of_the_memory_that_is_available() -> None:
    """MemAvailable leaves the pools out: what comes from them is not asked of it."""
    pooled = vm(NVME, memory=GIB, hugepages=2 << 20)
    assert "memory-over-free" not in codes(plan(pooled, on=pools(pages=512)))
    assert "memory-over-free" in codes(plan(pooled, on=pools(pages=16)))
    assert "memory-over-free" in codes(plan(vm(NVME, memory=GIB), on=pools(pages=512)))


@pytest.mark.parametrize(("pages", "few"), [(1024, False), (1023, True)])
def test_hugepages_are_counted_over_all_vms(pages: int, few: bool) -> None:
    made = plan(vm(NVME, hugepages=2 << 20), vm(E1000E, name="web", hugepages=2 << 20), on=pools(pages=pages))
    assert ("hugepages-few-together" in codes(made)) is few
    assert "hugepages-few" not in codes(made)


def test_two_guest_nodes_on_one_host_node() -> None:
    nodes = tuple(NodeRequest(memory=40 * GIB, cpus=str(n), host_node=0) for n in range(2))
    assert "memory-over-node" in codes(plan(vm(NVME, memory=80 * GIB, numa=nodes), on=two_nodes()))
    apart = tuple(replace(node, host_node=n) for n, node in enumerate(nodes))
    assert "memory-over-node" not in codes(plan(vm(NVME, memory=80 * GIB, numa=apart), on=two_nodes()))


@pytest.mark.parametrize("cpus", ["²", "0-²", "1" * 5000, "0-99999999", "3-1", "a"])
def test_cpu_lists_that_are_none(cpus: str) -> None:
    assert "numa-cpus" in errors(planned(NVME, numa=(NodeRequest(memory=GIB, cpus=cpus),)))


def test_the_usual_msi_window_is_none_elsewhere() -> None:
    assert "msi-window-elsewhere" not in codes(planned(NVME))
    assert "0x0000000008000000" in (next(g for g in facts("arm64-virt-canwbs").groups if NVME in g.devices).reserved_regions or "")
    elsewhere = regions(NVME, "0x00000000a0000000 0x00000000a00fffff msi", besides=False)
    assert "msi-window-elsewhere" not in codes(planned(NVME, mode=Mode.NONE, on=elsewhere))


# --- the machine


@pytest.mark.parametrize(
    ("type_", "target", "fits"),
    [
        ("virt", "11.1", True), ("virt-11.1", "11.1", True), ("virt-5.2", "11.1", True), ("virt-5.1", "11.1", False),
        ("virt-11.2", "11.1", False), ("virt-11.1", "11.0", False), ("virt-5.1", "11.0", True), ("virt-99.99", "11.1", False),
        ("virt-", "11.1", False), ("virt-¹", "11.1", False), ("virt-11..1", "11.1", False), ("virt-11.1.2", "11.1", False), ("none", "11.1", False),
    ],
)  # fmt: skip
def test_machine_types(type_: str, target: str, fits: bool) -> None:
    made = planned(NVME, machine=MachineRequest(type=type_), target=f"qemu={target}")
    assert bool(errors(made) & {"machine-not-virt", "machine-not-in-qemu"}) is not fits


@pytest.mark.qemu
def test_machine_types_are_those_of_qemu(qemu: Path) -> None:
    """``-machine help`` of the real one names every virt-X.Y that the rule lets pass, and no other."""
    said = subprocess.run([qemu, "-machine", "help"], capture_output=True, text=True, check=True, timeout=LIMIT).stdout
    has = {word for line in said.splitlines() for word in line.split()[:1] if word.startswith("virt-")}
    version = max(tuple(int(part) for part in name.removeprefix("virt-").split(".")) for name in has)
    target = f"qemu={version[0]}.{version[1]}"
    for major in range(version[0] - 7, version[0] + 1):
        for minor in range(4):
            name = f"virt-{major}.{minor}"
            if (major, minor) <= version and minor < 3 and major >= 3:
                assert ("machine-not-in-qemu" not in codes(planned(NVME, machine=MachineRequest(type=name), target=target))) is (name in has), name


@pytest.mark.parametrize(
    ("gic", "cpus", "fits"), [("2", 8, True), ("2", 9, False), ("3", 9, True), ("4", 1, False), ("max", 9, True), ("host", 9, True)]
)
def test_gic_versions(gic: str, cpus: int, fits: bool) -> None:
    made = planned(NVME, cpus=cpus, machine=MachineRequest(gic=gic), on=changed(cpus=16))  # type: ignore[arg-type]
    assert ("gic-impossible" in errors(made)) is not fits


@pytest.mark.parametrize(
    ("asked", "target", "fits"),
    [
        ({"mode": Mode.NONE}, "8.2", False), ({"mode": Mode.NONE}, "9.0", True), ({"mode": Mode.NONE, "mmio_window": 1 << 40}, "9.2", False),
        ({"mode": Mode.NONE, "mmio_window": 1 << 40}, "10.0", True), ({"mode": Mode.VIRTIO_IOMMU}, "9.0", True),
        ({}, "10.1", False), ({}, "10.2", False), ({}, "11.0", True), ({"properties": Properties(cmdqv="off")}, "11.0", True),
        ({"properties": Properties(cmdqv="on")}, "11.0", False),
        ({"properties": Properties(oas="auto")}, "11.0", False), ({"properties": Properties(oas="auto")}, "11.1", True),
    ],
)  # fmt: skip
def test_what_each_qemu_has(asked: dict[str, object], target: str, fits: bool) -> None:
    made = planned(NVME, target=f"qemu={target}", **asked)  # type: ignore[arg-type]
    assert ("plan-needs-newer-qemu" in errors(made)) is not fits


@pytest.mark.parametrize("target", ["11.1", "qemu=", "qemu=11", "qemu=abc", "qemu=11.1\n", "libvirt=12.8", "qemu=-1.0", "qemu=٣.٣"])
def test_targets_that_are_none(target: str) -> None:
    made = planned(NVME, target=target)
    assert ("target-unknown" in errors(made)) is (target != "11.1")


# --- free ports


def test_what_may_be_plugged_is_judged_as_what_is_there() -> None:
    in_use = host("host-in-use")
    used = [use.address for use in in_use.facts.in_use if use.address in in_use.functions]
    for address in used:
        made = planned(hotplug=(HotplugRequest(functions=(address,)),), on=in_use)
        assert "in-use" in errors(made)
        assert "in-use" not in codes(planned(hotplug=(HotplugRequest(functions=(address,)),), allow_in_use=(address,), on=in_use))
    assert "pf-has-vfs" in errors(planned(NVME, hotplug=(HotplugRequest(functions=(PF,)),)))
    assert "not-assignable" in errors(planned(NVME, mode=Mode.NONE, hotplug=(HotplugRequest(functions=("0000:10:01.0",)),)))
    ports = tuple(HotplugRequest(functions=(address,)) for address in PAIR)
    assert "group-not-whole" in errors(planned(NVME, mode=Mode.NONE, hotplug=ports[:1]))
    assert "group-not-whole" not in codes(planned(NVME, mode=Mode.NONE, hotplug=ports))


def test_free_ports_count_in_windows_memory_and_buses() -> None:
    bare, ported = planned(NVME), planned(NVME, hotplug=(HotplugRequest(vsmmu="smmuv3.1", bus_reserve=4, pref64_reserve=700 * GIB),))
    assert ported.memory.mmio_needed == 1024 * GIB  # a reserve is rounded up to a power of two, and there is nothing beside it
    assert ported.memory.memlock == bare.memory.memlock  # the BARs of what is plugged are not charged
    assert ported.buses[0].last - bare.buses[0].last == 5


# --- buses


def test_a_vsmmu_on_the_root_bus_shares_its_slots_and_buses() -> None:
    """Allowed where nothing else is on pcie.0 (domain: "If accel SMMU is on pcie.0 …")."""
    made = planned(NVME, VF0, E1000E, vsmmus=(VsmmuRequest(id="s", smmu=SMMU1, bus="pcie.0"),))
    assert made.ok, made.errors
    slots = [bus.slot for bus in made.buses] + [port.slot for port in made.ports if port.bus == "pcie.0"]
    assert len(set(slots)) == len(slots)
    assert 0 not in slots
    assert made.buses[0].bus_nr > max(port.subordinate for port in made.ports if port.bus == "pcie.0")


def test_ports_and_vsmmus_beyond_what_a_machine_holds() -> None:
    on = host("kunpeng-920")
    by_smmu: dict[str, list[str]] = {}
    for address, function in on.functions.items():
        if not function.is_bridge and function.smmu:
            by_smmu.setdefault(function.smmu, []).append(address)
    most = max(by_smmu.values(), key=len)
    assert len(most) > 33
    packed = planned(*most[:33], on=on, assume_accel=True)  # the ports beyond a bus's slots are further functions of them
    assert "slot-range" not in codes(packed)
    assert "ports-share-slots" in codes(packed)
    assert "ports-share-slots" not in codes(planned(*most[:32], on=on, assume_accel=True))
    assert "vsmmus-too-many" in errors(planned(*most[:17], on=on, assume_accel=True, layout=Layout.PER_FUNCTION))
    assert "vsmmus-too-many" not in codes(planned(*most[:16], on=on, assume_accel=True, layout=Layout.PER_FUNCTION))


# --- contradictions


@pytest.mark.parametrize("mode", [Mode.VIRTIO_IOMMU, Mode.NONE])
@pytest.mark.parametrize(
    "asked",
    [
        {"properties": Properties(ats="on")}, {"properties": Properties(ssidsize=0)}, {"layout": Layout.PER_FUNCTION}, {"split": (SMMU1,)},
        {"vsmmus": (VsmmuRequest(id="s"),)}, {"hotplug": (HotplugRequest(vsmmu="s"),)},
    ],
)  # fmt: skip
def test_what_belongs_to_vsmmus_contradicts_another_mode(mode: Mode, asked: dict[str, object]) -> None:
    # One cause is one error: vSMMUs beside a virtio-iommu are two kinds of vIOMMU.
    code = "two-kinds-of-viommu" if "vsmmus" in asked and mode is Mode.VIRTIO_IOMMU else "needs-accel"
    assert errors(planned(NVME, mode=mode, **asked)) == {code}  # type: ignore[arg-type]
    assert "needs-accel" not in codes(planned(NVME, **asked))  # type: ignore[arg-type]


def test_disks_that_are_only_read_may_be_shared() -> None:
    read, write = (DiskRequest(path="/d", readonly=True),), (DiskRequest(path="/d"),)
    for one, other, clash in ((read, read, False), (read, write, True), (write, read, True), (write, (DiskRequest(path="//d"),), False)):
        made = plan(vm(NVME, disks=one), vm(E1000E, name="web", disks=other))
        assert ("disk-in-two-vms" in codes(made)) is clash
    assert "disk-in-two-vms" in codes(plan(vm(NVME, disks=write), vm(E1000E, name="web", disks=(DiskRequest(path="/./x/../d"),))))


def test_a_mac_address_is_one_in_capitals_too() -> None:
    one, other = (NetworkRequest(mac="52:54:00:00:00:0a"),), (NetworkRequest(mac="52:54:00:00:00:0A"),)
    assert "mac-twice" in codes(plan(vm(NVME, networks=one), vm(E1000E, name="web", networks=other)))


def test_a_split_helps_where_any_vm_has_functions_there() -> None:
    assert "split-without-functions" not in codes(plan(vm(NVME, split=(SMMU2,)), vm(E1000E, name="web", split=(SMMU2,))))


def test_advice_is_possible() -> None:
    """A property below all that QEMU has is no advice."""
    for code, bits in ((2, 40), (4, 44)):
        made = planned(NVME, properties=Properties(oas=48), assume_accel=True, on=with_oas(code))
        said = next(finding for finding in made.findings if finding.code == "property-exceeds-host")
        assert (f"oas={bits}" in said.fix) is (bits in (44, 48))


def test_nodes_without_memory_are_not_bound() -> None:
    """Two host nodes, and hugepages that only one share holds: the other guest node has none, and says so to nobody."""
    on = changed(nodes=(Node(id=0, cpus="0-7", memory=64 * GIB), Node(id=1, cpus="8-15", memory=64 * GIB)), cpus=16)
    assert planned(NVME, hugepages=GIB, on=on).ok


# --- functions


@pytest.mark.parametrize("mode", Mode)
def test_what_can_not_be_given_away_in_any_mode(mode: Mode) -> None:
    """No group, or interrupts that are not isolated (EPERM of BIND_IOMMUFD; sources: problem-33): without a vIOMMU it is the same."""
    failed = planned("0008:01:00.1", mode=mode, assume_accel=True, on=host("grace-cmdqv"))
    assert errors(failed) & {"accel-refused", "not-assignable", "virtio-iommu-impossible"}
    log = (*(line for line in facts("arm64-virt-canwbs").log if "ITS" not in line), "GICv2m: range[mem 0x08020000-0x08020fff], SPI[80:143]")
    shared = planned(NVME, mode=mode, on=changed(acpi={}, hw_info=(), log=log))
    assert any("not isolated" in finding.what for finding in shared.errors)


@pytest.mark.parametrize("mode", Mode)
def test_kvm_is_needed_in_every_mode(mode: Mode) -> None:
    assert "no-kvm" in errors(planned(NVME, mode=mode, on=changed(kvm=False)))
    assert "no-kvm" not in codes(planned(NVME, mode=mode, on=changed(kvm=None)))


def test_firmware_by_path_has_the_variables_of_its_descriptor() -> None:
    image = FirmwareImage(descriptor="/d.json", executable="/fw.qcow2", nvram_template="/vars.qcow2", executable_format="qcow2", machines=("virt-*",))
    on = changed(firmware=(image,))
    made = planned(NVME, firmware=FirmwareRequest(code="/fw.qcow2"), on=on).firmware
    assert made == FirmwareRequest(
        code="/fw.qcow2", code_format="qcow2", vars_template="/vars.qcow2", vars="/var/lib/smmu-wizard/db1_VARS.fd", vars_format="qcow2"
    )
    assert planned(NVME, firmware=FirmwareRequest(code="/other"), on=on).firmware == FirmwareRequest(code="/other")


def test_what_is_off_for_one_vsmmu_is_off_for_all() -> None:
    """IORT has one ATS bit for all of QEMU's root complexes (sources: qemu-P14); the planner's own choice follows what is written."""
    made = planned(NVME, E1000E, vsmmus=(VsmmuRequest(id="smmuv3.1", smmu=SMMU1, properties=Properties(ats="off")),), on=rich())
    assert {vsmmu.ats.written for vsmmu in made.vsmmus} == {"off"}
    assert {vsmmu.ats.written for vsmmu in planned(NVME, E1000E, on=rich()).vsmmus} == {"on"}


def test_cmdqv_is_left_out_where_more_functions_are_than_it_matches() -> None:
    ports = (HotplugRequest(functions=(VF0,)),)
    assert planned(NVME, hotplug=ports * 15, on=cmdqv()).vsmmus[0].cmdqv.written == "on"
    crowded = planned(NVME, hotplug=ports * 16, on=cmdqv())
    assert (crowded.ok, crowded.vsmmus[0].cmdqv.written) == (True, "off")
    assert "cmdqv-functions-too-many" in errors(planned(NVME, hotplug=ports * 16, properties=Properties(cmdqv="on"), on=cmdqv()))


def test_no_lower_mode_is_advised_where_none_helps() -> None:
    """GB10's GPU has a direct region: nothing gives it away."""
    refused = next(f for f in planned("000f:01:00.0", on=host("gb10")).findings if f.code == "accel-refused")
    assert "--fall-back" not in refused.fix
    assert "--fall-back" in next(f for f in planned(NVME, on=host("arm64-virt")).findings if f.code == "accel-refused").fix


def test_a_copied_profile_says_all_that_it_shares() -> None:
    """Someone copies a profile and changes name and function alone."""
    first = written(planned(NVME, qmp="/q", networks=(NetworkRequest(),), disks=(DiskRequest(path="/d"),)))
    second = replace(first, name="web", functions=(replace(first.functions[0], host=VF0, ids=None, serial=None),))
    made = plan(first, second)
    shared = {"uuid-twice", "socket-in-two-vms", "mac-twice", "disk-in-two-vms", "vars-in-two-vms"}
    assert {finding.code for finding in made.errors} == shared


def test_two_vms_of_one_name_are_told_of_the_name_alone() -> None:
    assert {finding.code for finding in plan(vm(NVME), vm(E1000E)).errors} == {"vm-name-twice"}


@pytest.mark.parametrize(
    ("sizes", "memory", "shares"),
    [
        ((64 * GIB, 64 * GIB), 80 * GIB, (40 * GIB, 40 * GIB)),  # even where that fits
        ((96 * GIB, 32 * GIB), 80 * GIB, (60 * GIB, 20 * GIB)),  # else as the nodes have it: what nobody wrote makes no plan fail
        ((96 * GIB, 32 * GIB), 128 * GIB, (96 * GIB, 32 * GIB)),
    ],
)
def test_memory_is_shared_among_nodes_that_hold_it(sizes: tuple[int, int], memory: int, shares: tuple[int, int]) -> None:
    nodes = tuple(Node(id=n, cpus=f"{8 * n}-{8 * n + 7}", memory=size) for n, size in enumerate(sizes))
    functions = tuple(replace(f, numa_node=1 if f.address == NVME else 0) for f in facts("arm64-virt-canwbs").functions)
    on = changed(nodes=nodes, functions=functions, memory_total=sum(sizes), cpus=16)
    made = planned(NVME, E1000E, memory=memory, on=on)
    assert tuple(node.memory for node in made.memory.nodes) == shares
    assert made.ok, made.errors


def test_nodes_of_a_gpu_that_is_not_here_are_no_error_of_their_own() -> None:
    profile = written(planned("0008:01:00.0", on=host("gb200"), assume_accel=True))
    elsewhere = plan(profile).vms[0]
    assert "unknown-function" in errors(elsewhere)
    assert "numa-initiator" not in codes(elsewhere)


def test_a_profile_of_another_product_is_of_another_host() -> None:
    """Recorded without a machine-id, hosts differ by what they are at least."""
    profile = written(planned("0008:01:00.0", on=host("gb200"), assume_accel=True))
    assert profile.made_for is not None
    assert profile.made_for.host is None
    assert "made-for-another-host" in codes(plan(profile, on=host("altra-ava")))
    assert "made-for-another-host" not in codes(plan(profile, on=changed(name="gb200", cpus=5)))


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (8 << 40, None),  # ends at 16T, 44 bits: what the host's SMMUs have
        (16 << 40, "warning"),
        (128 << 40, "warning"),  # ends at 256T, 48 bits
        (256 << 40, "warning"),
        (2048 << 40, "warning"),  # ends at 4096T, 52 bits: no arm64 CPU has more
        (4096 << 40, "error"),
    ],
)
def test_a_window_that_the_cpu_may_not_reach(window: int, said: str | None) -> None:
    """In a mode without a vSMMU nobody else compares it."""
    found = [one for one in planned(NVME, mode=Mode.NONE, mmio_window=window).findings if one.code == "mmio-window-above-cpu"]
    assert [one.severity for one in found] == ([said] if said else [])


@pytest.mark.parametrize(("window", "refused"), [(8 << 40, False), (16 << 40, True)])
def test_a_window_that_ends_where_the_vsmmu_does(window: int, refused: bool) -> None:
    """virt puts 8T at 8T: its last address is the last of 44 bits. 16T end one bit later."""
    assert ("memory-above-oas" in codes(planned(NVME, mmio_window=window))) is refused


@pytest.mark.parametrize(("id", "refused"), [("addr", True), ("x-speed", True), ("hotplug", True), ("type", True), ("mac", False), ("port1", False)])
def test_an_id_of_a_port_that_its_class_has(id: str, refused: bool) -> None:
    """QEMU 11.1.2: "attempt to add duplicate property 'addr' to object (type 'pcie-root-port')"; mac is no property of a port."""
    assert ("id-reserved" in codes(planned(FunctionRequest(host=NVME, port=id)))) is refused
