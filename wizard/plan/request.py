"""Request: what is asked for. Frozen; from flags, the wizard, or profiles. A profile is one VmRequest with every choice written.

A choice that is None is the planner's; ``written(plan)`` gives the request back with none of them left, and planning that
gives the same plan. Sizes and addresses are bytes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from wizard.plan.properties import Properties, Switch

DEFAULT_MEMORY = 1 << 30
DEFAULT_CPUS = 2


OtherKind = Literal["expander", "port", "upstream", "downstream", "bridge", "endpoint"]
"""pxb-pcie, pcie-root-port, the two halves of a switch, pcie-pci-bridge; and a device that makes no bus."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all that is asked for: frozen, by keyword."""


class Mode(StrEnum):
    """The ladder, highest first."""

    ACCEL = "accel"  # the hardware's nesting, every asked property met
    VIRTIO_IOMMU = "virtio-iommu"  # kernel-managed IOAS behind a software vIOMMU; machine-wide
    NONE = "none"  # plain VFIO behind stage 2, no vIOMMU


class Layout(StrEnum):
    """How a VM's functions are spread over vSMMUs."""

    PER_SMMU = "per-smmu"
    PER_FUNCTION = "per-function"


class VsmmuRequest(Asked, frozen=True, kw_only=True):
    """One vSMMU and the pxb-pcie that it sits on. ``smmu`` is the host's SMMU that its functions sit behind."""

    id: str  # the QEMU id of the arm-smmuv3 device
    smmu: str | None = None
    bus: str | None = None  # the QEMU id of its pxb-pcie, or pcie.0
    bus_nr: int | None = None
    slot: int | None = None  # of the pxb on pcie.0
    numa_node: int | None = None  # guest node of the pxb
    accel: bool = True  # False: QEMU's emulated SMMUv3, as VMs that exist have it
    properties: Properties = Properties()


class FunctionRequest(Asked, frozen=True, kw_only=True):
    """One function of the host. ``vsmmu`` names the vSMMU that it goes behind; ``mode`` none puts it on pcie.0, behind no vSMMU."""

    host: str  # DDDD:BB:DD.F; of a VF that is still to be made: the address that it will have
    id: str | None = None
    mode: Mode | None = None  # none: without a vIOMMU, beside accelerated ones
    vsmmu: str | None = None
    port: str | None = None  # the QEMU id of its root port; companion functions share one; or that of an ``OtherRequest``, or pcie.0 itself
    slot: int | None = None  # its own, where ``port`` is a bus that has several: pcie.0, or a bridge to plain PCI
    port_slot: int | None = None  # slot of the root port on its bus
    chassis: int | None = None
    function: int | None = None  # guest function number; the slot below a root port is always 0
    driver: str | None = None  # the vfio driver that the preparation script binds
    ats: Switch | None = None  # of vfio-pci itself: off masks the capability
    iommufd: bool = True
    rom: bool = True  # whether the guest sees the expansion ROM
    ids: str | None = None  # vendor:device, to find it again
    serial: str | None = None


class HotplugRequest(Asked, frozen=True, kw_only=True):
    """A root port left free: for one of ``functions``, or with the reserves written out."""

    vsmmu: str | None = None  # None: the only vSMMU of the VM, or that of the functions' SMMU
    functions: tuple[str, ...] = ()  # what may be plugged: the largest decides the reserves
    port: str | None = None
    port_slot: int | None = None
    chassis: int | None = None
    bus_reserve: int | None = None  # buses below the port
    mem_reserve: int | None = None  # bytes of 32-bit window
    pref64_reserve: int | None = None  # bytes of 64-bit prefetchable window


class NodeRequest(Asked, frozen=True, kw_only=True):
    """A guest NUMA node."""

    memory: int  # bytes
    cpus: str = ""  # "0-3,8"
    host_node: int | None = None  # where its memory is taken from
    initiator: str | None = None  # the id of the function whose memory this node will hold (generic initiator)


class OtherRequest(Asked, frozen=True, kw_only=True):
    """What else is on the buses of a VM that exists: a bridge that the planner would not make, or an emulated device.

    Bridges are written by the exports. An endpoint only has its place here: its words are in ``KeptQemu`` or ``KeptLibvirt``.
    """

    id: str
    kind: OtherKind
    driver: str | None = None  # QEMU's class, of an endpoint
    bus: str | None = None  # the id of the bridge above it; pcie.0 unless written
    slot: int | None = None
    function: int = 0
    bus_nr: int | None = None  # of an expander
    numa_node: int | None = None  # of an expander: a guest node
    chassis: int | None = None
    port: int | None = None  # number of a port
    bus_reserve: int | None = None
    mem_reserve: int | None = None  # bytes
    pref64_reserve: int | None = None  # bytes


class KeptQemu(Asked, frozen=True, kw_only=True):
    """What a QEMU command line had and a profile has no word for: its exports give it back, unchecked."""

    options: tuple[str, ...] = ()  # an option with its value, quoted as in a shell
    properties: tuple[str, ...] = ()  # ID.NAME=VALUE: a property of a device that the plan has


class KeptLibvirt(Asked, frozen=True, kw_only=True):
    """What a domain had and a profile has no word for: its exports give it back, unchecked. Each is an element as XML."""

    domain: tuple[str, ...] = ()  # children of <domain>
    devices: tuple[str, ...] = ()  # children of <devices>
    inside: tuple[str, ...] = ()  # PATH: XML, and PATH@ATTRIBUTE: VALUE, of elements that the plan has


class DiskRequest(Asked, frozen=True, kw_only=True):
    """A disk of the VM: virtio-blk on pcie.0."""

    path: str
    format: Literal["raw", "qcow2"] = "raw"
    readonly: bool = False
    id: str | None = None
    slot: int | None = None
    bus: str | None = None  # pcie.0 unless written


class NetworkRequest(Asked, frozen=True, kw_only=True):
    """A network of the VM: virtio-net on pcie.0. ``source`` is the tap or bridge; ``user`` needs none."""

    kind: Literal["user", "tap", "bridge"] = "user"
    source: str | None = None
    mac: str | None = None  # None: made from the VM's name and the place in the list
    id: str | None = None
    slot: int | None = None
    bus: str | None = None


class FirmwareRequest(Asked, frozen=True, kw_only=True):
    """UEFI: the code image, the template of its variables, and the VM's own copy of them."""

    code: str
    code_format: Literal["raw", "qcow2"] = "raw"
    vars_template: str | None = None
    vars: str | None = None
    vars_format: Literal["raw", "qcow2"] = "raw"


class MachineRequest(Asked, frozen=True, kw_only=True):
    """The machine ``virt``. None: what the target QEMU's newest machine gives."""

    type: str | None = None  # virt-11.1
    gic: Literal["2", "3", "4", "max", "host"] = "3"
    its: bool = True
    acpi: bool = True
    uefi: bool = True  # False: it starts a kernel, or nothing, without firmware
    iommu: Literal["smmuv3"] | None = None  # the machine's own emulated SMMUv3, for all of pcie.0


class MadeFor(Asked, frozen=True, kw_only=True):
    """The host that a profile was made for: a pseudonym, and the digest of its facts."""

    host: str | None = None
    digest: str | None = None
    product: str | None = None


class VmRequest(Asked, frozen=True, kw_only=True):
    """One VM."""

    name: str
    functions: tuple[FunctionRequest, ...] = ()
    memory: int = DEFAULT_MEMORY
    hugepages: int | None = None  # page size in bytes; None: the kernel's normal pages
    cpus: int = DEFAULT_CPUS
    numa: tuple[NodeRequest, ...] | None = None  # None: the planner's; (): no guest NUMA
    firmware: FirmwareRequest | None = None  # None: by the host's firmware descriptors
    machine: MachineRequest = MachineRequest()
    disks: tuple[DiskRequest, ...] = ()
    networks: tuple[NetworkRequest, ...] = ()
    mode: Mode = Mode.ACCEL
    fall_back: bool = False
    layout: Layout = Layout.PER_SMMU
    split: tuple[str, ...] = ()  # SMMUs whose functions get a vSMMU each
    properties: Properties = Properties()
    vsmmus: tuple[VsmmuRequest, ...] = ()
    hotplug: tuple[HotplugRequest, ...] = ()
    others: tuple[OtherRequest, ...] = ()
    kept_qemu: KeptQemu | None = None
    kept_libvirt: KeptLibvirt | None = None
    mmio_window: int | None = None  # highmem-mmio-size, bytes
    user: str = "root"
    target: str | None = None  # qemu=VERSION, openvmm
    qmp: str | None = None  # path of a QMP socket; None: one of its own; places.NO_SOCKET: none
    assume_accel: bool = False
    allow_in_use: tuple[str, ...] = ()
    uuid: str | None = None  # None: made from the name
    notes: str = ""
    made_for: MadeFor | None = None


class Request(Asked, frozen=True, kw_only=True):
    """Everything that is asked of one host at once. ``files`` says which profile a VM came from, for the findings."""

    vms: tuple[VmRequest, ...]
    files: dict[str, str] = {}


def function(host: str) -> FunctionRequest:
    """A request for one function, every choice left to the planner."""
    return FunctionRequest(host=host)
