"""A machine as far as its SMMUs see it: one memory, SMMUs at their addresses, and devices whose accesses carry data.

    machine = Machine()
    machine.add("smmu0", Ids.everything(), base=0x0905_0000)
    machine.store(0x4000_0000, b"…"); machine.write(0x0905_0020, 0xD, 4)
    [moved] = machine.dma("smmu0", Transaction(sid=8, iova=0x1000), size=4)
    moved.data, moved.outcome.how; machine.news()

A bus in front of them: ``load``, ``store``, ``read`` and ``write`` reach the registers of an SMMU or memory, whichever is there.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from wizard.arch.command import PriResp
from wizard.arch.event import Event
from wizard.arch.registers import PAGE_1
from wizard.smmu.device import Smmu
from wizard.smmu.ids import Ids
from wizard.smmu.interrupts import Msi
from wizard.smmu.memory import PAGE_BYTES, Memory, by_page
from wizard.smmu.outcome import How, Outcome, Transaction
from wizard.smmu.shared import SharedMemory
from wizard.smmu.state import VERSION, MemoryState, State, StateError, decode, encode, memory_of, memory_state, put, smmu_of, state_of

__all__ = [
    "LARGEST_ACCESS",
    "Edge",
    "Ended",
    "Machine",
    "Message",
    "Moved",
    "News",
    "NothingAnswers",
    "Responded",
]  # fmt: skip

FIRST_BASE = 0x0905_0000
"""Where the first SMMU is unless it is said: as in QEMU's ``virt`` (hw/arm/virt.c, VIRT_SMMU)."""
WINDOW = 2 * PAGE_1
"""Bytes of an SMMU's registers: pages 0 and 1 (6.1)."""
LARGEST_ACCESS = 1 << 20
"""Bytes that one access of a device carries."""


def _little(words: array[int]) -> array[int]:
    """Words as this machine has them to words as the SMMU's memory has them, and back."""
    if sys.byteorder != "little":
        words.byteswap()
    return words


class NothingAnswers(LookupError):
    """Neither memory nor an SMMU is at ``address``."""

    def __init__(self, address: int) -> None:
        super().__init__(f"nothing answers at {address:#x}")
        self.address = address


class Moved(Struct, frozen=True):
    """What became of an access, or of its part in one 4 KiB page: ``size`` bytes from ``iova`` on.

    ``data`` is what a read brought back. ``reached`` says whether memory answered at the output address: an access that may pass can still meet
    nothing there.
    """

    iova: int
    size: int
    outcome: Outcome
    reached: bool = False
    data: bytes | None = None


class Message(Struct, frozen=True):
    """An SMMU has written a message (MSI)."""

    smmu: str
    msi: Msi


class Edge(Struct, frozen=True):
    """An edge on an interrupt wire of an SMMU: ``source`` is ``SYNC``, ``EVENTQ``, ``GERROR`` or ``PRIQ``. A message may go with it."""

    smmu: str
    source: str


class Recorded(Struct, frozen=True):
    """A record was written to the event queue of an SMMU, where software finds it."""

    smmu: str
    event: Event


class Ended(Struct, frozen=True):
    """An access that was stalled has ended."""

    smmu: str
    transaction: Transaction
    moved: Moved


class Responded(Struct, frozen=True):
    """A CMD_PRI_RESP was executed: the response goes to its endpoint."""

    smmu: str
    response: PriResp


News = Recorded | Edge | Message | Ended | Responded


@dataclass(slots=True)
class Placed:
    """An SMMU and where its registers are; how much of what it has told was passed on."""

    smmu: Smmu
    base: int
    told: tuple[int, int, int] = (0, 0, 0)
    written: int = 0
    waiting: list[tuple[Transaction, int, bytes | None]] = field(default_factory=list)


class PlacedState(Struct):
    """A ``Placed`` as it is saved."""

    base: int
    state: State
    waiting: list[tuple[Transaction, int, bytes | None]]


class MachineState(Struct, tag="smmu-wizard-machine", tag_field="state"):
    """A machine as it is saved."""

    version: int
    memory: MemoryState
    smmus: dict[str, PlacedState]


class Machine:
    """One memory and its SMMUs by name, each with StreamIDs of its own. ``memory`` without contents and SMMUs unless it is given."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory if memory is not None else Memory()
        self.smmus: dict[str, Placed] = {}

    def add(self, name: str, ids: Ids | None = None, base: int | None = None, *, caches: bool = True, gbpa: int | None = None) -> Smmu:
        """Put an SMMU into the machine; ``ids`` are QEMU's unless they are given, ``base`` the next free address.

        ``ValueError`` for a name that is taken, and for a base that is not one of 64 KiB pages, or where something else is.
        """
        if base is None:
            base = max((placed.base + WINDOW for placed in self.smmus.values()), default=FIRST_BASE)
        if name in self.smmus:
            raise ValueError(f"there is an SMMU {name} already")
        if base % PAGE_1 or not 0 <= base <= (1 << 64) - WINDOW:
            raise ValueError(f"registers of an SMMU can't be at {base:#x}: two pages of 64 KiB")
        for start, end in [*((placed.base, placed.base + WINDOW) for placed in self.smmus.values()), *self.ranges()]:
            if base < end and start < base + WINDOW:
                raise ValueError(f"{base:#x} is taken: something is from {start:#x} to {end:#x}")
        smmu = self._made(ids or Ids(), caches=caches, gbpa=gbpa)
        self.smmus[name] = Placed(smmu, base)
        return smmu

    def _made(self, ids: Ids, *, caches: bool, gbpa: int | None) -> Smmu:
        return Smmu(ids, self.memory, tlb=caches, configuration_cache=caches, gbpa=gbpa)

    def __getitem__(self, name: str) -> Smmu:
        """The SMMU of a name; ``KeyError`` for none."""
        return self.smmus[name].smmu

    # -- the bus ------------------------------------------------------------------------------------------------------

    def _at(self, address: int) -> tuple[Smmu, int] | None:
        for placed in self.smmus.values():
            if 0 <= address - placed.base < WINDOW:
                return placed.smmu, address - placed.base
        return None

    def is_register(self, address: int) -> bool:
        """Whether an address lies in the registers of an SMMU."""
        return self._at(address) is not None

    def ranges(self) -> list[tuple[int, int]]:
        """Where there is memory, each as start and end: what reads as zero until it is written, and what is shared with others."""
        windows = self.memory.windows if isinstance(self.memory, SharedMemory) else []
        return sorted([*self.memory.ram, *((one.start, one.start + one.size) for one in windows)])

    def load(self, address: int, size: int) -> bytes:
        """``size`` bytes at an address; ``NothingAnswers`` where part of it is nowhere. Registers answer 4 and 8 aligned bytes, others as zero."""
        if (found := self._at(address)) is not None:
            return found[0].read_at(found[1], size).to_bytes(size, "little")
        return b"".join(self._load(part, length) for part, length in by_page(address, size))

    def _load(self, address: int, size: int) -> bytes:
        if not self.memory.answers(address) or address + size > 1 << 64:
            raise NothingAnswers(address)
        first, last = address & ~7, (address + size + 7) & ~7
        words = array("Q", self.memory.read_words(first, (last - first) // 8) or ())
        return _little(words).tobytes()[address - first :][:size]

    def store(self, address: int, data: bytes) -> None:
        """Store bytes at an address; ``NothingAnswers`` where part of it is nowhere, and nothing is stored then."""
        if (found := self._at(address)) is not None:
            found[0].write_at(found[1], int.from_bytes(data, "little"), len(data))
            return
        parts = list(by_page(address, len(data)))
        for part, length in parts:
            if not self.memory.answers(part) or part + length > 1 << 64:
                raise NothingAnswers(part)
        for part, length in parts:
            self._store(part, data[part - address : part - address + length])

    def _store(self, address: int, data: bytes) -> None:
        first, last = address & ~7, (address + len(data) + 7) & ~7
        held = bytearray(self._load(first, last - first)) if (first, last) != (address, address + len(data)) else bytearray(len(data))
        held[address - first : address - first + len(data)] = data
        at = (first & PAGE_BYTES - 1) >> 3
        self.memory.page(first)[at : at + (last - first) // 8] = _little(array("Q", bytes(held)))

    def read(self, address: int, size: int) -> int:
        """The number of ``size`` bytes at an address, little-endian; ``NothingAnswers`` where nothing is."""
        return int.from_bytes(self.load(address, size), "little")

    def write(self, address: int, value: int, size: int) -> None:
        """Store a number of ``size`` bytes; ``ValueError`` for one that does not fit, ``NothingAnswers`` where nothing is."""
        if not 0 <= value < 1 << 8 * size:
            raise ValueError(f"{value:#x} does not fit {size} bytes")
        self.store(address, value.to_bytes(size, "little"))

    # -- devices ------------------------------------------------------------------------------------------------------

    def dma(self, name: str, transaction: Transaction, size: int = 4, data: bytes | None = None) -> list[Moved]:
        """An access of a device behind an SMMU, in the parts that it arrives in (``Smmu.access``).

        A write stores ``data`` (which says its size); without data nothing is stored. ``KeyError`` for no such SMMU, ``ValueError`` for more than
        ``LARGEST_ACCESS`` bytes and what ``Smmu.access`` does not take.
        """
        placed = self.smmus[name]
        size = len(data) if data is not None else size
        if size > LARGEST_ACCESS:
            raise ValueError(f"an access carries {LARGEST_ACCESS} bytes at most, not {size}")
        moved = []
        for part in placed.smmu.access(transaction, size):
            at = part.iova - transaction.iova
            given = data[at : at + part.size] if data is not None and transaction.write else None
            moved.append(self._move(transaction.write, part.iova, part.size, given, part.outcome))
            if part.outcome.how is How.STALLED:
                placed.waiting.append((msgspec.structs.replace(transaction, iova=part.iova), part.size, given))
        return moved

    def _move(self, write: bool, iova: int, size: int, data: bytes | None, outcome: Outcome) -> Moved:
        if outcome.how is How.RAZWI:
            return Moved(iova, size, outcome, False, None if write else bytes(size))
        if outcome.pa is None:
            return Moved(iova, size, outcome)
        if not self.memory.answers(outcome.pa):
            return Moved(iova, size, outcome)
        if not write:
            return Moved(iova, size, outcome, True, self._load(outcome.pa, size))
        if data is not None:
            self._store(outcome.pa, data)
        return Moved(iova, size, outcome, True)

    # -- what the SMMUs say -------------------------------------------------------------------------------------------

    def news(self, *, forget: bool = False) -> list[News]:
        """What the SMMUs have said since it was last asked, each SMMU's in its order; ``forget`` also empties their own lists of it."""
        found: list[News] = []
        for name, placed in self.smmus.items():
            found += self._news(name, placed)
            if forget:
                for told in (placed.smmu.edges, placed.smmu.msis, placed.smmu.resumed, placed.smmu.responses):
                    told.clear()
                placed.told = (0, 0, 0)
        return found

    def _news(self, name: str, placed: Placed) -> Iterator[News]:
        smmu, (edges, ended, responses) = placed.smmu, placed.told
        # Fewer than were told of: the SMMU was reset, and the queue begins anew.
        known = placed.written if placed.written <= smmu.queue.written else 0
        yield from (Recorded(name, event) for event in smmu.queue.newest(smmu.queue.written - known))
        placed.written = smmu.queue.written
        for interrupt in smmu.edges[edges:]:
            yield Edge(name, interrupt.source)
            if interrupt.msi is not None:
                yield Message(name, interrupt.msi)
        yield from (Responded(name, response) for response in smmu.responses[responses:])
        for transaction, outcome in smmu.resumed[ended:]:
            size, data = self._waited(placed, transaction)
            yield Ended(name, transaction, self._move(transaction.write, transaction.iova, size, data, outcome))
        placed.told = len(smmu.edges), len(smmu.resumed), len(smmu.responses)

    @staticmethod
    def _waited(placed: Placed, transaction: Transaction) -> tuple[int, bytes | None]:
        """Size and data of a stalled access; the bytes of one that came past the machine are not known."""
        for index, (waiting, size, data) in enumerate(placed.waiting):
            if waiting == transaction:
                del placed.waiting[index]
                return size, data
        return 0, None

    # -- reset, save and restore --------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset every SMMU (``Smmu.reset``). Memory stays."""
        for placed in self.smmus.values():
            placed.smmu.reset()
            placed.written = 0

    def save(self) -> bytes:
        """The machine as JSON: SMMUs, stalled accesses and memory; of windows that are shared nothing, they are somebody else's."""
        memory = memory_state(self.memory)
        if isinstance(self.memory, SharedMemory):
            memory.pages = {number: page for number, page in memory.pages.items() if not self.memory.shared(number)}
        smmus = {name: PlacedState(one.base, state_of(one.smmu), list(one.waiting)) for name, one in self.smmus.items()}
        return encode(MachineState(VERSION, memory, smmus))

    def restore(self, data: bytes | str) -> None:
        """Make this machine, its memory and its SMMUs what they were when it was saved; ``StateError`` where that was another machine."""
        state = decode(data, MachineState)
        memory = memory_of(state.memory)
        if {name: one.base for name, one in state.smmus.items()} != {name: one.base for name, one in self.smmus.items()}:
            raise StateError("the saved machine has other SMMUs, or at other addresses, than this one")
        if memory.ram != self.memory.ram:
            raise StateError("the saved machine has other memory than this one")
        for name, one in state.smmus.items():
            # All of them are looked at before the first is changed.
            if smmu_of(one.state, memory).ids != self.smmus[name].smmu.ids:
                raise StateError(f"the saved {name} has other ID registers than this one")
        shared = self.memory.shared if isinstance(self.memory, SharedMemory) else lambda number: False
        for number in [number for number in self.memory.pages if not shared(number)]:
            del self.memory.pages[number]
        self.memory.pages.update(memory.pages)
        for name, one in state.smmus.items():
            placed = self.smmus[name]
            put(placed.smmu, one.state)
            placed.waiting = list(one.waiting)
            placed.told = len(placed.smmu.edges), len(placed.smmu.resumed), len(placed.smmu.responses)
            placed.written = placed.smmu.queue.written

    @classmethod
    def of(cls, data: bytes | str) -> Machine:
        """A machine that was saved, on memory of its own."""
        state = decode(data, MachineState)
        machine = cls(memory_of(state.memory))
        for name, one in state.smmus.items():
            caches = one.state.tlb is not None
            machine.add(name, one.state.ids, one.base, caches=caches, gbpa=one.state.gbpa)
        machine.restore(data)
        return machine
