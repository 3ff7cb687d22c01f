"""Initramfs images for the emulated host, without cpio(1).

initrd.py pack DIRECTORY OUT               a gzipped newc archive of DIRECTORY
initrd.py canwbs IORT INITRD OUT           INITRD with an ACPI table upgrade in front: IORT with CANWBS set on every PCI root complex
initrd.py without-rmr IORT INITRD OUT      the same with an IORT whose RMR nodes are of a type that no kernel knows

With CANWBS (and the coherent walks that it presupposes) the kernel lets an SMMUv3 without S2FWB be shared with a VM
(arm_smmu_get_viommu_size); the kernel takes the table for its ACPI_TABLE_UPGRADE because its OEM revision is newer.
"""

from __future__ import annotations

import gzip
import os
import stat
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

# IORT (Arm DEN 0049): where the node list starts, and the memory access properties of a PCI root complex node
NODES, ROOT_COMPLEX, NODE_HEADER = 36, 2, 16
RMR, NO_NODE = 6, 0x7F
CPM_DACS_CANWBS = 0b111
# ACPI table header
CHECKSUM, OEM_REVISION = 9, 24


def entry(number: int, name: str, mode: int, data: bytes = b"") -> bytes:
    """One file of a newc archive."""
    path = name.encode() + b"\0"
    words = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
    head = ("070701" + "".join(f"{word:08x}" for word in words)).encode() + path
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def entries(top: Path) -> Iterator[bytes]:
    """All files below ``top``, directories first, and the trailer."""
    number = 1
    for directory, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(directories + files):
            path = Path(directory, name)
            mode = path.lstat().st_mode
            data = os.readlink(path).encode() if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else b""
            number += 1
            yield entry(number, str(path.relative_to(top)), mode, data)
    yield entry(number + 1, "TRAILER!!!", 0)


def nodes(table: bytes) -> Iterator[tuple[int, int]]:
    """Type and place of each node of an IORT."""
    if table[:4] != b"IORT":
        raise SystemExit("initrd.py: not an IORT")
    count, offset = struct.unpack_from("<II", table, NODES)
    for _ in range(count):
        kind, length, _revision = struct.unpack_from("<BHB", table, offset)
        yield kind, offset
        offset += length


def with_canwbs(table: bytes) -> bytes:
    """An IORT with coherent, cached write-back accesses declared for every PCI root complex."""
    iort = bytearray(table)
    roots = [offset for kind, offset in nodes(table) if kind == ROOT_COMPLEX]
    if not roots:
        raise SystemExit("initrd.py: this IORT has no PCI root complex")
    for offset in roots:
        _coherent, hints, reserved, flags = struct.unpack_from("<IBHB", iort, offset + NODE_HEADER)
        struct.pack_into("<IBHB", iort, offset + NODE_HEADER, 1, hints, reserved, flags | CPM_DACS_CANWBS)
    return newer(iort)


def without_rmr(table: bytes) -> bytes:
    """An IORT that tells of no region that has to be mapped one to one."""
    iort = bytearray(table)
    found = [offset for kind, offset in nodes(table) if kind == RMR]
    if not found:
        raise SystemExit("initrd.py: this IORT has no RMR node")
    for offset in found:
        iort[offset] = NO_NODE
    return newer(iort)


def newer(iort: bytearray) -> bytes:
    """The table, in the next OEM revision: so the kernel takes it in the firmware's place."""
    struct.pack_into("<I", iort, OEM_REVISION, struct.unpack_from("<I", iort, OEM_REVISION)[0] + 1)
    iort[CHECKSUM] = 0
    iort[CHECKSUM] = -sum(iort) % 256
    return bytes(iort)


CHANGES = {"canwbs": with_canwbs, "without-rmr": without_rmr}


def main(arguments: list[str]) -> None:
    """Do what the module says."""
    match arguments:
        case ["pack", directory, out]:
            with gzip.open(out, "wb", 1) as file:
                file.writelines(entries(Path(directory)))
        case [("canwbs" | "without-rmr") as change, iort, initrd, out]:
            directories = [entry(n, name, stat.S_IFDIR | 0o755) for n, name in enumerate(("kernel", "kernel/firmware", "kernel/firmware/acpi"), 2)]
            upgrade = entry(5, "kernel/firmware/acpi/iort.aml", stat.S_IFREG | 0o644, CHANGES[change](Path(iort).read_bytes()))
            archive = b"".join(directories) + upgrade + entry(6, "TRAILER!!!", 0)
            # the next archive starts at a block of its own
            Path(out).write_bytes(archive + bytes(-len(archive) % 512) + Path(initrd).read_bytes())
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
