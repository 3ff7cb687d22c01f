"""The behaviours that one transaction has exercised, read out of its trace, its outcome and the configuration that it met."""

from __future__ import annotations

from collections.abc import Iterator

from wizard.arch.cd import CD
from wizard.arch.descriptor import Stage1Leaf, Stage2Leaf
from wizard.arch.event import TRANSLATION_FAULTS, EventType, FaultClass
from wizard.arch.registers import TableFormat
from wizard.arch.ste import STE, StreamConfig
from wizard.smmu import permissions
from wizard.smmu.attributes import Cache
from wizard.smmu.context import Context, Stage1, context_of
from wizard.smmu.device import Smmu
from wizard.smmu.outcome import Ats, How, Outcome, Transaction
from wizard.smmu.regime import STRIDE, Regime
from wizard.smmu.stages import select
from wizard.smmu.trace import Step
from wizard.smmu.validity import cd_illegal, stage1_on, ste_illegal, world

_AF = {1: Stage1Leaf.AF, 2: Stage2Leaf.AF}
_FAULTS = {
    EventType.F_TRANSLATION: "translation", EventType.F_ADDR_SIZE: "addr-size", EventType.F_ACCESS: "access", EventType.F_PERMISSION: "permission",
    EventType.F_WALK_EABT: "walk-abort",
}  # fmt: skip
_ERRORS = {
    EventType.F_STE_FETCH: "strtab.fetch", EventType.C_BAD_STE: "ste.illegal", EventType.F_CD_FETCH: "cd.fetch", EventType.C_BAD_CD: "cd.illegal",
    EventType.C_BAD_SUBSTREAMID: "cd.substream", EventType.F_STREAM_DISABLED: "s1dss.terminate", EventType.F_TRANSL_FORBIDDEN: "ats.forbidden",
}  # fmt: skip


def of_transaction(smmu: Smmu, transaction: Transaction, outcome: Outcome, *, lost: bool) -> Iterator[str]:
    """The keys of the behaviours of one transaction; ``lost``: its record was. ``outcome`` has its trace."""
    steps = outcome.trace.steps if outcome.trace is not None else []
    if any(step.what == "gbpa" for step in steps):
        yield from _off(smmu, transaction, outcome)
        return
    context = _context(smmu, transaction, steps)
    yield from _configuration(smmu, transaction, outcome, steps, context)
    if outcome.event is not None:
        yield from _fault(transaction, outcome, context, lost)
    if transaction.ats is not Ats.UNTRANSLATED:
        yield from _ats(transaction, outcome, context)
    if context is not None:
        yield from _walks(smmu, transaction, outcome, steps, context)
        yield from _caches(smmu, transaction, outcome, steps, context)
        if outcome.pa is not None:
            yield from _passed(transaction, outcome, context)


def _off(smmu: Smmu, transaction: Transaction, outcome: Outcome) -> Iterator[str]:
    if smmu.registers.gbpa.ABORT:
        yield "gbpa.abort"
    elif outcome.pa is None:
        yield "gbpa.beyond"
    else:
        yield "gbpa.pass"
        if outcome.sources is not None and outcome.sources.override != type(outcome.sources.override)():
            yield "gbpa.override"


def _context(smmu: Smmu, transaction: Transaction, steps: list[Step]) -> Context | None:
    """What the transaction met: the cached context, or the one that its trace's structures make; None where its configuration was in the way."""
    ssid = None if transaction.ats is Ats.TRANSLATED else transaction.ssid
    if smmu.configuration_cache is not None:
        return smmu.configuration_cache.contexts.get(transaction.sid, {}).get(ssid)
    found = {step.what: step.words for step in steps if step.what in ("ste", "cd") and step.words}
    if "ste" not in found or ste_illegal(ste := STE.of_words(found["ste"]), smmu.features) is not None or ste.Config < StreamConfig.BYPASS:
        return None
    stream_world = world(ste, smmu.features, bool(smmu.registers.cr2.E2H))
    cd = CD.of_words(found["cd"]) if "cd" in found else None
    if cd is not None and cd_illegal(cd, ste, smmu.features, stream_world) is not None:
        return None
    return context_of(ste, cd, stream_world, smmu.features, skip_stage1=cd is None)


def _configuration(smmu: Smmu, transaction: Transaction, outcome: Outcome, steps: list[Step], context: Context | None) -> Iterator[str]:
    if any(step.what == "ste" and step.words for step in steps):
        two_level = smmu.registers.strtab_base_cfg.FMT == TableFormat.TWO_LEVEL and smmu.features.st_level
        yield "strtab.two-level" if two_level else "strtab.linear"
    if any(step.what in ("config", "ste", "cd") and "is cached" in step.text for step in steps):
        yield "cache.configuration"
    if "STE.Config aborts" in outcome.reason:
        yield "ste.abort"
    if context is None:
        return
    ste = context.ste
    largest = ste.S1CDMax if smmu.features.ssidsize else 0
    if context.cd is not None:
        yield "cd.single" if not largest else "cd.two-level" if ste.S1Fmt in (1, 2) else "cd.linear"
        if transaction.ssid is None and largest and ste.S1DSS == 2:
            yield "s1dss.zero"
    elif transaction.ssid is None and stage1_on(ste) and context.stage1 is None and transaction.ats is not Ats.TRANSLATED:
        yield "s1dss.bypass"
    if context.privileged is not None:
        yield "ste.privcfg"
    if context.instruction is not None:
        yield "ste.instcfg"
    if context.override != type(context.override)():
        yield "ste.mtcfg"
    if ste.Config == StreamConfig.BYPASS:
        yield "ste.bypass" if outcome.event is None else "ste.bypass.beyond"
    if context.stage1 is not None and context.stage1.space[0] != "EL1":
        yield "world.el2" if context.stage1.space[0] == "EL2" else "world.e2h"


def _fault(transaction: Transaction, outcome: Outcome, context: Context | None, lost: bool) -> Iterator[str]:
    event = outcome.event
    assert event is not None
    kind, fields = EventType(event.Type), event.fields()
    if "S2PTW" in outcome.reason:
        yield "deny.stage2-device"
    if kind in _ERRORS:
        yield _ERRORS[kind]
    elif kind is EventType.C_BAD_STREAMID:
        yield "strtab.beyond" if "beyond the stream table" in outcome.reason else "strtab.span"
        if not outcome.recorded and not lost and transaction.ats is Ats.UNTRANSLATED:
            yield "strtab.recinvsid"
    elif kind in _FAULTS and context is not None and not context.bypass:
        yield from _translation(kind, fields, outcome, context, lost)
    elif kind in _FAULTS and context is None and fields["S2"] and fields["CLASS"] == FaultClass.CD:
        yield "cd.stage2"


def _translation(kind: EventType, fields: dict[str, int], outcome: Outcome, context: Context, lost: bool) -> Iterator[str]:
    if kind is EventType.F_ADDR_SIZE and context.stage1 is None and not fields["S2"]:
        yield "fault.input.addr-size"
    else:
        yield f"fault.stage{1 + fields['S2']}.{_FAULTS[kind]}"
    if fields["S2"] and fields["CLASS"] == FaultClass.TTD:
        yield "fault.stage2.table"
    yield "fault.read" if fields["RnW"] else "fault.write"
    if kind is EventType.F_PERMISSION:
        if fields["InD"]:
            yield "fault.execute"
        if fields["PnU"]:
            yield "fault.privileged"
    if kind in TRANSLATION_FAULTS:
        if outcome.how is How.STALLED:
            yield "fault.stall"
        elif not outcome.recorded and not lost:
            yield "fault.unrecorded"
        if outcome.how is How.RAZWI:
            yield "fault.razwi"


def _ats(transaction: Transaction, outcome: Outcome, context: Context | None) -> Iterator[str]:
    answer = outcome.ats
    if transaction.ats is Ats.TRANSLATED:
        if outcome.pa is not None:
            yield "ats.translated"
        return
    if answer is None:
        return
    if outcome.recorded:
        yield "ats.recorded"
    if answer.status != "success":
        yield "ats.unsupported" if answer.status == "UR" else "ats.error"
    elif answer.read or answer.write:
        yield "ats.granted"
        if context is not None and context.ste.EATS == 2:
            yield "ats.split"
    else:
        yield "ats.denied"


# -- walks ------------------------------------------------------------------------------------------------------------


def _of_stage(steps: list[Step], stage: int) -> list[Step]:
    return [step for step in steps if step.what == "walk" and step.text.startswith(f"stage {stage} ")]


def _walks(smmu: Smmu, transaction: Transaction, outcome: Outcome, steps: list[Step], context: Context) -> Iterator[str]:
    if outcome.pa is not None or (outcome.event is not None and outcome.event.Type in _FAULTS):
        stages = (context.stage1 is not None, context.stage2 is not None)
        if any(stages):
            yield {(True, False): "ste.stage1", (False, True): "ste.stage2", (True, True): "ste.nested"}[stages]
    if outcome.how is How.STALLED and outcome.stag is None:
        yield "fault.stall-waits"
    if context.stage1 is not None:
        yield from _half(transaction, outcome, context.stage1)
        chosen = select(context.stage1, transaction.iova)
        if chosen is not None and chosen[0].regime is not None:
            yield from _regime(chosen[0].regime, _of_stage(steps, 1), 1)
        yield from _denied(transaction, outcome, context, context.stage1, _of_stage(steps, 1))
    if context.stage2 is not None:
        yield from _regime(context.stage2.regime, found := _of_stage(steps, 2), 2)
        if found and context.stage2.regime.levels[0].mask >> STRIDE[context.stage2.regime.granule]:
            yield "walk.stage2.concatenated"
    if any(step.what == "ipa" and step.text.startswith("intermediate address") for step in steps):
        yield "walk.nested"
    if outcome.pa is not None and outcome.pa >> 48:
        yield "walk.wide"
    yield from _updates(steps)
    affd = {1: context.stage1 is not None and context.stage1.affd, 2: context.stage2 is not None and context.stage2.affd}
    for stage, field in _AF.items():
        leaves = [step for step in _of_stage(steps, stage) if step.text.endswith(("page", "block"))]
        if affd[stage] and outcome.pa is not None and any(not field.get(step.words[0]) for step in leaves):
            yield "httu.affd"


def _half(transaction: Transaction, outcome: Outcome, stage1: Stage1) -> Iterator[str]:
    if outcome.reason.startswith("walks through TTB"):
        yield "walk.disabled"
    elif outcome.reason.startswith("unprivileged access is disabled"):
        yield "walk.e0pd"
    elif "is outside the input range" in outcome.reason:
        yield "walk.outside"
    chosen = select(stage1, transaction.iova)
    if chosen is not None and outcome.pa is not None:
        if chosen[0].upper:
            yield "walk.upper"
        if chosen[0].tbi and chosen[1] != transaction.iova:
            yield "walk.top-byte"


def _regime(regime: Regime, steps: list[Step], stage: int) -> Iterator[str]:
    if not steps:
        return
    yield f"walk.stage{stage}.granule{regime.granule}"
    if regime.swap:
        yield f"walk.stage{stage}.swapped"
    for step in steps:
        if step.text.endswith("is cached"):
            yield f"walk.stage{stage}.table-cached"
        elif step.text.startswith(f"stage {stage} level {regime.levels[0].number}:"):
            yield f"walk.stage{stage}.start{regime.levels[0].number}"
        if step.text.endswith(("page", "block")):
            yield f"walk.stage{stage}.{step.text.rpartition(' ')[2]}"
            if dict(step.detail).get("Contiguous"):
                yield f"walk.stage{stage}.contiguous"


def _denied(transaction: Transaction, outcome: Outcome, context: Context, stage1: Stage1, steps: list[Step]) -> Iterator[str]:
    """What took a permission away: a table descriptor, WXN or PAN. Without it the leaf would have granted the access."""
    if outcome.event is None or outcome.event.Type != EventType.F_PERMISSION or outcome.event.fields()["S2"] or not steps or stage1.swap:
        return
    leaf, above = steps[-1].words, 0
    for step in steps[:-1]:
        above |= step.words[0] if step.words else 0
    if not leaf:
        return
    privileged = transaction.privileged if context.privileged is None else context.privileged
    instruction = transaction.instruction if context.instruction is None else context.instruction
    need = permissions.needed(privileged, transaction.write, instruction)
    word, above = leaf[0] & permissions.STAGE1_BITS, above & permissions.HIERARCHICAL_BITS
    flags = (stage1.el2, stage1.wxn, stage1.pan, stage1.epan, stage1.hd)
    if need & permissions.stage1(word, 0, *flags)[0]:
        yield "deny.table"
    if need & permissions.stage1(word, above, stage1.el2, False, *flags[2:])[0]:
        yield "deny.wxn"
    if need & permissions.stage1(word, above, stage1.el2, stage1.wxn, False, *flags[3:])[0]:
        yield "deny.pan"


def _updates(steps: list[Step]) -> Iterator[str]:
    """Hardware updates: of which stage, and of what."""
    second = {step.address: step.words[0] for step in _of_stage(steps, 2) if step.words}
    first = [step.words[0] for step in _of_stage(steps, 1) if step.words]
    for step in steps:
        if step.what != "httu" or not step.words:
            continue
        stage = 2 if step.address in second else 1
        old = second[step.address] if stage == 2 else first[-1] if first else step.words[0]
        changed = old ^ step.words[0]
        if _AF[stage].get(changed):
            yield f"httu.stage{stage}.access"
        if _AF[stage].put(changed, 0):
            yield f"httu.stage{stage}.dirty"


def _caches(smmu: Smmu, transaction: Transaction, outcome: Outcome, steps: list[Step], context: Context) -> Iterator[str]:
    hits = [step.text for step in steps if step.what == "tlb"]
    if any(text.startswith("stage 2 entry") for text in hits):
        yield "cache.stage2"
    if any(text.startswith("entry") for text in hits):
        yield "cache.tlb"
        if outcome.event is not None and outcome.event.Type == EventType.F_PERMISSION:
            yield "cache.tlb-denies"
        chosen = select(context.stage1, transaction.iova) if context.stage1 is not None else None
        if smmu.tlb is not None and context.stage1 is not None and chosen is not None and smmu.tlb.find(context.stage1.space, chosen[1]) is None:
            yield "cache.global"


def _passed(transaction: Transaction, outcome: Outcome, context: Context) -> Iterator[str]:
    if outcome.how is How.TRANSLATED and transaction.ats is Ats.UNTRANSLATED:
        instruction = transaction.instruction if context.instruction is None else context.instruction
        yield "allow.write" if transaction.write else "allow.execute" if instruction else "allow.read"
        if transaction.privileged if context.privileged is None else context.privileged:
            yield "allow.privileged"
    sources, given = outcome.sources, outcome.attributes
    if sources is None or given is None:
        return
    if transaction.incoming is not None:
        yield "attr.incoming"
    if given.device is not None:
        yield "attr.device"
    elif given.inner is Cache.NC or given.outer is Cache.NC:
        yield "attr.non-cacheable"
    if sources.stage1 is not None and sources.stage2 is not None:
        yield "attr.fwb" if sources.stage2[2] else "attr.combined"
