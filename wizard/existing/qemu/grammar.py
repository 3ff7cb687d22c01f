"""What QEMU takes on its command line, by its own word (``scripts/qemu-grammar`` asked it): options, keys, properties.

A word that QEMU does not know is named in QEMU's own words. Of a QEMU that is newer than this table the word may be right, so the table's version
is always said.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

import msgspec

# Older spellings that QEMU still takes, and that -drive's own table does not list (drive_new() of blockdev.c).
_LEGACY = {
    "drive": {"readonly", "cache", "bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr", "bps_max", "bps_rd_max", "bps_wr_max", "iops_max",
              "iops_rd_max", "iops_wr_max", "iops_size", "group", "id", "read-only", "locking", "filename", "werror", "rerror"},
    "chardev": {"id", "reconnect", "ipv4", "ipv6"},
    "mon": {"id"},
}  # fmt: skip
_NIC = {"model", "mac", "macaddr", "addr", "vectors", "id", "netdev", "name"}
_GROUP_OF = {"m": "memory", "smp": "smp-opts", "boot": "boot-opts"}
_FREE = frozenset(("smbios", "set", "compat", "plugin", "audiodev", "audio", "display", "spice", "tpmdev", "d", "trace", "vnc", "iscsi", "accel"))
"""Options whose keys QEMU does not tell: they are not looked at."""


class Grammar(msgspec.Struct, frozen=True):
    """The table, as the file holds it."""

    version: str
    options: dict[str, bool]  # whether a value follows
    groups: dict[str, list[str]]
    unions: dict[str, tuple[list[str], dict[str, list[str]]]]
    machine: list[str]
    cpu: list[str]
    common: dict[str, list[str]]
    devices: dict[str, tuple[str, int]]  # the bus that it sits on, the place of its properties in sets
    aliases: dict[str, str]
    sets: list[list[str]]


@cache
def grammar() -> Grammar:
    """The table of the newest QEMU that was asked."""
    return msgspec.json.decode(resources.files("wizard.existing.qemu").joinpath("grammar.json").read_bytes(), type=Grammar)


def newer(version: str | None) -> bool:
    """Whether a QEMU, as a log names it, is of a later release than the one that was asked."""

    def release(text: str) -> list[int]:
        return [int(part) for part in text.split(".")[:2] if part.isdecimal() and len(part) < 5]

    return version is not None and release(version) > release(grammar().version)


def takes_value(option: str) -> bool | None:
    """Whether a value follows an option; None for one that QEMU does not know."""
    return grammar().options.get(option)


def driver_of(name: str) -> str:
    """The device's own name: ``virtio-net`` is ``virtio-net-pci`` here."""
    return grammar().aliases.get(name, name)


def bus_of(driver: str) -> str | None:
    """``PCI``, ``System``, ``virtio-bus`` …, empty for none; None for a device that QEMU does not have."""
    found = grammar().devices.get(driver)
    return found[0] if found else None


def properties(driver: str) -> frozenset[str] | None:
    """Every property of a device, None for one that QEMU does not have."""
    table = grammar()
    found = table.devices.get(driver)
    if found is None:
        return None
    return frozenset((*table.common.get(found[0], ()), *table.sets[found[1]], "id", "bus", "driver"))


def keys(option: str, kind: str | None = None) -> frozenset[str] | None:
    """The keys of an option, of its ``kind`` where it is a union (-netdev user); None where QEMU does not tell them."""
    table = grammar()
    if option in _FREE:
        return None
    if option == "machine":
        return frozenset((*table.machine, "type", "accel", "kernel-irqchip", "kernel_irqchip", "kvm-shadow-mem", "pflash0", "pflash1", "firmware"))
    if option == "cpu":
        return frozenset((*table.cpu, "model", "pmu", "migratable"))
    if option in ("nic", "net"):
        every = [key for branch in table.unions["netdev"][1].values() for key in branch]
        return frozenset((*every, *_NIC, "type"))
    if option in table.unions:
        common, branches = table.unions[option]
        return frozenset((*common, *branches[kind])) if kind in branches else None
    group = table.groups.get(_GROUP_OF.get(option, option))
    return frozenset((*group, *_LEGACY.get(option, ()))) if group is not None else None


def kinds(option: str) -> frozenset[str]:
    """The branches of an option that is a union."""
    return frozenset(grammar().unions[option][1]) if option in grammar().unions else frozenset()


def meant(name: str, known: Any) -> str | None:
    """The nearest of the words that exist: case and hyphens aside first."""
    every = sorted(known)
    plain = {"".join(c for c in one.lower() if c.isalnum()): one for one in every}
    same = plain.get("".join(c for c in name.lower() if c.isalnum()))
    return same or next(iter(get_close_matches(name, every, 1)), None)
