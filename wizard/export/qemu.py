"""The complete QEMU command line of a planned VM: as a list of words, as a shell script, as JSON.

The order is the one that works (sources: qemu-command-line): objects, then pxb-pcie, arm-smmuv3, root ports, assigned functions,
and the emulated devices on pcie.0 at the end. ``bus=`` and ``addr=`` are always written: nothing is left to QEMU's placement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from wizard.base.address import Address
from wizard.base.text import shell_word, size, visible, visible_json
from wizard.export.command import Option, device, keyed, object_
from wizard.export.kept import kept_options, said_of_kept, with_properties
from wizard.host.vmm import Vmm
from wizard.plan.memory import cpu_text
from wizard.plan.model import ROOT_BUS, DevicePlan, NetworkPlan, OtherPlan, VmPlan, require
from wizard.plan.request import KeptQemu
from wizard.plan.rules.target import LIBVIRT_OLD, OTHER, TOO_NEW


def qemu_argv(vm: VmPlan, *, as_json: bool = False) -> list[str]:
    """The words of the command, the program first."""
    return [vm.emulator, *(word for option in all_options(vm) for word in option.words(as_json=as_json))]


def qemu_json(vm: VmPlan) -> str:
    """One JSON array of the command's words; values of -device, -object and -blockdev are QEMU's own JSON."""
    return visible_json(json.dumps(qemu_argv(vm, as_json=True), ensure_ascii=False, indent=1)) + "\n"


def qemu_script(vm: VmPlan) -> str:
    """A shell script (bash, for its arrays) that starts the VM: one option a line, comments that name the host's devices."""
    lines = [
        "#!/bin/bash",
        *(f"# {line}" for line in heading(vm)),
        *([f"# {said}"] if (said := said_of_kept(vm, "qemu")) else []),
        "#",
        "# Run the preparation script first (smmu-wizard export … --format prepare). More QEMU options may follow the script's name:",
        "# `./script -serial mon:stdio` for a console.",
        "set -eu",
        "",
        "# shellcheck disable=SC2054 # the commas are QEMU's",
        "args=(",
    ]
    for option in all_options(vm):
        lines += [f"  # {visible(line)}" for line in option.comment.splitlines()]
        lines.append("  " + " ".join(shell_word(word) for word in option.words()))
    lines += [")", f'exec {shell_word(vm.emulator)} "${{args[@]}}" "$@"', ""]
    return "\n".join(lines)


TRACES = ("smmuv3_accel_install_ste", "iommufd_backend_invalidate_cache")
"""QEMU's trace events that show a guest translating: what it configures for a function, and each invalidation that the host's SMMU does for it."""

FAULTS = "smmuv3_propagate_event"
"""The one for a fault that QEMU hands to its guest, which nothing else outside of the guest shows."""


def with_traces(vm: VmPlan) -> VmPlan:
    """The VM with these events written to QEMU's log from its start, with their time: a line for each unmap and fault of the guest.

    sources: running-trace.
    """
    kept = vm.request.kept_qemu or KeptQemu()
    options = (*kept.options, *(f"-trace {name}" for name in (*TRACES, FAULTS)), "-msg timestamp=on")
    return replace(vm, request=replace(vm.request, kept_qemu=replace(kept, options=options)))


def heading(vm: VmPlan) -> list[str]:
    """What a file made of this plan says of itself, each line safe to show."""
    made = vm.made_for
    host = visible((made.product if made else None) or (made.host if made else None) or "a host without a name")
    lines = [f"VM {visible(vm.name)}: {len(vm.devices)} assigned, mode {vm.mode}, for {vm.made_for_vmm}; made by smmu-wizard for {host}"]
    if made and made.digest:
        lines.append(f"host digest {visible(made.digest)}")
    lines += too_new(vm)
    lines += [visible(line) for line in vm.notes.splitlines()]
    return lines


def too_new(vm: VmPlan) -> list[str]:
    """What the host's own QEMU and libvirt can't do of it, as the plan found it."""
    return [visible(finding.what) for finding in vm.findings if finding.code in (OTHER.code, TOO_NEW.code, LIBVIRT_OLD.code)]


def all_options(vm: VmPlan) -> Iterator[Option]:
    """Every option, with what was kept of the command line that the VM was imported from."""
    for option in options(vm):
        yield with_properties(vm, option)
    yield from kept_options(vm)


def options(vm: VmPlan) -> Iterator[Option]:
    """Every option of the plan, in the order of the command line."""
    require(vm, Vmm.QEMU, "this is QEMU's command")
    yield from _machine(vm)
    yield from _memory(vm)
    if vm.qmp is not None:
        # QEMU 11.1 warns of -mon ("is deprecated, use '-object' with 'monitor-hmp' or 'monitor-qmp'"), and older ones have no such objects.
        words = f"unix:{vm.qmp.replace(',', ',,')},server=on,wait=off"
        yield Option("-qmp", text=words, comment="for verify, events and hot-plug")
    if vm.iommufd is not None:
        yield object_("iommufd", ("id", vm.iommufd), comment="one for the VM: its vSMMUs share the guest's stage 2")
    yield from _buses(vm)
    yield from _functions(vm)
    yield from _emulated(vm)


def _machine(vm: VmPlan) -> Iterator[Option]:
    machine = vm.machine
    firmware = vm.firmware
    yield keyed("-name", ("guest", vm.name), ("debug-threads", True))
    yield Option("-uuid", text=vm.uuid)
    yield keyed(
        "-machine",
        ("type", machine.type),
        ("gic-version", machine.gic),
        ("its", None if machine.its else False),
        ("acpi", None if machine.acpi else False),
        ("iommu", machine.iommu),
        ("highmem-mmio-size", size(vm.memory.mmio_window) if vm.memory.mmio_written else None),
        ("memory-backend", "mem0" if vm.memory.hugepages and not vm.memory.nodes else None),
        ("pflash0", "pflash0" if firmware else None),
        ("pflash1", "pflash1" if firmware and firmware.vars else None),
    )
    yield Option("-accel", text="kvm")
    yield Option("-cpu", text="host")
    yield keyed("-smp", ("cpus", vm.cpus))
    yield keyed("-m", ("size", f"{vm.memory.size >> 20}M"))
    yield Option("-nodefaults")
    yield Option("-no-user-config")
    yield Option("-display", text="none")
    if firmware:
        yield from _drive("pflash0", firmware.code, firmware.code_format, readonly=True, comment="UEFI: code, then the VM's own variables")
        if firmware.vars:
            yield from _drive("pflash1", firmware.vars, firmware.vars_format, readonly=False)


def _drive(node: str, path: str, form: str, *, readonly: bool, device: bool = False, comment: str = "") -> Iterator[Option]:
    # -blockdev takes the path as it is; -drive would read a prefix such as "nbd:" out of it, and choose the driver by itself:
    # "'file' driver requires '/dev/sdb' to be a regular file".
    yield keyed(
        "-blockdev",
        ("driver", "host_device" if device else "file"),
        ("node-name", f"{node}-storage"),
        ("filename", path),
        ("read-only", readonly),
        comment=comment,
    )
    yield keyed("-blockdev", ("driver", form), ("node-name", node), ("file", f"{node}-storage"), ("read-only", readonly))


def _memory(vm: VmPlan) -> Iterator[Option]:
    memory = vm.memory
    backed = [node for node in memory.nodes if node.memory]
    for node in backed:
        where = f"guest node {node.id}" + (f" on host node {node.host_node}" if node.host_node is not None else "")
        yield _backend(f"mem{node.id}", node.memory, memory.hugepages, node.host_node, where)
    if memory.hugepages and not memory.nodes:
        yield _backend("mem0", memory.size, memory.hugepages, None, "guest memory")
    for node in memory.nodes:
        ranges = tuple(("cpus", part) for part in cpu_text(node.cpus).split(",") if part)
        yield keyed("-numa", ("type", "node"), ("nodeid", node.id), *ranges, ("memdev", f"mem{node.id}" if node.memory else None))


def _backend(id: str, length: int, hugepages: int | None, host_node: int | None, comment: str) -> Option:
    bound: tuple[tuple[str, tuple[int, ...] | str | None], ...] = (
        ("host-nodes", None if host_node is None else (host_node,)),
        ("policy", None if host_node is None else "bind"),
    )
    if hugepages is None:
        return object_("memory-backend-ram", ("id", id), ("size", length), *bound, comment=comment)
    return object_(
        "memory-backend-memfd", ("id", id), ("size", length), ("hugetlb", True), ("hugetlbsize", hugepages), ("prealloc", True), *bound,
        comment=comment,
    )  # fmt: skip


def _buses(vm: VmPlan) -> Iterator[Option]:
    if vm.virtio_iommu:
        yield device(
            "virtio-iommu-pci", ("id", "viommu0"), ("bus", ROOT_BUS), ("addr", hex(vm.virtio_iommu.slot)),
            ("granule", vm.virtio_iommu.granule), ("aw-bits", vm.virtio_iommu.aw_bits), comment="software vIOMMU for the whole machine",
        )  # fmt: skip
    for bus in vm.buses:
        vsmmu = next((v for v in vm.vsmmus if v.bus == bus.id), None)
        node = f", host node {bus.host_node}" if bus.host_node is not None else ""
        yield device(
            "pxb-pcie", ("id", bus.id), ("bus", ROOT_BUS), ("addr", hex(bus.slot)), ("bus_nr", bus.bus_nr), ("numa_node", bus.numa_node),
            comment=f"host {vsmmu.smmu}{node}" if vsmmu and vsmmu.smmu else "",
        )  # fmt: skip
    for vsmmu in vm.vsmmus:
        # Typed as QAPI wants it (sources: qemu-command-line): accel is a bool, everything else a string, oas and ssidsize too.
        properties = [(name, prop.written) for name, prop in vsmmu.properties()] if vsmmu.accel else []
        accel = True if vsmmu.accel else None
        yield device("arm-smmuv3", ("id", vsmmu.id), ("primary-bus", vsmmu.bus), ("accel", accel), ("stage", vsmmu.stage), *properties)
    for other in _above_first(vm.others):
        yield _other(vm, other)
    for port in vm.ports:
        yield device(
            "pcie-root-port", ("id", port.id), ("bus", port.bus), ("addr", hex(port.slot)),
            ("multifunction", shared_slot(vm, port.bus, port.slot)),
            ("chassis", port.chassis), ("port", port.port),
            ("bus-reserve", port.bus_reserve), ("mem-reserve", port.mem_reserve),
            ("pref64-reserve", port.pref64_reserve),
            comment=f"left free{' for ' + ', '.join(port.candidates) if port.candidates else ''}" if port.hotplug else "",
        )  # fmt: skip


_DRIVERS = {
    "expander": "pxb-pcie", "port": "pcie-root-port", "upstream": "x3130-upstream", "downstream": "xio3130-downstream",
    "bridge": "pcie-pci-bridge",
}  # fmt: skip


def _other(vm: VmPlan, other: OtherPlan) -> Option:
    """A bridge of a VM that was imported; what is no bridge is in the options that were kept."""
    numbered = other.kind in ("port", "downstream")
    return device(
        _DRIVERS[other.kind], ("id", other.id), ("bus", other.bus), ("addr", _addr(other.slot, other.function)),
        ("multifunction", True if other.function == 0 and shared_slot(vm, other.bus, other.slot) else None),
        ("bus_nr", other.bus_nr), ("numa_node", other.numa_node),
        ("chassis", other.chassis if numbered else None), ("port", other.port if numbered else None),
        ("bus-reserve", other.bus_reserve), ("mem-reserve", other.mem_reserve), ("pref64-reserve", other.pref64_reserve),
    )  # fmt: skip


def _addr(slot: int, function: int) -> str:
    return f"{slot:#x}.{function:#x}" if function else hex(slot)


def shared_slot(vm: VmPlan, bus: str, slot: int) -> bool | None:
    """Whether others have further functions of a slot: QEMU wants multifunction=on of function 0 then."""
    return True if any((other.bus, other.slot) == (bus, slot) and other.function for other in vm.others) else None


def _above_first(others: Iterable[OtherPlan]) -> list[OtherPlan]:
    """Bridges, each after the one that it hangs on: QEMU makes devices in their order."""
    waiting = [other for other in others if other.bridge]
    made: list[OtherPlan] = []
    while waiting:
        ids = {other.id for other in waiting}
        ready = [other for other in waiting if other.bus not in ids] or waiting
        made += ready
        waiting = [other for other in waiting if other not in ready]
    return made


def _functions(vm: VmPlan) -> Iterator[Option]:
    for assigned in vm.devices:
        yield function(vm, assigned)
    count = 0
    for node in vm.memory.nodes:
        if node.initiator is not None:
            yield object_("acpi-generic-initiator", ("id", f"gi{count}"), ("pci-dev", node.initiator), ("node", node.id))
            count += 1


def function(vm: VmPlan, assigned: DevicePlan) -> Option:
    """One assigned function."""
    wide = Address.parse(assigned.host).segment > 0xFFFF  # host= takes four digits
    where = f", group {assigned.group}" if assigned.group is not None else ""
    made = f", VF {assigned.vf_index} of {assigned.pf}, made by the preparation script" if assigned.to_make else ""
    place = f"guest {assigned.guest}" + (f", StreamID {assigned.vsid:#x}" if assigned.vsid is not None else "")
    return device(
        "vfio-pci",
        ("host", None if wide else assigned.host),
        ("sysfsdev", f"/sys/bus/pci/devices/{assigned.host}" if wide else None),
        ("id", assigned.id),
        ("bus", assigned.port),
        ("addr", f"{assigned.slot:#x}.{assigned.function:#x}" if assigned.multifunction or assigned.function else hex(assigned.slot)),
        ("multifunction", True if assigned.multifunction else None),
        ("iommufd", vm.iommufd if assigned.iommufd else None),
        ("ats", assigned.ats),
        ("rombar", None if assigned.rom else 0),
        comment=f"{assigned.host} {assigned.name}{where}{made}; expected at {place}",
    )


def _emulated(vm: VmPlan) -> Iterator[Option]:
    for count, disk in enumerate(vm.disks):
        yield from _drive(f"disk{count}", disk.path, disk.format, readonly=disk.readonly, device=disk.host_device)
        yield device("virtio-blk-pci", ("id", disk.id), ("bus", disk.bus), ("addr", hex(disk.slot)), ("drive", f"disk{count}"))
    for count, network in enumerate(vm.networks):
        yield _netdev(network, f"netdev{count}")
        yield device(
            "virtio-net-pci", ("id", network.id), ("bus", network.bus), ("addr", hex(network.slot)), ("netdev", f"netdev{count}"),
            ("mac", network.mac), ("romfile", ""),
        )  # fmt: skip


def _netdev(network: NetworkPlan, id: str) -> Option:
    if network.kind == "tap":
        return keyed("-netdev", ("type", "tap"), ("id", id), ("ifname", network.source), ("script", "no"), ("downscript", "no"))
    if network.kind == "bridge":
        return keyed("-netdev", ("type", "bridge"), ("id", id), ("br", network.source))
    return keyed("-netdev", ("type", "user"), ("id", id))
