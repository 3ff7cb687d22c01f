"""A transaction from its arrival to its end: IHI 0070 3.9, 3.11, 3.12, 3.13, 7.3, 13, and chapter 15's order.

Where the architecture leaves a choice it takes that of docs/smmu.md: a leaf is updated when both stages have granted the access, and
translated traffic above OAS is aborted.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.smmu.second import attributes, config, tables
from tests.smmu.second.attributes import Kind
from tests.smmu.second.config import Context, Registers, Ste
from tests.smmu.second.tables import Allowed, Leaf, Stage
from tests.smmu.second.words import (
    C_BAD_STREAMID,
    C_BAD_SUBSTREAMID,
    F_ACCESS,
    F_ADDR_SIZE,
    F_BAD_ATS_TREQ,
    F_CD_FETCH,
    F_PERMISSION,
    F_STE_FETCH,
    F_STREAM_DISABLED,
    F_TRANSL_FORBIDDEN,
    F_TRANSLATION,
    F_WALK_EABT,
    Aborted,
    Access,
    Ended,
    Memory,
    bits,
)

TRANSLATION_FAULTS = (F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION)


@dataclass
class Found:
    """A translation: where it leads, how far, what is allowed, and the leaves that brought it."""

    output: int
    ipa: int
    span: int
    first: Leaf | None
    second: Leaf | None
    stage1: Stage | None
    allowed1: Allowed
    allowed2: Allowed


ALL = Allowed(True, True, True)


@dataclass
class Second:
    """The second SMMU. ``memory`` changes only by hardware update. ``stalled`` counts the stalls that are held."""

    registers: Registers
    memory: Memory
    stalled: int = 0
    ste: Ste | None = field(default=None, init=False)
    cd: Context | None = field(default=None, init=False)

    def answer(self, access: Access) -> dict[str, Any]:
        """What becomes of a transaction, in the words of the case format; records as their four dwords in ``raw``."""
        self.ste = self.cd = None
        access = self.presented(access)
        try:
            return self.procedure(access)
        except Aborted:
            if access.ats == "request":
                return {"ats": {"status": "UR"}}
            return {"fault": None}
        except Ended as end:
            return self.report(access, end)

    def presented(self, access: Access) -> Access:
        """What PCIe can carry: 3.9.1.3 (no PASID on translated traffic), 13.7 (no Exe and Priv without a PASID); writes are data."""
        if access.ats == "translated":
            access = replace(access, ssid=None, privileged=False, instruction=False)
        elif access.ats == "request" and access.ssid is None:
            access = replace(access, privileged=False, instruction=False)
        return access

    # -- configuration ------------------------------------------------------------------------------------------------

    def procedure(self, access: Access) -> dict[str, Any]:
        registers = self.registers
        if not bits(registers.cr0, 0):
            return self.disabled(access)
        atschk = bits(registers.cr0, 4) and registers.has_ats
        if access.ats == "translated" and not atschk:
            if access.iova >> registers.oas:
                raise Aborted("an address above OAS")
            return self.passed(access, access.iova, "bypass")
        ste = self.ste = config.stream_entry(registers, self.memory, access.sid)
        eats = ste.eats if registers.has_ats and ste.config != 4 else 0
        eats = 0 if eats == 3 or (eats == 2 and not atschk) else eats
        if access.ats and not eats:
            raise Ended(F_BAD_ATS_TREQ if access.ats == "request" else F_TRANSL_FORBIDDEN)
        if access.ats == "translated":
            return self.translated(access, ste, eats)
        index = config.substream(registers, ste, access.ssid)
        if index is not None:
            self.cd = config.context(registers, self.memory, ste, index, lambda at: self.located(ste, at, "CD"))
        if index is None and access.iova >> registers.oas:
            raise Ended(F_ADDR_SIZE)
        if access.ats == "request":
            return self.request(access, ste, eats)
        if index is None and not ste.second:
            return self.passed(access, access.iova, "bypass")
        found = self.translate(access, ste)
        return self.passed(access, found.output, "success", found)

    def disabled(self, access: Access) -> dict[str, Any]:
        """SMMUEN is 0: 3.9.1.2, 3.9.1.3, 3.11, 6.3.14."""
        if access.ats:
            raise Ended(F_BAD_ATS_TREQ if access.ats == "request" else F_TRANSL_FORBIDDEN)
        if bits(self.registers.gbpa, 20) or access.iova >> self.registers.oas:
            raise Aborted("GBPA.ABORT, or an address that is too large")
        return self.passed(access, access.iova, "disable")

    def overrides(self, access: Access, ste: Ste | None) -> tuple[bool, bool]:
        """Privileged and instruction after the overrides (STE or GBPA; 13.1.4), IDR1.ATTR_PERMS_OVR permitting."""
        if ste is None or not bits(self.registers.idr1, 26):
            return access.privileged, access.instruction and not access.write
        privcfg, instcfg = ste.at(1, 49, 48), ste.at(1, 51, 50)
        privileged = privcfg == 3 if privcfg & 2 else access.privileged
        instruction = instcfg == 3 if instcfg & 2 else access.instruction
        return privileged, instruction and not access.write

    def entering(self, access: Access) -> Kind:
        """Memory type and shareability before translation; no override reaches translated traffic (table 13.5)."""
        has_override, incoming = bool(bits(self.registers.idr1, 27)), attributes.named(access.incoming)
        if access.ats == "translated":
            return incoming
        if self.ste is None:
            gbpa = self.registers.gbpa
            return attributes.overridden(incoming, bits(gbpa, 4), bits(gbpa, 3, 0), bits(gbpa, 13, 12), has_override)
        return attributes.overridden(incoming, self.ste.at(1, 36), self.ste.at(1, 35, 32), self.ste.at(1, 45, 44), has_override)

    def passed(self, access: Access, output: int, how: str, found: Found | None = None) -> dict[str, Any]:
        kind = self.entering(access)
        if found is not None and found.first is not None:
            assert self.cd is not None
            word = found.first.descriptor
            kind = attributes.of_mair(self.cd.words[3] >> 8 * bits(word, 4, 2) & 0xFF, bits(word, 9, 8))
        kind = kind.settled()
        if found is not None and found.second is not None:
            assert self.ste is not None
            kind = attributes.combined(kind, found.second.descriptor, self.fwb)
        answer: dict[str, Any] = {"ok": True, "pa": output, "how": how, "attributes": str(kind)}
        if found is not None:
            answer["size"] = 1 << found.span
        return answer

    @property
    def fwb(self) -> bool:
        assert self.ste is not None
        return bool(bits(self.registers.idr3, 8) and self.ste.at(1, 25))

    # -- translation --------------------------------------------------------------------------------------------------

    def located(self, ste: Ste, address: int, cls: str, *, write: bool = False) -> int:
        """Where the SMMU's own access to a CD or to a stage 1 descriptor goes: stage 2, as a data access (3.3.2, 7.3.16)."""
        if not ste.second:
            return address
        stage = config.second_stage(self.registers, ste)
        assert stage is not None
        leaf = self.stage2(stage, address, cls)
        allowed = tables.second_allows(stage, leaf, privileged=False, xnx=self.xnx)
        protected = ste.at(2, 54) and attributes.is_device(leaf.descriptor, self.fwb)
        if protected or not (allowed.write if write else allowed.read):
            raise Ended(F_PERMISSION, s2=True, cls=cls, ipa=address, ttrnw=not write)
        tables.updated(stage, self.memory, leaf, write)
        return leaf.output | address & (1 << stage.shift(leaf.level)) - 1

    def stage2(self, stage: Stage, ipa: int, cls: str) -> Leaf:
        if ipa >> stage.input_bits:
            raise Ended(F_TRANSLATION, s2=True, cls=cls, ipa=ipa)
        try:
            return tables.walk(stage, self.memory, ipa, lambda at: at, cls)
        except Ended as end:
            end.ipa = ipa
            raise

    @property
    def xnx(self) -> bool:
        return bool(bits(self.registers.idr3, 4))

    def translate(self, access: Access, ste: Ste) -> Found:
        """An ordinary transaction: both stages, permissions, hardware update."""
        privileged, instruction = self.overrides(access, ste)
        found = self.first(access, privileged, instruction)
        if not granted(found.allowed1, access.write, instruction):
            raise Ended(F_PERMISSION)
        self.may_update(found, ste, access.write)
        if ste.second:
            self.second(found, ste, privileged)
            if not granted(found.allowed2, access.write, instruction):
                raise Ended(F_PERMISSION, s2=True, ipa=found.ipa)
        self.update(found, ste, access.write)
        return found

    def first(self, access: Access, privileged: bool, instruction: bool) -> Found:
        """Stage 1's part, or the address as it is where stage 1 is bypassed."""
        ste, cd, iova = self.ste, self.cd, access.iova
        assert ste is not None
        if cd is None:
            return Found(iova, iova, 64, None, None, None, ALL, ALL)
        registers, only_el2 = self.registers, config.world2(self.registers, ste)
        half = 0 if only_el2 else bits(iova, 55)
        if not config.enabled(registers, ste, cd, half):
            raise Ended(F_TRANSLATION)
        stage = config.first_stage(registers, cd, half)
        top = 55 if cd.at(0, 39 if half else 38) else 63
        above = iova >> stage.input_bits & (1 << top + 1 - stage.input_bits) - 1 if top >= stage.input_bits else 0
        if above != ((1 << top + 1 - stage.input_bits) - 1 if half else 0):
            raise Ended(F_TRANSLATION)
        if not only_el2 and bits(registers.idr3, 13) and not privileged and cd.at(1 + half, 2):
            raise Ended(F_TRANSLATION)
        address = iova & (1 << stage.input_bits) - 1
        leaf = tables.walk(stage, self.memory, address, lambda at: self.located(ste, at, "TTD"), "IN")
        allowed = tables.first_allows(
            stage, leaf, privileged=privileged, two_levels=not only_el2, wxn=bool(cd.at(0, 36)), pan=bool(cd.at(0, 40)),
            epan=bool(bits(registers.idr3, 17) and cd.at(1, 59)),
        )  # fmt: skip
        output = leaf.output | address & (1 << stage.shift(leaf.level)) - 1
        return Found(output, output, leaf.span, leaf, None, stage, allowed, ALL)

    def second(self, found: Found, ste: Ste, privileged: bool) -> None:
        """Stage 2 of the final IPA."""
        stage = config.second_stage(self.registers, ste)
        assert stage is not None
        leaf = found.second = self.stage2(stage, found.ipa, "IN")
        found.allowed2 = tables.second_allows(stage, leaf, privileged=privileged, xnx=self.xnx)
        found.output = leaf.output | found.ipa & (1 << stage.shift(leaf.level)) - 1
        found.span = min(found.span, leaf.span)

    def may_update(self, found: Found, ste: Ste, write: bool) -> None:
        """What stage 1's leaf will store goes through stage 2 as a write of a descriptor; its fault comes before those of the output (3.13.5)."""
        if found.first is not None and found.stage1 is not None and tables.changed(found.stage1, found.first, write) != found.first.descriptor:
            self.located(ste, found.first.at, "TTD", write=True)

    def update(self, found: Found, ste: Ste, write: bool) -> None:
        """The flags of the leaves."""
        if found.first is not None and found.stage1 is not None:
            tables.updated(found.stage1, self.memory, found.first, write)
        if found.second is not None:
            stage2 = config.second_stage(self.registers, ste)
            assert stage2 is not None
            tables.updated(stage2, self.memory, found.second, write)

    # -- ATS ----------------------------------------------------------------------------------------------------------

    def translated(self, access: Access, ste: Ste, eats: int) -> dict[str, Any]:
        """Translated traffic with ATSCHK: 3.9.1.3, 13.6.3."""
        if eats == 1:
            if access.iova >> self.registers.oas:
                raise Aborted("an address above OAS")
            return self.passed(access, access.iova, "bypass")
        if access.iova >> self.registers.oas:
            raise Ended(F_ADDR_SIZE)
        found = self.translate(access, ste)
        return self.passed(access, found.output, "success", found)

    def request(self, access: Access, ste: Ste, eats: int) -> dict[str, Any]:
        """A translation request: 3.9.1.2, 3.13.7, 13.6.4, 13.7.1."""
        unit = 1 << min(self.registers.granules)
        if self.cd is None and not ste.second:
            return {"ats": completion(access.iova & -unit, unit, True, True, False, False)}
        nothing = {"ats": completion(0, unit, False, False, False, access.privileged)}
        overridden = replace(access, write=False)
        privileged, _ = self.overrides(overridden, ste)
        instcfg = ste.at(1, 51, 50) if bits(self.registers.idr1, 26) else 0
        found = self.first(access, privileged, instcfg == 3)
        if not self.any_of(found.allowed1, access, instcfg):
            return nothing
        self.may_update(found, ste, access.write and found.allowed1.write)
        if ste.second:
            self.second(found, ste, privileged)
        both = Allowed(*(getattr(found.allowed1, what) and getattr(found.allowed2, what) for what in ("read", "write", "execute")))
        read = both.execute if instcfg == 3 else both.read
        execute = access.instruction and {3: both.execute, 2: both.read}.get(instcfg, both.read and both.execute)
        # Only a request without NW makes a page dirty; otherwise a writable-clean page is not granted for writing.
        clean = any(leaf is not None and changes for leaf, changes in self.cleanness(found, ste))
        write = both.write and (access.write or not clean)
        if not (read or execute or (access.write and write)):
            return nothing
        self.update(found, ste, access.write and both.write)
        output = found.output if eats == 1 else access.iova if found.first is None else found.ipa
        return {"ats": completion(output & -(1 << found.span), 1 << found.span, read, write, execute, access.privileged)}

    def any_of(self, allowed: Allowed, access: Access, instcfg: int) -> bool:
        """Whether anything is left that was asked for; with NW, writing alone is not (13.7: it may be granted, and need not)."""
        return (allowed.execute if instcfg == 3 else allowed.read) or (access.write and allowed.write)

    def cleanness(self, found: Found, ste: Ste) -> list[tuple[Leaf | None, bool]]:
        """Of each stage's leaf, whether it is writable only by making it dirty."""
        listed: list[tuple[Leaf | None, bool]] = []
        if found.first is not None and found.stage1 is not None:
            word = found.first.descriptor
            listed.append((found.first, bool(found.stage1.dirty and bits(word, 51) and bits(word, 7))))
        if found.second is not None:
            stage, word = config.second_stage(self.registers, ste), found.second.descriptor
            assert stage is not None
            listed.append((found.second, bool(stage.dirty and bits(word, 51) and not bits(word, 7))))
        return listed

    # -- the end ------------------------------------------------------------------------------------------------------

    def report(self, access: Access, end: Ended) -> dict[str, Any]:
        """How a fault or error ends, and its record: 3.9.1.2, 3.9.1.3, 3.12, 5.5, 7.3."""
        number, recorded, rec_cfg_ats = end.number, True, bits(self.registers.cr2, 3) and bits(self.registers.idr0, 23)
        if access.ats == "request":
            if number in TRANSLATION_FAULTS:
                unit = 1 << min(self.registers.granules)
                return {"ats": completion(0, unit, False, False, False, access.privileged)}
            if number != F_BAD_ATS_TREQ:
                recorded = bool(rec_cfg_ats and (number != C_BAD_STREAMID or bits(self.registers.cr2, 1)))
            answer: dict[str, Any] = {"ats": {"status": "UR" if number == F_BAD_ATS_TREQ else "CA"}}
            if recorded:
                answer["fault"] = {"raw": self.record(access, end)}
            return answer
        if access.ats == "translated" and number not in TRANSLATION_FAULTS and number not in (F_TRANSL_FORBIDDEN, F_WALK_EABT):
            recorded = bool(rec_cfg_ats)
        elif number == C_BAD_STREAMID:
            recorded = bool(bits(self.registers.cr2, 1))
        if number not in TRANSLATION_FAULTS or (not end.s2 and self.cd is None):
            return {"fault": {"raw": self.record(access, end)} if recorded else None}
        return self.faulted(access, end)

    def faulted(self, access: Access, end: Ended) -> dict[str, Any]:
        """One of the four faults that CD.{A,R,S} and STE.{S2R,S2S} govern."""
        assert self.ste is not None
        if end.s2:
            stall, keep, abort = self.ste.at(2, 57), self.ste.at(2, 58), 1
        else:
            assert self.cd is not None
            stall, keep, abort = self.cd.at(0, 44), self.cd.at(0, 45), self.cd.at(0, 46)
        if stall:
            tag, self.stalled = self.stalled, self.stalled + 1
            return {"fault": {"raw": self.record(access, end, tag)}, "stalled": True}
        answer: dict[str, Any] = {"fault": {"raw": self.record(access, end)} if keep else None}
        return answer if abort else {**answer, "razwi": True}

    def record(self, access: Access, end: Ended, tag: int | None = None) -> list[int]:
        """The four dwords of an event record (7.3)."""
        number = end.number
        word0 = number | access.sid << 32
        if access.ssid is not None and number != F_STREAM_DISABLED:
            word0 |= (number != C_BAD_SUBSTREAMID) << 11 | access.ssid << 12
        word1 = word2 = word3 = 0
        privileged, instruction = self.overrides(access, self.ste)
        properties = int(privileged) << 33 | int(instruction) << 34 | int(not access.write) << 35
        cls = {"CD": 0, "TTD": 1, "IN": 2}[end.cls]
        if number in TRANSLATION_FAULTS:
            word1, word2 = properties | int(end.s2) << 39 | cls << 40, access.iova
            word3 = end.ipa & (1 << 52) - 4096 if end.s2 else 0
            if number == F_PERMISSION and end.cls == "TTD":
                word1 |= int(end.ttrnw) << 44
            if tag is not None:
                word1 |= 1 << 31 | tag
        elif number == F_WALK_EABT:
            word1, word2, word3 = properties | int(end.s2) << 39 | cls << 40, access.iova, end.fetch & -8
        elif number in (F_STE_FETCH, F_CD_FETCH):
            word3 = end.fetch & -8
        elif number == F_TRANSL_FORBIDDEN:
            word1, word2 = int(not access.write) << 35, access.iova
        elif number == F_BAD_ATS_TREQ:
            word1 = 1 | 1 << 32 | int(access.write) << 33 | int(access.instruction) << 34 | int(access.privileged) << 35
            word2 = access.iova
        return [word0, word1, word2, word3]


def granted(allowed: Allowed, write: bool, instruction: bool) -> bool:
    return allowed.write if write else allowed.execute if instruction else allowed.read


def completion(address: int, size: int, read: bool, write: bool, execute: bool, privileged: bool) -> dict[str, Any]:
    grants = {"read": bool(read), "write": bool(write), "execute": bool(execute), "privileged": privileged}
    return {"status": "success", "pa": address, "size": size, **grants}
