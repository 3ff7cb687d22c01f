"""What of a function's configuration space may be told.

Registers that a public specification defines stay. Not told: the serial number (its pseudonym takes its place), what is left in the data
register of Vital Product Data, and what a vendor put where the specifications leave the contents to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from wizard.arch.pci import USER_READABLE, Cap, ExtCap
from wizard.arch.pci_caps import DvsecHeader1, VendorSpecific, VsecHeader
from wizard.facts.capabilities import EXTENDED, capabilities
from wizard.facts.identifying import serial
from wizard.facts.pseudonym import Pseudonyms, group

_CXL = 0x1E98  # DVSECs of the CXL consortium are public (CXL 3.1, 8.1)
# So are virtio's capabilities (VIRTIO 1.2, 4.1.4) and the reserves of QEMU's bridges (docs/pcie_pci_bridge.txt).
_PUBLIC = frozenset((0x1AF4, 0x1B36))
_SHORTEST = 6  # bytes of a text that is looked for
_TEXT = re.compile(rb"(?=[ -~]{0,256}?[A-Za-z])(?=[ -~]{0,256}?[0-9])[0-9A-Za-z][0-9A-Za-z ._:/-]{6,}[0-9A-Za-z]")
"""Eight and more characters in a row with letters and digits among them: no register looks so, a part number or serial number does."""


def _marks(letters: Iterable[int]) -> bytes:
    """A table for ``translate`` that makes one letter of all of these and zero of the rest: what has too few in a row is told apart by that alone."""
    found = set(letters)
    return bytes(_MARK[0] if byte in found else 0 for byte in range(256))


_MARK = b"a"
_LETTERS = _marks(byte for byte in range(256) if re.match(rb"[0-9A-Za-z ._:/-]", bytes((byte,))))
_IN_A_ROW = _MARK * 8  # the shortest that _TEXT finds
_SERIAL = EXTENDED + ExtCap.DSN
_OWN = frozenset((int(Cap.VPD), int(Cap.VENDOR), _SERIAL, EXTENDED + ExtCap.VSEC, EXTENDED + ExtCap.DVSEC))
"""Capabilities that hold what need not be told."""


class Known:
    """Texts that may stand anywhere in the bytes, found in a time that does not grow with their number: a big host has thousands."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self.forms = tuple(sorted(set(forms)))
        self._begins: dict[bytes, list[bytes]] = {}
        for form in self.forms:
            if len(form) < _SHORTEST or 0 in form:
                raise ValueError(f"{form!r} is too short to be looked for, or holds what blanks are made of")
            self._begins.setdefault(form[:_SHORTEST], []).append(form)
        letters = b"".join(self.forms)
        self._letters = _marks(letters)
        self._run = re.compile(b"[" + re.escape(bytes(sorted(set(letters)))) + b"]{%d,}" % _SHORTEST) if letters else None

    def within(self, data: bytes | bytearray, start: int) -> list[bytes]:
        """Those that stand there from ``start`` on, in their order."""
        if self._run is None or _MARK * _SHORTEST not in data[start:].translate(self._letters):
            return []
        found: set[bytes] = set()
        for run in self._run.finditer(data, start):
            for at in range(run.start(), run.end() - _SHORTEST + 1):
                found.update(form for form in self._begins.get(bytes(data[at : at + _SHORTEST]), ()) if data.startswith(form, at))
        return sorted(found)


def told(config: str, given: Pseudonyms, serials: Known) -> str:
    """The bytes (hexadecimal) that can be given away; ``serials`` are known to be somewhere, as text."""
    data = bytearray.fromhex(config)
    for number, offset in capabilities(bytes(data)):
        if number not in _OWN:
            continue
        if number == Cap.VPD:  # its data register holds four bytes of a serial number, when it was the last that was read (7.9.18)
            _blank(data, offset + 2, offset + 8)
        elif number == _SERIAL:
            # An EUI-64 as two little-endian words, low first; people and sysfs write it high byte first (7.9.3).
            data.extend(bytes(max(0, offset + 12 - len(data))))
            number_told = bytes(data[offset + 4 : offset + 12])
            if any(number_told):
                text = group(number_told[::-1].hex(), "-")
                data[offset + 4 : offset + 12] = bytes.fromhex(serial(text, given).replace("-", ""))[::-1]
        else:
            _blank(data, *_vendors_own(bytes(data), number, offset))
    for known in serials.within(data, USER_READABLE):
        at = data.find(known, USER_READABLE)
        while at >= 0:
            _blank(data, at, at + len(known))
            at = data.find(known, at + len(known))
    if _IN_A_ROW in data[USER_READABLE:].translate(_LETTERS):
        for match in list(_TEXT.finditer(bytes(data), USER_READABLE)):
            if not _is_pseudonym(bytes(data), *match.span()):
                _blank(data, *match.span())
    return bytes(data).rstrip(b"\0").hex()


def numbers_in(config: str) -> Iterator[str]:
    """The serial numbers that the bytes hold: ``aa-bb-cc-dd-ee-ff-00-11``."""
    data = bytes.fromhex(config)
    for number, offset in capabilities(data):
        if number == _SERIAL and any(found := data[offset + 4 : offset + 12].ljust(8, b"\0")):
            yield group(found[::-1].hex(), "-")


def _vendors_own(data: bytes, number: int, offset: int) -> tuple[int, int]:
    """Where the vendor's own bytes of a capability begin and end; nothing of one that is public."""
    if number == Cap.VENDOR and int.from_bytes(data[:2], "little") not in _PUBLIC:  # 7.9.4
        return offset + 3, offset + max(VendorSpecific.read(data, offset).LENGTH, 3)
    if number == EXTENDED + ExtCap.VSEC:  # 7.9.5
        return offset + 8, offset + max(VsecHeader.read(data, offset).LENGTH, 8)
    if number == EXTENDED + ExtCap.DVSEC:  # 7.9.6
        header = DvsecHeader1.read(data, offset)
        return (0, 0) if header.VENDOR == _CXL else (offset + 10, offset + max(header.LENGTH, 10))
    return 0, 0


def _is_pseudonym(data: bytes, start: int, end: int) -> bool:
    # Eight bytes of an HMAC can look like text: they are no vendor's.
    return any(number == _SERIAL and start < offset + 12 and end > offset + 4 for number, offset in capabilities(data))


def _blank(data: bytearray, start: int, end: int) -> None:
    end = min(end, len(data))
    if start < end:
        data[start:end] = bytes(end - start)
