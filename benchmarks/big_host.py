"""Hosts of any size for benchmarks: SMMUs, segments, root ports, endpoints, groups and an IORT, as a tree of /sys or as Facts.

    python -m benchmarks.big_host DIR 8192      a tree for --root and for lspci -A linux-sysfs -O sysfs.path=DIR/sys/bus/pci

Each SMMU serves one segment of at most 2,000 functions; below each root port sits a NIC: a PF (PM, MSI-X, PCI Express, AER, serial
number, ACS, ATS, PASID, SR-IOV) and its seven VFs, each in a group of its own, as on hosts that have thousands of functions.
No two functions have equal bytes: each has its own serial number, BARs and status bits, so that sharing what is equal flatters no figure.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

from fixtures.builders.iort import Its, Map, Rc, SmmuV3, Spec, build
from wizard.facts.model import Facts
from wizard.facts.record import from_tree
from wizard.facts.source import open_tree

PER_SEGMENT = 2000
EMPTY = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
FEATURES = 0x009E9FEF  # S2FWB and nesting, so that verdicts have something to weigh


def _pack(data: bytearray, at: int, layout: str, *values: int) -> None:
    struct.pack_into("<" + layout, data, at, *values)


def _own(data: bytearray, number: int, serial: int) -> None:
    """What no other function has: status bits, the TLP header that AER logged last, the serial number at ``serial``."""
    express = 0x40 if data[0x40] == 0x10 else 0x70
    _pack(data, express + 0x0A, "H", number & 0xF)  # Device Status: the four kinds of error that were seen
    if data[0x100] == 0x01:
        _pack(data, 0x104, "I", (number >> 4 & 0xFF) << 12)  # Uncorrectable Error Status
        _pack(data, 0x110, "I", (number & 0x1F) << 6)  # Correctable Error Status
        _pack(data, 0x11C, "4I", 0x4000_0001, number << 8 | 0x0F, number << 14, 0)  # Header Log
    _pack(data, serial + 4, "Q", 0x0011_22FF_FF00_0000 + number)


def endpoint_config(number: int) -> bytes:
    """4 KiB of an endpoint."""
    data = bytearray(4096)
    _pack(data, 0x00, "4H", 0x8086, 0x1563, 0x0406, 0x0010)
    _pack(data, 0x08, "4B", 1, 0, 0, 2)
    _pack(data, 0x2C, "2H", 0x8086, 0x0001)
    data[0x34] = 0x40
    _pack(data, 0x40, "2B2H", 0x01, 0x50, 0x0003, 0x0008)
    _pack(data, 0x50, "2BHII", 0x11, 0x70, 63, 3, 0x2003)
    _pack(data, 0x70, "2BHI", 0x10, 0, 0x0002, 0x10008FC2)
    _pack(data, 0x7C, "I", 0x00400C43)
    extended = [(0x100, 0x01, 2), (0x140, 0x03, 1), (0x150, 0x0D, 1), (0x158, 0x0F, 1), (0x160, 0x1B, 1), (0x168, 0x10, 1)]
    for index, (offset, number, version) in enumerate(extended):
        following = extended[index + 1][0] if index + 1 < len(extended) else 0
        _pack(data, offset, "I", number + 0x10000 * version + 0x100000 * following)
    _pack(data, 0x164, "H", 0x1406)
    _pack(data, 0x174, "2H", 64, 64)
    _pack(data, 0x17C, "2H2xH", 1, 1, 0x1565)  # where VF 0 is, how far the next is, and what they are called
    _own(data, number, 0x140)
    for bar, (at, _) in enumerate(bars(number)):
        _pack(data, 0x10 + 12 * bar, "Q", at | 0xC)  # BAR 0 and BAR 3
    return bytes(data)


def vf_config(number: int) -> bytes:
    """4 KiB of a VF: no ids, no BAR registers, no SR-IOV; ARI before its serial number."""
    data = bytearray(endpoint_config(number))
    data[0:4] = b"\xff" * 4
    data[0x04] = 0x04
    data[0x10:0x28] = bytes(0x18)
    _pack(data, 0x140, "I", 0x1501000E)
    _pack(data, 0x144, "Q", 0)
    _pack(data, 0x160, "I", 0x1B + 0x10000 + 0x168 * 0x100000)
    data[0x168:0x1A8] = bytes(0x40)
    _pack(data, 0x168, "I", 0x03 + 0x10000)
    _own(data, number, 0x168)
    return bytes(data)


def bars(number: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """BAR 0 and BAR 3 of a function: (address, bytes)."""
    at = 0x10_0000_0000 + 0x40000 * number
    return (at, 0x20000), (at + 0x20000, 0x4000)


def port_config(bus: int, number: int) -> bytes:
    """4 KiB of a root port to ``bus``."""
    data = bytearray(4096)
    _pack(data, 0x00, "4H", 0x1DEF, 0xE101, 0x0407, 0x0010)
    _pack(data, 0x08, "4B", 1, 0, 4, 6)
    data[0x0E] = 1
    _pack(data, 0x18, "3B", 0, bus, bus)
    data[0x34] = 0x40
    _pack(data, 0x40, "2BHI", 0x10, 0, 0x0042, 0x8002)
    _pack(data, 0x4C, "I", 0x00400C43)
    _pack(data, 0x100, "I", 0x1101000D)
    _pack(data, 0x104, "2H", 0x5F, 0x1D)
    _pack(data, 0x110, "I", 0x03 + 0x10000)
    _own(data, number, 0x110)
    return bytes(data)


class _Tree:
    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, content: str | bytes) -> None:
        with open(self.root / path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)

    def directory(self, path: str) -> None:
        os.makedirs(self.root / path, exist_ok=True)

    def link(self, path: str, target: str) -> None:
        os.symlink(os.path.relpath(self.root / target, (self.root / path).parent), self.root / path)


def layout(count: int) -> Iterator[tuple[int, str, str | None, bytes, str]]:
    """(SMMU, address, parent, configuration space, class) of every function."""
    segment, made = 0, 0
    while made < count:
        left = min(PER_SEGMENT, count - made)
        bus = 0
        while left > 0:
            port = f"{segment:04x}:00:{bus // 8:02x}.{bus % 8}"
            bus += 1
            yield segment, port, None, port_config(bus, made), "0x060400"
            left, made = left - 1, made + 1
            for function in range(min(8, left)):
                config = (vf_config if function else endpoint_config)(made)
                yield segment, f"{segment:04x}:{bus:02x}:00.{function}", port, config, "0x020000"
                left, made = left - 1, made + 1
        segment += 1


def build_tree(root: Path, count: int) -> None:
    """Write a tree of ``count`` functions below ``root``: sys/, proc/, acpi/, dmesg, uname."""
    tree = _Tree(root)
    for path in ("sys/bus/pci/devices", "sys/class/iommu", "sys/class/net", "proc", "acpi"):
        tree.directory(path)
    for driver in ("vfio-pci", "ixgbe", "ixgbevf", "pcieport"):
        tree.directory(f"sys/bus/pci/drivers/{driver}")
    segments: set[int] = set()
    for group, (segment, address, parent, config, class_) in enumerate(layout(count)):
        smmu = f"sys/devices/platform/arm-smmu-v3.{segment}.auto/iommu/smmu3.0x{0x10000000 + 0x20000 * segment:016x}"
        if segment not in segments:
            segments.add(segment)
            tree.directory(smmu + "/devices")
            tree.link(f"sys/class/iommu/{os.path.basename(smmu)}", smmu)
            tree.link(smmu + "/device", os.path.dirname(os.path.dirname(smmu)))
        path = f"sys/devices/pci{segment:04x}:00/" + (f"{parent}/{address}" if parent else address)
        tree.directory(path)
        endpoint, virtual = parent is not None, parent is not None and not address.endswith(".0")
        low, high = (f"0x{at:016x} 0x{at + size - 1:016x} 0x0000000000140204\n" for at, size in bars(group))
        regions = [low, EMPTY, EMPTY, high]
        attributes = {
            "vendor": "0x8086" if endpoint else "0x1def", "device": "0x1563" if endpoint else "0xe101", "class": class_, "revision": "0x01",
            "subsystem_vendor": "0x8086", "subsystem_device": "0x0001", "irq": "0", "numa_node": str(segment % 2), "enable": "1", "msi_bus": "1",
            "driver_override": "(null)", "modalias": "pci:v00008086d00001563sv00008086sd00000001bc02sc00i00", "ari_enabled": "0",
            "d3cold_allowed": "1",
            "reset_method": "flr bus" if endpoint else "bus", "current_link_speed": "8.0 GT/s PCIe", "current_link_width": "4",
            "local_cpulist": "0-63",
        }  # fmt: skip
        if virtual:
            attributes["device"] = "0x1565"
            tree.link(f"{path}/physfn", f"{os.path.dirname(path)}/{address[:-1]}0")
        elif endpoint:
            attributes |= {"sriov_totalvfs": "64", "sriov_numvfs": "7", "sriov_vf_device": "1565", "sriov_drivers_autoprobe": "1"}
            for number in range(7):
                # Of the last device of all, some VFs may be missing: what is there has to be a host still.
                tree.link(f"{path}/virtfn{number}", f"{os.path.dirname(path)}/{address[:-1]}{number + 1}")
        for name, value in attributes.items():
            tree.file(f"{path}/{name}", value + "\n")
        driver = "ixgbevf" if virtual else "ixgbe" if endpoint else "pcieport"
        ids = f"{attributes['vendor'][2:]}:{attributes['device'][2:]}".upper()
        uevent = [f"DRIVER={driver}", f"PCI_CLASS={int(class_, 16):X}", f"PCI_ID={ids}", "PCI_SUBSYS_ID=8086:0001", f"PCI_SLOT_NAME={address}"]
        tree.file(f"{path}/uevent", "\n".join([*uevent, f"MODALIAS={attributes['modalias']}"]) + "\n")
        tree.file(f"{path}/resource", "".join(regions) + EMPTY * 9 if endpoint else EMPTY * 13)
        tree.file(f"{path}/config", config)
        tree.directory(f"sys/kernel/iommu_groups/{group}/devices")
        tree.file(f"sys/kernel/iommu_groups/{group}/type", "DMA\n")
        tree.file(f"sys/kernel/iommu_groups/{group}/reserved_regions", "0x0000000008000000 0x00000000080fffff msi\n")
        tree.link(f"{path}/iommu_group", f"sys/kernel/iommu_groups/{group}")
        tree.link(f"{path}/iommu", smmu)
        tree.link(f"{path}/driver", f"sys/bus/pci/drivers/{driver}")
        tree.link(f"{smmu}/devices/{address}", path)
        tree.link(f"sys/kernel/iommu_groups/{group}/devices/{address}", path)
        tree.link(f"sys/bus/pci/devices/{address}", path)
    tree.file("acpi/IORT.bin", iort(sorted(segments)))
    tree.file("uname", "Linux big 7.2.0 #1 SMP aarch64 GNU/Linux\n")
    tree.file("proc/meminfo", "MemTotal:       1056964608 kB\nMemFree:        1000000000 kB\nMemAvailable:   1010000000 kB\n")
    tree.file("dmesg", "\n".join(log(sorted(segments))) + "\n")


def iort(segments: list[int]) -> bytes:
    """The table that names them."""
    nodes: dict[str, Spec] = {"its": Its(0)}
    for segment in segments:
        nodes[f"smmu{segment}"] = SmmuV3(base=0x10000000 + 0x20000 * segment, proximity=segment % 2, maps=[Map(0, 0x10000, 0x10000 * segment, "its")])
        nodes[f"rc{segment}"] = Rc(segment=segment, ats=True, canwbs=True, maps=[Map(0, 0x10000, 0, f"smmu{segment}")])
    return build(nodes)


def log(segments: list[int]) -> Iterator[str]:
    """What the kernel said of them."""
    yield "[    0.000000] Linux version 7.2.0 (build@host) #1 SMP"
    for segment in segments:
        device = f"arm-smmu-v3 arm-smmu-v3.{segment}.auto"
        yield f"[    1.000000] {device}: option mask 0x0"
        yield f"[    1.000001] {device}: oas 48-bit (features {FEATURES:#010x})"


def facts_of(root: Path, count: int) -> Facts:
    """The Facts of such a tree, made in ``root``."""
    build_tree(root, count)
    return from_tree(open_tree(str(root)))


if __name__ == "__main__":
    build_tree(Path(sys.argv[1]), int(sys.argv[2]))
