"""Events on their way to a guest: arm_smmu_handle_event(), arm_vmaster_report_event(), iommufd_viommu_report_event().

What does not go to a guest is printed in the host's log (arm_smmu_dump_event()), rate-limited.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from wizard.arch.event import Event, EventType

HANDLED = frozenset({
    EventType.C_BAD_STE, EventType.F_STREAM_DISABLED, EventType.C_BAD_SUBSTREAMID, EventType.C_BAD_CD,
    EventType.F_TRANSLATION, EventType.F_ADDR_SIZE, EventType.F_ACCESS, EventType.F_PERMISSION,
})  # fmt: skip
"""Event numbers that arm_smmu_handle_event() looks at; fetch faults, walk aborts and bad StreamIDs are the host's alone."""


@dataclass(frozen=True, slots=True)
class Vevent:
    """One record as the VMM reads it: the hardware's, with the vSID in place of the StreamID."""

    sequence: int
    event: Event


@dataclass(frozen=True, slots=True)
class Lost:
    """IOMMU_VEVENTQ_FLAG_LOST_EVENTS: what was to come up to ``sequence`` was dropped since the queue was full."""

    sequence: int


@dataclass(slots=True)
class Veventq:
    """A vEVENTQ of ``depth`` events. When it is full a marker stands at its end, and each lost event raises the sequence number."""

    depth: int
    deliver: deque[Vevent] = field(default_factory=deque)
    marker: int | None = None
    sequence: int = 0
    lost: int = 0

    def report(self, event: Event) -> bool:
        """Queue an event; False when it is lost."""
        sequence = self.sequence
        self.sequence = (sequence + 1) & 0x7FFF_FFFF
        if len(self.deliver) >= self.depth:
            self.marker = sequence
            self.lost += 1
            return False
        # The marker is a link at the end of the list; a new event takes its place (iommufd_vevent_handler()).
        self.marker = None
        self.deliver.append(Vevent(sequence, event))
        return True

    def read(self, most: int | None = None) -> tuple[Vevent | Lost, ...]:
        """What is queued, in order, as read() hands it out (iommufd_veventq_deliver_fetch()); ``most`` is what the reader has room for."""
        found: list[Vevent | Lost] = []
        while self.deliver and (most is None or len(found) < most):
            found.append(self.deliver.popleft())
        if not self.deliver and self.marker is not None and (most is None or len(found) < most):
            found.append(Lost(self.marker))
            self.marker = None
        return tuple(found)


def stalled(event: Event) -> bool:
    """Whether the transaction waits for CMD_RESUME: then the event is a page request, not a report."""
    stall = event.layout.get("Stall")
    return bool(stall and stall.get(event.value))


def stage2(event: Event) -> bool:
    """Whether the host's own stage 2 faulted."""
    second = event.layout.get("S2")
    return bool(second and second.get(event.value))


def why_not(event: Event) -> str | None:
    """Why a record never goes to a guest, or None when it may."""
    if event.Type not in HANDLED:
        name = EventType(event.Type).name if event.Type in set(EventType) else f"event {event.Type:#x}"
        return f"{name} is not handled in arm_smmu_handle_event()"
    if stalled(event):
        return "a stalled transaction is a page request (iommu_report_device_fault())"
    if stage2(event):
        return "stage 2 faulted, which is the host's table"
    return None
