"""What the firmware's MADT says of interrupts: the GIC's version, its translation services (ITS) and MSI frames (GICv2m)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wizard.arch.madt import SIGNATURE, TABLE_SIZE, Distributor, MadtType, MsiFrame, Translator


class Gic(msgspec.Struct, frozen=True):
    """The interrupt controller. ``version`` is None where the table names none; ``its`` are (identifier, base) pairs, ``frames`` bases of GICv2m."""

    version: int | None
    its: tuple[tuple[int, int], ...]
    frames: tuple[int, ...]
    whole: bool  # the table was understood to its end, so that its silence says something too

    @property
    def words(self) -> str:
        """``GICv3, ITS 0 at 0x8080000``."""
        version = "a GIC" if self.version is None else f"GICv{self.version}"
        found = [version, *(f"ITS {number} at {base:#x}" for number, base in self.its), *(f"GICv2m frame at {base:#x}" for base in self.frames)]
        return ", ".join([*found, *(() if self.its or not self.whole else ("no ITS",))])


def decode_madt(table: str | None) -> Gic | None:
    """The table out of its hex digits; None where there is none, it is no MADT of arm64, or it is cut before its first structure."""
    try:
        data = bytes.fromhex(table or "")
    except ValueError:
        return None
    if data[:4] != SIGNATURE or len(data) < TABLE_SIZE:
        return None
    length = int.from_bytes(data[4:8], "little")
    versions, its, frames, seen, end = set(), [], [], False, TABLE_SIZE
    for kind, body in _structures(data[: max(length, TABLE_SIZE)]):
        end += len(body)
        seen = seen or kind in (MadtType.GICC, MadtType.GICD)
        if kind == MadtType.GICD and len(body) >= 24:
            versions.add(Distributor.of_bytes(body).VERSION)
        elif kind == MadtType.ITS and len(body) >= 20:
            its.append((Translator.of_bytes(body).ID, Translator.of_bytes(body).BASE))
        elif kind == MadtType.MSI_FRAME and len(body) >= 24:
            frames.append(MsiFrame.of_bytes(body).BASE)
    if not seen:
        return None
    known = versions - {0}
    return Gic(known.pop() if len(known) == 1 else None, tuple(its), tuple(frames), whole=end == length == len(data))


def _structures(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = TABLE_SIZE
    while at + 2 <= len(data) and data[at + 1] >= 2 and at + data[at + 1] <= len(data):
        yield data[at], data[at : at + data[at + 1]]
        at += data[at + 1]
