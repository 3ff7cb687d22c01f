"""Save and restore: all that an SMMU is at one moment, as JSON with a version.

Memory is not the SMMU's: it is saved by itself (``save_memory``), since several SMMUs may share it. What is restored goes on as the saved one would
have, caches included. ``StateError`` for what is no saved state, or one of a version that is not known here.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from wizard.arch.bits import Record
from wizard.arch.cd import CD, L1CD
from wizard.arch.command import CommandError, PriResp
from wizard.arch.event import Event
from wizard.arch.event import decode as decode_event
from wizard.arch.registers import REGISTERS, QueueBase
from wizard.arch.ste import L1STD, STE
from wizard.smmu.cache import Entry, SpaceEntries, Tables, Tlb
from wizard.smmu.config import ConfigurationCache
from wizard.smmu.context import context_of
from wizard.smmu.device import Smmu
from wizard.smmu.ids import Ids
from wizard.smmu.interrupts import Interrupt, Msi
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory
from wizard.smmu.outcome import AtsResponse, Outcome, Transaction
from wizard.smmu.queue import Indices, OutputQueue
from wizard.smmu.validity import ste_illegal, world

__all__ = [
    "VERSION",
    "StateError",
    "restore",
    "restore_memory",
    "save",
    "save_memory",
]  # fmt: skip

VERSION = 1
"""Of both forms. A later version of the program reads earlier ones."""


class StateError(ValueError):
    """What was given is no saved state."""


class QueueState(Struct):
    """A queue: its base register (None: never written), size, indices; of an output queue also what it holds and how it stands."""

    base: int | None
    log2: int
    prod: int
    cons: int
    enabled: bool = False
    overflow: int = 0
    acknowledged: int = 0
    aborted: bool = False
    aside: dict[int, list[int]] = {}


class ContextState(Struct, array_like=True):
    """A cached context: what it was worked out from."""

    sid: int
    ssid: int | None
    ste: STE
    cd: CD | None


class ConfigurationState(Struct):
    """The configuration cache."""

    stes: dict[int, STE]
    cds: dict[int, dict[int, CD]]
    l1stds: dict[int, L1STD]
    l1cds: dict[int, dict[int, L1CD]]
    contexts: list[ContextState]


class TableState(Struct, array_like=True):
    """The remembered tables of one size: level, granule, and of each its upper address bits, its address and the attributes above it."""

    shift: int
    level: int
    granule: int
    tables: list[tuple[int, int, int]]


class SpaceState(Struct):
    """What the TLB holds of one address space. ``spans`` are the sizes of entries in the order that they are looked up in."""

    space: tuple[str, int, int]
    spans: list[int]
    entries: list[Entry]
    tables: list[TableState]


class StallState(Struct):
    """Stalled transactions by tag, those that wait for a record, and the next tag."""

    held: dict[int, Transaction]
    waiting: list[Transaction]
    next_tag: int


class EndpointState(Struct):
    """Translations that endpoints keep, by StreamID and PASID; endpoints that never answer; whether an invalidation is unanswered."""

    held: list[tuple[int, int | None, list[tuple[int, AtsResponse]]]]
    silent: list[int]
    pending: bool


class Told(Struct):
    """What the SMMU has told so far."""

    msis: list[Msi]
    responses: list[PriResp]
    executed: int
    resumed: list[tuple[Transaction, Outcome]]
    edges: list[Interrupt] = []


class State(Struct, tag="smmu-wizard-smmu", tag_field="state"):
    """Everything of one SMMU; ``tlb`` and ``configuration`` None: it has none."""

    version: int
    ids: Ids
    gbpa: int | None
    registers: dict[str, int]
    commands: QueueState
    command_error: CommandError
    events: QueueState
    lost: int
    merged: int
    last: Event | None
    requests: QueueState
    stalls: StallState
    endpoints: EndpointState
    told: Told
    tlb: list[SpaceState] | None
    configuration: ConfigurationState | None
    written: int = 0


class MemoryState(Struct, tag="smmu-wizard-memory", tag_field="state"):
    """Memory: what reads as zero where nothing was written, and the pages that were written, by number."""

    version: int
    ram: list[tuple[int, int]]
    pages: dict[int, bytes]


# -- saved ------------------------------------------------------------------------------------------------------------


def state_of(smmu: Smmu) -> State:
    """Everything of an SMMU but its memory."""
    commands, stalls, endpoints = smmu.commands, smmu.report.stalls, smmu.endpoints
    return State(
        version=VERSION,
        ids=smmu.ids,
        gbpa=smmu.gbpa,
        registers=dict(smmu.registers.values),
        commands=QueueState(_value(commands.base), commands.indices.log2, commands.indices.prod, commands.indices.cons),
        command_error=commands.error,
        events=_queue(smmu.queue),
        lost=smmu.queue.lost,
        merged=smmu.queue.merged,
        last=smmu.queue.last,
        requests=_queue(smmu.requests),
        stalls=StallState(dict(stalls.held), list(stalls.waiting), stalls.next_tag),
        endpoints=EndpointState(
            [(sid, ssid, list(held)) for (sid, ssid), held in endpoints.held.items()], sorted(endpoints.silent), endpoints.pending
        ),
        told=Told(
            list(smmu.msis), list(smmu.responses), smmu.executed,
            [(transaction, msgspec.structs.replace(outcome, trace=None)) for transaction, outcome in smmu.resumed], list(smmu.edges),
        ),
        tlb=_tlb(smmu.tlb) if smmu.tlb is not None else None,
        configuration=_configuration(smmu.configuration_cache) if smmu.configuration_cache is not None else None,
        written=smmu.queue.written,
    )  # fmt: skip


def save(smmu: Smmu) -> bytes:
    """An SMMU as JSON, without its memory."""
    return encode(state_of(smmu))


def save_memory(memory: Memory) -> bytes:
    """Memory as JSON: every page that was written, and where memory reads as zero."""
    return encode(memory_state(memory))


def memory_state(memory: Memory) -> MemoryState:
    """The pages of a memory; those that read as zero anyhow are left out."""
    nothing = bytes(PAGE_BYTES)
    pages = {number: page.tobytes() for number, page in memory.pages.items()}
    inside = [(start, end) for start, end in memory.ram]
    kept = {n: data for n, data in pages.items() if data != nothing or not any(s <= n << PAGE_SHIFT < e for s, e in inside)}
    return MemoryState(VERSION, inside, kept)


def _value(base: QueueBase | None) -> int | None:
    return None if base is None else base.value


def _queue(queue: OutputQueue) -> QueueState:
    indices = queue.indices
    return QueueState(
        _value(queue.base), indices.log2, indices.prod, indices.cons, queue.enabled, queue.overflow, queue.acknowledged, queue.aborted,
        {slot: list(words) for slot, words in queue.aside.items()},
    )  # fmt: skip


def _tlb(tlb: Tlb) -> list[SpaceState]:
    listed = []
    for space in sorted({**tlb.entries, **tlb.tables}):
        by_span = tlb.entries[space].by_span if space in tlb.entries else {}
        entries = [entry for held in by_span.values() for entry in held.values()]
        listed.append(SpaceState(space, list(by_span), entries, _tables(tlb.tables[space]) if space in tlb.tables else []))
    return listed


def _tables(tables: Tables) -> list[TableState]:
    held = [(shift, found) for shift, found in sorted(tables.held.items()) if found]
    return [TableState(shift, *tables.shape[shift], [(prefix, *walk) for prefix, walk in found.items()]) for shift, found in held]


def _configuration(cache: ConfigurationCache) -> ConfigurationState:
    contexts = [ContextState(sid, ssid, one.ste, one.cd) for sid, by in cache.contexts.items() for ssid, one in by.items()]
    cds, l1cds = {sid: dict(held) for sid, held in cache.cds.items()}, {sid: dict(held) for sid, held in cache.l1cds.items()}
    return ConfigurationState(dict(cache.stes), cds, dict(cache.l1stds), l1cds, contexts)


# -- restored ---------------------------------------------------------------------------------------------------------


def restore(data: bytes | str, memory: Memory) -> Smmu:
    """The SMMU that was saved, on ``memory``."""
    return smmu_of(decode(data, State), memory)


def smmu_of(state: State, memory: Memory) -> Smmu:
    """The SMMU of a state, on ``memory``."""
    _known(state.version)
    caches = {"tlb": state.tlb is not None, "configuration_cache": state.configuration is not None}
    try:
        smmu = Smmu(state.ids, memory, **caches, gbpa=state.gbpa)
    except ValueError as error:
        raise StateError(f"the saved SMMU can't be: {error}") from None
    put(smmu, state)
    return smmu


def put(smmu: Smmu, state: State) -> None:
    """Make an SMMU that is there what it was when the state was saved. ``StateError`` where the state is another SMMU's, by its ID registers."""
    _known(state.version)
    if (smmu.ids, smmu.gbpa) != (state.ids, state.gbpa) or (smmu.tlb is None, smmu.configuration_cache is None) != (
        state.tlb is None, state.configuration is None,
    ):  # fmt: skip
        raise StateError("the saved SMMU has other ID registers, another GBPA after a reset or other caches than this one")
    try:
        _put(smmu, state)
    except (KeyError, ValueError) as error:
        smmu.reset()
        raise StateError(f"the saved SMMU makes no sense: {error}") from None


def restore_memory(data: bytes | str) -> Memory:
    """The memory that was saved."""
    return memory_of(decode(data, MemoryState))


def memory_of(state: MemoryState) -> Memory:
    """The memory of a state."""
    _known(state.version)
    memory = Memory(state.ram)
    for number, content in state.pages.items():
        if len(content) != PAGE_BYTES or not 0 <= number < 1 << 64 - PAGE_SHIFT:
            raise StateError(f"page {number:#x} has {len(content)} bytes")
        memory.pages[number] = array("Q", content)
    return memory


def _known(version: int) -> None:
    if version != VERSION:
        raise StateError(f"this is version {version} of a saved state, and version {VERSION} is known here")


def _put(smmu: Smmu, state: State) -> None:
    smmu.reset()
    for name, value in state.registers.items():
        REGISTERS[name].layout(value)
    smmu.registers.load({**smmu.registers.values, **state.registers})
    commands = smmu.commands
    commands.base, commands.error = _base(state.commands), state.command_error
    _index(commands.indices, state.commands, smmu.features.cmdqs)
    _fill(smmu.queue, state.events)
    smmu.queue.written, smmu.queue.lost, smmu.queue.merged, smmu.queue.last = state.written, state.lost, state.merged, state.last
    _fill(smmu.requests, state.requests)
    stalls = smmu.report.stalls
    stalls.held, stalls.waiting, stalls.next_tag = dict(state.stalls.held), list(state.stalls.waiting), state.stalls.next_tag & 0xFFFF
    endpoints = smmu.endpoints
    if any(not 0 <= response.size <= 64 for _, _, held in state.endpoints.held for _, response in held):
        raise StateError("an endpoint keeps a translation of a size that there is not")
    endpoints.held = {(sid, ssid): list(held) for sid, ssid, held in state.endpoints.held}
    endpoints.silent, endpoints.pending = set(state.endpoints.silent), state.endpoints.pending
    smmu.interrupts.edges, smmu.interrupts.msis, smmu.executor.responses = list(state.told.edges), list(state.told.msis), list(state.told.responses)
    smmu.executor.executed, smmu.report.resumed = state.told.executed, list(state.told.resumed)
    if smmu.tlb is not None and state.tlb is not None:
        _fill_tlb(smmu.tlb, state.tlb)
    if smmu.configuration_cache is not None and state.configuration is not None:
        _fill_configuration(smmu, smmu.configuration_cache, state.configuration)


def _base(queue: QueueState) -> QueueBase | None:
    return None if queue.base is None else QueueBase(queue.base)


def _index(indices: Indices, queue: QueueState, largest: int) -> None:
    if not 0 <= queue.log2 <= largest:
        raise StateError(f"a queue of 2^{queue.log2} entries, where the SMMU has 2^{largest}")
    indices.resize(queue.log2)
    indices.prod, indices.cons = indices.known(queue.prod), indices.known(queue.cons)


def _fill(queue: OutputQueue, state: QueueState) -> None:
    queue.base = _base(state)
    _index(queue.indices, state, queue.largest)
    queue.enabled, queue.aborted, queue.overflow, queue.acknowledged = state.enabled, state.aborted, state.overflow & 1, state.acknowledged & 1
    queue.aside = {slot: tuple(words) for slot, words in state.aside.items()}


def _fill_tlb(tlb: Tlb, spaces: list[SpaceState]) -> None:
    for one in spaces:
        held = tlb.entries[one.space] = SpaceEntries()
        if not all(0 <= span <= 64 for span in one.spans):
            raise StateError("cached translations of a size that there is not")
        # The first size that has an entry answers: overlapping ones are told apart by this order alone.
        held.by_span = {span: {} for span in one.spans}
        for entry in one.entries:
            if not all(0 <= bits <= 64 for bits in (entry.span, entry.reach)) or any(not 0 <= at < 1 << 64 for at in (entry.start, entry.ipa)):
                raise StateError(f"a cached translation of 2^{entry.span} bytes at {entry.start:#x}")
            _physical(entry.output)
            held.add(entry)
        for remembered in one.tables:
            walks = tlb.walks(one.space)
            for prefix, base, above in remembered.tables:
                _physical(base)
                if not 0 <= remembered.shift <= 64:
                    raise StateError(f"a remembered table of 2^{remembered.shift} bytes")
                walks.put(remembered.shift, prefix, (base, above), remembered.level, remembered.granule)


def _physical(address: int) -> None:
    if not 0 <= address < 1 << 52:
        raise StateError(f"{address:#x} is no physical address")


def _fill_configuration(smmu: Smmu, cache: ConfigurationCache, state: ConfigurationState) -> None:
    # Copies: a state may be put back more than once.
    cache.stes, cache.l1stds = dict(state.stes), dict(state.l1stds)
    cache.cds = {sid: dict(held) for sid, held in state.cds.items()}
    cache.l1cds = {sid: dict(held) for sid, held in state.l1cds.items()}
    for one in state.contexts:
        if (why := ste_illegal(one.ste, smmu.features)) is not None:
            raise StateError(f"a cached context of StreamID {one.sid:#x} has an ILLEGAL entry: {why}")
        stream_world = world(one.ste, smmu.features, bool(smmu.registers.cr2.E2H))
        context = context_of(one.ste, one.cd, stream_world, smmu.features, skip_stage1=False)
        cache.contexts.setdefault(one.sid, {})[one.ssid] = context


# -- JSON -------------------------------------------------------------------------------------------------------------

_S = TypeVar("_S", bound=Struct)


def encode(state: Struct) -> bytes:
    """A state as JSON; structures of the architecture are their value in hexadecimal."""
    return msgspec.json.encode(state, enc_hook=_hexadecimal)


def decode(data: bytes | str, kind: type[_S]) -> _S:
    """A state out of JSON; ``StateError`` for what is none."""
    try:
        return msgspec.json.decode(data, type=kind, dec_hook=_record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"this is no saved state: {error}") from None


def _hexadecimal(value: object) -> str:
    if isinstance(value, Record):
        return f"{value.value:#x}"
    raise NotImplementedError(f"{type(value).__name__} can't be saved")


def _record(kind: type[Any], text: object) -> Record:
    make: Callable[[int], Record] = decode_event if kind is Event else kind
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no hexadecimal value")
    return make(int(text, 16))
