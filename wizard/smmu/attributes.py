"""Memory type and shareability on their way through the SMMU: IHI 0070 chapter 13, DDI 0487 D8.6.

Allocation and transient hints are not modelled; they never decide whether or where an access goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from msgspec import Struct


class Device(IntEnum):
    """Device types, strongest first."""

    nGnRnE = 0
    nGnRE = 1
    nGRE = 2
    GRE = 3


class Cache(IntEnum):
    """Cacheability, weakest first: combining takes the smaller."""

    NC = 1
    WT = 2
    WB = 3


class Share(IntEnum):
    """Shareability; the values are those of descriptor SH fields, 1 is reserved."""

    NSH = 0
    OSH = 2
    ISH = 3


@dataclass(frozen=True, slots=True)
class Attributes:
    """A memory type: Device, or Normal with inner and outer cacheability."""

    device: Device | None = None
    inner: Cache = Cache.WB
    outer: Cache = Cache.WB
    share: Share = Share.NSH

    def __str__(self) -> str:
        if self.device is not None:
            return f"Device-{self.device.name}"
        return f"Normal-i{self.inner.name}-o{self.outer.name}-{self.share.name}"

    @classmethod
    def parse(cls, text: str) -> Attributes:
        """The attributes that ``str`` writes so; ``ValueError`` for anything else."""
        known = _BY_NAME.get(text)
        if known is None:
            raise ValueError(f"{text!r} is no memory type: like {cls()} or Device-nGnRE")
        return known

    def consistent(self) -> Attributes:
        """Device and non-cacheable memory are outer shareable whatever was asked (IHI 0070 13.1.1, 13.1.7)."""
        if self.device is not None or (self.inner is Cache.NC and self.outer is Cache.NC):
            return Attributes(self.device, self.inner, self.outer, Share.OSH)
        return self


_BY_NAME = {
    str(one): one
    for one in (
        *(Attributes(device=device) for device in Device),
        *(Attributes(inner=inner, outer=outer, share=share) for inner in Cache for outer in Cache for share in Share),
    )
}

DEFAULT = Attributes()
"""What a transaction carries when the interconnect says nothing: Normal iWB-oWB, non-shareable (IHI 0070 13.1.3)."""


def share_of(code: int) -> Share:
    """A descriptor's SH field; the reserved value counts as non-shareable."""
    return Share(code) if code != 1 else Share.NSH


def from_mair(byte: int) -> Attributes:
    """One attribute byte of CD.MAIR, with the reserved encodings as IHI 0070 5.4 resolves them; shareability is set apart."""
    high, low = byte >> 4, byte & 0xF
    if high == 0:
        return Attributes(device=Device(low >> 2))
    return Attributes(inner=Cache.WT if low == 0 else _nibble(low), outer=_nibble(high))


def _nibble(bits: int) -> Cache:
    """A cacheability nibble of MAIR: 0b0100 non-cacheable, 0bx0RW write-through, 0bx1RW write-back."""
    if bits == 4:
        return Cache.NC
    return Cache.WB if bits & 4 else Cache.WT


def from_memattr(code: int) -> Attributes:
    """A stage 2 MemAttr[3:0] without S2FWB, also the encoding of STE.MemAttr; reserved values behave as Device-nGnRnE."""
    high, low = code >> 2, code & 3
    if high == 0:
        return Attributes(device=Device(low))
    if low == 0:
        return Attributes(device=Device.nGnRnE)
    return Attributes(inner=Cache(low), outer=Cache(high))


def is_device(memattr: int, fwb: bool) -> bool:
    """Whether a stage 2 MemAttr[3:0] gives a Device type, which S2PTW asks."""
    return not memattr & 4 if fwb else from_memattr(memattr).device is not None


def combine(first: Attributes, second: Attributes) -> Attributes:
    """Stage 1 (or input) with stage 2, S2FWB=0: the more restrictive of each."""
    share = _combine_share(first.share, second.share)
    if first.device is not None or second.device is not None:
        return Attributes(device=min(d for d in (first.device, second.device) if d is not None), share=share)
    return Attributes(inner=min(first.inner, second.inner), outer=min(first.outer, second.outer), share=share)


def combine_fwb(first: Attributes, memattr: int, share2: Share) -> Attributes:
    """Stage 1 (or input) with a stage 2 MemAttr under S2FWB=1: stage 2 can force Device, non-cacheable or write-back.

    DDI 0487 D8.6 and AArch64.S2ApplyFWBMemAttrs, in which the reserved 0b100 is as 0b101.
    """
    share = _combine_share(first.share, share2)
    if not memattr & 4:
        forced = Device(memattr & 3)
        return Attributes(device=forced if first.device is None else min(first.device, forced), share=share)
    if memattr & 3 == 2:
        return Attributes(share=share)
    if memattr & 3 != 3 and first.device is None:
        return Attributes(inner=Cache.NC, outer=Cache.NC, share=share)
    return Attributes(first.device, first.inner, first.outer, share)


def _combine_share(first: Share, second: Share) -> Share:
    if Share.OSH in (first, second):
        return Share.OSH
    return Share.ISH if Share.ISH in (first, second) else Share.NSH


@dataclass(frozen=True, slots=True)
class Override:
    """STE or GBPA override of the incoming type and shareability: None leaves it as it came (IHI 0070 13.1.4)."""

    memattr: int | None = None
    share: Share | None = None

    def apply(self, incoming: Attributes) -> Attributes:
        """The attributes that enter translation."""
        base = from_memattr(self.memattr) if self.memattr is not None else incoming
        return Attributes(base.device, base.inner, base.outer, incoming.share if self.share is None else self.share)


class Sources(Struct, frozen=True, gc=False):
    """All that decides the output attributes; evaluated only when asked, since most translations never ask.

    ``stage1`` is (MAIR byte, SH) and ``stage2`` (MemAttr, SH, S2FWB) of the leaf descriptors, None where the stage did not translate.
    """

    incoming: Attributes
    override: Override
    stage1: tuple[int, int] | None = None
    stage2: tuple[int, int, bool] | None = None

    def output(self) -> Attributes:
        """What goes out with the access."""
        current = self.override.apply(self.incoming)
        if self.stage1 is not None:
            base = from_mair(self.stage1[0])
            current = Attributes(base.device, base.inner, base.outer, share_of(self.stage1[1]))
        current = current.consistent()
        if self.stage2 is not None:
            memattr, share, fwb = self.stage2
            if fwb:
                current = combine_fwb(current, memattr, share_of(share))
            else:
                base = from_memattr(memattr)
                current = combine(current, Attributes(base.device, base.inner, base.outer, share_of(share)))
        return current.consistent()
