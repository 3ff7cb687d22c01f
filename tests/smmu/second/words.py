"""Bits of words, memory that has holes, and how a transaction ends."""

from __future__ import annotations

from dataclasses import dataclass, field

SIZES = (32, 36, 40, 42, 44, 48, 52, 52)
"""Address bits by the encoding of IDR5.OAS, CD.IPS and STE.S2PS; 56 bits need 128-bit descriptors."""


def bits(word: int, high: int, low: int | None = None) -> int:
    """Bits ``high`` to ``low`` of a word, or one bit."""
    low = high if low is None else low
    return word >> low & (1 << high - low + 1) - 1


@dataclass
class Memory:
    """64-bit words by address. What nobody wrote is zero in RAM; elsewhere a whole 4 KiB page answers when one word of it was written."""

    words: dict[int, int]
    ram: tuple[tuple[int, int], ...] = ((0x4000_0000, 0x1_0000_0000),)
    pages: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.pages = {address >> 12 for address in self.words}

    def read(self, address: int) -> int | None:
        """None where nothing answers: an external abort."""
        if address in self.words:
            return self.words[address]
        return 0 if address >> 12 in self.pages or any(start <= address < end for start, end in self.ram) else None

    def block(self, address: int, count: int) -> list[int] | None:
        """``count`` words, or None when one of them does not answer."""
        found = [self.read(address + 8 * index) for index in range(count)]
        return None if None in found else [word or 0 for word in found]


@dataclass(frozen=True)
class Access:
    """A transaction. ``ats`` is "", "request" or "translated"; ``write`` of a request is NW == 0."""

    sid: int
    iova: int
    write: bool
    ssid: int | None = None
    privileged: bool = False
    instruction: bool = False
    ats: str = ""
    incoming: str = "Normal-iWB-oWB-NSH"


class Ended(Exception):
    """An event: its number, and the fields that the number has. ``silent`` ends leave none."""

    def __init__(self, number: int, *, s2: bool = False, cls: str = "IN", ipa: int = 0, fetch: int = 0, ttrnw: bool = True) -> None:
        super().__init__(number)
        self.number, self.s2, self.cls, self.ipa, self.fetch, self.ttrnw = number, s2, cls, ipa, fetch, ttrnw


class Aborted(Exception):
    """An abort that never has a record."""


C_BAD_STREAMID, F_STE_FETCH, C_BAD_STE, F_BAD_ATS_TREQ, F_STREAM_DISABLED, F_TRANSL_FORBIDDEN = 2, 3, 4, 5, 6, 7
C_BAD_SUBSTREAMID, F_CD_FETCH, C_BAD_CD, F_WALK_EABT = 8, 9, 10, 11
F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION = 16, 17, 18, 19
