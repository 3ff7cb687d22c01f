"""Configuration lookup: from a StreamID and SubstreamID to what translates them. IHI 0070 3.3, 3.4.3, 5.1 to 5.4, 7.3."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from wizard.arch.cd import CD, CD_BYTES, L1CD, L1CD_BYTES
from wizard.arch.event import EventType, FaultClass
from wizard.arch.registers import TableFormat
from wizard.arch.ste import L1STD, L1STD_BYTES, STE, STE_BYTES, StreamConfig
from wizard.smmu.context import Context, Stage2
from wizard.smmu.outcome import Fault
from wizard.smmu.permissions import PR
from wizard.smmu.registers import Registers
from wizard.smmu.stages import Stages
from wizard.smmu.trace import Trace, told
from wizard.smmu.validity import NOT_VALID, World, stage1_on, stage2_on, world
from wizard.smmu.worked import Worked

Contents = MutableMapping[int, Any]

SPLITS = (6, 8, 10)
"""STRTAB_BASE_CFG.SPLIT; other values behave as 6 (IHI 0070 6.3.25)."""


@dataclass(slots=True)
class ConfigurationCache:
    """Cached structures, by StreamID and below it by table index or SubstreamID: STEs, CDs, level 1 descriptors, and contexts worked out of them."""

    stes: dict[int, STE] = field(default_factory=dict)
    cds: dict[int, dict[int, CD]] = field(default_factory=dict)
    l1stds: dict[int, L1STD] = field(default_factory=dict)
    l1cds: dict[int, dict[int, L1CD]] = field(default_factory=dict)
    contexts: dict[int, dict[int | None, Context]] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget everything."""
        for held in (self.stes, self.cds, self.l1stds, self.l1cds, self.contexts):
            held.clear()

    def drop_ste(self, low: int, high: int, *, level1: bool, split: int) -> None:
        """Forget the entries of StreamIDs ``low`` to ``high`` and the CDs reached through them; with ``level1`` their L1STDs too."""
        _drop(self.stes, low, high)
        if level1:
            _drop(self.l1stds, low >> split, high >> split)
        self.drop_cds(low, high)

    def drop_cds(self, low: int, high: int) -> None:
        """Forget every CD and L1CD of StreamIDs ``low`` to ``high``."""
        for held in (self.cds, self.l1cds, self.contexts):
            _drop(held, low, high)

    def drop_cd(self, sid: int, index: int, *, level1: bool) -> None:
        """Forget one CD; with ``level1`` the L1CDs that lead to it too."""
        self.cds.get(sid, {}).pop(index, None)
        if level1:
            for shift in (6, 10):
                self.l1cds.get(sid, {}).pop(index >> shift << shift, None)
        self.contexts.pop(sid, None)


def _drop(cached: Contents, low: int, high: int) -> None:
    """Remove the keys from ``low`` to ``high``, by whichever is fewer."""
    if high - low < len(cached):
        for key in range(low, high + 1):
            cached.pop(key, None)
    else:
        for key in [key for key in cached if low <= key <= high]:
            del cached[key]


class Configuration:
    """Looks up contexts; ``cache`` None fetches every structure anew."""

    __slots__ = ("cache", "features", "registers", "stages", "worked")

    def __init__(self, registers: Registers, stages: Stages, cache: ConfigurationCache | None) -> None:
        self.registers, self.features, self.stages, self.cache = registers, registers.features, stages, cache
        self.worked = Worked(registers.features)

    @property
    def split(self) -> int:
        """log2 of the StreamIDs of one level 1 descriptor."""
        split = self.registers.strtab_base_cfg.SPLIT
        return split if split in SPLITS else 6

    def context(self, sid: int, ssid: int | None, trace: Trace | None) -> Context:
        """The context of a transaction; ``Fault`` where configuration forbids it, its ``kind`` None for a silent abort."""
        cache = self.cache
        if cache is not None and (known := cache.contexts.get(sid)) is not None and (found := known.get(ssid)) is not None:
            if trace is not None:
                trace.add("config", f"configuration of stream {sid:#x} is cached")
            return found
        ste = self.ste(sid, trace)
        try:
            context = self._context(sid, ssid, ste, trace)
        except Fault as fault:
            fault.ste = ste
            raise
        if cache is not None:
            cache.contexts.setdefault(sid, {})[ssid] = context
        return context

    # -- stream table -------------------------------------------------------------------------------------------------

    def ste(self, sid: int, trace: Trace | None) -> STE:
        """The legal STE of ``sid``."""
        ste = self.cache.stes.get(sid) if self.cache is not None else None
        if ste is None:
            where = self._ste_address(sid, trace)
            words = self._fetch(where, STE_BYTES, EventType.F_STE_FETCH, "stream table entry")
            ste = self.worked.ste(words)
            if trace is not None:
                trace.add("ste", f"stream table entry of StreamID {sid:#x}", where, tuple(words), **told(ste, "V", "Config"))
            if self.cache is not None:
                self.cache.stes[sid] = ste
        elif trace is not None:
            trace.add("ste", f"stream table entry of StreamID {sid:#x} is cached", None, (), V=ste.V, Config=ste.Config)
        why = self.worked.ste_illegal(ste)
        if why is not None:
            raise Fault(EventType.C_BAD_STE, f"stream table entry is ILLEGAL: {why}", ste=ste if ste.V else None)
        return ste

    def _ste_address(self, sid: int, trace: Trace | None) -> int:
        config, base = self.registers.strtab_base_cfg, self.registers.strtab_base.ADDR
        size = min(config.LOG2SIZE, 32)
        if sid >> size:
            raise Fault(EventType.C_BAD_STREAMID, f"StreamID {sid:#x} is beyond the stream table's 2^{size} entries")
        if config.FMT != TableFormat.TWO_LEVEL or not self.features.st_level:
            return (base & -(STE_BYTES << size)) + sid * STE_BYTES
        split = self.split
        index = sid >> split
        l1std = self.cache.l1stds.get(index) if self.cache is not None else None
        if l1std is None:
            where = (base & -max(64, L1STD_BYTES << max(0, size - split))) + index * L1STD_BYTES
            l1std = L1STD(self._fetch(where, L1STD_BYTES, EventType.F_STE_FETCH, "level 1 stream table descriptor")[0])
            if trace is not None:
                trace.add("l1std", f"level 1 stream table descriptor {index}", where, l1std.words, **told(l1std, "Span"))
            if self.cache is not None:
                self.cache.l1stds[index] = l1std
        span = l1std.Span
        within = sid & (1 << split) - 1
        if span == 0 or span > 11 or span > split + 1:
            raise Fault(EventType.C_BAD_STREAMID, f"level 1 descriptor of StreamID {sid:#x} has Span {span}: its StreamIDs are invalid")
        if within >> (span - 1):
            raise Fault(EventType.C_BAD_STREAMID, f"StreamID {sid:#x} is beyond the 2^{span - 1} entries of its level 2 array")
        return (l1std.L2Ptr & -(STE_BYTES << (span - 1))) + within * STE_BYTES

    def _fetch(self, where: int, size: int, kind: EventType, what: str) -> list[int]:
        words = None if where >> self.features.oas else self.stages.memory.read_words(where, size // 8)
        if words is None:
            # FetchAddr is RES0 above OAS (7.3.4, 7.3.10).
            raise Fault(kind, f"nothing answers at {where:#x}, the {what}", address=where & (1 << self.features.oas) - 1)
        return words

    def stage2_context(self, ste: STE) -> Context:
        """A context of stage 2 alone, for translated traffic of split-stage ATS."""
        return self.worked.context(ste, None, self._world(ste), skip_stage1=True)

    # -- context descriptors ------------------------------------------------------------------------------------------

    def _context(self, sid: int, ssid: int | None, ste: STE, trace: Trace | None) -> Context:
        if ste.Config < StreamConfig.BYPASS:
            raise Fault(None, "STE.Config aborts the stream's transactions")
        stream_world = self._world(ste)
        index, skip = self.substream(ste, ssid)
        cd = self._cd(sid, index, ste, stream_world, trace) if index is not None else None
        return self.worked.context(ste, cd, stream_world, skip_stage1=skip)

    def _world(self, ste: STE) -> World:
        return world(ste, self.features, bool(self.registers.cr2.E2H))

    def substream(self, ste: STE, ssid: int | None) -> tuple[int | None, bool]:
        """Which CD a transaction uses, and whether S1DSS makes it skip stage 1 (IHI 0070 5.2, S1CDMax and S1DSS)."""
        if not stage1_on(ste):
            if ssid is not None:
                raise Fault(EventType.C_BAD_SUBSTREAMID, "a SubstreamID came with a stream whose stage 1 is off")
            return None, False
        largest = ste.S1CDMax if self.features.ssidsize else 0
        if ssid is not None:
            if largest == 0:
                raise Fault(EventType.C_BAD_SUBSTREAMID, "a SubstreamID came with a stream without substreams (S1CDMax 0)")
            if ssid >> largest:
                raise Fault(EventType.C_BAD_SUBSTREAMID, f"SubstreamID {ssid:#x} is beyond 2^S1CDMax = 2^{largest}")
            if ssid == 0 and ste.S1DSS == 2:
                raise Fault(EventType.F_STREAM_DISABLED, "SubstreamID 0 is set aside for transactions without one (S1DSS 2)")
            return ssid, False
        if largest == 0 or ste.S1DSS == 2:
            return 0, False
        if ste.S1DSS == 1:
            return None, True
        raise Fault(EventType.F_STREAM_DISABLED, "transactions without SubstreamID are disabled (S1DSS 0)")

    def _cd(self, sid: int, index: int, ste: STE, stream_world: World, trace: Trace | None) -> CD:
        cd = self.cache.cds.get(sid, {}).get(index) if self.cache is not None else None
        if cd is None:
            stage2 = self.worked.stage2(ste) if stage2_on(ste) else None
            where = self._cd_address(sid, index, ste, stage2, trace)
            pa, words = self._fetch_cd(where, CD_BYTES, stage2, "context descriptor", trace)
            cd = self.worked.cd(words)
            if trace is not None:
                trace.add("cd", f"context descriptor {index}", pa, tuple(words), **told(cd, "V"))
            if self.cache is not None:
                self.cache.cds.setdefault(sid, {})[index] = cd
        elif trace is not None:
            trace.add("cd", f"context descriptor {index} is cached", None, (), V=cd.V, ASID=cd.ASID)
        why = self.worked.cd_illegal(cd, ste, stream_world)
        if why is not None:
            raise Fault(EventType.C_BAD_CD, f"context descriptor is ILLEGAL: {why}")
        return cd

    def _cd_address(self, sid: int, index: int, ste: STE, stage2: Stage2 | None, trace: Trace | None) -> int:
        largest = ste.S1CDMax if self.features.ssidsize else 0
        if largest == 0:
            return ste.S1ContextPtr
        if ste.S1Fmt not in (1, 2):
            return (ste.S1ContextPtr & -(CD_BYTES << largest)) + index * CD_BYTES
        leaf = 6 if ste.S1Fmt == 1 else 10
        first = index >> leaf << leaf
        l1cd = self.cache.l1cds.get(sid, {}).get(first) if self.cache is not None else None
        if l1cd is None:
            where = (ste.S1ContextPtr & -max(64, L1CD_BYTES << max(0, largest - leaf))) + (index >> leaf) * L1CD_BYTES
            pa, words = self._fetch_cd(where, L1CD_BYTES, stage2, "level 1 context descriptor", trace)
            l1cd = L1CD(words[0])
            if trace is not None:
                trace.add("l1cd", f"level 1 context descriptor {index >> leaf}", pa, l1cd.words, **told(l1cd, "V"))
            if self.cache is not None:
                self.cache.l1cds.setdefault(sid, {})[first] = l1cd
        if not l1cd.V:
            raise Fault(EventType.C_BAD_SUBSTREAMID, f"level 1 context descriptor {index >> leaf}: {NOT_VALID}")
        if l1cd.L2Ptr >> self.features.oas:
            raise Fault(EventType.C_BAD_SUBSTREAMID, f"level 1 context descriptor {index >> leaf} points to {l1cd.L2Ptr:#x}, beyond the address size")
        return (l1cd.L2Ptr & -(CD_BYTES << leaf)) + (index & (1 << leaf) - 1) * CD_BYTES

    def _fetch_cd(self, where: int, size: int, stage2: Stage2 | None, what: str, trace: Trace | None) -> tuple[int, list[int]]:
        pa = where if stage2 is None else self.stages.stage2(stage2, where, PR, FaultClass.CD, trace).output
        return pa, self._fetch(pa, size, EventType.F_CD_FETCH, what)
