"""QEMU's SMMUv3 and the simulated one side by side: the same registers, memory and commands go to both, each DMA is held against the other.

The dry run's guest (``wizard.dryrun.guest``) drives the pair as it drives a vSMMU of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wizard.arch.command import COMMAND_BYTES, CommandError
from wizard.arch.event import EVENT_BYTES, Event, EventType, decode
from wizard.arch.registers import CR0, CR2, GERROR, REGISTERS, CmdqCons, QueueBase, QueueCons, QueueProd, StrtabBase, StrtabBaseCfg
from wizard.nesting.invalidate import Words
from wizard.rehearsal.qtest import Qtest
from wizard.smmu import Consumed, Ids, Outcome, Smmu, Transaction
from wizard.smmu.memory import PAGE_BYTES, PAGE_SHIFT, Memory, by_page

_IDS = {"idr0": 0x00, "idr1": 0x04, "idr3": 0x0C, "idr5": 0x14, "aidr": 0x1C}
_LOG2 = 7
_QUEUES = 1 << 16
"""Where in guest memory the queues lie, from its start: below everything that the guest of a dry run uses."""


class Mirror:
    """Guest memory of both: what is written is kept for the simulated SMMU and brought to QEMU before anybody looks."""

    def __init__(self, qtest: Qtest, start: int, size: int) -> None:
        self._qtest = qtest
        self.memory = Memory(((start, start + size),))
        self._changed: set[int] = set()
        self._held: set[int] = set()

    def read(self, address: int) -> int | None:
        """The word at ``address``, None outside memory."""
        return self.memory.read(address)

    def write(self, address: int, word: int) -> None:
        """Store a word."""
        self.memory.write(address, word)
        self._changed.add(address >> PAGE_SHIFT)

    def zero(self, address: int, size: int) -> None:
        """Zero a part of memory."""
        self.memory.zero(address, size)
        self._changed |= {part >> PAGE_SHIFT for part, _ in by_page(address, size)} & self.memory.pages.keys()

    def flush(self) -> None:
        """Bring to QEMU what has changed."""
        for number in sorted(self._changed):
            self._qtest.store(number << PAGE_SHIFT, self.memory.pages[number].tobytes())
        self._held |= self._changed
        self._changed.clear()

    def clear(self) -> None:
        """All zero again, in both."""
        for number in self._held:
            self._qtest.store(number << PAGE_SHIFT, bytes(PAGE_BYTES))
        self._held.clear()
        self._changed.clear()
        self.memory.pages.clear()


class Differs(Exception):
    """The two SMMUs did not do the same with a batch of commands; the text is a clause."""


class Twin:
    """One vSMMU of the rehearsal: QEMU's at ``base``, and a simulated one with the ID registers that QEMU's shows."""

    def __init__(self, qtest: Qtest, base: int, memory: Mirror, start: int) -> None:
        self._qtest, self._base, self._memory = qtest, base, memory
        self.ids = Ids(**{name: qtest.read(base + offset, 32) for name, offset in _IDS.items()})
        self.simulated = Smmu(self.ids, memory.memory)
        self.strtab_base, self.strtab_cfg = StrtabBase(0), StrtabBaseCfg(0)
        self._commands, self._events = start + _QUEUES, start + 2 * _QUEUES
        self._prod = self._seen = 0
        for name, address in (("CMDQ_BASE", self._commands), ("EVENTQ_BASE", self._events)):
            self._register(name, QueueBase.build(LOG2SIZE=_LOG2, ADDR=address).value)
        self._both("CR2", CR2.build(RECINVSID=1).value)

    @property
    def memory(self) -> Mirror:
        """Guest memory of both."""
        return self._memory

    # -- registers and commands, as the guest's driver uses them ------------------------------------------------------

    def _register(self, name: str, value: int) -> None:
        register = REGISTERS[name]
        self._qtest.write(self._base + register.offset, value, register.layout.bits)

    def _read(self, name: str) -> int:
        register = REGISTERS[name]
        return self._qtest.read(self._base + register.offset, register.layout.bits)

    def _both(self, name: str, value: int) -> None:
        self._register(name, value)
        self.simulated.write(name, value)

    def write_cr0(self, value: int) -> None:
        """CR0, with the stream table's place before it."""
        self._memory.flush()
        if CR0(value).SMMUEN:
            self._both("STRTAB_BASE", self.strtab_base.value)
            self._both("STRTAB_BASE_CFG", self.strtab_cfg.value)
        self._both("CR0", value)

    def consume(self, commands: Sequence[Words]) -> Consumed:
        """Both consume the commands; ``Differs`` when they get a different way."""
        self._memory.flush()
        ours = self.simulated.submit(commands)
        for dword0, dword1 in commands:
            data = dword0.to_bytes(8, "little") + dword1.to_bytes(8, "little")
            self._qtest.store(self._commands + (self._prod & (1 << _LOG2) - 1) * COMMAND_BYTES, data)
            self._prod = (self._prod + 1) & (2 << _LOG2) - 1
            self._register("CMDQ_PROD", QueueProd.build(WR=self._prod).value)
        cons = CmdqCons(self._read("CMDQ_CONS"))
        failed = GERROR(self._read("GERROR")).CMDQ_ERR != GERROR(self._read("GERRORN")).CMDQ_ERR
        error = CommandError(cons.ERR) if failed else CommandError.CERROR_NONE
        count = len(commands) - ((self._prod - cons.RD) & (2 << _LOG2) - 1)
        if (count, error) != (ours.count, ours.error):
            raise Differs(f"QEMU consumed {count} of {len(commands)} commands ({error.name}), the simulated SMMU {ours.count} ({ours.error.name})")
        return ours

    # -- DMA ----------------------------------------------------------------------------------------------------------

    def expected(self, sid: int, iova: int, *, write: bool) -> Outcome:
        """What the simulated SMMU makes of an access."""
        self._memory.flush()
        return self.simulated.translate(Transaction(sid=sid, iova=iova, write=write))

    def records(self, act: Callable[[], None]) -> list[Event]:
        """What QEMU's SMMU records while ``act`` runs; both event queues are empty afterwards."""
        act()
        self.simulated.events()
        end = QueueProd(self._read("EVENTQ_PROD")).WR
        found = []
        while self._seen != end:
            record = self._qtest.load(self._events + (self._seen & (1 << _LOG2) - 1) * EVENT_BYTES, EVENT_BYTES)
            found.append(decode(Event.of_bytes(record).value))
            self._seen = (self._seen + 1) & (2 << _LOG2) - 1
        self._register("EVENTQ_CONS", QueueCons.build(RD=self._seen).value)
        return found


def described(event: Event) -> str:
    """A record as far as the two are compared: number, stage, class, address, direction, StreamID."""
    name = EventType(event.Type).name if event.Type in set(EventType) else f"event {event.Type:#x}"
    fields = event.fields()
    where = f" at {fields['InputAddr']:#x}" if "InputAddr" in fields else ""
    way = f" on a {'read' if fields['RnW'] else 'write'}" if "RnW" in fields else ""
    stage = " of stage 2" if fields.get("S2") else ""
    return f"ends in {name}{where}{way}{stage}, StreamID {event.StreamID:#x}"
