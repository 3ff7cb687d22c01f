"""Pseudonyms: what stands in a redacted snapshot in place of a serial number, an address or a name.

A pseudonym is HMAC-SHA256 under the host's machine-id (32 hexadecimal digits as /etc/machine-id has them, as text),
taken over the value as text, cut to what its place holds. The machine-id itself is in no snapshot. Without one, values
are numbered as they come: nothing can be guessed then, and nothing compared with another record either.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import msgspec

from wizard.facts.cmdline import INTERFACE, MARK, words_of
from wizard.facts.tree import Tree

HOST = "smmu-wizard host"  # the value whose pseudonym is the host's identity
MACHINE = "smmu-wizard machine"  # the first word of the value whose pseudonym is the hardware's

_MACHINE_ID = re.compile(r"[0-9a-f]{32}")
# Words that kernel logs and command lines are made of: a host of that name gives nothing away, and its log stays readable.
_COMMON = frozenset(
    (
        *("localhost", "localdomain", "none", "root", "host", "linux", "debian", "ubuntu", "fedora", "arm", "arm64", "aarch64", "smmu", "pci"),
        *("pcie", "acpi", "iort", "kernel", "dev", "mapper", "boot", "virt", "vm", "qemu", "kvm", "node", "server", "admin", "user", "home"),
        *("iommu", "vfio", "usb", "net", "nvme", "disk", "data", "system", "test", "console", "quiet", "swap", "var", "tmp", "opt", "srv", "luks"),
        *("adding", "group", "groups", "event", "events", "feature", "features", "mask", "option", "options", "allocated", "entries", "stream"),
        *("domain", "domains", "mapped", "proximity", "default", "policy", "translated", "translation", "strict", "lazy", "passthrough", "already"),
        *("tree", "probe", "failed", "register", "aliasing", "found", "companion", "device", "devices", "driver", "configuration", "version"),
        *("command", "line", "table", "bus", "resource", "bridge", "memory", "mem", "irq", "queue", "error", "unexpected", "timeout", "overflow"),
        *("received", "bit", "pages", "msi", "redacted", "serial", "ip", "dir", "instance", "iqn", "nqn", "value", "name", "number", "address"),
        *("interface", "type", "size", "base", "lvroot", "rootfs", "rootvg", "rpool", "bpool", "control", "off", "on", "any", "dhcp", "dhcp6"),
        *("iscsi", "nfs", "zfs"),
    )
)


class Secrets(msgspec.Struct, frozen=True):
    """What must not be told, and the key of its pseudonyms (None: there is no machine-id)."""

    key: bytes | None = None
    hosts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    serials: tuple[str, ...] = ()  # of the board and the disks
    macs: tuple[str, ...] = ()  # of the interfaces: aa:bb:cc:dd:ee:ff
    disks: tuple[str, ...] = ()  # what volumes, groups, pools and file systems are called
    interfaces: tuple[str, ...] = ()  # network interfaces that somebody named


def key_of(tree: Tree) -> bytes | None:
    """The machine-id of the host that a tree belongs to, as text."""
    machine_id = tree.text("etc/machine-id") or tree.text("var/lib/dbus/machine-id") or ""
    return machine_id.encode() if _MACHINE_ID.fullmatch(machine_id) else None


def secrets_of(tree: Tree, *, live: bool = False) -> Secrets:
    """Machine-id, names, users, parts of the host that a tree belongs to; ``live`` asks the running system too."""
    hosts = {tree.text("etc/hostname"), tree.text("proc/sys/kernel/hostname"), tree.text("hostname")}
    words = (tree.text("uname") or tree.text("sos_commands/kernel/uname_-a") or "").split()
    hosts.add(words[1] if len(words) > 2 and words[0] == "Linux" else None)
    users: set[str | None] = set()
    for line in (tree.text("etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdecimal() and 1000 <= int(fields[2]) < 65534:
            users.add(fields[0])
    if live:
        hosts.add(os.uname().nodename)
        users |= {os.environ.get(name) for name in ("USER", "LOGNAME", "SUDO_USER")}
    options = tuple(words_of(tree.text("proc/cmdline") or ""))
    hosts |= set(_hosts_of(options))
    whole = {name for name in hosts if name}
    return Secrets(
        key=key_of(tree),
        hosts=telling(whole | {name.split(".")[0] for name in whole}),
        users=telling({name for name in users if name}),
        serials=tuple(sorted({text for text in _numbers(tree) if _tells(text)})),
        macs=tuple(sorted({text.lower() for text in _below(tree, "net", ("address",)) if text.strip("0:")})),
        disks=telling({name for name in (*_volumes(tree), *_volumes_of(options)) if len(name) > 2 and re.search("[A-Za-z]", name)}),
        interfaces=telling({name for name in tree.names("sys/class/net") if not INTERFACE.fullmatch(name)}),
    )


def _hosts_of(options: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """Names of this host on its command line: they may stand in its log too."""
    for name, value in options:
        if name in ("hostname", "systemd.hostname") and value:
            yield value
        elif name == "ip" and value:  # <client>:<server>:<gateway>:<netmask>:<hostname>:… (nfsroot.rst), IPv6 addresses in brackets
            fields = re.sub(r"\[[^\]]*\]", "", value).split(":")
            if len(fields) > 4 and not fields[4].isdecimal():
                yield fields[4]


def _volumes_of(options: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """Names of LUKS mappings, LVM groups and volumes and ZFS pools on the command line: details of mounts call them by these."""
    for name, value in options:
        parts = re.split("[=:/]", value or "")
        if name in ("rd.luks.name", "luks.name"):  # UUID=NAME
            yield from parts[1:2]
        elif name == "cryptdevice":  # DEVICE:NAME[:OPTIONS]; a device may be UUID=…
            yield from (value or "").split(":")[1:2]
        elif name in ("rd.lvm.lv", "rd.lvm.vg", "rd.lvm.snapshot", "zfs", "bootfs"):  # GROUP/VOLUME, POOL/DATASET
            yield from parts
        elif name in ("root", "resume") and parts[0] in ("ZFS", "zfs"):
            yield from parts[1:]
        elif name in ("root", "resume") and (found := re.match(r"/dev/(?:mapper/(.+)|([^/]+)/([^/]+))$", value or "")) and found[2] != "disk":
            yield from (part for part in found.groups() if part)


def _volumes(tree: Tree) -> Iterator[str]:
    """What /sys and /proc call volumes, groups and pools."""
    for device in tree.names("sys/class/block"):
        place = tree.link(f"sys/class/block/{device}") or f"sys/class/block/{device}"
        if device.startswith("dm-") and (mapped := tree.text(f"{place}/dm/name")):
            # GROUP-VOLUME, with the hyphens of either doubled.
            yield mapped
            yield from (part.replace("\0", "-") for part in mapped.replace("--", "\0").split("-"))
    for pool in tree.names("proc/spl/kstat/zfs"):
        if tree.names(f"proc/spl/kstat/zfs/{pool}"):
            yield pool
    for uuid in tree.names("sys/fs/btrfs"):
        yield tree.text(f"sys/fs/btrfs/{uuid}/label") or ""


def _numbers(tree: Tree) -> Iterator[str]:
    """The serial numbers that /sys knows of the board and of disks."""
    board = tree.link("sys/class/dmi/id") or "sys/class/dmi/id"
    for name in tree.names(board):
        if name.endswith(("_serial", "_uuid", "_asset_tag")):
            yield tree.text(f"{board}/{name}") or ""
    yield from _below(tree, "block", ("serial", "device/serial", "wwid", "uuid", "nguid", "eui"))
    yield from _below(tree, "nvme", ("serial",))


def _below(tree: Tree, kind: str, names: tuple[str, ...]) -> Iterator[str]:
    for device in tree.names(f"sys/class/{kind}"):
        place = tree.link(f"sys/class/{kind}/{device}") or f"sys/class/{kind}/{device}"
        for name in names:
            yield tree.text(f"{place}/{name}") or ""


_UUIDS_OF_MANY = ("03000200-0400-0500-0006-000700080009", "00020003-0004-0005-0006-000700080009")  # AMI's firmware, where nobody set one


def _tells(number: str) -> bool:
    # Firmware that has no serial number writes "To be filled by O.E.M.", "0123456789", "None": none of them tells anything.
    return 6 <= len(number) <= 128 and len(set(number)) > 3 and any(map(str.isdigit, number)) and number not in "01234567890123456789"


def telling(names: set[str]) -> tuple[str, ...]:
    """The names of a host that are no words of every host's log; the longest first, so that a whole name goes before its first part."""
    return tuple(sorted((name for name in names if len(name) > 1 and name.lower() not in _COMMON), key=lambda name: (-len(name), name)))


class Pseudonyms:
    """Gives each value its pseudonym, always the same, and counts what it has given by kind."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._numbers: dict[str, int] = {}
        self.given: dict[str, set[str]] = {}

    def digits(self, kind: str, value: str) -> str:
        """64 hexadecimal digits that stand for ``value``; ``kind`` says what it is ("MAC address")."""
        self.given.setdefault(kind, set()).add(value)
        if self._key is None:
            number = self._numbers.setdefault(value, len(self._numbers) + 1)
            import hashlib

            return hashlib.sha256(f"number {number}".encode()).hexdigest()
        return _hmac(self._key, value)

    def hide(self, kind: str, value: str) -> str:
        """``redacted``: for what is short enough to be guessed from digits by whoever knows the key. It counts as given."""
        self.given.setdefault(kind, set()).add(value)
        return MARK

    def report(self) -> tuple[str, ...]:
        """What was given, for people: ``("1 host name", "2 MAC addresses")``."""
        return tuple(f"{len(values)} {kind if len(values) == 1 else _PLURALS.get(kind, kind + 's')}" for kind, values in sorted(self.given.items()))


COMMAND_LINE = "value of the command line"
_PLURALS = {"MAC address": "MAC addresses", "IP address": "IP addresses", COMMAND_LINE: "values of the command line", "directory": "directories"}


def host_pseudonym(key: bytes) -> str:
    """The name that stands for a host: the same in each of its snapshots, profiles and scripts."""
    return "host-" + _hmac(key, HOST)[:16]


def machine_pseudonym(key: bytes, numbers: Iterable[str]) -> str | None:
    """The name that stands for the hardware, of what its firmware calls it; None where that is what every board says, or nothing."""
    telling_ones = sorted({number for number in numbers if _tells(number) and number.lower() not in _UUIDS_OF_MANY})
    return "machine-" + _hmac(key, " ".join((MACHINE, *telling_ones)))[:16] if telling_ones else None


def _hmac(key: bytes, value: str) -> str:
    import hmac  # loads OpenSSL, which most commands have no need of

    return hmac.new(key, value.encode(errors="surrogatepass"), "sha256").hexdigest()


def group(digits: str, separator: str, size: int = 2) -> str:
    """``aabbcc`` as ``aa-bb-cc``."""
    return separator.join([digits[i : i + size] for i in range(0, len(digits), size)])
