"""Host: what the facts of one machine mean. Frozen; built by ``wizard.host.build.host_of(facts)``.

Host
  functions   address -> Function: its config space, SMMU, StreamIDs, group, capabilities, verdict
  smmus       name -> Smmu: ID registers, feature mask, capabilities, the functions below it
  groups      number -> Group
  iort        the decoded table, None where there was none to read
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from wizard.arch import idr
from wizard.base.address import Address
from wizard.base.finding import Finding
from wizard.base.once import once
from wizard.base.text import few
from wizard.facts.model import Facts, InUse, PciFunction, Policy
from wizard.host.assumed import Assumed
from wizard.host.bars import Bar, bars_of
from wizard.host.devicetree import DeviceTree
from wizard.host.known import UNKNOWN, Known
from wizard.host.vmm import Vmm

if TYPE_CHECKING:
    from wizard.host.iort import Iort
    from wizard.host.log.model import KernelLog
    from wizard.host.madt import Gic
    from wizard.host.pci.config import ConfigSpace


ARM64 = ("aarch64", "arm64")
_GPU, _ACCELERATOR, _NETWORK, _NVME = 0x03, 0x12, 0x02, 0x0108  # base classes, and a class with its subclass (PCI Code and ID Assignment)
KIND_NAMES = {
    "smmuv3": "an SMMUv3", "smmuv2": "an SMMUv2", "intel": "Intel VT-d", "amd": "AMD-Vi", "virtio": "a virtio-iommu", "other": "of an unknown kind",
}  # fmt: skip
"""What people call each kind of IOMMU."""


class Accel(StrEnum):
    """Whether a guest can own this function's stage 1 in hardware."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, dict=True):
    """The answer, the findings that decide it (for ``unknown``: what is missing), and what can be mended."""

    accel: Accel
    reasons: tuple[Finding, ...]
    find_todo: Callable[[], tuple[Finding, ...]]
    obstacles: tuple[Finding, ...] = ()  # of the reasons, those that forbid giving the function to a VM at all, accelerated or not
    undecided: tuple[Finding, ...] = ()  # of the reasons, what was not read and may be such an obstacle
    found: tuple[Finding, ...] = ()  # all that fails or is not known, also what does not decide: a cause that is not among it is ruled out

    def __post_init__(self) -> None:
        if (self.accel is Accel.YES) is bool(self.reasons):
            raise ValueError("a verdict other than yes has reasons, and a yes has none")

    @property
    def assignable(self) -> bool | None:
        """Whether the function can be given to a VM at all, with acceleration or without; None: not known."""
        return False if self.obstacles else None if self.undecided else True

    @once
    def todo(self) -> tuple[Finding, ...]:
        """What the preparation script or the administrator can mend; looked for when asked."""
        return self.find_todo()


class IdRegisters(msgspec.Struct, frozen=True, dict=True):
    """Raw words of one SMMU as iommufd returned them: IDR0 to IDR5, IIDR, AIDR, by which function they were asked."""

    words: tuple[int, ...]  # IDR0..IDR5
    iidr: int
    aidr: int
    asked: str  # address
    assumed: bool = False
    flags: int = 0  # enum iommu_hw_info_arm_smmuv3_flags

    @once
    def idr0(self) -> idr.IDR0:
        """IDR0 as fields."""
        return idr.IDR0(self.words[0])

    @once
    def idr1(self) -> idr.IDR1:
        """IDR1 as fields."""
        return idr.IDR1(self.words[1])

    @once
    def idr3(self) -> idr.IDR3:
        """IDR3 as fields."""
        return idr.IDR3(self.words[3])

    @once
    def idr5(self) -> idr.IDR5:
        """IDR5 as fields."""
        return idr.IDR5(self.words[5])


class Smmu(msgspec.Struct, frozen=True):
    """A physical SMMU (or another IOMMU of the host: then ``kind`` says which and it has no capabilities).

    ``capabilities`` is what this kernel uses; ``hardware`` what the silicon has by its ID registers. Verdicts rest on the
    first, QEMU's comparison on ``registers``.
    """

    name: str  # smmu3.0x<base>
    kind: str  # smmuv3, smmuv2, intel, amd, virtio, other
    base: int | None
    device: str | None
    listed: bool  # /sys/class/iommu has it; False: only links of functions name it
    numa_node: int | None
    functions: tuple[str, ...]  # addresses, sorted
    platform_devices: tuple[str, ...]
    segments: tuple[int, ...]
    registers: IdRegisters | None
    features: int | None  # the mask of the kernel's log
    options: int | None
    capabilities: Mapping[str, Known]
    hardware: Mapping[str, Known]
    policy: Policy | None = None

    def known(self, name: str) -> Known:
        """One capability as this kernel uses it; UNKNOWN where nothing is known."""
        return self.capabilities.get(name, UNKNOWN)

    @property
    def oas(self) -> int | None:
        """Output address size in bits."""
        value = self.known("oas").value
        return value if isinstance(value, int) else None


class Region(msgspec.Struct, frozen=True):
    """A reserved IOVA region of a group; ``end`` is inclusive."""

    start: int
    end: int
    type: str  # direct, direct-relaxable, reserved, msi


class Group(msgspec.Struct, frozen=True, dict=True):
    """An IOMMU group: the smallest set of functions that can be isolated."""

    id: int
    type: str | None
    devices: tuple[str, ...]  # PCI addresses and platform devices, bridges included
    regions: tuple[Region, ...]
    regions_known: bool = True  # False: they could not be read, or not all be understood
    members_known: bool = True  # False: only links of functions say who is in it

    @once
    def members(self) -> frozenset[str]:
        """The devices, to look one up."""
        return frozenset(self.devices)

    def others(self, address: str) -> str:
        """Who else is in it, in words; empty where nobody is. Every member is asked: of a group of thousands it names the first few."""
        return few((device for device in self.devices if device != address), len(self.devices) - (address in self.members))


class Function(msgspec.Struct, frozen=True, dict=True):
    """One PCI function of the host."""

    facts: PciFunction
    address: Address
    config: ConfigSpace
    parent: str | None  # the bridge above, None below a root bus
    smmu: str | None  # name of the SMMU above it that the kernel uses for it; None: none, or not known
    smmu_source: Known  # where that is known from
    iort_smmu: str | None  # the one that the firmware names, whatever the kernel did
    stream_ids: tuple[int, ...]
    stream_source: Known  # where the StreamIDs are known from
    group: int | None
    numa_node: int | None
    capabilities: Mapping[str, Known]
    is_bridge: bool
    policy: Policy | None = None

    @once
    def bars(self) -> tuple[Bar, ...]:
        """BARs 0 to 5 with their sizes, as the kernel assigned them."""
        return bars_of(self.facts)

    @property
    def bars_known(self) -> bool:
        """Whether its BARs were read.

        Without `resource` only registers that are all zero say that there is none; those of a VF always are (PCIe 6.0, 9.3.4).
        """
        if self.facts.resource:
            return True
        first, last = 0x10, 0x18 if self.is_bridge else 0x28
        space = self.config
        return not self.is_vf and not space.of_vf and not space.dead and space.tells(first, last) and not any(space.data[first:last])

    @property
    def name(self) -> str:
        """Vendor and device in words; a device that pci.ids has no name for by its class and ids."""
        return " ".join(part for part in (self.facts.vendor_name, self.short_name) if part)

    @property
    def short_name(self) -> str:
        """The device without its vendor: what tells one function from the next in a narrow column."""
        facts = self.facts
        return facts.device_name or (f"{facts.class_name} [{self.ids}]" if facts.class_name else self.ids)

    @property
    def ids(self) -> str:
        """``8086:10ca``."""
        return f"{self.facts.vendor[2:]}:{self.facts.device[2:]}"

    @property
    def class_code(self) -> int:
        """24-bit class code."""
        return int(self.facts.class_, 16)

    @property
    def computes(self) -> bool:
        """A GPU or an accelerator."""
        return self.class_code >> 16 in (_GPU, _ACCELERATOR)

    @property
    def exchanges(self) -> bool:
        """One of those, or what they exchange data with: a network card or an NVMe disk."""
        code = self.class_code
        return code >> 16 in (_GPU, _ACCELERATOR, _NETWORK) or code >> 8 == _NVME

    @property
    def is_vf(self) -> bool:
        """A virtual function of SR-IOV."""
        return self.facts.physfn is not None

    def known(self, name: str) -> Known:
        """One capability; UNKNOWN where nothing is known."""
        return self.capabilities.get(name, UNKNOWN)

    def __str__(self) -> str:
        return self.facts.address


def uses_by_function(facts: Facts) -> Mapping[str, tuple[InUse, ...]]:
    """``Facts.in_use`` by address: a pool of VFs names thousands."""
    found: dict[str, list[InUse]] = {}
    for use in facts.in_use:
        found.setdefault(use.address, []).append(use)
    return {address: tuple(uses) for address, uses in found.items()}


class Host(msgspec.Struct, frozen=True, dict=True):
    """One machine."""

    facts: Facts
    functions: Mapping[str, Function]
    smmus: Mapping[str, Smmu]
    groups: Mapping[int, Group]
    iort: Iort | None
    iort_findings: tuple[Finding, ...]
    verdicts: Mapping[str, Verdict]  # with QEMU
    find_told: Callable[[Host], Mapping[tuple[str, ...], Finding]]  # asked again of a host that differs in its log
    other_verdicts: Mapping[Vmm, Mapping[str, Verdict]] = {}

    @once
    def uses(self) -> Mapping[str, tuple[InUse, ...]]:
        """Who has which function, by its address; not there: nobody that is known."""
        return uses_by_function(self.facts)

    @once
    def digest(self) -> str:
        """Which state of which host this is: the snapshot's digest."""
        from wizard.facts.snapshot import digest

        return digest(self.facts)

    @once
    def log(self) -> KernelLog:
        """What the kernel's log said, of its boot and until now."""
        from wizard.host.log.parse import parse_log

        return parse_log((*self.facts.log, *self.facts.moment.log))

    @once
    def told(self) -> Mapping[tuple[str, ...], Finding]:
        """What the kernel's log means, as findings by what makes two of them the same (``wizard.host.log.findings.Key``)."""
        return self.find_told(self)

    @once
    def device_tree(self) -> DeviceTree:
        """What the device tree says; without nodes where there is none, or none was read."""
        return DeviceTree(self.facts)

    @property
    def by_tree(self) -> bool:
        """The firmware describes the host by a device tree, not by ACPI: it has no IORT."""
        return self.facts.device_tree is True and self.iort is None

    @once
    def gic(self) -> Gic | None:
        """The interrupt controller by the firmware's MADT; None where it was not read."""
        from wizard.host.madt import decode_madt

        return decode_madt(self.facts.acpi.get("APIC"))

    @once
    def assumed(self) -> Assumed:
        """Which places of the snapshot nobody measured."""
        return Assumed(self.facts.assumptions)

    def verdict(self, address: str, vmm: Vmm = Vmm.QEMU) -> Verdict:
        """The joined answer for one function: what a VMM needs of the host differs in what it compares of the SMMU's registers."""
        return (self.verdicts if vmm is Vmm.QEMU else self.other_verdicts[vmm])[address]

    def verdicts_elsewhere(self, address: str) -> dict[Vmm, Verdict]:
        """The same for each VMM that is not QEMU."""
        return {vmm: verdicts[address] for vmm, verdicts in self.other_verdicts.items()}

    @property
    def page_size(self) -> int | None:
        """Bytes of a page of this kernel."""
        return self.facts.kernel.page_size

    def smmu_of(self, function: Function) -> Smmu | None:
        """The SMMU above a function that the kernel uses for it."""
        return self.smmus.get(function.smmu) if function.smmu else None

    def companions(self, function: Function) -> tuple[Function, ...]:
        """The other functions of the same device (same slot)."""
        return tuple(f for f in self._by_slot[function.address[:3]] if f is not function)

    def companion_names(self, function: Function) -> tuple[str, ...]:
        """Their addresses as text."""
        own = function.facts.address
        return tuple(f.facts.address for f in self._by_slot[function.address[:3]] if f.facts.address != own)

    @once
    def computing(self) -> tuple[Function, ...]:
        """The GPUs and accelerators."""
        return tuple(one for one in self.functions.values() if one.computes)

    @once
    def exchanging(self) -> tuple[Function, ...]:
        """Those, and what exchanges data with them: network cards, NVMe disks."""
        return tuple(one for one in self.functions.values() if one.exchanges)

    @once
    def _by_slot(self) -> Mapping[tuple[int, int, int], tuple[Function, ...]]:
        found: dict[tuple[int, int, int], list[Function]] = {}
        for function in self.functions.values():
            found.setdefault(function.address[:3], []).append(function)
        return {slot: tuple(functions) for slot, functions in found.items()}
