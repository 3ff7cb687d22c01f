"""The format of a profile, declared once as data: its tables, their keys, and what each key holds.

Reader, writer, editor and JSON Schema all follow this declaration. A new key goes here and nowhere else; a key that changes
its meaning needs a new version and a step in ``MIGRATIONS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from wizard.base import formats
from wizard.plan import request as ask
from wizard.plan.properties import DECLARED, Properties
from wizard.profile.kinds import ADDRESS, BOOL, CPUS, ID, IDS, PAGES, SIZE, SWITCH, ValueKind, choice, many, number, text, width

if TYPE_CHECKING:
    import tomlkit

VERSION = formats.PROFILE
SCHEMA_FILE = "profile.schema.json"
SCHEMA_LINE = f"#:schema ./{SCHEMA_FILE}"

PATH = text("an absolute path", pattern=r"/[^\u0000]*")
SOCKET = text('an absolute path or "none"', pattern=r"/[^\u0000]*|none")
WORD = text("text")


@dataclass(frozen=True)
class Key:
    """One key. ``attr`` is the attribute of the struct; ``doc`` says what it is, for the schema and the documentation."""

    name: str
    attr: str
    kind: ValueKind
    doc: str
    required: bool = False


@dataclass(frozen=True)
class Table:
    """A table of keys. ``make`` builds its struct; None for tables whose keys belong to the VM itself."""

    name: str
    keys: tuple[Key, ...]
    doc: str
    make: Callable[..., Any] | None = None
    attr: str = ""  # the attribute of the VM that holds the struct or the list
    many: bool = False
    identity: str = ""  # in a list: the key by which an entry is found again when a profile is edited
    nested: tuple[str, Callable[..., Any], tuple[str, ...]] | None = field(default=None)  # keys that form a struct of their own


PROPERTY_KEYS = tuple(Key(one.name, one.name, SWITCH if one.field is None else width(*one.field), one.doc) for one in DECLARED)
_PROPERTIES = ("properties", Properties, tuple(key.attr for key in PROPERTY_KEYS))

_TARGET = r"qemu=[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]+)*|openvmm"
TOP = Table(
    "",
    (
        Key("name", "name", text("the name of a VM", empty=True), "letters and digits of any script, space and ._-", required=True),
        Key("mode", "mode", choice(*ask.Mode, cast=ask.Mode), "how its functions are translated"),
        Key("fall_back", "fall_back", BOOL, "whether the next lower modes are allowed"),
        Key("layout", "layout", choice(*ask.Layout, cast=ask.Layout), "one vSMMU for each SMMU, or for each function"),
        Key("split", "split", many(WORD, "names of SMMUs"), "SMMUs whose functions get a vSMMU each"),
        Key("target", "target", text('"qemu=VERSION" or "openvmm"', pattern=_TARGET), "the VMM that it is planned for"),
        Key("user", "user", WORD, "the user that the VM runs as"),
        Key("assume_accel", "assume_accel", BOOL, "whether unknown and assumed values are taken as given"),
        Key("allow_in_use", "allow_in_use", many(ADDRESS, "PCI addresses"), "functions that are taken from the host although it uses them"),
        Key("qmp", "qmp", SOCKET, 'path of the QMP socket (its own by default), or "none"'),
        Key("uuid", "uuid", WORD, "the VM's UUID"),
        Key("notes", "notes", text("text", empty=True), "free text"),
    ),
    "the VM as a whole",
)
TABLES = (
    Table(
        "host",
        (
            Key("id", "host", WORD, "pseudonym of the host that the profile was made for"),
            Key("digest", "digest", WORD, "digest of that host's facts"),
            Key("product", "product", WORD, "what that host is"),
        ),
        "the host that the profile was made for",
        ask.MadeFor,
        "made_for",
    ),
    Table(
        "machine",
        (
            Key("type", "type", WORD, "QEMU's machine: virt, or a version of it"),
            Key("gic", "gic", choice("2", "3", "4", "max", "host"), "GIC version"),
            Key("its", "its", BOOL, "interrupt translation service, for MSIs"),
            Key("acpi", "acpi", BOOL, "ACPI"),
            Key("uefi", "uefi", BOOL, "false: it starts a kernel, or nothing, without firmware"),
            Key("iommu", "iommu", choice("smmuv3"), "the machine's own emulated SMMUv3, as VMs that exist have it"),
        ),
        "QEMU's machine",
        ask.MachineRequest,
        "machine",
    ),
    Table("cpus", (Key("count", "cpus", number(1, 512), "how many CPUs"),), "CPUs"),
    Table(
        "memory",
        (
            Key("size", "memory", SIZE, "guest memory"),
            Key("hugepages", "hugepages", PAGES, "size of the host's pages behind it"),
            Key("mmio_window", "mmio_window", SIZE, "the window for 64-bit BARs (highmem-mmio-size)"),
        ),
        "memory",
    ),
    Table(
        "numa",
        (
            Key("memory", "memory", SIZE, "memory of the node; 0 for none", required=True),
            Key("cpus", "cpus", CPUS, "CPUs of the node"),
            Key("host_node", "host_node", number(0, 1023), "the host's node that its memory is taken from"),
            Key("initiator", "initiator", ID, "id of the function whose memory the node will hold"),
        ),
        "guest NUMA nodes, in order",
        ask.NodeRequest,
        "numa",
        many=True,
    ),
    Table(
        "firmware",
        (
            Key("code", "code", PATH, "UEFI's code", required=True),
            Key("code_format", "code_format", choice("raw", "qcow2"), "its format"),
            Key("vars_template", "vars_template", PATH, "what the VM's variables are copied from"),
            Key("vars", "vars", PATH, "the VM's own variables"),
            Key("vars_format", "vars_format", choice("raw", "qcow2"), "their format"),
        ),
        "UEFI",
        ask.FirmwareRequest,
        "firmware",
    ),
    Table("properties", PROPERTY_KEYS, "properties of every vSMMU that does not write its own", Properties, "properties"),
    Table(
        "vsmmu",
        (
            Key("id", "id", ID, "QEMU's id of the arm-smmuv3", required=True),
            Key("smmu", "smmu", WORD, "the host's SMMU that its functions sit behind"),
            Key("bus", "bus", ID, "QEMU's id of its pxb-pcie"),
            Key("bus_nr", "bus_nr", number(0, 255), "first bus number of the pxb"),
            Key("slot", "slot", number(0, 31), "slot of the pxb on pcie.0"),
            Key("numa_node", "numa_node", number(0, 1023), "guest node of the pxb"),
            Key("accel", "accel", BOOL, "false: QEMU's emulated SMMUv3, as VMs that exist have it"),
            *PROPERTY_KEYS,
        ),
        "virtual SMMUs, each on a pxb-pcie of its own",
        ask.VsmmuRequest,
        "vsmmus",
        many=True,
        identity="id",
        nested=_PROPERTIES,
    ),
    Table(
        "function",
        (
            Key("host", "host", ADDRESS, "address on the host", required=True),
            Key("ids", "ids", IDS, "vendor and device, to find it again"),
            Key("serial", "serial", WORD, "serial number (or its pseudonym), to find it again"),
            Key("id", "id", ID, "QEMU's id"),
            Key("mode", "mode", choice(*ask.Mode, cast=ask.Mode), "none: behind no vIOMMU, beside accelerated ones"),
            Key("vsmmu", "vsmmu", ID, "the vSMMU that it goes behind"),
            Key("port", "port", ID, "QEMU's id of its root port, which companion functions share; or that of an [[other]], or pcie.0"),
            Key("slot", "slot", number(0, 31), "its slot, on pcie.0 or a bridge to plain PCI"),
            Key("port_slot", "port_slot", number(0, 31), "slot of the root port"),
            Key("chassis", "chassis", number(1, 255), "chassis of the root port, unique in the VM"),
            Key("function", "function", number(0, 7), "function number in the guest"),
            Key("driver", "driver", text("the name of a driver", pattern=r"[A-Za-z0-9_-]{1,64}"), "the vfio driver that it is bound to"),
            Key("ats", "ats", SWITCH, "ATS of vfio-pci itself"),
            Key("iommufd", "iommufd", BOOL, "whether it is opened through iommufd"),
            Key("rom", "rom", BOOL, "whether the guest sees the expansion ROM"),
        ),
        "functions of the host that the VM gets",
        ask.FunctionRequest,
        "functions",
        many=True,
        identity="host",
    ),
    Table(
        "hotplug",
        (
            Key("vsmmu", "vsmmu", ID, "the vSMMU that the port is for"),
            Key("functions", "functions", many(ADDRESS, "PCI addresses"), "what may be plugged: the largest decides the reserves"),
            Key("port", "port", ID, "QEMU's id of the root port"),
            Key("port_slot", "port_slot", number(0, 31), "slot of the root port"),
            Key("chassis", "chassis", number(1, 255), "chassis of the root port"),
            Key("bus_reserve", "bus_reserve", number(0, 255), "bus numbers below the port"),
            Key("mem_reserve", "mem_reserve", SIZE, "32-bit window"),
            Key("pref64_reserve", "pref64_reserve", SIZE, "64-bit prefetchable window"),
        ),
        "root ports left free",
        ask.HotplugRequest,
        "hotplug",
        many=True,
        identity="port",
    ),
    Table(
        "other",
        (
            Key("id", "id", ID, "QEMU's id", required=True),
            Key("kind", "kind", choice(*get_args(ask.OtherKind)), "what it is; an endpoint is any emulated device", required=True),
            Key("driver", "driver", WORD, "QEMU's name of an endpoint's device"),
            Key("bus", "bus", ID, "the bridge above it; pcie.0 unless written"),
            Key("slot", "slot", number(0, 31), "its slot"),
            Key("function", "function", number(0, 7), "its function number"),
            Key("bus_nr", "bus_nr", number(0, 255), "first bus number of an expander"),
            Key("numa_node", "numa_node", number(0, 1023), "guest node of an expander"),
            Key("chassis", "chassis", number(0, 255), "chassis of a port"),
            Key("port", "port", number(0, 255), "number of a port"),
            Key("bus_reserve", "bus_reserve", number(0, 255), "bus numbers below a port"),
            Key("mem_reserve", "mem_reserve", SIZE, "32-bit window of a port"),
            Key("pref64_reserve", "pref64_reserve", SIZE, "64-bit prefetchable window of a port"),
        ),
        "what else is on the buses of a VM that was imported",
        ask.OtherRequest,
        "others",
        many=True,
        identity="id",
    ),
    Table(
        "disk",
        (
            Key("path", "path", PATH, "image or device", required=True),
            Key("format", "format", choice("raw", "qcow2"), "its format"),
            Key("readonly", "readonly", BOOL, "whether the guest may only read"),
            Key("id", "id", ID, "QEMU's id"),
            Key("slot", "slot", number(0, 31), "slot on pcie.0"),
            Key("bus", "bus", ID, "pcie.0"),
        ),
        "disks (virtio-blk)",
        ask.DiskRequest,
        "disks",
        many=True,
        identity="path",
    ),
    Table(
        "network",
        (
            Key("kind", "kind", choice("user", "tap", "bridge"), "what it is connected to"),
            Key("source", "source", WORD, "the tap or the bridge"),
            Key("mac", "mac", WORD, "MAC address"),
            Key("id", "id", ID, "QEMU's id"),
            Key("slot", "slot", number(0, 31), "slot on pcie.0"),
            Key("bus", "bus", ID, "pcie.0"),
        ),
        "networks (virtio-net)",
        ask.NetworkRequest,
        "networks",
        many=True,
        identity="id",
    ),
    Table(
        "passthrough.qemu",
        (
            Key("options", "options", many(WORD, "texts"), "options of QEMU with their values, quoted as in a shell"),
            Key("properties", "properties", many(WORD, "texts"), "ID.NAME=VALUE: properties of devices of the VM"),
        ),
        "what a QEMU command line had that a profile has no word for: a QEMU export gives it back, unchecked",
        ask.KeptQemu,
        "kept_qemu",
    ),
    Table(
        "passthrough.libvirt",
        (
            Key("domain", "domain", many(WORD, "texts"), "elements of <domain>"),
            Key("devices", "devices", many(WORD, "texts"), "elements of <devices>"),
            Key("inside", "inside", many(WORD, "texts"), "PATH: ELEMENT, and PATH@ATTRIBUTE: VALUE, inside elements of the VM"),
        ),
        "what a domain had that a profile has no word for: a libvirt export gives it back, unchecked",
        ask.KeptLibvirt,
        "kept_libvirt",
    ),
)

# Steps from one version to the next, on the document itself so that comments stay: MIGRATIONS[1] makes a 2 of a 1.
MIGRATIONS: dict[int, Callable[[tomlkit.TOMLDocument], None]] = {}
