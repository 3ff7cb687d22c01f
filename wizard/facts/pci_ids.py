"""Names of PCI ids out of the machine's own pci.ids (pciutils' database): the fallback where udev's hwdb can't be asked.

The file is searched for the ids that are wanted, never parsed as a whole: a host has a few dozen of its 40,000.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import msgspec

from wizard.facts.model import PciFunction

PATHS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids", "/usr/share/pci.ids", "/var/lib/pciutils/pci.ids")


class PciIds:
    """The text of one pci.ids; every lookup gives None for an id that it does not name."""

    def __init__(self, text: bytes) -> None:
        # Entries are found by the line break before them; the first line has none of its own.
        self._text = b"\n" + text + b"\n"
        self._named: tuple[tuple[bytes, bytes], ...] | None = None

    @classmethod
    def of_machine(cls) -> PciIds:
        """The database of the machine that this runs on; one without any entry where there is none."""
        for path in PATHS:
            try:
                with open(path, "rb") as file:
                    return cls(file.read())
            except OSError:
                continue
        return cls(b"")

    def vendor(self, vendor: int) -> str | None:
        """Name of a 16-bit vendor id."""
        return self._entry(b"\n%04x  " % vendor)[0]

    def device(self, vendor: int, device: int) -> str | None:
        """Name of a vendor's device."""
        return self._below(b"\n%04x  " % vendor, b"\n\t%04x  " % device)

    def class_(self, class_code: int) -> str | None:
        """Name of a 24-bit class code: its subclass, else its base class."""
        base, sub, _ = class_code.to_bytes(3, "big")
        return self._below(b"\nC %02x  " % base, b"\n\t%02x  " % sub) or self._entry(b"\nC %02x  " % base)[0]

    def class_named(self, name: str) -> str | None:
        """Class and subclass, four hexadecimal digits, of a subclass's name; None where none or several have it."""
        at = self._text.find(b"\nC ")
        wanted = b"  " + name.encode() + b"\n"
        found = []
        for piece in self._text[at:].split(b"\nC ")[1:] if at >= 0 else ():
            found += [piece[:2] + line[1:3] for line in piece.split(b"\n") if line[:1] == b"\t" and line[1:2] != b"\t" and line[3:] + b"\n" == wanted]
        return found[0].decode() if len(set(found)) == 1 else None

    def ids_named(self, name: str) -> tuple[str, str] | None:
        """(vendor, device), four hexadecimal digits each, of "Vendor Device" as lspci writes it; None where that is not one device."""
        text = name.encode()
        found = set()
        for vendor, known in self._vendors():
            if not text.startswith(known + b" "):
                continue
            rest = text[len(known) + 1 :]
            if rest[:7] == b"Device " and len(rest) == 11:  # one that pci.ids had no name for
                found.add((vendor.decode(), rest[7:].decode()))
                continue
            _, start, end = self._entry(b"\n" + vendor + b"  ")
            at = self._text.find(b"  " + rest + b"\n", start, end + 1)
            while at >= 0:
                if self._text[at - 5 : at - 4] == b"\t" and self._text[at - 6 : at - 5] == b"\n":
                    found.add((vendor.decode(), self._text[at - 4 : at].decode()))
                at = self._text.find(b"  " + rest + b"\n", at + 1, end + 1)
        if len(found) != 1:
            return None
        vendor_id, device = found.pop()
        return (vendor_id, device) if all(len(one) == 4 and set(one) <= set("0123456789abcdef") for one in (vendor_id, device)) else None

    def _vendors(self) -> Iterable[tuple[bytes, bytes]]:
        if self._named is None:
            lines = (line for line in self._text.split(b"\n") if line[4:6] == b"  " and line[:1] not in (b"\t", b"C", b"#"))
            self._named = tuple((line[:4], line[6:]) for line in lines)
        return self._named

    def _entry(self, start: bytes) -> tuple[str | None, int, int]:
        # (name, where its children begin, where they end): children are the lines after it that a tab begins.
        at = self._text.find(start)
        if at < 0:
            return None, 0, 0
        line = self._text.find(b"\n", at + 1)
        end = line
        while self._text[end + 1 : end + 2] in (b"\t", b"#"):
            end = self._text.find(b"\n", end + 1)
        return self._text[at + len(start) : line].decode(errors="replace"), line, end + 1

    def _below(self, parent: bytes, child: bytes) -> str | None:
        _, start, end = self._entry(parent)
        at = self._text.find(child, start, end)
        return None if at < 0 else self._text[at + len(child) : self._text.find(b"\n", at + 1)].decode(errors="replace")


def named(functions: Iterable[PciFunction], ids: PciIds | None = None) -> tuple[PciFunction, ...]:
    """The functions with the names that they lack; ids that are no hexadecimal numbers stay without."""
    ids = ids or PciIds.of_machine()

    @cache
    def names(vendor: str, device: str, class_: str) -> tuple[str | None, str | None, str | None]:
        try:
            v, d, c = int(vendor, 16), int(device, 16), int(class_, 16)
            return ids.vendor(v), ids.device(v, d), ids.class_(c)
        except (ValueError, OverflowError):
            return None, None, None

    found = []
    for function in functions:
        vendor, device, class_ = names(function.vendor, function.device, function.class_)
        found.append(
            msgspec.structs.replace(
                function,
                vendor_name=function.vendor_name or vendor,
                device_name=function.device_name or device,
                class_name=function.class_name or class_,
            )
        )
    return tuple(found)
