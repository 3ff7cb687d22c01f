"""Plan: the whole answer to a request. Frozen; made by ``wizard.plan.planner.make_plan(host, request)``.

    Plan
      vms         VmPlan: one guest with every number assigned
        vsmmus    one arm-smmuv3 each, with its properties resolved
        buses     the pxb-pcie that they sit on
        ports     root ports, with the bus numbers that firmware will give them
        devices   assigned functions: host address, guest place, vSID
        disks, networks, memory, firmware
      findings    what was found about all of them, errors first

Addresses of the guest are predictions until firmware has numbered the buses; ``rehearse`` holds them against a real QEMU.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import msgspec

from wizard.base.address import Address
from wizard.base.errors import UsageError
from wizard.base.finding import Finding, Severity
from wizard.base.text import visible
from wizard.host.vmm import Vmm
from wizard.plan.properties import Resolved
from wizard.plan.request import FirmwareRequest, MadeFor, Mode, OtherKind, VmRequest
from wizard.plan.target import vmm_of

ROOT_BUS = "pcie.0"


def climb(above: Mapping[str, str], bus: str) -> str:
    """The last bus that ``above`` leads to; a ring, which a profile can be made to have, ends where it closes."""
    seen = set()
    while bus in above and bus not in seen:
        seen.add(bus)
        bus = above[bus]
    return bus


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a plan is made of: frozen, by keyword."""


class VsmmuPlan(Resolved, frozen=True, kw_only=True):
    """One virtual SMMU, with its properties: ``-device arm-smmuv3``."""

    id: str
    smmu: str | None  # the host's SMMU, None when unknown
    bus: str  # primary-bus: the id of a pxb, or pcie.0
    accel: bool
    stage: str | None = None


class BusPlan(Made, frozen=True, kw_only=True):
    """A pxb-pcie: a PCIe root complex of its own, with buses ``bus_nr`` to ``last``."""

    id: str
    bus_nr: int
    last: int  # highest bus number that its ports need
    slot: int  # on pcie.0
    numa_node: int | None = None  # guest node
    host_node: int | None = None


class PortPlan(Made, frozen=True, kw_only=True):
    """A root port. Firmware numbers the bus below it ``secondary``; reserves are bytes, None: QEMU's own."""

    id: str
    bus: str  # the id of a pxb, or pcie.0
    slot: int
    chassis: int
    port: int
    secondary: int
    subordinate: int
    hotplug: bool = False  # left free for a function to come
    place: int = -1  # in the request's hotplug list
    candidates: tuple[str, ...] = ()
    bus_reserve: int | None = None
    mem_reserve: int | None = None
    pref64_reserve: int | None = None


class DevicePlan(Made, frozen=True, kw_only=True):
    """An assigned function: ``-device vfio-pci``. ``vsid`` is the StreamID that its vSMMU will know it by."""

    id: str
    host: str  # address on the host
    name: str
    ids: str | None
    mode: Mode
    port: str  # its root port, another bridge, or pcie.0 itself
    bus: int  # guest bus number, predicted
    function: int
    multifunction: bool
    smmu: str | None
    vsmmu: str | None
    driver: str  # the vfio driver that it has to be bound to
    group: int | None = None
    host_node: int | None = None
    iommufd: bool = True
    ats: str | None = None
    rom: bool = True
    serial: str | None = None
    pf: str | None = None  # the PF of a VF
    vf_index: int | None = None
    to_make: bool = False  # a VF that the preparation script creates; its address is a prediction
    bars: tuple[int, ...] = ()  # bytes of its memory regions, largest alignment included
    bars_from: str = "config"  # probe (VFIO told), config (BARs), assumed
    slot: int = 0  # below a root port there is no other

    @property
    def vsid(self) -> int | None:
        """Predicted: the requester ID, as the vSMMU's IORT node maps it one to one. None without a vSMMU."""
        return self.guest.rid if self.vsmmu else None

    @property
    def guest(self) -> Address:
        """Predicted guest address."""
        return Address(0, self.bus, self.slot, self.function)


class OtherPlan(Made, frozen=True, kw_only=True):
    """What else is on the buses (``OtherRequest``), with every number. Firmware numbers the bus below a bridge ``secondary``."""

    id: str
    kind: OtherKind
    driver: str | None
    bus: str
    slot: int
    function: int
    bus_nr: int | None = None
    numa_node: int | None = None
    chassis: int | None = None
    port: int | None = None
    secondary: int = 0
    subordinate: int = 0
    bus_reserve: int | None = None
    mem_reserve: int | None = None
    pref64_reserve: int | None = None

    @property
    def bridge(self) -> bool:
        """Whether it makes a bus."""
        return self.kind != "endpoint"


class NodePlan(Made, frozen=True, kw_only=True):
    """A guest NUMA node with its memory backend (none for a memory-less one)."""

    id: int
    memory: int
    cpus: tuple[int, ...]
    host_node: int | None = None
    initiator: str | None = None  # device id: an acpi-generic-initiator ties the node to it


class DiskPlan(Made, frozen=True, kw_only=True):
    """virtio-blk."""

    id: str
    path: str
    format: str
    readonly: bool
    slot: int
    bus: str = ROOT_BUS

    @property
    def host_device(self) -> bool:
        """Whether it is a device of the host and no image: QEMU and libvirt have another driver for these."""
        return self.path.startswith("/dev/") and not self.path.startswith("/dev/shm/")


class NetworkPlan(Made, frozen=True, kw_only=True):
    """virtio-net."""

    id: str
    kind: str
    source: str | None
    mac: str
    slot: int
    bus: str = ROOT_BUS


class VirtioIommuPlan(Made, frozen=True, kw_only=True):
    """The machine's virtio-iommu."""

    slot: int
    granule: str  # 4k, 16k, 64k
    aw_bits: int


class MemoryPlan(Made, frozen=True, kw_only=True):
    """Guest memory, the windows for BARs, and what the VM's process has to be allowed to lock. Bytes."""

    size: int
    hugepages: int | None
    nodes: tuple[NodePlan, ...]
    mmio_window: int  # highmem-mmio-size
    mmio_written: bool  # whether it is on the command line (it is QEMU's default otherwise)
    mmio_needed: int
    low_mmio_needed: int
    memlock: int


class MachinePlan(Made, frozen=True, kw_only=True):
    """``-machine``."""

    type: str
    gic: str
    its: bool
    acpi: bool
    kvm: bool = True
    uefi: bool = True
    iommu: str | None = None


class VmPlan(Made, frozen=True, kw_only=True):
    """One guest. ``request`` is what it was made from; ``mode`` what the ladder came to."""

    name: str
    request: VmRequest
    mode: Mode
    machine: MachinePlan
    cpus: int
    memory: MemoryPlan
    firmware: FirmwareRequest | None
    vsmmus: tuple[VsmmuPlan, ...] = ()
    buses: tuple[BusPlan, ...] = ()
    ports: tuple[PortPlan, ...] = ()
    devices: tuple[DevicePlan, ...] = ()
    others: tuple[OtherPlan, ...] = ()
    virtio_iommu: VirtioIommuPlan | None = None
    disks: tuple[DiskPlan, ...] = ()
    networks: tuple[NetworkPlan, ...] = ()
    iommufd: str | None = None  # id of the iommufd object, None when no device needs one
    qmp: str | None = None
    emulator: str = "qemu-system-aarch64"
    qemu: str | None = None  # version that it was planned for; None for another VMM
    uuid: str = ""
    user: str = "root"
    notes: str = ""
    made_for: MadeFor | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def vmm(self) -> Vmm:
        """What it is planned for."""
        return vmm_of(self.request.target)

    @property
    def made_for_vmm(self) -> str:
        """The same in words: ``QEMU 11.1``, ``OpenVMM``."""
        return f"{self.vmm.name_of_it} {self.qemu}" if self.vmm is Vmm.QEMU else self.vmm.name_of_it

    @property
    def ok(self) -> bool:
        """Whether nothing of severity error was found about this VM alone or beside the others."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop it."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    def vsmmu(self, id: str | None) -> VsmmuPlan | None:
        """A vSMMU by its id."""
        return next((vsmmu for vsmmu in self.vsmmus if vsmmu.id == id), None)

    def bus(self, id: str) -> BusPlan | None:
        """A pxb by its id."""
        return next((bus for bus in self.buses if bus.id == id), None)

    def port(self, id: str) -> PortPlan | None:
        """A root port by its id."""
        return next((port for port in self.ports if port.id == id), None)

    def other(self, id: str | None) -> OtherPlan | None:
        """What else is on the buses, by its id."""
        return next((other for other in self.others if other.id == id), None)

    def complex_of(self, bus: str) -> str:
        """The root complex that a bus belongs to: the id of an expander, or pcie.0. A bus that nobody makes is its own."""
        above = {port.id: port.bus for port in self.ports} | {other.id: other.bus for other in self.others if other.kind != "expander"}
        return climb(above, bus)

    def devices_of(self, vsmmu: VsmmuPlan) -> tuple[DevicePlan, ...]:
        """The functions behind a vSMMU, in the order of the command line."""
        return tuple(device for device in self.devices if device.vsmmu == vsmmu.id)


class Plan(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Several guests of one host, and every finding about them."""

    host: str | None  # pseudonym of the host
    digest: str  # of the host's facts
    vms: tuple[VmPlan, ...]
    findings: tuple[Finding, ...] = ()  # of all VMs and of the request as a whole, errors first

    @cached_property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop it."""
        return tuple(finding for finding in self.findings if finding.severity is Severity.ERROR)

    @property
    def ok(self) -> bool:
        """Whether every VM can start."""
        return not self.errors

    def vm(self, name: str) -> VmPlan:
        """A VM by its name; ``KeyError``."""
        for vm in self.vms:
            if vm.name == name:
                return vm
        raise KeyError(name)


def require(vm: VmPlan, vmm: Vmm, what: str) -> None:
    """``UsageError`` where a VM is planned for another VMM: its findings and numbers say nothing of this one."""
    if vm.vmm is not vmm:
        name = visible(vm.name)
        fix = f"Plan it for {vmm.name_of_it}: --vmm {vmm} with `plan` or `check`, or another target in its profile."
        raise UsageError(f"VM {name} is planned for {vm.made_for_vmm}, and {what}.", fix)
