"""A paste is read in a short way where nothing is odd about it: dumps are packed, words looked at once. The long way says the same."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from wizard.base.errors import WizardError
from wizard.facts.paste import dumps, kinds, lspci
from wizard.facts.paste.text import plain

OTHERS = (
    "[    1.000000] pci 0000:01:00.0: [10de:2342] type 00 class 0x030200 PCIe Endpoint",
    "Nov 30 04:00:01 big kernel: pci 0000:01:00.0: Adding to iommu group 5",
    "00:00.0 Foo: bar kernel: x", "IOMMU Group 17:\n\t0000:01:00.0 VGA compatible controller [0300]: x [8086:1563]",
    "Slot:\t0000:05:00.0\nClass:\tBridge [0604]\nVendor:\tx [8086]\nDevice:\ty [1563]", "-[0000:00]-+-00.0-[01]----00.0  Intel",
    "> quoted", "```", '"a literal line",', "1: numbered", "2024-01-01 10:00:00 host stamped", "&gt; web", "\x1b[31mred\x1b[0m", "Gr\xfcn", "\xa0",
    "<capability type='pci'>", "/dts-v1/;\n/ { };", "root@h:~# lspci -xxxx", "Kernel driver in use: vfio-pci", "...", " ", "",
    "00: 11 22", "100: 00 00", "ff0: 00", "\x00", "    IORT @ 0x0000000000000000\n    0000: 49 4F 52 54  IORT",
)  # fmt: skip


def dump(chosen: random.Random) -> str:
    """A function as ``lspci -xxxx`` prints it (pciutils 3.14, lspci.c, show_hex_dump())."""
    data = bytearray(4096)
    data[:64] = bytes.fromhex("86806315060410000100000200000000") + bytes(48)
    for _ in range(chosen.choice((0, 3, 200))):
        data[chosen.randrange(0x40, chosen.choice((0x100, 0x200, 4096)))] = chosen.randrange(256)
    rows = [f"{at:02x}: {data[at : at + 16].hex(' ')}" for at in range(0, chosen.choice((256, 4096, 4096, 4096)), 16)]
    address = f"{chosen.randrange(2):04x}:{chosen.randrange(256):02x}:00.{chosen.randrange(8)}"
    return "\n".join([f"{address} Ethernet controller: Intel Corporation Ethernet Controller 10G X550T", *rows])


def damaged(text: str, chosen: random.Random) -> str:
    """The dump with a line too many, too few, or other than lspci prints it."""
    lines = text.split("\n")
    at = chosen.choice((0, 1, 2, len(lines) - 1, chosen.randrange(len(lines))))
    changes: tuple[Callable[[], object], ...] = (
        lambda: lines.insert(at, chosen.choice(OTHERS)),
        lambda: lines.append(chosen.choice(OTHERS)),
        lambda: lines.pop(at),
        lambda: lines.__setitem__(at, lines[at][: chosen.randrange(len(lines[at]) + 1)]),
        lambda: lines.__setitem__(at, lines[at] + chosen.choice((" ", "  |....|", "\r"))),
        lambda: lines.__setitem__(at, lines[at].upper()),
        lambda: lines.__setitem__(at, lines[at].replace("0", chosen.choice("1z:"), 1)),
        lambda: lines.insert(at, lines[at]),
    )
    chosen.choice(changes)()
    return "\n".join(lines)


def paste(chosen: random.Random) -> bytes:
    """A paste of a few dumps, whole ones and others, with anything between them."""
    parts: list[str] = []
    for _ in range(chosen.randrange(1, 5)):
        one = dump(chosen)
        parts += [chosen.choice((one, one, damaged(one, chosen), chosen.choice(OTHERS))), chosen.choice(("\n\n", "\n\n", "\n\n", "\n", "\n\n\n", ""))]
    text = "".join(parts)
    around = chosen.randrange(20)
    return (text if around > 1 else text.replace("\n", "\n> ") if around else text.replace("\n", "\r\n")).encode()


def read(data: bytes) -> object:
    try:
        return kinds.pieces_of(data, "paste")
    except WizardError as error:
        return error.what, error.fix


def test_packed_or_row_by_row_a_paste_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = random.Random(4711)
    packed = 0
    for _ in range(100):
        data = paste(chosen)
        monkeypatch.setattr(kinds, "text_of", dumps.text_of)
        short = read(data)
        packed += "\0" in dumps.text_of(data) and b"\0" not in data
        monkeypatch.setattr(kinds, "text_of", plain)
        assert read(data) == short, data
    assert 20 < packed < 100  # both ways were taken


def test_a_dump_is_held_whole() -> None:
    """What is packed is all that the rows said, the last byte as well."""
    rows = [f"{at:02x}: " + " ".join(f"{at // 16 + place & 0xFF:02x}" for place in range(16)) for at in range(0, 4096, 16)]
    text = dumps.text_of("\n".join(["0000:00:00.0 x", *rows, ""]).encode())
    assert text.count("\n") == 6
    assert dumps.unpacked(text, text) == bytes.fromhex("".join(row.partition(": ")[2] for row in rows))


WORDS = """0000:01:00.0 Ethernet controller [0200]: Intel Corporation Ethernet Controller X550 [8086:1563] (rev 01)
\tSubsystem: Intel Corporation Ethernet Converged Network Adapter [8086:0001]
\tControl: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx-
\tStatus: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-
\tNUMA node: 1
\tIOMMU group: 17
\tRegion 0: Memory at 1000000000 (64-bit, prefetchable) [size=128K]
\tRegion 3: Memory at 1000020000 (64-bit, prefetchable) [virtual] [size=16K]
\tCapabilities: [40] Power Management version 3
\t\tFlags: PMEClk- DSI- D1- D2- AuxCurrent=0mA PME(D0-,D1-,D2-,D3hot-,D3cold-)
\tKernel driver in use: vfio-pci"""
BELOW = (
    "...", "…", "\t[...]", "[....]", "<snip>", "\tCUT", "truncated ", "$ ls", "root@h:~# dmesg x", "\t# lspci", "\tcost $ 5", "\t\t# x y", " ",
    "\t", "x",
    "00:1f.0 ISA bridge [0601]: Intel [8086:1234] (rev 02)", "\t0000:00:1f.0 ISA bridge [0601]: Intel [8086:1234]", "\tKernel driver in use: a b",
    "Kernel driver in use: x ", "\tSubsystem: 1234:5678", "\tMemory at 1000 [virtual]", "00: 11 22", "\x0b", "\u2028", "\u017fnip",
)  # fmt: skip


def test_what_stands_below_a_function_is_read_the_same_at_a_glance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one look says that nothing odd stands below a function, no other is taken; with every look taken it says the same."""
    chosen = random.Random(815)
    glance = lspci._ODD
    short = 0
    for _ in range(150):
        paragraphs = []
        for _ in range(chosen.randrange(1, 4)):
            lines = WORDS.replace("0000:01", f"0000:{chosen.randrange(256):02x}").split("\n")
            for _ in range(chosen.choice((0, 0, 1, 2))):
                lines.insert(chosen.randrange(len(lines) + 1), chosen.choice(BELOW))
            paragraphs.append("\n".join(lines))
        text = chosen.choice(("\n\n", "\n\n", "\n", "\n\n\n")).join(paragraphs) + chosen.choice(("", "\n", "\n\n"))
        monkeypatch.setattr(lspci, "_ODD", glance)
        short += any(not glance.search(one) for one in paragraphs)
        first = lspci.read(text)
        monkeypatch.setattr(lspci, "_ODD", re.compile(""))
        assert lspci.read(text) == first, text
    assert 40 < short < 150  # both ways were taken
