"""Facts: what was read of one host, as read. A snapshot is exactly this.

Numbers that sysfs writes as text stay text (``"0x1b36"``); nothing is decoded or judged here, so that a better decoder
serves old snapshots. What could not be read is in ``unread`` with its reason (``needs root``, ``absent``, ``EIO``…), by
the path it has on the host. What moves from minute to minute is in ``moment`` alone: everything else of two records of
an unchanged host is equal byte for byte.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from wizard.base import formats
from wizard.base.address import WRITTEN

FORMAT = "smmu-wizard-snapshot"
SUMMARY = "smmu-wizard-summary"  # the format of what a fleet needs of a host (wizard.fleet.summaryfile): no facts
VERSION = formats.SNAPSHOT
PASTE = "paste"
"""``Facts.origin`` of what was read from text that people give (``wizard.facts.paste``), and from files of the kind."""
UNPLACED = "?/"
"""What a function's ``path`` begins with where the bridges above it are not known: neither which they are, nor whether there is one."""

# A snapshot may come from a stranger: what is parsed later has to have its shape. (?![\s\S]) is the end in every dialect.
AddressText = Annotated[str, Meta(pattern=rf"^{WRITTEN}(?![\s\S])", max_length=16)]
Hex = Annotated[str, Meta(pattern=r"^[0-9a-f]*(?![\s\S])")]  # of an even length, which `snapshot.decode` looks after
IdText = Annotated[str, Meta(pattern=r"^0x[0-9a-f]{1,8}(?![\s\S])", max_length=10)]
Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]  # what an index and other programs can hold
Bytes = Annotated[int, Meta(ge=0, le=1 << 56)]  # of memory: no Arm machine addresses more (DDI 0487, FEAT_D128)
Cpus = Annotated[int, Meta(ge=0, le=1 << 20)]
VfCount = Annotated[int, Meta(ge=0, le=0xFFFF)]  # TotalVFs and NumVFs are 16 bits (PCIe 6.0, 9.3.3)
Offset = Annotated[int, Meta(ge=0, le=4096)]  # of a byte in configuration space
Ranges = Annotated[str, Meta(pattern=r"^(?:0x[0-9a-f]{1,16} 0x[0-9a-f]{1,16}(?:\n(?=0)|(?![\s\S])))*(?![\s\S])", max_length=1 << 18)]
PageSize = Annotated[str, Meta(pattern=r"^[0-9]{1,12}(?![\s\S])")]  # KiB


IN_FILE = " · "
"""What stands before the name of a file in ``Facts.rests_on``: a snapshot that is given away names none."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of every fact: frozen, by keyword, and written without the fields that were not there."""


class PciFunction(Fact, frozen=True):
    """One entry of /sys/bus/pci/devices. Absent attributes are None."""

    address: AddressText
    path: str  # below /sys/devices: pci0000:10/0000:10:01.0/0000:14:00.0; see UNPLACED
    vendor: IdText
    device: IdText
    class_: IdText = msgspec.field(name="class")
    revision: IdText | None = None
    subsystem_vendor: IdText | None = None
    subsystem_device: IdText | None = None
    config: Annotated[Hex, Meta(max_length=8192)] = ""  # trailing zeros left out
    config_length: Annotated[int, Meta(ge=0, le=4096)] = 0  # bytes that could be read: 64 without root, else 256 or 4096
    config_known: tuple[tuple[Offset, Offset], ...] = ()  # of a source that tells some bytes only: the ranges [first, end) that it tells; else empty
    resource: str = ""  # the lines of `resource`, trailing empty regions left out
    driver: str | None = None
    driver_override: str | None = None
    modalias: str | None = None
    iommu: str | None = None  # name the `iommu` link ends in
    iommu_group: Count | None = None
    numa_node: Annotated[int, Meta(ge=-1)] = -1
    physfn: AddressText | None = None
    virtfns: tuple[AddressText, ...] = ()  # in order of virtfnN
    sriov_totalvfs: VfCount | None = None
    sriov_numvfs: VfCount | None = None
    sriov_drivers_autoprobe: Count | None = None
    sriov_vf_device: str | None = None
    reset_method: str | None = None
    vfio_dev: tuple[str, ...] = ()
    net: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    mdev: bool = False  # it offers or carries mediated devices
    boot_vga: str | None = None
    serial_number: str | None = None
    vendor_name: str | None = None  # of the udev hwdb, else pci.ids
    device_name: str | None = None
    class_name: str | None = None


class IommuDevice(Fact, frozen=True):
    """One entry of /sys/class/iommu: an SMMU, or another kind of IOMMU."""

    name: str  # smmu3.0x<base>
    device: str | None = None  # arm-smmu-v3.N.auto: not stable, only to read the log by
    driver: str | None = None
    members: tuple[str, ...] = ()  # functions and platform devices that it serves


class Group(Fact, frozen=True):
    """One IOMMU group of /sys/kernel/iommu_groups."""

    id: Count
    type: str | None = None
    devices: tuple[str, ...] = ()
    reserved_regions: str | None = None  # the lines as read: "0xSTART 0xEND TYPE"


class TreeNode(Fact, frozen=True):
    """One node of the device tree, as far as it has a say in IOMMUs and interrupts."""

    path: Annotated[str, Meta(pattern=r"^/[^\x00]*(?![\s\S])", max_length=4096)]
    properties: dict[str, Annotated[Hex, Meta(max_length=65536)]] = {}  # the listed ones, as the tree holds them; a flag is empty
    unread: tuple[str, ...] = ()  # listed properties that are there and could not be read
    devices: tuple[str, ...] = ()  # below /sys/devices: what the kernel made of it, where that is a host bridge, an IOMMU or served by one


class Node(Fact, frozen=True):
    """One NUMA node. Memory in bytes, None where it was not read."""

    id: Count
    cpus: str = ""
    memory: Bytes | None = None
    distance: str | None = None
    generic_initiator: bool = False
    hugepages: dict[PageSize, Count] = {}  # page size in KiB as sysfs writes it -> pages in the pool


WHOLE_CONFIG = 20
"""Options that matter here, of which every whole configuration names more (48 on a small x86 kernel): fewer are part of one, whatever is said."""


class Kernel(Fact, frozen=True):
    """The running kernel."""

    release: str = ""
    version: str = ""
    machine: str = ""
    cmdline: str | None = None
    page_size: Annotated[int, Meta(ge=4096, le=1 << 30)] | None = None
    config: dict[str, str] | None = None  # CONFIG_X -> y, m, n or its value; None: not readable
    config_partial: bool = False  # only the lines that mattered were recorded
    modules: tuple[str, ...] = ()
    module_parameters: dict[str, str] = {}  # "vfio_iommu_type1.allow_unsafe_interrupts" -> "N"
    drivers: tuple[str, ...] = ()  # of /sys/bus/pci/drivers

    def option(self, name: str) -> str | None:
        """y, m, n or its value; None where it is not known. A whole configuration says "n" by its silence, part of one nothing."""
        config = self.config or {}
        return config.get(name, None if self.config_partial or len(config) < WHOLE_CONFIG else "n")


class Identity(Fact, frozen=True):
    """Which machine this is. ``host`` is a pseudonym (an HMAC under the machine-id), the same on each record.

    Machines that were made from one image may have one machine-id, and then one ``host``: ``machine`` is the same pseudonym of the UUID and
    the serial numbers that the firmware gives, by which they are two.
    """

    host: str | None = None
    machine: str | None = None
    digest: str | None = None  # of the redacted Facts, where these are not redacted and the key is not here
    vendor: str | None = None
    product: str | None = None
    board: str | None = None
    firmware: str | None = None  # vendor, version and date of the BIOS


class HwInfo(Fact, frozen=True):
    """What iommufd and VFIO said of one function (`record --probe`, or a recorded hw_info.json)."""

    address: AddressText
    error: str | None = None  # the errno's name
    step: str | None = None  # the call that failed with it: open, bind, regions, hw_info, ioas
    data_type: Count | None = None  # enum iommu_hw_info_type: 2 is ARM_SMMUV3
    data: Hex | None = None  # the type's struct as the kernel filled it
    capabilities: Count | None = None  # out_capabilities
    max_pasid_log2: Count | None = None
    cmdqv: Hex | None = None  # struct iommu_hw_info_tegra241_cmdqv
    cmdqv_error: str | None = None  # the errno's name: EOPNOTSUPP without CMDQV, or on a kernel that does not know the type
    nest_parent: str | None = None  # "ok" or the errno's name
    viommu: str | None = None  # ARM_SMMUV3: "ok" or the errno's name
    viommu_cmdqv: str | None = None
    regions: dict[str, Count] = {}  # VFIO region index -> size in bytes
    iova_ranges: Ranges | None = None  # "0xFIRST 0xLAST" lines: what iommufd maps for it without nesting (IOMMU_IOAS_IOVA_RANGES)
    iova_alignment: Count | None = None  # bytes
    iova_error: str | None = None  # the errno's name, where it could not be attached to an address space
    members: tuple[str, ...] = ()  # the functions of its group at that time


class InUse(Fact, frozen=True):
    """Why the host needs a function: a mounted disk, an address, a route, the session itself."""

    address: AddressText
    # mount, swap, route, address, holder, session, open, held (its device file, not a disk), display (the firmware's console); export (a target
    # gives its disk to others), storage (iSCSI, NVMe-oF through it), rdma, mdev; vm (one that runs has it), domain (libvirt defines one), pool
    kind: str
    detail: str
    owner: str | None = None  # the VM, the network of libvirt or the storage target that has it: a name


class Program(Fact, frozen=True):
    """A program that was found, and what it can do by its own word."""

    name: str
    path: str
    version: str | None = None
    properties: dict[str, dict[str, str | None]] = {}  # device type -> property -> default (None: not told)
    error: str | None = None


class FirmwareImage(Fact, frozen=True):
    """One firmware descriptor of QEMU (docs/interop/firmware.json) for aarch64 `virt`."""

    descriptor: str
    executable: str
    nvram_template: str | None = None
    executable_format: str = "raw"
    features: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()


class Assumption(Fact, frozen=True):
    """A value in this snapshot that nobody measured or published, and why it stands here."""

    path: str  # where in the snapshot: "acpi.IORT", "hw_info", "functions.0009:01:00.0.iommu"
    why: str


class Policy(Fact, frozen=True):
    """An administrator's own ruling about an SMMU or a function (policy.toml)."""

    subject: str
    accel: str  # "off"
    reason: str


class Moment(Fact, frozen=True):
    """What moves from minute to minute: outside the digest and the promise of equal records."""

    time: str | None = None  # ISO 8601, UTC
    memory_available: Bytes | None = None
    memory_free: Bytes | None = None
    hugepages_free: dict[str, dict[PageSize, Count]] = {}  # node -> page size in KiB -> free pages
    log: tuple[str, ...] = ()  # kernel log lines of the running system, after the boot's own
    open_devices: dict[str, str] = {}  # /dev/vfio/… -> who holds it open
    status: dict[str, dict[str, Hex]] = {}  # function -> offset -> config space bits that move; empty in memory
    its: tuple[AddressText, ...] = ()  # functions that have vectors of an ITS (/proc/interrupts); read where the firmware's table was not
    session: tuple[InUse, ...] = ()  # functions that this session comes in by or a process writes to; empty in memory


class Facts(Fact, frozen=True, omit_defaults=False):
    """Everything that was read of one host."""

    format: str = FORMAT
    version: int = VERSION
    tool: str = ""  # the version of smmu-wizard that recorded it
    origin: str = ""  # live, root, umockdev, paste, or a builder's name
    rests_on: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET  # of a paste: the kinds of text and files that it held, by their names for people
    redacted: bool = False
    identity: Identity = Identity()
    kernel: Kernel = Kernel()
    cpus: Cpus | None = None
    cpu_model: str | None = None
    memory_total: Bytes | None = None  # bytes
    functions: tuple[PciFunction, ...] = ()
    iommus: tuple[IommuDevice, ...] = ()
    groups: tuple[Group, ...] = ()
    nodes: tuple[Node, ...] = ()
    device_tree: bool | None = None  # the firmware described the hardware by a device tree; None: /sys/firmware was not there to look
    device_tree_nodes: tuple[TreeNode, ...] | msgspec.UnsetType = msgspec.UNSET  # by path, the root first; not there under ACPI, or not read
    acpi: dict[str, Hex] = {}  # table signature -> the whole table
    log: tuple[str, ...] = ()  # kernel log lines of the boot that speak of SMMUs, IORT, groups and VFIO
    log_complete: bool = True  # False when the log's beginning was lost (ring buffer) or there was none
    hw_info: tuple[HwInfo, ...] = ()
    iommufd: bool | None = None  # /dev/iommu is there
    vfio: bool | None = None  # /dev/vfio/vfio or /dev/vfio/devices is there
    kvm: bool | None = None  # /dev/kvm is there
    in_use: tuple[InUse, ...] = ()
    programs: tuple[Program, ...] = ()
    firmware: tuple[FirmwareImage, ...] = ()
    limits: dict[str, str] = {}  # for instance memlock, as `ulimit -l` writes it
    policy: tuple[Policy, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    unread: dict[str, str] = {}  # path on the host -> why it could not be read
    moment: Moment = Moment()


def as_json(value: Any) -> bytes:
    """A struct as JSON, two spaces deep, one newline at the end: what is written to files."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
