"""Memory types as strings like ``Normal-iWB-oNC-ISH`` and ``Device-nGnRE``: IHI 0070 chapter 13, DDI 0487 D8.6."""

from __future__ import annotations

from dataclasses import dataclass

from tests.smmu.second.words import bits

DEVICES = ("nGnRnE", "nGnRE", "nGRE", "GRE")
CACHES = ("", "NC", "WT", "WB")
SHARES = {0: "NSH", 1: "NSH", 2: "OSH", 3: "ISH"}


@dataclass(frozen=True)
class Kind:
    """``device`` is an index of DEVICES, or None; ``inner`` and ``outer`` are indices of CACHES."""

    device: int | None
    inner: int = 0
    outer: int = 0
    share: str = "NSH"

    def settled(self) -> Kind:
        """Device and iNC-oNC are outer shareable, whatever was asked for (13.1.7)."""
        if self.device is not None or (self.inner, self.outer) == (1, 1):
            return Kind(self.device, self.inner, self.outer, "OSH")
        return self

    def __str__(self) -> str:
        if self.device is not None:
            return f"Device-{DEVICES[self.device]}"
        return f"Normal-i{CACHES[self.inner]}-o{CACHES[self.outer]}-{self.share}"


def named(text: str) -> Kind:
    """What ``str`` wrote."""
    if text.startswith("Device-"):
        return Kind(DEVICES.index(text[7:]))
    _, inner, outer, share = text.split("-")
    return Kind(None, CACHES.index(inner[1:]), CACHES.index(outer[1:]), share)


def of_mair(byte: int, share: int) -> Kind:
    """Stage 1: the byte of CD.MAIR that AttrIndx selects, and SH. Encodings that are reserved are not asked for."""
    if byte < 16:
        return Kind(byte >> 2, share=SHARES[share])

    def cache(nibble: int) -> int:
        if nibble == 4:
            return 1
        return 3 if nibble & 4 else 2  # 0bx1RW is write-back, 0bx0RW write-through

    return Kind(None, cache(byte & 15), cache(byte >> 4), SHARES[share])


def of_memattr(code: int, share: str) -> Kind:
    """Stage 2 MemAttr[3:0] without S2FWB, and STE.MemAttr and GBPA.MemAttr; 0b0100, 0b1000 and 0b1100 are Device-nGnRnE."""
    if code < 4:
        return Kind(code, share=share)
    return Kind(None, code & 3, code >> 2, share) if code & 3 else Kind(0, share=share)


def overridden(incoming: Kind, mtcfg: int, memattr: int, shcfg: int, has_override: bool) -> Kind:
    """What enters translation, or passes where there is none: STE or GBPA MTCFG, MemAttr, SHCFG (13.1.4)."""
    if not has_override:
        return incoming
    base = of_memattr(memattr, incoming.share) if mtcfg else incoming
    share = incoming.share if shcfg == 1 else SHARES[shcfg]
    return Kind(base.device, base.inner, base.outer, share)


def wider(first: str, second: str) -> str:
    return max(first, second, key=("NSH", "ISH", "OSH").index)


def combined(first: Kind, descriptor: int, fwb: bool) -> Kind:
    """Stage 1's result, or what came in, with a stage 2 leaf (AArch64.S2CombineS1MemAttrs, AArch64.S2ApplyFWBMemAttrs)."""
    first = first.settled()
    code, share = bits(descriptor, 5, 2), wider(first.share, SHARES[bits(descriptor, 9, 8)])
    if not fwb:
        second = of_memattr(code, share)
        devices = [kind.device for kind in (first, second) if kind.device is not None]
        if devices:
            return Kind(min(devices), share=share).settled()
        return Kind(None, min(first.inner, second.inner), min(first.outer, second.outer), share).settled()
    if not code & 4:
        return Kind(code & 3 if first.device is None else min(first.device, code & 3), share=share).settled()
    if code & 3 == 3:
        return Kind(first.device, first.inner, first.outer, share).settled()
    if code & 3 == 2:
        return Kind(None, 3, 3, share).settled()
    return Kind(None, 1, 1, share).settled() if first.device is None else first


def is_device(descriptor: int, fwb: bool) -> bool:
    """Whether stage 2 alone says Device, which STE.S2PTW asks."""
    code = bits(descriptor, 5, 2)
    return not code & 4 if fwb else of_memattr(code, "NSH").device is not None
