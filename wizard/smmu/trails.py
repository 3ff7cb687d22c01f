"""A translation by the words that an earlier one read: they are read again, what they meant is not worked out again.

Once a neighbour of an access has been translated, little tells it apart: the same structures configure it, and the same table descriptors lead to the
descriptor of its page. A ``Trail`` has each word that was read on that way, and where it led: to 4 KiB of leaf descriptors. Whoever follows it reads
every word again, since memory may change at any time, and compares; then it reads its own descriptor and looks up what its attributes grant. So a
trail is no cache of the SMMU's. No line here knows how a walk goes either: ``learn`` lays trails by listening to what ``config``, ``stages`` and
``walk`` read. What is not plain (a fault, a hardware update, a contiguous run, big-endian tables, ATS) is answered with None, and takes the steps of
``procedure``.

This module is what is compiled where that was asked for (``form``); ``trails.pxd`` beside it has the types of C, the code is this.
"""

from __future__ import annotations

from array import array
from typing import Any

from msgspec.structs import astuple

from wizard.smmu.attributes import DEFAULT, Override, Sources
from wizard.smmu.memory import Pages
from wizard.smmu.outcome import Ats, How, Outcome, Transaction
from wizard.smmu.permissions import PR, PW, PX, UR, UW, UX
from wizard.smmu.trace import Trace

_UNTRANSLATED, _TRANSLATED = Ats.UNTRANSLATED, How.TRANSLATED
"""Named here: looking an enumeration's member up costs as much as a look at memory."""


class Check:
    """A word that was read: where it is in the words of its page, and what it was."""

    __slots__ = ("held", "index", "words")

    def __init__(self, words: array[int], index: int, held: int) -> None:
        self.words, self.index, self.held = words, index, held


class Trail:
    """The way to the descriptors of one page of memory, and how one of them maps an address.

    ``checks`` are the words on the way. The descriptor is number ``address >> shift & mask | first`` of ``words``, its output
    ``word & output | address & offset`` in a page or block of ``1 << shift`` bytes; what ``word & code`` gives, ``kinds`` says (``learn.Kinds``).
    ``version`` is that of the pages (``memory.Pages``): with another one the words may be elsewhere.
    """

    __slots__ = ("checks", "code", "first", "grants", "kinds", "mask", "offset", "output", "shift", "version", "words")

    def __init__(self, checks: tuple[Check, ...], version: int, words: array[int], first: int, kinds: Any) -> None:
        self.checks, self.version, self.words, self.first, self.kinds = checks, version, words, first, kinds
        self.shift, self.mask, self.output, self.offset = kinds.shift, kinds.mask, kinds.output, kinds.offset
        self.code, self.grants = kinds.code, kinds.grants


class Ways:
    """The trails of one stage, by ``address >> shift``; None where one was asked for and is not laid yet.

    ``stage`` is a ``context.Stage1`` (``stage1``; its trails have the words of stage 2 that lead to its tables) or ``context.Stage2``.
    """

    __slots__ = ("kinds", "shift", "stage", "stage1", "trails")

    def __init__(self, shift: int, stage: Any, *, stage1: bool) -> None:
        self.shift, self.stage, self.stage1 = shift, stage, stage1
        self.trails: dict[int, Trail | None] = {}
        self.kinds: dict[tuple[bool, int, int], Any] = {}


class Plan:
    """What a context makes of plain transactions: the ways of its stages in order, and what the STE overrides. Without ways nothing is plain."""

    __slots__ = ("instruction", "override", "privileged", "ways")

    def __init__(self, ways: tuple[Ways, ...], override: Override, privileged: bool | None, instruction: bool | None) -> None:
        self.ways, self.override, self.privileged, self.instruction = ways, override, privileged, instruction


class Configured:
    """The words by which a stream came to its plan; they count while ``registers`` (STRTAB_BASE, its CFG, CR2) are those of that time."""

    __slots__ = ("checks", "plan", "registers", "version")

    def __init__(self, checks: tuple[Check, ...], version: int, registers: tuple[object, ...], plan: Plan) -> None:
        self.checks, self.version, self.registers, self.plan = checks, version, registers, plan


class Follower:
    """Follows the trails of one SMMU; what is not known its ``learner`` (``learn.Learner``) is asked for, once for many transactions."""

    __slots__ = ("configuration", "learner", "pages", "registers", "sids", "streams")

    def __init__(self, registers: Any, configuration: Any, pages: Pages, learner: Any) -> None:
        self.registers, self.configuration, self.pages, self.learner = registers, configuration, pages, learner
        self.streams: dict[tuple[int, int | None], Configured | None] = learner.streams
        self.sids = 1 << registers.features.sidsize

    def translate(self, transaction: Transaction) -> Outcome | None:
        """The outcome of a plain transaction; None for every other one, of which nothing has come yet."""
        if type(transaction) is not Transaction:
            return None
        sid, iova, write, ssid, privileged, instruction, ats, incoming = astuple(transaction)
        if ats is not _UNTRANSLATED or not self.registers.smmuen or sid >= self.sids:
            return None
        cache = self.configuration.cache
        if cache is None:
            plan = self._configured(sid, ssid)
        else:
            contexts = cache.contexts
            known = contexts.get(sid)
            context = known.get(ssid) if known is not None else None
            if context is None:
                return None
            plan = context.plan or self.learner.plan(context)
        if plan is None or not plan.ways:
            return None
        if plan.privileged is not None:
            privileged = plan.privileged
        if plan.instruction is not None:
            instruction = plan.instruction
        if write:
            need = PW if privileged else UW
        elif instruction:
            need = PX if privileged else UX
        else:
            need = PR if privileged else UR
        version, size, stage1, stage2 = self.pages.version, 64, None, None
        try:
            address = iova
        except OverflowError:  # no 64 bits, where this is compiled
            return None
        for ways in plan.ways:
            trail = ways.trails.get(address >> ways.shift)
            if trail is None:
                trail = self.learner.trail(plan, ways, address)
                if trail is None:
                    return None
            if trail.version != version:
                del ways.trails[address >> ways.shift]
                return None
            for check in trail.checks:
                if check.words[check.index] != check.held:
                    del ways.trails[address >> ways.shift]
                    return None
            word = trail.words[address >> trail.shift & trail.mask | trail.first]
            granted = trail.grants[need].get(word & trail.code)
            if granted is None:
                granted = trail.kinds.grant(need, word & trail.code)
            if not granted:
                return None
            address = word & trail.output | address & trail.offset
            if trail.shift < size:
                size = trail.shift
            if ways.stage1:
                stage1 = granted
            else:
                stage2 = granted
        return Outcome(_TRANSLATED, address, None, False, size, "", None, None, Sources(incoming or DEFAULT, plan.override, stage1, stage2), None)

    def _configured(self, sid: int, ssid: int | None) -> Plan | None:
        """The plan of a stream whose structures are read every time."""
        known = self.streams.get((sid, ssid))
        if known is None:
            known = self.learner.configured(sid, ssid)
            if known is None:
                return None
        registers = self.registers
        base, config, cr2 = known.registers
        unchanged = registers.strtab_base is base and registers.strtab_base_cfg is config and registers.cr2 is cr2
        if not unchanged or known.version != self.pages.version:
            del self.streams[sid, ssid]
            return None
        for check in known.checks:
            if check.words[check.index] != check.held:
                del self.streams[sid, ssid]
                return None
        return known.plan


def translate(self, transaction: Transaction, *, trace: bool = False) -> Outcome:  # type: ignore[no-untyped-def]  # a method of device.Smmu
    """What becomes of one transaction; a fault leaves its record in the event queue. ``ValueError`` for ids that cannot be presented."""
    follower = self._follower
    if follower is not None and not trace:
        outcome: Outcome | None = follower.translate(transaction)
        if outcome is not None:
            return outcome
    if transaction.sid >> self.features.sidsize:
        raise ValueError(f"StreamID {transaction.sid:#x} does not fit IDR1.SIDSIZE, {self.features.sidsize} bits")
    if transaction.ssid is not None and transaction.ssid >> 20:
        raise ValueError(f"SubstreamID {transaction.ssid:#x} does not fit 20 bits")
    if transaction.iova >> 64:
        raise ValueError(f"input address {transaction.iova:#x} does not fit 64 bits")
    ended: Outcome = self.procedure.run(transaction, Trace() if trace else None)
    return ended
