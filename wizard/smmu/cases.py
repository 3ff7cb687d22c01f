"""Runs the cases of ``smmu-wizard translate`` (``wizard.smmu.caseformat``): tables as words, DMAs and commands in, outcomes out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from wizard.arch.command import CommandError
from wizard.arch.event import Event, EventType, FaultClass
from wizard.arch.event import decode as decode_event
from wizard.arch.registers import ABSENT, GBPA, REGISTERS
from wizard.smmu import caseformat
from wizard.smmu.attributes import Attributes
from wizard.smmu.caseformat import Answer, Case, Commands, Completion, Dma, MaskedField, Number, Record, Step, TraceStep
from wizard.smmu.caseformat import Memory as Contents
from wizard.smmu.device import Smmu
from wizard.smmu.ids import Ids
from wizard.smmu.memory import PAGE_SHIFT, RAM, WORD_MASK, Memory
from wizard.smmu.outcome import Ats, AtsResponse, How, Outcome, Transaction
from wizard.smmu.support import masked_bits

STAGES = {"nested": Ids(), "1": Ids(idr0=0x0D44_101A, idr3=0x1404), "2": Ids(idr0=0x0D44_1019)}
"""The SMMU of a case by its ``stage``: QEMU's, with IDR0 and IDR3 as they are for one stage."""

HOWS: dict[How, Literal["success", "bypass", "disable"]] = {How.TRANSLATED: "success", How.BYPASS: "bypass", How.DISABLED: "disable"}


_NUMBER = re.compile(r"-?(0x[0-9a-f]+|0|[1-9][0-9]*)", re.ASCII | re.IGNORECASE)


Make = Callable[..., Smmu]
"""Makes an SMMU as ``Smmu`` is made."""


class CaseError(ValueError):
    """A case that makes no sense; the message names the place."""


@dataclass(slots=True)
class Bench:
    """An SMMU under a case, how many words it may still write and how many event records read, and what was answered already."""

    smmu: Smmu
    trace: bool
    masked: list[MaskedField] = field(default_factory=list)
    words: int = caseformat.LARGEST_WORDS
    records: int = caseformat.LARGEST_RECORDS
    parts: int = caseformat.LARGEST_PARTS
    reported: int = 0
    edges: int = 0

    def resumed(self) -> list[Answer] | UnsetType:
        """How the stalled transactions ended that no answer told of yet; unset when there are none."""
        ended = self.smmu.resumed[self.reported :]
        self.reported += len(ended)
        return [answer_of(outcome) for _, outcome in ended] or UNSET

    def interrupts(self, where: str) -> list[caseformat.Interrupt]:
        """The interrupts that no answer told of yet, in order."""
        new = self.smmu.edges[self.edges :]
        self.edges += len(new)
        self.records -= len(new)
        if self.records < 0:
            raise CaseError(f"{where}: more than {caseformat.LARGEST_RECORDS} records and interrupts read in one case")
        return [
            caseformat.Interrupt(
                source=one.source, msi=None if one.msi is None else caseformat.Message(address=f"{one.msi.address:#x}", data=f"{one.msi.data:#x}")
            )
            for one in new
        ]


def number(value: Number, where: str, bits: int = 64) -> int:
    """A number of a case, never negative and at most ``bits`` bits."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise CaseError(f"{where}: {value!r} is no number")
        value = int(value, 0)
    if value < 0:
        raise CaseError(f"{where}: {value} is negative")
    if value >> bits:
        raise CaseError(f"{where}: {value:#x} does not fit {bits} bits")
    return value


def decode(data: bytes | str) -> Case:
    """One case from JSON; ``CaseError`` for what is none."""
    try:
        return msgspec.json.decode(data, type=Case)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CaseError(str(error) if not isinstance(error, RecursionError) else "nested too deeply") from None


def decode_all(data: bytes | str) -> list[Case | CaseError]:
    """One case, or a list of cases of which each may be wrong by itself; ``CaseError`` for what is neither."""
    try:
        content = msgspec.json.decode(data, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise CaseError(str(error) if not isinstance(error, RecursionError) else "nested too deeply") from None
    if isinstance(content, dict):
        return [decode(data)]
    found: list[Case | CaseError] = []
    for raw in content:
        try:
            found.append(decode(bytes(raw)))
        except CaseError as error:
            found.append(error)
    return found


def run(case: Case, *, trace: bool = False, make: Make = Smmu) -> Answer:
    """Answer one case; one that makes no sense answers ``error``. With ``trace`` each DMA's answer says what was read where, and why.

    ``make`` makes the SMMU: ``functools.partial(Observed, coverage=…)`` notes what the case exercises (``wizard.smmu.coverage``).
    """
    try:
        return _run(case, trace, make)
    except CaseError as error:
        return Answer(error=str(error))


def run_plain(case: Any, *, trace: bool = False) -> dict[str, Any]:
    """The same from and to plain JSON types."""
    try:
        return plain(run(msgspec.convert(case, type=Case), trace=trace))
    except (msgspec.ValidationError, RecursionError) as error:
        return {"error": str(error) if not isinstance(error, RecursionError) else "nested too deeply"}


def plain(answer: Answer) -> dict[str, Any]:
    """An answer as plain JSON types."""
    built: dict[str, Any] = msgspec.to_builtins(answer)
    return built


# -- answers ----------------------------------------------------------------------------------------------------------

_NAMES = {"RnW": "rnw", "PnU": "pnu", "InD": "ind", "S2": "s2", "Stall": "stall", "STAG": "stag", "TTRnW": "ttrnw"}


def record_of(event: Event) -> Record:
    """An event record by the names of the case format."""
    found = decode_event(event.value)
    listed = found.fields()
    kind = found.Type
    record = Record(
        type=kind,
        name=EventType(kind).name if kind in set(EventType) else f"{kind:#x}",
        sid=found.StreamID,
        ssv=found.SSV,
        ssid=found.SubstreamID,
        raw=[f"{word:#018x}" for word in found.words],
    )
    for declared, name in _NAMES.items():
        if declared in listed:
            setattr(record, name, listed[declared])
    if "InputAddr" in listed:
        record.addr = f"{listed['InputAddr']:#x}"
    if "CLASS" in listed:
        record.class_ = FaultClass(listed["CLASS"]).name if listed["CLASS"] < len(FaultClass) else listed["CLASS"]
    for declared in ("IPA", "FetchAddr"):
        if declared in listed:
            record.addr2 = f"{listed[declared]:#x}"
    return record


def _completion(response: AtsResponse) -> Completion:
    if response.status != "success":
        return Completion(status="UR" if response.status == "UR" else "CA")
    return Completion(
        status="success", pa=f"{response.address:#x}", size=1 << response.size, read=response.read, write=response.write,
        execute=response.execute, privileged=response.privileged,
    )  # fmt: skip


def answer_of(outcome: Outcome) -> Answer:
    """An outcome in the case format."""
    answer = Answer()
    if outcome.pa is not None:
        answer = Answer(ok=True, pa=f"{outcome.pa:#x}", how=HOWS[outcome.how], attributes=str(outcome.attributes))
        if outcome.size:
            answer.size = 1 << outcome.size
    elif outcome.event is not None and outcome.recorded:
        answer.fault = record_of(outcome.event)
    elif outcome.ats is None:
        answer.fault = None
    if outcome.ats is not None:
        answer.ats = _completion(outcome.ats)
    if outcome.how is How.RAZWI:
        answer.razwi = True
    if outcome.how is How.STALLED:
        answer.stalled = True
    if outcome.trace is not None:
        answer.trace = msgspec.convert(outcome.trace.as_json(), type=list[TraceStep])
    return answer


# -- running ----------------------------------------------------------------------------------------------------------


def build(case: Case, *, trace: bool = False, make: Make = Smmu) -> Bench:
    """The SMMU of a case, with its memory and registers set."""
    base = STAGES[case.stage]
    changed = {}
    for name in ("idr0", "idr1", "idr3", "idr5", "aidr"):
        given = getattr(case.ids, name)
        changed[name] = getattr(base, name) if given is UNSET else number(given, f"ids.{name}", 32)
    ids = Ids(**changed)
    if not (ids.features.s1p or ids.features.s2p) or not ids.features.granules:
        raise CaseError("ids: an SMMU without any stage or granule")
    ram: tuple[tuple[int, int], ...] = RAM
    if case.ram is not UNSET:
        ram = tuple((number(start, f"ram[{i}][0]"), number(end, f"ram[{i}][1]", 65)) for i, (start, end) in enumerate(case.ram))
    smmu = make(ids, Memory(ram), tlb=case.caches, configuration_cache=case.caches)
    bench = Bench(smmu, trace, [MaskedField(register=m.register, field=m.field, value=m.value, why=m.why) for m in masked_bits(ids)])
    _load(bench, case.mem, "mem")
    # GBPA is what the register holds, however it was written; the others come before CR0, which closes them.
    smmu.write("GBPA", GBPA.Update.put(number(case.gbpa, "gbpa", 32), 1))
    for name in ("cr2", "strtab_base", "strtab_base_cfg", "cr0"):
        _register(bench, name, getattr(case, name), name)
    return bench


def _run(case: Case, trace: bool, make: Make) -> Answer:
    bench = build(case, trace=trace, make=make)
    answer = _play(bench, case)
    if bench.masked:
        answer.masked = bench.masked
    return answer


def _play(bench: Bench, case: Case) -> Answer:
    if case.update is not UNSET:
        raise CaseError("update: that is for smmu-wizard hitless")
    if case.steps is not UNSET and (case.sid is not UNSET or case.iova is not UNSET):
        raise CaseError("both steps and a DMA of the case itself (sid, iova)")
    if case.steps is UNSET:
        if case.sid is UNSET or case.iova is UNSET:
            raise CaseError("neither steps nor sid and iova")
        names = ("access", "ssid", "privileged", "instruction", "ats", "size", "incoming")
        dma = Dma(sid=case.sid, iova=case.iova, **{name: getattr(case, name) for name in names})
        return transact(bench, dma, "case")
    answers = []
    for index, step in enumerate(case.steps):
        answer = play_step(bench, step, f"steps[{index}]")
        if bench.smmu.executed > caseformat.LARGEST_COMMANDS:
            raise CaseError(f"steps[{index}]: more than {caseformat.LARGEST_COMMANDS} commands in one case")
        if answer is not None:
            answers.append(answer)
    return Answer(steps=answers)


def play_step(bench: Bench, step: Step, where: str) -> Answer | None:
    """One step of a case; what it answers, if anything. ``where`` names it in a ``CaseError``."""
    given = [name for name in Step.__struct_fields__ if getattr(step, name) is not UNSET]
    if len(given) != 1:
        raise CaseError(f"{where}: not one of {', '.join(Step.__struct_fields__)} alone")
    where = f"{where}.{given[0]}"
    if step.dma is not UNSET:
        return transact(bench, step.dma, where)
    if step.mem is not UNSET:
        _load(bench, step.mem, where)
    elif step.reg is not UNSET:
        for name, value in step.reg.items():
            _register(bench, name, value, f"{where}.{name[:40]}")
    elif step.cmd is not UNSET:
        return _commands(bench, step.cmd, where)
    elif step.read is not UNSET:
        return Answer(values={what: _read(bench, what, f"{where}[{index}]") for index, what in enumerate(step.read)})
    elif step.interrupts is not UNSET:
        return Answer(interrupts=bench.interrupts(where))
    else:
        queue = bench.smmu.queue
        overflow = queue.overflow != queue.acknowledged
        bench.records -= queue.indices.held
        if bench.records < 0:
            raise CaseError(f"{where}: more than {caseformat.LARGEST_RECORDS} records read in one case")
        events = [record_of(event) for event in bench.smmu.events()]
        return Answer(events=events, overflow=overflow, resumed=bench.resumed())
    return None


def _read(bench: Bench, what: str, where: str) -> str | None:
    """A register, or the word of memory at an address; None where nothing answers."""
    place = _place(what, where)
    if place is not None:
        return f"{bench.smmu.read_at(*place):#x}"
    if not _NUMBER.fullmatch(what):
        raise CaseError(f"{where}: no register {what[:40]!r}, and no address")
    address = number(what, where)
    if address & 7:
        raise CaseError(f"{where}: not the address of a 64-bit word")
    word = bench.smmu.memory.read(address)
    return None if word is None else f"{word:#x}"


def transact(bench: Bench, dma: Dma, where: str) -> Answer:
    """One access of a case; ``where`` names it in a ``CaseError``."""
    transaction = Transaction(
        sid=number(dma.sid, f"{where}.sid", 32),
        iova=number(dma.iova, f"{where}.iova"),
        write=dma.access == "w",
        ssid=number(dma.ssid, f"{where}.ssid", 20) if dma.ssid is not None else None,
        privileged=dma.privileged,
        instruction=dma.instruction,
        ats=Ats(dma.ats) if dma.ats is not None else Ats.UNTRANSLATED,
        incoming=_attributes(dma.incoming, f"{where}.incoming") if dma.incoming is not None else None,
    )
    length = number(dma.size, f"{where}.size")
    if not length or transaction.iova + length > 1 << 64:
        raise CaseError(f"{where}.size: no {length} bytes can be accessed from {transaction.iova:#x}")
    crosses = (transaction.iova ^ transaction.iova + length - 1) >> PAGE_SHIFT
    size = bench.smmu.features.sidsize
    if transaction.sid >> size:
        raise CaseError(f"{where}.sid: {transaction.sid:#x} does not fit IDR1.SIDSIZE, {size} bits")
    if not crosses:
        return answer_of(bench.smmu.translate(transaction, trace=bench.trace))
    if transaction.ats is Ats.REQUEST:
        raise CaseError(f"{where}.size: a translation request is for one page of 4 KiB")
    bench.parts -= (length >> PAGE_SHIFT) + 2
    if bench.parts < 0:
        raise CaseError(f"{where}: more than {caseformat.LARGEST_PARTS} pages accessed in one case")
    answers = []
    for part in bench.smmu.access(transaction, length, trace=bench.trace):
        answer = answer_of(part.outcome)
        answer.iova, answer.bytes = f"{part.iova:#x}", part.size
        answers.append(answer)
    return Answer(parts=answers)


def _attributes(text: str, where: str) -> Attributes:
    try:
        return Attributes.parse(text)
    except ValueError as error:
        raise CaseError(f"{where}: {error}") from None


def _commands(bench: Bench, pairs: list[tuple[Number, Number]], where: str) -> Answer:
    commands = [(number(first, f"{where}[{i}][0]"), number(second, f"{where}[{i}][1]")) for i, (first, second) in enumerate(pairs)]
    consumed = bench.smmu.submit(commands)
    error = None if consumed.error is CommandError.CERROR_NONE else consumed.error.name
    return Answer(cmd=Commands(consumed=consumed.count, error=error), resumed=bench.resumed())


def _load(bench: Bench, contents: Contents, where: str) -> None:
    taken: list[tuple[int, int, str]] = []
    for key, words in contents.items():
        place = f"{where}[{key[:40]!r}]"
        address = number(key, place)
        if address & 7:
            raise CaseError(f"{place}: not the address of a 64-bit word")
        bench.words -= len(words)
        if bench.words < 0:
            raise CaseError(f"{where}: more than {caseformat.LARGEST_WORDS} words in one case")
        if words and address + 8 * (len(words) - 1) > WORD_MASK:
            raise CaseError(f"{place}: the words run past the end of the address space")
        taken.append((address, address + 8 * len(words), place))
        for index, word in enumerate(words):
            bench.smmu.memory.write(address + 8 * index, number(word, f"{place}[{index}]"))
    for (_, end, first), (start, _, second) in pairwise(sorted(taken)):
        if start < end:
            raise CaseError(f"{second}: its words are also given by {first}")


def _register(bench: Bench, name: str, value: Number, where: str) -> None:
    place = _place(f"@{name}" if _NUMBER.fullmatch(name) else name, where)
    if place is None:
        raise CaseError(f"{where}: no register {name[:40]!r}")
    offset, size = place
    bench.smmu.write_at(offset, number(value, where, 8 * size), size)


def _place(text: str, where: str) -> tuple[int, int] | None:
    """Offset and size in bytes of a register; None when the text names none.

    ``NAME`` is all of it, ``NAME+0`` and ``NAME+4`` a half of 64 bits; ``@OFFSET`` 4 bytes from the start of page 0, ``@OFFSET:64`` 8.
    """
    if text.startswith("@"):
        offset, _, bits = text[1:].partition(":")
        if bits not in ("", "32", "64"):
            raise CaseError(f"{where}: {bits[:8]!r} is neither 32 nor 64 bits")
        return number(offset, where, 32), 8 if bits == "64" else 4
    name, plus, half = text.upper().removeprefix("SMMU_").partition("+")
    if (found := REGISTERS.get(name) or ABSENT.get(name)) is None:
        return None
    if not plus:
        return found.offset, found.size
    if half not in ("0", "4") or (found.size == 4 and half == "4"):
        raise CaseError(f"{where}: {name} has no half at {half[:8]!r}")
    return found.offset + int(half), 4
