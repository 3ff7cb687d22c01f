"""Random plans over every fixture: what holds of each, read from domain facts and not from the planner's own rules."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tools.hosts import FIXTURES, host, plan
from wizard.base.finding import Severity
from wizard.export.qemu import options
from wizard.host.model import Accel, Host
from wizard.plan.model import Plan, VmPlan
from wizard.plan.properties import Properties, Switch
from wizard.plan.request import DiskRequest, FunctionRequest, HotplugRequest, Layout, Mode, NetworkRequest, VmRequest
from wizard.plan.written import written

GIB = 1 << 30
NAMES = sorted(path.stem for path in FIXTURES.glob("*.json"))
switches: st.SearchStrategy[Switch | None] = st.sampled_from([None, None, "on", "off", "auto"])


@st.composite
def requests(draw: st.DrawFn, name: str) -> tuple[VmRequest, ...]:
    """One to three VMs that share the functions of a host, or quarrel about them."""
    on = host(name)
    endpoints = [address for address, function in on.functions.items() if not function.is_bridge]
    some = st.lists(st.sampled_from(endpoints or ["0000:00:00.0"]), unique=True, max_size=8)
    vms = []
    for count in range(draw(st.integers(1, 3))):
        mode = draw(st.sampled_from(Mode))
        accelerated = mode is Mode.ACCEL
        functions = [
            FunctionRequest(host=address, mode=Mode.NONE if accelerated and draw(st.integers(0, 7)) == 0 else None) for address in draw(some)
        ]
        hotplug = [HotplugRequest(functions=(address,), bus_reserve=draw(st.integers(0, 4))) for address in draw(some)[:2]]
        vms.append(
            VmRequest(
                name=f"vm{count}",
                functions=tuple(functions),
                memory=draw(st.sampled_from([GIB, 2 * GIB, 5 * GIB])),
                cpus=draw(st.integers(1, 9)),
                mode=mode,
                fall_back=draw(st.booleans()),
                layout=draw(st.sampled_from(Layout)) if accelerated else Layout.PER_SMMU,
                split=draw(st.sampled_from([(), tuple(on.smmus)[:1]])) if accelerated else (),
                properties=Properties(ats=draw(switches), ril=draw(switches), oas=draw(st.sampled_from([None, 44, 48, "auto"])))
                if accelerated
                else Properties(),
                hotplug=tuple(hotplug) if draw(st.booleans()) else (),
                disks=tuple(DiskRequest(path=f"/d{count}-{n}") for n in range(draw(st.integers(0, 2)))),
                networks=tuple(NetworkRequest() for _ in range(draw(st.integers(0, 2)))),
                assume_accel=draw(st.booleans()),
                user=draw(st.sampled_from(["root", "qemu"])),
            )
        )
    return tuple(vms)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_holds_of_every_plan(name: str, data: st.DataObject) -> None:
    on = host(name)
    made = plan(*data.draw(requests(name)), on=on)
    severities = [list(Severity).index(finding.severity) for finding in made.findings]
    assert severities == sorted(severities)
    for vm in made.vms:
        numbers(vm)
        places(vm)
        behind_vsmmus(vm, on)
        memory(vm)
        order_on_the_command_line(vm)
        if vm.ok:
            may_start(vm, on)
    if made.ok:
        one_owner(made, on)


def numbers(vm: VmPlan) -> None:
    """Bus numbers as UEFI hands them out: each port one bus and its reserve, in the order of the slots.

    sources: qemu-P4, qemu-P5, qemu-P6, qemu-P8, qemu-P10
    """
    ends = {"pcie.0": 0}
    for bus in vm.buses:
        ends[bus.id] = bus.bus_nr
    for port in sorted(vm.ports, key=lambda port: port.slot):
        assert port.secondary == ends[port.bus] + 1
        ends[port.bus] = port.secondary + (port.bus_reserve or 0)
        assert port.subordinate == ends[port.bus]
    roots = sorted([(0, "pcie.0"), *((bus.bus_nr, bus.id) for bus in vm.buses)])
    fits = all(ends[id] < start for (_, id), (start, _) in pairwise(roots)) and ends[roots[-1][1]] <= 255
    assert fits or "bus-numbers-exhausted" in {finding.code for finding in vm.errors}
    chassis = [port.chassis for port in vm.ports]
    assert len(set(chassis)) == len(chassis)
    assert all(number >= 1 for number in chassis)
    slots = [("pcie.0", bus.slot) for bus in vm.buses] + [(port.bus, port.slot) for port in vm.ports]
    slots += [(disk.bus, disk.slot) for disk in vm.disks] + [(network.bus, network.slot) for network in vm.networks]
    slots += [("pcie.0", vm.virtio_iommu.slot)] if vm.virtio_iommu else []
    assert len(set(slots)) == len(slots)
    assert ("pcie.0", 0) not in slots


def places(vm: VmPlan) -> None:
    """Each function at a place of its own; those of one device of the host share a port, and nobody else does."""
    assert len({device.guest for device in vm.devices}) == len(vm.devices)
    ports = {port.id: port for port in vm.ports}
    for id, port in ports.items():
        held = [device for device in vm.devices if device.port == id]
        assert not (port.hotplug and held)
        assert len({device.host.rpartition(".")[0] for device in held if device.pf is None}) <= 1
        assert len(held) <= 1 or all(device.pf is None for device in held)
        assert not held or 0 in {device.function for device in held}
        assert all(device.multifunction is (len(held) > 1) and device.bus == port.secondary for device in held)


def behind_vsmmus(vm: VmPlan, on: Host) -> None:
    """One SMMU for each vSMMU, one vSMMU for each SMMU unless it is to be split; nothing emulated behind them; a machine-wide vIOMMU alone."""
    assert not (vm.virtio_iommu and vm.vsmmus)
    assert {disk.bus for disk in vm.disks} | {network.bus for network in vm.networks} <= {"pcie.0"}
    for vsmmu in vm.vsmmus:
        assert {on.functions[device.host].smmu for device in vm.devices_of(vsmmu) if not device.to_make} <= {vsmmu.smmu}
        assert vm.bus(vsmmu.bus)
        for device in vm.devices_of(vsmmu):
            port, bus = vm.port(device.port), vm.bus(vsmmu.bus)
            assert port
            assert bus
            assert port.bus == vsmmu.bus
            assert device.vsid is not None
            assert bus.bus_nr <= device.vsid >> 8 <= bus.last
    whole = [vsmmu.smmu for vsmmu in vm.vsmmus if vsmmu.smmu not in vm.request.split]
    assert vm.request.layout is Layout.PER_FUNCTION or len(set(whole)) == len(whole)
    assert all((device.vsmmu is not None) is (device.mode is Mode.ACCEL) for device in vm.devices)


def memory(vm: VmPlan) -> None:
    """The window a power of two from 512 GiB that holds all BARs (sources: qemu-M13); nodes that add up, each CPU once."""
    window = vm.memory.mmio_window
    assert window >= 512 * GIB
    assert window & (window - 1) == 0
    assert window >= sum(bar for device in vm.devices for bar in device.bars if bar >= GIB)
    assert vm.memory.memlock >= vm.memory.size if vm.devices else True
    nodes = vm.memory.nodes
    if nodes:
        assert sum(node.memory for node in nodes) == vm.memory.size
        assert sorted(cpu for node in nodes for cpu in node.cpus) == list(range(vm.cpus))
        assert [node.id for node in nodes] == list(range(len(nodes)))
    assert all(bus.numa_node is None or bus.numa_node < len(nodes) for bus in vm.buses)


def order_on_the_command_line(vm: VmPlan) -> None:
    """Objects, pxb, its vSMMU, ports, functions; each id once, and never what the machine sets itself (sources: qemu-command-line, qemu-S8)."""
    said = list(options(vm))
    words = [word for option in said for word in option.words()]
    assert not any("iommu=smmuv3" in word or "bypass" in word or word == "-only-migratable" for word in words)
    seen = {"pcie.0"}
    values = [words[n + 1] for n, word in enumerate(words) if word in ("-object", "-device")]
    lines = [dict(part.split("=", 1) for part in value.split(",")[1:]) for value in values]
    objects = [n for n, word in enumerate(words) if word == "-object"]
    devices = [n for n, word in enumerate(words) if word == "-device"]
    kinds = [words[n + 1].partition(",")[0] for n in devices]
    initiators = {n for n in objects if words[n + 1].startswith("acpi-generic-initiator")}
    assert not devices or all(n < devices[0] for n in objects if n not in initiators)
    for line in lines:
        for key in ("bus", "primary-bus", "iommufd", "pci-dev"):
            assert key not in line or line[key] in seen, line
        if "id" in line:
            assert line["id"] not in seen
            seen.add(line["id"])
        assert not {"bus_num", "smmu_per_bus", "identifier", "msi-gpa", "memory", "secure-memory"} & (set(line) if "primary-bus" in line else set())
        assert "fd" not in line
    first = ["pxb-pcie", "arm-smmuv3", "virtio-iommu-pci", "pcie-root-port"]
    ranks = [first.index(kind) if kind in first else len(first) for kind in kinds]
    assert ranks == sorted(ranks)


def may_start(vm: VmPlan, on: Host) -> None:
    """What QEMU and the kernel would refuse (sources: qemu-smmuv3, qemu-host-registers, problem-31) is in no plan without errors."""
    assert len(vm.vsmmus) <= 16
    assert all(0 <= port.slot < 32 for port in vm.ports)
    assert len({vsmmu.ats.resolved for vsmmu in vm.vsmmus if vsmmu.ats.written is not None}) <= 1
    for vsmmu in vm.vsmmus:
        held = vm.devices_of(vsmmu)
        assert held or not any(prop.auto for name, prop in vsmmu.properties() if name != "cmdqv")
        assert vsmmu.oas.written in ("44", "48", "auto")
        raw = on.smmus[vsmmu.smmu or ""].hardware
        for name, prop in vsmmu.properties():
            known = raw.get(name)
            if known is not None and known.known and isinstance(known.value, int) and prop.resolved is not None:
                assert prop.resolved <= known.value, name
    for device in vm.devices:
        function = on.functions.get(device.host)
        if function is None:
            continue
        group = on.groups[function.group] if function.group is not None else None
        assert not function.is_bridge
        assert group is not None
        assert all(region.type != "direct" for region in group.regions)
        assert not function.facts.sriov_numvfs
        members = [other for other in group.devices if other in on.functions and not on.functions[other].is_bridge]
        if device.mode is Mode.ACCEL:
            assert members == [device.host]
            accel = on.verdict(device.host).accel
            assert accel is Accel.YES or (accel is Accel.UNKNOWN and vm.request.assume_accel)
        else:
            assert set(members) <= {other.host for other in vm.devices} | {f for port in vm.ports for f in port.candidates}
        if vm.virtio_iommu:
            assert vm.virtio_iommu.granule == {4096: "4k", 16384: "16k", 65536: "64k"}[on.page_size or 0]
            assert vm.virtio_iommu.aw_bits <= 48


def one_owner(made: Plan, on: Host) -> None:
    """No function, group, PF with its VFs, MAC address or disk in two VMs; not more memory than the host has."""
    owners: dict[str, str] = {}
    for vm in made.vms:
        for device in vm.devices:
            assert owners.setdefault(device.host, vm.name) == vm.name
            if device.group is not None:
                assert owners.setdefault(f"group {device.group}", vm.name) == vm.name
        for network in vm.networks:
            assert network.mac not in owners
            owners[network.mac] = vm.name
    for vm in made.vms:
        assert all(device.pf not in owners for device in vm.devices)
    total = on.facts.memory_total
    assert total is None or sum(vm.memory.size for vm in made.vms) <= total


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_profile_is_a_fixed_point_on_every_host(name: str, data: st.DataObject) -> None:
    """Written out and planned again, every number is the same, and so is whether it would start."""
    on = host(name)
    first = plan(*data.draw(requests(name)), on=on)
    again = plan(*(written(vm) for vm in first.vms), on=on)
    assert [(vm.buses, vm.ports, vm.devices, vm.memory, vm.mode) for vm in again.vms] == [
        (vm.buses, vm.ports, vm.devices, vm.memory, vm.mode) for vm in first.vms
    ]
    assert again.ok == first.ok, (first.errors, again.errors)
