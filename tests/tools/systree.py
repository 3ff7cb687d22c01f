"""Small trees of /sys and /proc as the kernel lays them out, for tests of who uses what."""

from __future__ import annotations

import os
from pathlib import Path

from wizard.facts.record import from_tree
from wizard.facts.source import open_tree

NVME, OTHER, NIC, PORT = "0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:03:00.1"


class Sys:
    """A tree that grows; paths are below sys/ unless they begin with another root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for address in (NVME, OTHER, NIC, PORT):
            self.file(f"devices/pci0000:00/{address}/vendor", "0x1af4")
            self.file(f"devices/pci0000:00/{address}/device", "0x1041")
            self.file(f"devices/pci0000:00/{address}/class", "0x020000")
            self.link(f"bus/pci/devices/{address}", f"devices/pci0000:00/{address}")

    def path(self, path: str) -> Path:
        found = self.root / (path if path.split("/")[0] in ("proc", "run", "etc") else f"sys/{path}")
        found.parent.mkdir(parents=True, exist_ok=True)
        return found

    def file(self, path: str, text: str) -> None:
        self.path(path).write_text(text + "\n")

    def link(self, path: str, target: str) -> None:
        place = self.path(path)
        place.symlink_to(os.path.relpath(self.root / "sys" / target, place.parent))

    def disk(self, name: str, place: str, *, holders: tuple[str, ...] = (), slaves: tuple[str, ...] = (), number: str = "259:0") -> None:
        """A block device at its place below /sys/devices, with its link in /sys/class/block."""
        self.file(f"devices/{place}/dev", number)
        for kind, names in (("holders", holders), ("slaves", slaves)):
            for other in names:
                self.path(f"devices/{place}/{kind}/{other}").symlink_to(f"../../{other}")
        self.link(f"class/block/{name}", f"devices/{place}")

    def mapped(self, name: str, mapper: str, slaves: tuple[str, ...], holders: tuple[str, ...] = ()) -> None:
        self.disk(name, f"virtual/block/{name}", slaves=slaves, holders=holders)
        self.file(f"devices/virtual/block/{name}/dm/name", mapper)

    def interface(self, name: str, place: str, *, lower: tuple[str, ...] = (), ports: tuple[str, ...] = (), master: str = "") -> None:
        self.file(f"devices/{place}/operstate", "up")
        for other in lower:
            self.path(f"devices/{place}/lower_{other}").symlink_to(f"../{other}")
        for other in ports:
            self.file(f"devices/{place}/brif/{other}/state", "3")
        if master:
            self.link(f"devices/{place}/master", f"devices/virtual/net/{master}")
        self.link(f"class/net/{name}", f"devices/{place}")

    def uses(self) -> set[tuple[str, str, str]]:
        """(function, kind, detail) of every use that is found in it."""
        return {(use.address, use.kind, use.detail) for use in from_tree(open_tree(str(self.root))).in_use}
