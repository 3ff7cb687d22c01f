"""PCI functions out of a tree's /sys/bus/pci/devices: the listed attributes, links and config space bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from wizard.arch.pci import USER_READABLE, Status
from wizard.base.errors import InputError
from wizard.base.shares import Part, read_together
from wizard.base.text import visible
from wizard.facts.model import PciFunction
from wizard.facts.tree import DirectoryTree, Folder, Tree

DEVICES = "sys/bus/pci/devices"
LIMIT = 65536  # functions

_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_VFS = 65535  # 16 bits (PCIe 6.0, 9.3.3.6)
_NODES = 1 << 20
_ID = re.compile(r"0x[0-9a-f]{1,8}")
_VF_DEVICE = re.compile(r"[0-9a-f]{1,4}")
# As pci_uevent() of the kernel prints it (drivers/pci/pci-driver.c).
_UEVENT = re.compile(
    r"^(?:DRIVER=(\S+)\n)?PCI_CLASS=([0-9A-F]{4,6})\nPCI_ID=([0-9A-F]{4}):([0-9A-F]{4})\nPCI_SUBSYS_ID=([0-9A-F]{4}):([0-9A-F]{4})\n"
    r"(?:PCI_SLOT_NAME=.*\n)?(?:.*\n)*?MODALIAS=(\S+)$",
    re.MULTILINE,
)
_EMPTY_REGION = "0x0000000000000000 0x0000000000000000 0x0000000000000000"
# The kernel prints this for an unset override (drivers/pci/pci-sysfs.c, driver_override_show).
_UNSET = "(null)"


def read_functions(tree: Tree, addresses: Iterable[str] | None = None) -> tuple[PciFunction, ...]:
    """Every function of the tree (or those given), sorted by address; one that vanishes meanwhile is left out."""
    names = tree.names(DEVICES) if addresses is None else list(addresses)
    if len(names) > LIMIT:
        raise InputError(f"{visible(tree.name)} has {len(names)} PCI functions, more than {LIMIT}.", "No host has that many.")
    owned = _owners(tree, "net"), _owners(tree, "block")

    def read(share: Sequence[str]) -> Part[PciFunction]:
        return tuple(function for name in share if (function := _read(tree, name, *owned))), tree.unread

    wanted = [name for name in names if _ADDRESS.fullmatch(name)]
    found, unread = read_together(PciFunction, wanted, read) if isinstance(tree, DirectoryTree) else read(wanted)
    tree.unread.update(unread)
    return tuple(sorted(found, key=lambda function: (len(function.address), function.address)))  # segments have four digits or more


def _read(tree: Tree, address: str, net: dict[str, list[str]], block: dict[str, list[str]]) -> PciFunction | None:
    base = tree.link(f"{DEVICES}/{address}") or f"{DEVICES}/{address}"
    with tree.folder(base) as folder:
        ids = _ids(folder)
        if ids is None:
            return None
        config = _readable(folder.data("config", 4096) or b"")
        physfn = _address(folder.leaf("physfn"))
        resource = (folder.text("resource") or "").split("\n")
        while resource and resource[-1] in (_EMPTY_REGION, ""):
            resource.pop()
        group = folder.leaf("iommu_group")
        override = folder.text("driver_override")
        links = _virtual_functions(folder) if "virtfn0" in folder.names else ()
        return PciFunction(
            address=address,
            path=base.removeprefix("sys/devices/"),
            **ids,
            # A VF's own register need not be what the kernel took over from its PF (pci_iov_add_virtfn).
            revision=_id(folder.text("revision")) if physfn or len(config) < USER_READABLE else f"0x{config[8]:02x}",
            config=config.rstrip(b"\0").hex(),
            config_length=len(config),
            resource="\n".join(resource),
            driver_override=None if override in (None, "", _UNSET) else override,
            iommu=folder.leaf("iommu"),
            iommu_group=int(group) if group and re.fullmatch(r"[0-9]{1,9}", group) else None,
            numa_node=min(max(_or(folder.number("numa_node"), -1), -1), _NODES),
            physfn=physfn,
            virtfns=tuple(name for link in links if (name := _address(folder.leaf(link)))),
            **_sriov(folder) if "sriov_totalvfs" in folder.names else {},
            reset_method=folder.text("reset_method"),
            vfio_dev=tuple(tree.names(f"{base}/vfio-dev")) if "vfio-dev" in folder.names else (),
            net=tuple(sorted(net.get(address, ()))),
            block=tuple(sorted(block.get(address, ()))),
            mdev="mdev_supported_types" in folder.names,
            boot_vga=folder.text("boot_vga"),
            serial_number=folder.text("serial_number"),
        )


def _virtual_functions(folder: Folder) -> list[str]:
    """The links to VFs in the order of their numbers, which begin with 0 (pci_iov_sysfs_link())."""
    return sorted((name for name in folder.names if name.startswith("virtfn")), key=lambda name: int(name[6:]) if name[6:].isdecimal() else -1)


def _readable(config: bytes) -> bytes:
    """Without the zeros that tar pads the 64 bytes of an ordinary user with: a capability list that begins behind them was not read."""
    unread = len(config) > USER_READABLE and len(config.rstrip(b"\0")) <= USER_READABLE and Status.read(config).CAP_LIST
    return config[:USER_READABLE] if unread else config


def _ids(folder: Folder) -> dict[str, Any] | None:
    """Driver, ids, class and modalias: out of ``uevent``, one file for seven, else each out of its own. None: no function."""
    uevent = folder.text("uevent")
    match = _UEVENT.search(uevent) if uevent else None
    if match:
        driver, class_, vendor, device, subsystem_vendor, subsystem_device, modalias = match.groups()
        return {
            "driver": driver,
            "class_": f"0x{int(class_, 16):06x}",
            "vendor": f"0x{vendor.lower()}",
            "device": f"0x{device.lower()}",
            "subsystem_vendor": f"0x{subsystem_vendor.lower()}",
            "subsystem_device": f"0x{subsystem_device.lower()}",
            "modalias": modalias,
        }
    known = {"class_": folder.text("class"), "driver": folder.leaf("driver")}
    known |= {name: folder.text(name) for name in ("vendor", "device", "subsystem_vendor", "subsystem_device", "modalias")}
    found = {name: text for name, text in known.items() if text is not None}
    valid = all(_ID.fullmatch(text) for name, text in found.items() if name not in ("driver", "modalias"))
    return found if valid and {"vendor", "device", "class_"} <= found.keys() else None


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
    # /sys/class/net and /sys/class/block are one directory of links each; far cheaper than looking below each function.
    owners: dict[str, list[str]] = {}
    for name in tree.names(f"sys/class/{kind}"):
        path = tree.link(f"sys/class/{kind}/{name}")
        if path and (address := last_function(path)):
            owners.setdefault(address, []).append(name)
    return owners
