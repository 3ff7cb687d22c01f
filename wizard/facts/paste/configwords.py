"""Configuration space out of words: registers that lspci prints one by one, put back where they stand, with the ranges that are known so.

A capability that is only named stands in its list, without its registers. Where the words stop before the end of a list, the last pointer
leads to a place that nobody told, so that what is not in the list stays unknown. Offsets: PCIe 6.0, chapters 7 and 9.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from wizard.arch.pci import Cap, ExtCap

_UNTOLD = 0xFC
_UNTOLD_EXTENDED = 0xFFC
_SPEEDS = {"2.5": 1, "5": 2, "8": 3, "16": 4, "32": 5, "64": 6, "128": 8}
_TYPES = (
    ("Root Complex Integrated Endpoint", 0x9), ("Root Complex Event Collector", 0xA), ("Legacy Endpoint", 0x1), ("Endpoint", 0x0), ("Root Port", 0x4),
    ("Upstream Port", 0x5), ("Downstream Port", 0x6), ("PCI-Express to PCI/PCI-X Bridge", 0x7), ("PCI/PCI-X to PCI-Express Bridge", 0x8),
)  # fmt: skip


class Words:
    """Configuration space in the making: ``data`` and the ranges of it that are ``known``."""

    def __init__(self) -> None:
        self.data = bytearray(4096)
        self.known: list[tuple[int, int]] = []

    def put(self, offset: int, size: int, value: int) -> None:
        """A register that was told; what leaves configuration space was not."""
        if 0 <= offset <= 4096 - size:
            self.data[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            self.known.append((offset, offset + size))

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """What is known, joined."""
        joined: list[tuple[int, int]] = []
        for first, end in sorted(self.known):
            if joined and first <= joined[-1][1]:
                joined[-1] = joined[-1][0], max(joined[-1][1], end)
            else:
                joined.append((first, end))
        return tuple(joined)


def flag(text: str, name: str) -> int | None:
    """1 or 0 of ``Name+`` or ``Name-``; None where it is not there."""
    found = re.search(rf"(?<![\w>]){re.escape(name)}([+-])", text)
    return None if found is None else int(found[1] == "+")


def bits(text: str, names: dict[str, int]) -> int | None:
    """A register of flags; None where one of them is not there."""
    told = {bit: flag(text, name) for name, bit in names.items()}
    return None if None in told.values() else sum((value or 0) << bit for bit, value in told.items())


def number(text: str, pattern: str, base: int = 10) -> int | None:
    """The number in the pattern's one group."""
    found = re.search(pattern, text)
    return None if found is None else int(found[1], base)


def line(text: str, head: str) -> str:
    """The rest of the line that begins so, with the lines that go on behind it until the next such word; empty where it is not there."""
    found = re.search(rf"\b{re.escape(head)}:((?:.*\n?)(?:(?!\s*[A-Z]\w*:).*\n?)*)", text)
    return found[1] if found else ""


# --- standard capabilities ---------------------------------------------------------------------------------------------------------------


def _pm(words: Words, at: int, text: str) -> None:
    version, status = number(text, r"version (\d)"), line(text, "Status")
    state, kept = number(status, r"\bD([0-3])\b"), flag(status, "NoSoftRst")
    if None not in (version, state, kept, d1 := flag(text, "D1"), d2 := flag(text, "D2")):
        words.put(at + 2, 2, (version or 0) | (d1 or 0) << 9 | (d2 or 0) << 10)
        words.put(at + 4, 4, (state or 0) | (kept or 0) << 3)


def _msi(words: Words, at: int, text: str) -> None:
    counts, enable, wide, mask = re.search(r"Count=(\d+)/(\d+)", text), flag(text, "Enable"), flag(text, "64bit"), flag(text, "Maskable")
    if counts and enable is not None and wide is not None:
        used, able = int(counts[1]).bit_length() - 1, int(counts[2]).bit_length() - 1
        words.put(at + 2, 2, enable | (able & 7) << 1 | (used & 7) << 4 | wide << 7 | (mask or 0) << 8)
        words.put(at + 4, 6, 0)  # the message's address, which nobody reads


def _msix(words: Words, at: int, text: str) -> None:
    count, enable = number(text, r"Count=(\d+)"), flag(text, "Enable")
    table, pba = (re.search(rf"{name}: BAR=(\d) offset=([0-9a-f]{{1,8}})", text) for name in ("Vector table", "PBA"))
    if count and enable is not None and table and pba:
        words.put(at + 2, 2, enable << 15 | (flag(text, "Masked") or 0) << 14 | (count - 1) & 0x7FF)
        words.put(at + 4, 4, int(table[2], 16) | int(table[1]))
        words.put(at + 8, 4, int(pba[2], 16) | int(pba[1]))


def _express(words: Words, at: int, text: str) -> None:
    head = text.partition("\n")[0]
    kind = next((value for name, value in _TYPES if name in head), None)
    if kind is None:
        return
    version = number(head, r"\(v(\d)\)")
    words.put(at + 2, 2, (2 if version is None else version) | kind << 4 | (flag(head, "Slot") or 0) << 8)
    capable, control, status, link, at_link = (line(text, name) for name in ("DevCap", "DevCtl", "DevSta", "LnkCap", "LnkSta"))
    if not capable or not control or not status:
        return
    words.put(at + 4, 4, _size_code(capable, r"MaxPayload (\d+) bytes") | (flag(capable, "FLReset") or 0) << 28)
    words.put(at + 8, 2, _size_code(control, r"MaxPayload (\d+) bytes") << 5 | _size_code(control, r"MaxReadReq (\d+) bytes") << 12)
    words.put(at + 0xA, 2, (flag(status, "TransPend") or 0) << 5)
    words.put(at + 0xC, 4, _link(link) | (number(link, r"Port #(\d+)") or 0) << 24)
    words.put(at + 0x10, 2, 0)
    words.put(at + 0x12, 2, _link(at_link) | (flag(at_link, "DLActive") or 0) << 13)
    slot = line(text, "SltCap")
    words.put(at + 0x14, 4, (flag(slot, "Surprise") or 0) << 5 | (flag(slot, "HotPlug") or 0) << 6 | (number(slot, r"Slot #(\d+)") or 0) << 19)
    words.put(at + 0x1A, 2, (flag(line(text, "SltSta"), "PresDet") or 0) << 6)
    if able := line(text, "DevCap2"):
        words.put(at + 0x24, 4, (flag(able, "ARIFwd") or 0) << 5)
        words.put(at + 0x28, 2, (flag(line(text, "DevCtl2"), "ARIFwd") or 0) << 5)


def _size_code(text: str, pattern: str) -> int:
    found = number(text, pattern)
    return max((found or 128).bit_length() - 8, 0) & 7


def _link(text: str) -> int:
    speed, width = re.search(r"Speed ([\d.]+)GT/s", text), number(text, r"Width x(\d+)")
    return (_SPEEDS.get(speed[1], 0) if speed else 0) | ((width or 0) & 0x3F) << 4


def _af(words: Words, at: int, text: str) -> None:
    able = bits(line(text, "AFCap"), {"TP": 0, "FLR": 1})
    if able is not None:
        words.put(at + 2, 4, 6 | able << 8)


def _vendor(words: Words, at: int, text: str) -> None:
    length = number(text, r"Len=([0-9a-f]+)", 16)
    if length is not None:
        words.put(at + 2, 1, length)


_STANDARD: tuple[tuple[str, int, Callable[[Words, int, str], None] | None], ...] = (
    ("Power Management", Cap.PM, _pm), ("AGP3", 0x0E, None), ("AGP version", 0x02, None), ("Vital Product Data", 0x03, None), ("Slot ID", 0x04, None),
    ("MSI-X", Cap.MSIX, _msix), ("MSI", Cap.MSI, _msi), ("Message Signalled Interrupts", Cap.MSI, None), ("CompactPCI hot-swap", 0x06, None),
    ("PCI-X", 0x07, None), ("HyperTransport", 0x08, None), ("Vendor Specific Information", Cap.VENDOR, _vendor), ("Debug port", 0x0A, None),
    ("CompactPCI central", 0x0B, None), ("Hot-plug capable", 0x0C, None), ("Subsystem", Cap.SSVID, None), ("Secure device", 0x0F, None),
    ("Express", Cap.EXPRESS, _express), ("SATA HBA", 0x12, None), ("PCI Advanced Features", Cap.AF, _af), ("Enhanced Allocation", 0x14, None),
    ("Flattening Portal Bridge", 0x15, None), ("Null", 0, None),
)  # fmt: skip


# --- extended capabilities ---------------------------------------------------------------------------------------------------------------

_ACS = {"SrcValid": 0, "TransBlk": 1, "ReqRedir": 2, "CmpltRedir": 3, "UpstreamFwd": 4, "EgressCtrl": 5, "DirectTrans": 6}


def _acs(words: Words, at: int, text: str) -> None:
    able, on = bits(line(text, "ACSCap"), _ACS), bits(line(text, "ACSCtl"), _ACS)
    if able is not None and on is not None:
        words.put(at + 4, 2, able)
        words.put(at + 6, 2, on)


def _ats(words: Words, at: int, text: str) -> None:
    depth, on = number(text, r"Invalidate Queue Depth: ([0-9a-f]{2})", 16), flag(line(text, "ATSCtl"), "Enable")
    if depth is not None and on is not None:
        words.put(at + 4, 2, depth & 0x1F)
        words.put(at + 6, 2, on << 15 | (number(text, r"Smallest Translation Unit: ([0-9a-f]{2})", 16) or 0) & 0x1F)


def _pri(words: Words, at: int, text: str) -> None:
    capacity, allocated = (number(text, rf"Page Request {name}: ([0-9a-f]{{8}})", 16) for name in ("Capacity", "Allocation"))
    control, status = bits(line(text, "PRICtl"), {"Enable": 0, "Reset": 1}), bits(line(text, "PRISta"), {"RF": 0, "UPRGI": 1, "Stopped": 8})
    if None not in (capacity, allocated, control, status):
        words.put(at + 4, 2, control or 0)
        words.put(at + 6, 2, (status or 0) | (flag(line(text, "PRISta"), "PASID") or 0) << 15)
        words.put(at + 8, 4, capacity or 0)
        words.put(at + 12, 4, allocated or 0)


def _pasid(words: Words, at: int, text: str) -> None:
    able, width = bits(line(text, "PASIDCap"), {"Exec": 1, "Priv": 2}), number(text, r"Max PASID Width: ([0-9a-f]{2})", 16)
    on = bits(line(text, "PASIDCtl"), {"Enable": 0, "Exec": 1, "Priv": 2})
    if None not in (able, width, on):
        words.put(at + 4, 2, (able or 0) | ((width or 0) & 0x1F) << 8)
        words.put(at + 6, 2, on or 0)


def _ari(words: Words, at: int, text: str) -> None:
    following = number(text, r"Next Function: (\d+)")
    if following is not None:
        words.put(at + 4, 2, (bits(line(text, "ARICap"), {"MFVC": 0, "ACS": 1}) or 0) | (following & 0xFF) << 8)
        words.put(at + 6, 2, 0)


def _sriov(words: Words, at: int, text: str) -> None:
    control = bits(line(text, "IOVCtl"), {"Enable": 0, "Migration": 1, "Interrupt": 2, "MSE": 3, "ARIHierarchy": 4})
    counts = [number(text, rf"{name}: (\d+)") for name in ("Initial VFs", "Total VFs", "Number of VFs", "VF offset", "stride")]
    device, pages = (
        number(text, r"Device ID: ([0-9a-f]{4})", 16),
        re.search(r"Supported Page Size: ([0-9a-f]{8}), System Page Size: ([0-9a-f]{8})", text),
    )
    linked = number(text, r"Function Dependency Link: ([0-9a-f]{2})", 16)
    if control is None or None in counts or device is None or pages is None:
        return
    initial, total, made, offset, stride = (count or 0 for count in counts)
    words.put(at + 4, 4, 0)
    words.put(at + 8, 4, control)
    words.put(at + 0xC, 8, initial | total << 16 | made << 32 | (linked or 0) << 48)
    words.put(at + 0x14, 4, offset | stride << 16)
    words.put(at + 0x18, 4, device << 16)
    words.put(at + 0x1C, 8, int(pages[1], 16) | int(pages[2], 16) << 32)
    words.put(at + 0x24, 28, _vf_bars(text))


def _vf_bars(text: str) -> int:
    value = 0
    for index, place, wide, kind in re.findall(r"Region (\d): Memory at ([0-9a-f]{1,16}) \((\d\d)-bit, (non-)?prefetchable\)", text):
        if int(index) < 6:
            value |= (int(place, 16) & ~0xF | (4 if wide == "64" else 0) | (0 if kind else 8)) << 32 * int(index)
    return value & ((1 << 224) - 1)


def _vsec(words: Words, at: int, text: str) -> None:
    found = re.search(r"ID=([0-9a-f]{1,4}) Rev=(\d+) Len=([0-9a-f]+)", text)
    if found:
        words.put(at + 4, 4, int(found[1], 16) | (int(found[2]) & 0xF) << 16 | (int(found[3], 16) & 0xFFF) << 20)


def _dvsec(words: Words, at: int, text: str) -> None:
    found = re.search(r"Vendor=([0-9a-f]{4}) ID=([0-9a-f]{4}) Rev=(\d+) Len=(\d+)", text)
    if found:
        words.put(at + 4, 4, int(found[1], 16) | (int(found[3]) & 0xF) << 16 | (int(found[4]) & 0xFFF) << 20)
        words.put(at + 8, 2, int(found[2], 16))
        if (cache := flag(line(text, "CXLCap"), "Cache")) is not None:
            words.put(at + 0xA, 2, cache)


_EXTENDED: tuple[tuple[str, int, Callable[[Words, int, str], None] | None], ...] = (
    ("Advanced Error Reporting", ExtCap.AER, None), ("Virtual Channel", 0x02, None), ("Device Serial Number", ExtCap.DSN, None),
    ("Power Budgeting", 0x04, None), ("Root Complex Link", 0x05, None), ("Root Complex Internal Link", 0x06, None),
    ("Root Complex Event Collector", 0x07, None), ("Multi-Function Virtual Channel", 0x08, None), ("Root Complex Register Block", 0x0A, None),
    ("Vendor Specific Information", ExtCap.VSEC, _vsec), ("Access Control Services", ExtCap.ACS, _acs),
    ("Alternative Routing-ID", ExtCap.ARI, _ari), ("Address Translation Service", ExtCap.ATS, _ats),
    ("Single Root I/O Virtualization", ExtCap.SRIOV, _sriov), ("Multi-Root I/O Virtualization", 0x11, None), ("Multicast", 0x12, None),
    ("Page Request Interface", ExtCap.PRI, _pri), ("Physical Resizable BAR", ExtCap.REBAR, None), ("Resizable BAR", ExtCap.REBAR, None),
    ("Dynamic Power Allocation", 0x16, None), ("Transaction Processing Hints", ExtCap.TPH, None), ("Latency Tolerance Reporting", 0x18, None),
    ("Secondary PCI Express", 0x19, None), ("Protocol Multiplexing", 0x1A, None), ("Process Address Space ID", ExtCap.PASID, _pasid),
    ("LN Requester", 0x1C, None), ("Downstream Port Containment", ExtCap.DPC, None), ("L1 PM Substates", 0x1E, None),
    ("Precision Time Measurement", 0x1F, None), ("PCI Express over M_PHY", 0x20, None), ("FRS Queueing", 0x21, None),
    ("Readiness Time Reporting", 0x22, None), ("Designated Vendor-Specific", ExtCap.DVSEC, _dvsec), ("Virtual Resizable BAR", ExtCap.VF_REBAR, None),
    ("Data Link Feature", 0x25, None), ("Physical Layer 16.0 GT/s", 0x26, None), ("Lane Margining", 0x27, None), ("Hierarchy ID", 0x28, None),
    ("Native PCIe Enclosure Management", 0x29, None), ("Physical Layer 32.0 GT/s", 0x2A, None), ("Alternate Protocol", 0x2B, None),
    ("Data Object Exchange", 0x2E, None), ("Device 3", 0x2F, None), ("Integrity & Data Encryption", 0x30, None),
    ("Physical Layer 64.0 GT/s", 0x31, None), ("Null", 0, None),
)  # fmt: skip

_CAPABILITY = re.compile(
    r"^[ \t]*Capabilities: \[([0-9a-f]{2,3})(?: v(\d+))?\] ?(.*(?:\n(?![ \t]*(?:Capabilities|Kernel (?:driver|modules)):).*)*)", re.MULTILINE
)
_NUMBERED = re.compile(r"(?:Extended Capability ID|#) ?(?:0x)?([0-9a-f]{1,4})")


def capability_lists(words: Words, text: str, *, whole: bool) -> int:
    """Both lists out of ``Capabilities:`` lines; gives the length of configuration space that was read (64, 256 or 4096).

    ``whole``: nothing is missing at the end of the text.
    """
    if re.search(r"Capabilities: <access denied>", text):
        words.put(0x34, 1, _UNTOLD)
        return 64
    standard: list[tuple[int, int | None]] = []
    extended: list[tuple[int, int | None, int]] = []
    for match in _CAPABILITY.finditer(text):
        offset = int(match[1], 16)
        wide = offset >= 0x100
        number_, decode = _named(match[3], _EXTENDED if wide else _STANDARD)
        if offset & 3 or offset < 0x40:
            continue
        if wide:
            extended.append((offset, number_, int(match[2] or 1)))
        else:
            standard.append((offset, number_))
        if decode is not None:
            decode(words, offset, match[3])
    complete = whole and "<chain" not in text
    at, told = 0x34, all(number_ is not None for _, number_ in standard) and (complete or bool(extended))
    for offset, number_ in standard:
        words.put(at, 1, offset)
        words.put(offset, 1, 0 if number_ is None else number_)
        at = offset + 1
    words.put(at, 1, 0 if told else _UNTOLD)
    if not extended:
        return 256
    told = complete and all(number_ is not None for _, number_, _ in extended)
    chain = (*(offset for offset, _, _ in extended[1:]), 0 if told else _UNTOLD_EXTENDED)
    if extended[0][0] == 0x100:
        for (offset, number_, version), following in zip(extended, chain, strict=True):
            words.put(offset, 4, (number_ or 0) | (version & 0xF) << 16 | following << 20)
    return 4096


def _named(
    text: str, names: tuple[tuple[str, int, Callable[[Words, int, str], None] | None], ...]
) -> tuple[int | None, Callable[[Words, int, str], None] | None]:
    for name, value, decode in names:
        if text.startswith(name):
            return value, decode
    found = _NUMBERED.match(text)
    return (int(found[1], 16), None) if found else (None, None)
