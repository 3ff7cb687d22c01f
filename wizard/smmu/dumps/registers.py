"""Listings of an SMMU's registers: by name, by offset, or as devmem, U-Boot's md and QEMU's ``xp`` print them.

CR0 = 0xd                                        SMMU_STRTAB_BASE: 0x40100000
00000000090500000: 0x0d44101b 0x02730010         (xp /8wx 0x9050000)
Value at address 0x9050020 (0xffff…): 0xd        (devmem2)
# devmem 0x9050020 32                            and the value on the line after it
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wizard.arch.registers import PAGE_1, REGISTERS, at
from wizard.base.errors import InputError
from wizard.base.text import visible

LARGEST = 1 << 20
"""Bytes of a listing; both pages of an SMMU make 400 KiB of text at most."""

_NAMED = re.compile(r"^\W{0,8}(?:SMMU_)?([A-Z][A-Z0-9_]{1,40})(?:\+(0|4))?[\"']?[\s:=,]+[\"']?(0x[0-9a-f]{1,16}|0|[1-9][0-9]{0,19})\b", re.IGNORECASE)
_WORDS = re.compile(r"^\W{0,8}(?:0x)?([0-9a-f]{3,16})\s*[:=]\s*((?:(?:0x)?(?:[0-9a-f]{16}|[0-9a-f]{1,8})(?:\s+|$))+)", re.IGNORECASE)
_DEVMEM2 = re.compile(r"Value at address (0x[0-9a-f]{1,16})\b.{0,80}?:\s*(0x[0-9a-f]{1,16})\b", re.IGNORECASE)
_DEVMEM = re.compile(r"\bdevmem2?\s+(0x[0-9a-f]{1,16})(?:\s+(32|64|w|l))?\s*$", re.IGNORECASE)
_ALONE = re.compile(r"^\s*(0x[0-9a-f]{1,16})\s*$", re.IGNORECASE)
_SPAN = 2 * PAGE_1

_NEEDED = ("STRTAB_BASE", "STRTAB_BASE_CFG")
ASSUMED = {"IDR0": 0x0D44_101B, "IDR1": 0x0273_0010, "IDR3": 0x1414, "IDR5": 0x74, "AIDR": 1, "CR0": 0xD, "CR2": 0x2}
"""What is taken where a listing leaves it out: what QEMU 11's ``arm-smmuv3`` has and Linux writes. It is named as assumed."""


@dataclass(frozen=True, slots=True)
class Listed:
    """Registers by name without the SMMU_ prefix.

    ``assumed`` are those that the listing left out (``ASSUMED``), ``ignored`` counts what is no register known here.
    """

    values: dict[str, int]
    assumed: tuple[str, ...]
    ignored: int


def read_registers(text: str, name: str) -> Listed:
    """The registers in a listing; ``name`` is the file, for errors. ``InputError`` for contradictions, and where the stream table is not in it."""
    halves: dict[tuple[str, int], int] = {}
    words: list[tuple[int, int, int]] = []
    ignored = 0
    asked: tuple[int, int] | None = None

    def put(register: str, half: int, value: int) -> None:
        if halves.setdefault((register, half), value) != value:
            before = halves[register, half]
            raise InputError(f"{visible(name)} says {register} is {before:#x} and {value:#x}.", "Keep the values of one SMMU at one moment.")

    for line in text.splitlines():
        if asked is not None and (match := _ALONE.match(line)):
            words.append((asked[0], int(match[1], 16), asked[1]))
            asked = None
            continue
        asked = None
        if match := _DEVMEM2.search(line):
            words.append((int(match[1], 16), int(match[2], 16), 8 if len(match[2]) > 10 else 4))
        elif match := _DEVMEM.search(line):
            asked = int(match[1], 16), 8 if match[2] in ("64", "l") else 4
        elif match := _WORDS.match(line):
            where = int(match[1], 16)
            for word in match[2].split():
                digits = word.lower().removeprefix("0x")
                size = 8 if len(digits) > 8 else 4
                words.append((where, int(digits, 16), size))
                where += size
        elif match := _NAMED.match(line):
            register = match[1].upper()
            if (found := REGISTERS.get(register)) is None:
                ignored += 1
                continue
            value = int(match[3], 0)
            if value >> (32 if match[2] else 8 * found.size):
                raise InputError(f"{visible(name)}: {register} can't be {value:#x}.", f"It has {32 if match[2] else 8 * found.size} bits.")
            if match[2]:
                put(register, int(match[2]), value)
            else:
                for half in range(0, found.size, 4):
                    put(register, half, value >> 8 * half & 0xFFFF_FFFF)
    for where, value, size in _from_base(words, name):
        for half in range(0, size, 4):
            if (place := at(where + half)) is None or place[0] not in REGISTERS:
                ignored += 1
            else:
                put(*place, value >> 8 * half & 0xFFFF_FFFF)
    return _whole(halves, ignored, name)


def _from_base(words: list[tuple[int, int, int]], name: str) -> list[tuple[int, int, int]]:
    """The words by offset from page 0: they lie within two pages of 64 KiB, the first of which begins where the lowest address does."""
    if not words:
        return []
    base = min(where for where, _, _ in words) & -PAGE_1
    far = next((where for where, _, _ in words if where - base >= _SPAN), None)
    if far is not None:
        fix = "List the registers of one SMMU, its two pages of 64 KiB."
        raise InputError(f"{visible(name)} holds addresses from {base:#x} to {far:#x}, more than one SMMU has.", fix)
    return [(where - base, value, size) for where, value, size in words if not where & 3]


def _whole(halves: dict[tuple[str, int], int], ignored: int, name: str) -> Listed:
    values: dict[str, int] = {}
    for register, half in sorted(halves):
        found = REGISTERS[register]
        if any((register, byte) not in halves for byte in range(0, found.size, 4)):
            raise InputError(f"{visible(name)} has one half of {register} alone.", f"Read 8 bytes at offset {found.offset:#x}, or both words.")
        values[register] = values.get(register, 0) | halves[register, half] << 8 * half
    ids = [values[register] for register in ("IDR0", "IDR1", "IDR5") if register in values]
    if ids and not any(ids):
        # QEMU 11.1.2: xp reads 8 bytes at a time where it can, and 8 bytes over two registers of 4 are zero (smmuv3_read_mmio's smmu_readll).
        fix = "No SMMU has such. QEMU's xp reads them word by word alone (xp /1wx for each); others read zeros without power or clock."
        raise InputError(f"The ID registers in {visible(name)} are all zero.", fix)
    if "CR0" not in values and "CR0ACK" in values:
        values["CR0"] = values["CR0ACK"]
    for needed in _NEEDED:
        if needed not in values:
            fix = f"It is at offset {REGISTERS[needed].offset:#x}; lines like {needed} = 0x40100000, devmem's and QEMU's xp are understood."
            raise InputError(f"{visible(name)} does not say {needed}.", fix)
    assumed = tuple(register for register in ASSUMED if register not in values)
    return Listed({**ASSUMED, **values}, assumed, ignored)
