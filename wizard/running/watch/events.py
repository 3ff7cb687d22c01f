"""Event records of SMMUs as the kernel prints them, one after the other: whose they are, and where their address lies in the VM."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from wizard.base.text import size
from wizard.facts.logtext import message
from wizard.host.log.events import EventReader
from wizard.host.log.lines import DRIVER, is_error, match, spoken
from wizard.host.log.model import Event
from wizard.running.watch.records import Record, now

RAM = 0x4000_0000
"""Where QEMU's virt machine has its memory (hw/arm/virt.c, base_memmap)."""
MSI_WINDOW = (0x800_0000, 0x810_0000)
"""The RMR of an accelerated vSMMU (hw/arm/virt-acpi-build.c): where a function writes its interrupts."""
_SUPPRESSED = re.compile(r"(\w+): (\d+) callbacks suppressed")
_PROPAGATED = re.compile(r"smmuv3_propagate_event.*?SMMU_EVT_(\w+).*?sid=(0x[0-9a-f]{1,8})")


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a function belongs to at this moment: the VM's name and its memory in bytes (0: not known); both None for the host's own."""

    vm: str | None = None
    memory: int = 0


@dataclass(slots=True)
class KernelEvents:
    """Lines of the kernel's log become records. ``owner`` says who has a function, ``function`` which one has a StreamID behind an SMMU's device.

    A record is printed on up to seven lines; while its end may still come it is kept back until ``flush``.
    """

    owner: Callable[[str], Owner]
    function: Callable[[str, int], str | None]
    smmu: Callable[[str], str]
    _reader: EventReader = field(default_factory=EventReader)

    def read(self, lines: Sequence[str]) -> Iterator[Record]:
        """The records of some lines that are whole."""
        for text in map(message, lines):
            told = spoken(text) if text.startswith(DRIVER) else None
            if told is not None and self._reader.read(told.device, told.text):
                continue
            if told is None and self._reader.bare(text):
                continue
            yield from self.flush()
            if (suppressed := _SUPPRESSED.search(text)) is not None and "smmu" in suppressed[1]:
                yield _lost(f"the kernel printed no more: {text}", int(suppressed[2]))
            elif told is not None and "EVTQ overflow" in told.text:
                yield _lost(f"{self.smmu(told.device)}: {told.text}", 1)
            elif (found := match(text, told)) is not None and is_error(found.kind):
                device = found.device or ""
                owner = self.owner(device)
                yield Record(
                    at=now(), source="kernel", kind=found.kind.leads_to.code, text=found.text, vm=owner.vm,
                    function=device if ":" in device else None, explain=f"smmu-wizard explain {found.kind.leads_to.code}",
                )  # fmt: skip

    @property
    def waits(self) -> bool:
        """Whether something is kept back."""
        return bool(self._reader.events or self._reader.pending)

    def flush(self) -> Iterator[Record]:
        """What was kept back: nothing more came that belongs to it."""
        if not self.waits:
            return
        self._reader.finish()
        reader, self._reader = self._reader, EventReader()
        told: dict[tuple[str, int, int | None], int] = {}
        for event in reader.events:
            key = (event.smmu, event.number, event.stream_id)
            told[key] = told.get(key, 0) + 1
            yield self._record(event)
        for key, count in reader.counts.items():
            if count > told.get(key, 0):
                last = next(event for event in reversed(reader.events) if (event.smmu, event.number, event.stream_id) == key)
                yield self._record(last, count - told[key])

    def _record(self, event: Event, count: int = 1) -> Record:
        stream = event.stream_id
        device = event.client or (self.function(event.smmu, stream) if stream is not None else None)
        owner = self.owner(device) if device is not None else Owner()
        fields = event.record.fields() if event.record is not None else {}
        stage = (2 if fields.get("S2") else 1) if event.whole and "S2" in fields else None
        address, ipa = fields.get("InputAddr"), fields.get("IPA") if stage == 2 else None
        wanted = ipa if ipa is not None else address
        return Record(
            at=now(), source="kernel", kind=event.name, vm=owner.vm, function=device, smmu=self.smmu(event.smmu),
            text=_said(event, stage, address), stream=None if stream is None else f"{stream:#x}", stage=stage,
            address=None if address is None else f"{address:#x}", ipa=None if ipa is None else f"{ipa:#x}",
            place=place(wanted, owner.memory) if owner.vm is not None and wanted is not None else None, count=count,
            explain=f"smmu-wizard explain {event.name}",
        )  # fmt: skip


def _said(event: Event, stage: int | None, address: int | None) -> str:
    where = f" at {address:#x}" if address is not None else ""
    if stage is None:
        return f"{event.name}{where}"
    of = "stage 2, which QEMU maps" if stage == 2 else "stage 1 of the host: the function is not nested, or its guest's SMMU is off"
    return f"{event.name}{where}, {of}"


def place(address: int, memory: int) -> str:
    """Where an address that QEMU's virt machine was given lies in a VM with so much memory (0: not known)."""
    if MSI_WINDOW[0] <= address < MSI_WINDOW[1]:
        return "in the MSI window, which the guest did not map to itself"
    if address < RAM:
        return f"{size(RAM - address)} below the guest's memory, among QEMU's devices"
    if not memory:
        return "how much memory the guest has is not known"
    end = RAM + memory
    if address < end:
        return f"in the guest's memory, {size(address - RAM)} from its start"
    return f"{size(address - end) if address > end else 'right'} beyond the end of the guest's memory"


def _lost(text: str, count: int) -> Record:
    return Record(at=now(), source="kernel", kind="lost", text=text, count=count)


def propagated(lines: Sequence[str], vm: str) -> Iterator[Record]:
    """Faults that QEMU handed to its guest, out of its log: only where its trace event smmuv3_propagate_event is on."""
    for text in lines:
        if (found := _PROPAGATED.search(text)) is not None:
            told = f"{found[1]} of the guest's StreamID {found[2]}, handed to the guest"
            asked = f"smmu-wizard explain {found[1]}"
            yield Record(at=now(), source="qemu", kind=found[1], text=told, vm=vm, stream=found[2], stage=1, explain=asked)
