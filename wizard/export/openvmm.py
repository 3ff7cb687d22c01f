"""OpenVMM: the command that starts a VM planned for it, as a shell script. Nothing of it could be run here, and the script says so.

One root complex for each bus of the plan, since a vSMMU covers a whole one; a root port for each function, disk and network, since OpenVMM
attaches devices to ports alone and shows each function as a device of its own. Bus numbers are those of the plan; firmware numbers the rest.
Its own words for every option: openvmm_entry/src/cli_args.rs and its Guide (sources: vmms-openvmm).
"""

from __future__ import annotations

from collections.abc import Iterator

from wizard.base.errors import UsageError
from wizard.base.text import plural, shell_word, size, visible
from wizard.export.qemu import heading
from wizard.host.vmm import Vmm
from wizard.plan.memory import cpu_text
from wizard.plan.model import ROOT_BUS, DevicePlan, NodePlan, VmPlan, require
from wizard.plan.numbers import BUSES, SLOTS
from wizard.plan.regions import power_of_two
from wizard.plan.rules.openvmm import BY_DOCUMENTS, WITHOUT

LOW_MMIO = 64 << 20  # OpenVMM's own defaults of a root complex
HIGH_MMIO = 1 << 30
FIRMWARE = "OPENVMM_UEFI_FIRMWARE"

Part = tuple[str, tuple[str, ...]]  # a comment, and words


def openvmm_script(vm: VmPlan) -> str:
    """The script. ``UsageError`` for a plan that was made for another VMM."""
    require(vm, Vmm.OPENVMM, "this is OpenVMM's command")
    lines = [
        "#!/bin/bash",
        *(f"# {line}" for line in heading(vm)),
        "#",
        *(f"# {visible(finding.what)}" for finding in vm.findings if finding.code in (BY_DOCUMENTS.code, WITHOUT.code)),
        "# NOT RUN: written after microsoft/openvmm 1488a37 (2026-08-21). `openvmm --help` of the one you have decides.",
        "# Its UEFI is not AAVMF but mu_msvm: name its MSVM.fd for AARCH64 in the variable. Guest addresses are predictions.",
        "# Run the preparation script first (smmu-wizard export … --format prepare).",
        "set -eu",
        f': "${{{FIRMWARE}:?name the MSVM.fd of mu_msvm for AARCH64 in this variable}}"',
        "",
        "# shellcheck disable=SC2054 # the commas are OpenVMM's",
        "args=(",
    ]
    for comment, words in _parts(vm):
        lines += [f"  # {visible(comment)}"] if comment else []
        lines.append("  " + " ".join(shell_word(word) for word in words))
    lines += [f'  --uefi --uefi-firmware "${FIRMWARE}"', ")", f'exec {shell_word(vm.emulator)} "${{args[@]}}" "$@"', ""]
    return "\n".join(lines)


def _parts(vm: VmPlan) -> Iterator[Part]:
    yield "", ("--hypervisor", "kvm")
    yield "", ("--processors", str(vm.cpus))
    yield from _memory(vm)
    # Without VMBus and Hyper-V's enlightenments: the guest is a plain arm64 machine with PCI Express alone, as it would be in QEMU.
    yield "", ("--no-vmbus", "--no-hv")
    yield "", ("--com1", "console")
    yield "", ("--gic-msi", "its" if vm.machine.its else "v2m")
    if vm.iommufd is not None:
        yield "one for the VM: its vSMMUs share the guest's stage 2", ("--iommu", f"id={vm.iommufd}")
    yield from _complexes(vm)
    yield from _Ports(vm).parts()


class _Ports:
    """Root ports, and what is on each: those of the plan, and one more for whatever shares a port, or is on pcie.0 itself."""

    def __init__(self, vm: VmPlan) -> None:
        self.vm = vm
        self.bus_of = {port.id: port.bus for port in vm.ports} | {other.id: other.bus for other in vm.others if other.kind == "port"}
        self.taken: dict[str, set[int]] = {}
        for bus, slot in [*((port.bus, port.slot) for port in vm.ports), *((other.bus, other.slot) for other in vm.others)]:
            self.taken.setdefault(bus, set()).add(slot)
        for bus, slot in [*((disk.bus, disk.slot) for disk in vm.disks), *((network.bus, network.slot) for network in vm.networks)]:
            self.taken.setdefault(bus, set()).add(slot)
        self.full: set[str] = set()

    def parts(self) -> Iterator[Part]:
        vm = self.vm
        for port in vm.ports:
            yield "", ("--pcie-root-port", f"{port.bus}:{port.id},addr={port.slot}{',hotplug' if port.hotplug else ''}")
        for other in vm.others:
            if other.kind == "port":
                function = f".{other.function}" if other.function else ""
                yield "", ("--pcie-root-port", f"{other.bus}:{other.id},addr={other.slot}{function}")
        for device in vm.devices:
            made, name = self.port(device.port, f"{device.id}-port")
            yield from made
            yield from _function(vm, device, name)
        for disk in vm.disks:
            made, name = self.port(disk.bus, f"{disk.id}-port", disk.slot)
            yield from made
            yield "", ("--virtio-blk", f"file:{disk.path}{',ro' if disk.readonly else ''},pcie_port={name}")
        for network in vm.networks:
            made, name = self.port(network.bus, f"{network.id}-port", network.slot)
            yield from made
            backend = f"tap:{network.source}" if network.kind == "tap" else "consomme"
            yield "", ("--virtio-net", f"pcie_port={name}:{backend}")

    def port(self, bus: str, name: str, slot: int | None = None) -> tuple[list[Part], str]:
        """The port for a device that the plan has on that bus: the port itself, or a new one that is called ``name``."""
        if bus in self.bus_of and bus not in self.full:
            self.full.add(bus)
            return [], bus
        root = self.bus_of.get(bus, bus)
        if bus in self.bus_of or slot is None:
            slot = next((number for number in range(SLOTS) if number not in self.taken.setdefault(root, set())), None)
        if slot is None:
            what = f"VM {visible(self.vm.name)}: no slot is left on {visible(root)} for a port of its own for {visible(name.removesuffix('-port'))}."
            raise UsageError(what, "Give fewer devices.")
        self.taken.setdefault(root, set()).add(slot)
        return [("", ("--pcie-root-port", f"{root}:{name},addr={slot}"))], name


def _memory(vm: VmPlan) -> Iterator[Part]:
    huge = f",hugepages=on,hugepage_size={size(vm.memory.hugepages)}" if vm.memory.hugepages else ""
    if not vm.memory.nodes:
        yield "", ("--memory", f"size={size(vm.memory.size)}{huge}")
    for node in vm.memory.nodes:
        yield "", ("--numa", _node(node, huge))


def _node(node: NodePlan, huge: str) -> str:
    bound = f",host_numa_node={node.host_node}" if node.host_node is not None and node.memory else ""
    return f"size={size(node.memory)}{huge if node.memory else ''}{bound},vps=[{cpu_text(node.cpus)}]"


def _complexes(vm: VmPlan) -> Iterator[Part]:
    """A root complex has the bus numbers up to where the next one begins."""
    expanders = [(bus.bus_nr, bus.id, bus.numa_node) for bus in vm.buses]
    expanders += [(other.secondary, other.id, other.numa_node) for other in vm.others if other.kind == "expander"]
    starts = sorted([(0, ROOT_BUS, None), *expanders], key=lambda one: one[0])
    ends = [start - 1 for start, _, _ in starts[1:]] + [BUSES - 1]
    used = {port.bus for port in vm.ports} | {other.bus for other in vm.others if other.kind == "port"} | {vm.complex_of(one) for one in _buses(vm)}
    for (start, bus, node), end in zip(starts, ends, strict=True):
        if bus == ROOT_BUS and bus not in used:
            continue
        ports = [port for port in vm.ports if port.bus == bus]
        functions = [device for device in vm.devices if vm.complex_of(device.port) == bus]
        bars = [bar for device in functions for bar in device.bars]
        high = power_of_two(sum(power_of_two(bar) for bar in bars) + sum(port.pref64_reserve or 0 for port in ports))
        low = power_of_two(vm.memory.low_mmio_needed)
        options = [f"start_bus={start}", f"end_bus={end}"]
        options += [f"low_mmio={size(low)}"] if low > LOW_MMIO and functions else []
        options += [f"high_mmio={size(high)}"] if high > HIGH_MMIO else []
        options += [f"node={node}"] if node is not None else []
        vsmmu = next((one for one in vm.vsmmus if one.bus == bus), None)
        held = sum(device.port in {port.id for port in ports} for device in vm.devices)
        yield (
            f"host {vsmmu.smmu}, {plural(held, 'function')}" if vsmmu and vsmmu.smmu else "",
            (
                "--pcie-root-complex",
                ",".join([bus, *options]),
            ),
        )
        if vsmmu is not None:
            yield "", ("--smmu", f"rc={bus}{',accel' if vsmmu.accel else ''}{f',oas={vsmmu.oas.written}' if vsmmu.oas.written else ''}")


def _buses(vm: VmPlan) -> list[str]:
    """Where everything is that is no bridge."""
    return [*(device.port for device in vm.devices), *(disk.bus for disk in vm.disks), *(network.bus for network in vm.networks)]


def _function(vm: VmPlan, device: DevicePlan, port: str) -> Iterator[Part]:
    group = f", group {device.group}" if device.group is not None else ""
    iommu = f",iommu={vm.iommufd}" if device.iommufd and vm.iommufd is not None else ""
    yield f"{device.host} {device.name}{group}", ("--vfio", f"host={device.host},port={port}{iommu}")
    for node in vm.memory.nodes:
        if node.initiator == device.id:
            yield "", ("--pcie-generic-initiator", f"port={port},node={node.id}")
