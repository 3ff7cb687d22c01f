"""PCI functions out of a tree's /sys/bus/pci/devices: the listed attributes, links and config space bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from wizard.arch.pci import USER_READABLE, Status
from wizard.base.address import WRITTEN
from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.facts.content import without_zeros
from wizard.facts.model import PciFunction
from wizard.facts.scope import Scope
from wizard.facts.tree import Folder, Tree

DEVICES = "sys/bus/pci/devices"
LIMIT = 65536  # functions

_ADDRESS = re.compile(WRITTEN)
_VFS = 65535  # 16 bits (PCIe 6.0, 9.3.3.6)
_NODES = 1 << 20
_GROUP = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"0x[0-9a-f]{1,8}")
_VF_DEVICE = re.compile(r"[0-9a-f]{1,4}")
# As pci_uevent() of the kernel prints it (drivers/pci/pci-driver.c).
_UEVENT = re.compile(
    r"^(?:DRIVER=(\S+)\n)?PCI_CLASS=([0-9A-F]{4,6})\nPCI_ID=([0-9A-F]{4}):([0-9A-F]{4})\nPCI_SUBSYS_ID=([0-9A-F]{4}):([0-9A-F]{4})\n"
    r"(?:PCI_SLOT_NAME=.*\n)?(?:.*\n)*?MODALIAS=(\S+)$",
    re.MULTILINE,
)
_EMPTY_REGION = "0x0000000000000000 0x0000000000000000 0x0000000000000000"
_EMPTY_RUNS = tuple(f"\n{_EMPTY_REGION}" * count for count in (8, 4, 2, 1))
_EMPTY_ENDS = ("\n", _EMPTY_REGION)
# The kernel prints this for an unset override (drivers/pci/pci-sysfs.c, driver_override_show).
_UNSET = "(null)"


class Owners(NamedTuple):
    """Who has which interfaces and disks: address -> names."""

    net: dict[str, list[str]]
    block: dict[str, list[str]]

    @classmethod
    def of(cls, tree: Tree) -> Owners:
        """By /sys/class/net and /sys/class/block, one directory of links each: far cheaper than looking below each function."""
        return cls(_owners(tree, "net"), _owners(tree, "block"))


def function_names(tree: Tree, addresses: Iterable[str] | None = None) -> list[str]:
    """Addresses of every function of the tree (or those given that are addresses), sorted. ``InputError`` where they are too many."""
    names = tree.names(DEVICES) if addresses is None else list(addresses)
    if len(names) > LIMIT:
        raise InputError(f"{visible(tree.name)} has {len(names)} PCI functions, more than {LIMIT}.", "No host has that many.")
    return sorted(filter(_ADDRESS.fullmatch, names), key=lambda name: (len(name), name))  # segments have four digits or more


def read_functions(
    tree: Tree, addresses: Iterable[str] | None = None, scope: Scope = Scope.WHOLE, owners: Owners | None = None
) -> tuple[PciFunction, ...]:
    """Every function of the tree (or those given), sorted by address; one that vanishes meanwhile is left out."""
    names = function_names(tree, addresses)
    owned = owners or Owners.of(tree) if scope is Scope.WHOLE else None
    with tree.folder(DEVICES) as devices:
        return tuple(function for name in names if (function := _read(tree, devices, name, owned)))


def _read(tree: Tree, devices: Folder, address: str, owned: Owners | None) -> PciFunction | None:
    """One function; without what the scope of a table leaves out where ``owned`` is None."""
    base = devices.link(address) or f"{DEVICES}/{address}"
    with tree.folder(base) as folder:
        if owned:
            folder.list_names()  # nearly everything that is there is asked for
        ids = _ids(folder)
        if ids is None:
            return None
        space = folder.data("config", 4096) or b""
        config, length = _readable(space)
        physfn = _address(folder.leaf("physfn"))
        group = folder.leaf("iommu_group")
        return PciFunction(
            address=address,
            path=base.removeprefix("sys/devices/"),
            **ids,
            config=config,
            config_length=length,
            iommu=folder.leaf("iommu"),
            iommu_group=int(group) if group and _GROUP.fullmatch(group) else None,
            numa_node=min(max(_or(folder.number("numa_node"), -1), -1), _NODES),
            physfn=physfn,
            virtfns=_virtual_functions(folder),
            vfio_dev=tuple(folder.names("vfio-dev")),
            **_rest(folder, address, space[:length], physfn, owned) if owned else {},
        )


def _rest(folder: Folder, address: str, config: bytes, physfn: str | None, owned: Owners) -> dict[str, Any]:
    """What ``Scope.TABLE`` leaves out."""
    override = folder.text("driver_override")
    return {
        # A VF's own register need not be what the kernel took over from its PF (pci_iov_add_virtfn).
        "revision": _id(folder.text("revision")) if physfn or len(config) < USER_READABLE else f"0x{config[8]:02x}",
        "resource": _regions(folder.text("resource") or ""),
        "driver_override": None if override in (None, "", _UNSET) else override,
        **(_sriov(folder) if folder.has("sriov_totalvfs") else {}),
        "reset_method": folder.text("reset_method"),
        "net": tuple(sorted(owned.net.get(address, ()))),
        "block": tuple(sorted(owned.block.get(address, ()))),
        "mdev": folder.has("mdev_supported_types"),
        "boot_vga": folder.text("boot_vga"),
        "serial_number": folder.text("serial_number"),
    }


def _regions(text: str) -> str:
    """The lines of ``resource`` without the empty ones at their end, which are most of them."""
    end = len(text)
    for run in _EMPTY_RUNS:
        if text.endswith(run, 0, end):
            end -= len(run)
    kept = text[:end]
    if not kept.endswith(_EMPTY_ENDS):
        return kept
    lines = kept.split("\n")
    while lines and lines[-1] in (_EMPTY_REGION, ""):
        lines.pop()
    return "\n".join(lines)


def _virtual_functions(folder: Folder) -> tuple[str, ...]:
    """VFs in the order of the numbers of their links, which begin with 0 (pci_iov_sysfs_link())."""
    if not folder.has("virtfn0"):
        return ()
    links = [name for name in folder.list_names() if name.startswith("virtfn")]
    links.sort(key=lambda name: int(name[6:]) if name[6:].isdecimal() else -1)
    return tuple(name for link in links if (name := _address(folder.leaf(link))))


def _readable(config: bytes) -> tuple[str, int]:
    """The bytes in hexadecimal without the zeros at their end, and how many were read.

    tar pads the 64 bytes of an ordinary user with zeros: a capability list that begins behind them was not read.
    """
    told = without_zeros(config)
    unread = len(config) > USER_READABLE and len(told) <= USER_READABLE and Status.read(config).CAP_LIST
    return told.hex(), USER_READABLE if unread else len(config)


def _ids(folder: Folder) -> dict[str, Any] | None:
    """Driver, ids, class and modalias: out of ``uevent``, one file for seven, else each out of its own. None: no function."""
    uevent = folder.text("uevent")
    match = _UEVENT.search(uevent) if uevent else None
    if match:
        return _ids_of(*match.groups())
    known = {"class_": folder.text("class"), "driver": folder.leaf("driver")}
    known |= {name: folder.text(name) for name in ("vendor", "device", "subsystem_vendor", "subsystem_device", "modalias")}
    found = {name: text for name, text in known.items() if text is not None}
    valid = all(_ID.fullmatch(text) for name, text in found.items() if name not in ("driver", "modalias"))
    return found if valid and {"vendor", "device", "class_"} <= found.keys() else None


@lru_cache(maxsize=4096)  # most functions of a big host are of a few kinds
def _ids_of(driver: str | None, class_: str, vendor: str, device: str, subsystem_vendor: str, subsystem_device: str, modalias: str) -> dict[str, Any]:
    return {
        "driver": driver,
        "class_": f"0x{int(class_, 16):06x}",
        "vendor": f"0x{vendor.lower()}",
        "device": f"0x{device.lower()}",
        "subsystem_vendor": f"0x{subsystem_vendor.lower()}",
        "subsystem_device": f"0x{subsystem_device.lower()}",
        "modalias": modalias,
    }


def _sriov(folder: Folder) -> dict[str, Any]:
    total = _count(folder.number("sriov_totalvfs"))
    if not total:
        return {"sriov_totalvfs": total}
    made, autoprobe = _count(folder.number("sriov_numvfs")), folder.number("sriov_drivers_autoprobe")
    device = folder.text("sriov_vf_device")  # sriov_vf_device_show(): "%x"
    kind = f"0x{int(device, 16):04x}" if device and _VF_DEVICE.fullmatch(device) else None
    return {"sriov_totalvfs": total, "sriov_numvfs": made, "sriov_drivers_autoprobe": autoprobe, "sriov_vf_device": kind}


def _count(value: int | None) -> int | None:
    return None if value is None or not 0 <= value <= _VFS else value


def _id(text: str | None) -> str | None:
    return text if text and _ID.fullmatch(text) else None


def _address(text: str | None) -> str | None:
    return text if text and _ADDRESS.fullmatch(text) else None


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def last_function(path: str) -> str | None:
    """The PCI function that a path below /sys/devices leads through last: what carries the device at its end."""
    for part in reversed(path.split("/")):
        if _ADDRESS.fullmatch(part):
            return part
    return None


def _owners(tree: Tree, kind: str) -> dict[str, list[str]]:
    owners: dict[str, list[str]] = {}
    for name in tree.names(f"sys/class/{kind}"):
        path = tree.link(f"sys/class/{kind}/{name}")
        if path and (address := last_function(path)):
            owners.setdefault(address, []).append(name)
    return owners
