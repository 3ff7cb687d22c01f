"""Device recordings of umockdev (``umockdev-record``), read and written.

    P: /devices/pci0000:00/0000:00:02.0      a device, by its path below /sys
    E: SUBSYSTEM=pci                         a udev property
    A: vendor=0x1af4\\n                       an attribute, escaped as in C; H: the same in hexadecimal
    L: driver=../../../bus/pci/drivers/nvme  a link

Groups, the kernel, memory and ACPI tables are in no such recording: they are recorded as absent.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

import msgspec

from wizard import __version__
from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts import platform
from wizard.facts.content import PATH_LIMIT
from wizard.facts.functions import read_functions
from wizard.facts.held import NOT_IN_UMOCKDEV
from wizard.facts.memorytree import MemoryTree
from wizard.facts.model import Facts, IommuDevice, Moment, PciFunction
from wizard.facts.pci_ids import named

ABSENT = (*NOT_IN_UMOCKDEV, "/sys/kernel/iommu_groups", "/sys/firmware/acpi/tables", "/sys/devices/system/node", "/proc", "dmesg")
_NAMES = {
    "vendor_name": "ID_VENDOR_FROM_DATABASE",
    "device_name": "ID_MODEL_FROM_DATABASE",
    "class_name": "ID_PCI_SUBCLASS_FROM_DATABASE",
}
_UNESCAPED = {"b": 8, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11, "\\": 0x5C, '"': 0x22}
LINES = 4 << 20  # as of a paste: a database of 65,536 functions has some twenty for each
_FIX = "Record it with umockdev-record, whole."


def from_umockdev(data: bytes, name: str = "recording") -> Facts:
    """Facts of a recording's text; InputError names the line that is wrong."""
    tree, properties = parse(data, name)
    functions = tuple(
        msgspec.structs.replace(function, **{field: known.get(key) for field, key in _NAMES.items()})
        for function in read_functions(tree)
        for known in [properties.get(function.path, {})]
    )
    return Facts(
        tool=__version__,
        origin="umockdev",
        functions=named(functions),
        iommus=platform.read_iommus(tree),
        log_complete=False,
        unread=dict(sorted({**tree.unread, **dict.fromkeys(ABSENT, "absent")}.items())),
        moment=Moment(),
    )


def parse(data: bytes, name: str) -> tuple[MemoryTree, dict[str, dict[str, str]]]:
    """(a tree of the attributes and links, path below /sys/devices -> udev properties). Also reads ``udevadm info --export-db``."""
    if data.count(b"\n") > LINES:
        raise InputError(f"{visible(name)} has more than {LINES} lines.", "No host's recording has that many.")
    tree = MemoryTree(name)
    tree.enter("sys/bus/pci/devices")
    properties: dict[str, dict[str, str]] = {}
    device = ""
    known: dict[str, str] | None = None  # properties of the device, once it has one
    for number, line in enumerate(data.split(b"\n"), 1):
        if line[:3] == b"E: " and device:  # nine lines of ten of udev's own database
            key, equals, value = line[3:].decode(errors="backslashreplace").partition("=")
            if equals and key and key[0] != "/" and ".." not in key:
                if known is None:
                    known = properties.setdefault(device.removeprefix("sys/devices/"), {})
                known[key] = value
                if key == "SUBSYSTEM":
                    _link_subsystem(tree, device, value)
                continue
        kind, _, rest = line.partition(b": ")
        text = rest.decode(errors="backslashreplace")
        key, equals, value = text.partition("=")
        if kind == b"P":
            if not text.startswith("/devices/") or ".." in text.split("/") or len(text) > PATH_LIMIT:
                raise InputError(f"{visible(name)}, line {number}: {visible(text[:100])} is no path of a device.", _FIX)
            device, known = "sys" + posixpath.normpath(text), None
            tree.enter(device)
        elif kind == b"L" and not equals:
            continue  # the link priority of udev's own database
        elif kind in (b"A", b"H", b"L", b"E"):
            if not device or not equals or not key or ".." in key.split("/") or key.startswith("/"):
                raise InputError(f"{visible(name)}, line {number} belongs to no device: {visible(text[:100])}.", _FIX)
            if kind == b"E":
                properties.setdefault(device.removeprefix("sys/devices/"), {})[key] = value
                if key == "SUBSYSTEM":
                    _link_subsystem(tree, device, value)
                continue
            path = f"{device}/{posixpath.normpath(key)}"
            if kind == b"L":
                tree.links[path] = value
            else:
                tree.files[path] = _unescape(rest.partition(b"=")[2]) if kind == b"A" else _unhex(value, name, number)
            tree.enter(path)
        elif line.strip() and not re.fullmatch(rb"[A-Z]:.*", line, re.DOTALL):
            raise InputError(f"{visible(name)}, line {number} is no line of a recording: {visible(line[:60].decode(errors='replace'))}.", _FIX)
    if not properties:
        raise InputError(f"{visible(name)} holds no device.", _FIX)
    return tree, properties


def _link_subsystem(tree: MemoryTree, device: str, subsystem: str) -> None:
    if not subsystem or "/" in subsystem or subsystem.startswith("."):
        return
    place = "sys/bus/pci/devices" if subsystem == "pci" else f"sys/class/{subsystem}"
    path = f"{place}/{posixpath.basename(device)}"
    tree.links[path] = "/" + device
    tree.enter(path)


def _unescape(value: bytes) -> bytes:
    # GLib's strescape: \b \f \n \r \t \v \\ \" and three octal digits.
    return re.sub(rb"\\([0-3][0-7]{0,2}|.)", lambda match: bytes([_code(match[1].decode("latin-1"))]), value)


def _code(escape: str) -> int:
    return int(escape, 8) if escape[0] in "0123" else _UNESCAPED.get(escape, ord(escape))


def _unhex(value: str, name: str, number: int) -> bytes:
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise InputError(f"{visible(name)}, line {number} has an H: attribute that is not hexadecimal.", _FIX) from error


def to_umockdev(facts: Facts) -> str:
    """The PCI functions and SMMUs of Facts as a recording: what ``umockdev-run --device`` plays back."""
    devices = [_platform(iommu) for iommu in facts.iommus if iommu.device]
    paths = {function.address: function.path for function in facts.functions}
    devices += [_iommu(iommu, paths) for iommu in facts.iommus]
    parents = {iommu.name: f"platform/{iommu.device}/iommu/{iommu.name}" for iommu in facts.iommus if iommu.device}
    for function in facts.functions:
        devices.append(_function(function, parents))
        devices += [_child(function, "net", name, INTERFACE=name) for name in function.net]
        devices += [_child(function, "block", name, DEVNAME=f"/dev/{name}") for name in function.block]
        devices += [_child(function, "vfio-dev", name) for name in function.vfio_dev]
    return "\n".join(devices)


def _record(path: str, properties: dict[str, str], attributes: dict[str, str], links: dict[str, str], binary: dict[str, bytes] | None = None) -> str:
    lines = [f"P: /devices/{path}"]
    lines += [f"E: {key}={value}" for key, value in sorted(properties.items())]
    lines += [f"A: {key}={_escape(value)}\\n" for key, value in sorted(attributes.items())]
    lines += [f"H: {key}={value.hex().upper()}" for key, value in sorted((binary or {}).items())]
    lines += [f"L: {key}={value}" for key, value in sorted(links.items())]
    return "\n".join(lines) + "\n"


def _escape(value: str) -> str:
    escaped = {8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 0x5C: "\\\\", 0x22: '\\"'}
    return "".join(escaped.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in value.encode())


def _up(path: str, target: str) -> str:
    # sysfs' own links are relative to the directory that they lie in.
    return "../" * (path.count("/") + 2) + target


_ATTRIBUTES = (
    "vendor", "device", "class", "revision", "subsystem_vendor", "subsystem_device", "resource", "modalias", "numa_node", "sriov_totalvfs",
    "sriov_numvfs", "sriov_drivers_autoprobe",
    "sriov_vf_device", "reset_method", "boot_vga", "serial_number",
)  # fmt: skip


def _function(function: PciFunction, parents: dict[str, str]) -> str:
    known = {name: getattr(function, "class_" if name == "class" else name) for name in _ATTRIBUTES}
    attributes = {name: str(value) for name, value in known.items() if value not in (None, "")}
    if function.sriov_vf_device:
        attributes["sriov_vf_device"] = f"{int(function.sriov_vf_device, 16):x}"  # as sriov_vf_device_show() prints it
    attributes["driver_override"] = function.driver_override or "(null)"
    links = {f"virtfn{number}": f"../{address}" for number, address in enumerate(function.virtfns)}
    if function.driver:
        links["driver"] = _up(function.path, f"bus/pci/drivers/{function.driver}")
    if function.iommu in parents:
        links["iommu"] = _up(function.path, f"devices/{parents[function.iommu]}")
    if function.iommu_group is not None:
        links["iommu_group"] = _up(function.path, f"kernel/iommu_groups/{function.iommu_group}")
    if function.physfn:
        links["physfn"] = f"../{function.physfn}"
    vendor, device = function.vendor[2:].upper(), function.device[2:].upper()
    properties = {
        "SUBSYSTEM": "pci",
        "PCI_CLASS": f"{int(function.class_, 16):X}",
        "PCI_ID": f"{vendor}:{device}",
        "PCI_SLOT_NAME": function.address,
        **({"DRIVER": function.driver} if function.driver else {}),
        **({"MODALIAS": function.modalias} if function.modalias else {}),
        **{key: name for field, key in _NAMES.items() if (name := getattr(function, field))},
    }
    config = bytes.fromhex(function.config).ljust(function.config_length, b"\0")
    return _record(function.path, properties, attributes, links, {"config": config} if config else None)


def _child(function: PciFunction, subsystem: str, name: str, **properties: str) -> str:
    return _record(f"{function.path}/{subsystem}/{name}", {"SUBSYSTEM": subsystem, **properties}, {}, {})


def _platform(iommu: IommuDevice) -> str:
    path = f"platform/{iommu.device}"
    links = {"driver": _up(path, f"bus/platform/drivers/{iommu.driver}")} if iommu.driver else {}
    return _record(path, {"SUBSYSTEM": "platform"}, {}, links)


def _iommu(iommu: IommuDevice, paths: Mapping[str, str]) -> str:
    path = f"platform/{iommu.device}/iommu/{iommu.name}" if iommu.device else f"virtual/iommu/{iommu.name}"
    links = {f"devices/{member}": _up(path + "/devices", f"devices/{paths.get(member, 'platform/' + member)}") for member in iommu.members}
    if iommu.device:
        links["device"] = f"../../../{iommu.device}"
    return _record(path, {"SUBSYSTEM": "iommu"}, {}, links)
