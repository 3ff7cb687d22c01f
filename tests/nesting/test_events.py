"""vEVENTQ: iommufd_viommu_report_event() and iommufd_vevent_handler()."""

from __future__ import annotations

import pytest

from tests.nesting.machine import Guest, Machine, translated
from wizard.arch import event
from wizard.arch.command import Op
from wizard.arch.event import EventType
from wizard.arch.ste import STE
from wizard.nesting import Lost, Veventq
from wizard.nesting.events import Vevent, why_not
from wizard.nesting.invalidate import encode
from wizard.smmu import Transaction

REACH = {  # the case labels of arm_smmu_handle_event()
    EventType.C_BAD_STE, EventType.F_STREAM_DISABLED, EventType.C_BAD_SUBSTREAMID, EventType.C_BAD_CD,
    EventType.F_TRANSLATION, EventType.F_ADDR_SIZE, EventType.F_ACCESS, EventType.F_PERMISSION,
}  # fmt: skip


@pytest.mark.parametrize("kind", list(EventType))
def test_which_events_reach_a_guest(kind: EventType) -> None:
    assert (why_not(event.build(kind, StreamID=8)) is None) == (kind in REACH)


def test_stalled_and_stage_2_events_do_not() -> None:
    assert why_not(event.build(EventType.F_TRANSLATION, Stall=1)) is not None
    assert why_not(event.build(EventType.F_TRANSLATION, S2=1)) is not None


def test_a_full_queue_marks_the_loss_by_the_sequence_number() -> None:
    queue = Veventq(depth=2)
    record = event.build(EventType.F_TRANSLATION, InputAddr=0x1000)
    assert [queue.report(record) for _ in range(5)] == [True, True, False, False, False]
    first, second, lost = queue.read()
    assert isinstance(lost, Lost)
    assert lost.sequence == 4
    assert not isinstance(first, Lost)
    assert not isinstance(second, Lost)
    assert (first.sequence, second.sequence) == (0, 1)
    assert queue.report(record)
    (after,) = queue.read()
    assert not isinstance(after, Lost)
    assert after.sequence == 5


def test_a_new_event_takes_the_place_of_the_mark() -> None:
    """iommufd_vevent_handler() removes a header that is last in the list: then only the gap in the sequence numbers tells of the loss."""
    queue = Veventq(depth=2)
    record = event.build(EventType.F_TRANSLATION)
    for _ in range(4):
        queue.report(record)
    assert [item.sequence for item in queue.read(1)] == [0]
    assert queue.report(record)
    found = queue.read()
    assert [(type(item), item.sequence) for item in found] == [(Vevent, 1), (Vevent, 4)]
    assert queue.read() == ()


def test_sequence_numbers_start_again_behind_int_max() -> None:
    queue = Veventq(depth=4, sequence=0x7FFF_FFFF)
    for _ in range(2):
        queue.report(event.build(EventType.F_TRANSLATION))
    assert [item.sequence for item in queue.read()] == [0x7FFF_FFFF, 0]


def test_a_function_that_was_let_go_reports_to_nobody() -> None:
    """arm_smmu_attach_dev_blocked() clears the vmaster: what the function still causes is the host's alone."""
    device, vsmmu = translated()
    vsmmu.iommufd.detach(device)
    device.smmu.smmu.queue.put(event.build(EventType.F_TRANSLATION, StreamID=0x1300), merge=False)
    assert device.smmu.handle_events() == 0
    assert [logged.Type for logged in device.smmu.log] == [EventType.F_TRANSLATION]
    assert vsmmu.read_events() == ()


def test_a_flood_on_one_page_is_merged_by_the_hardware() -> None:
    """The kernel sets STE.MEV of nested entries; IHI 0070 7.3.1 then lets records merge that differ in InputAddr[11:0] only."""
    device, vsmmu = translated()
    for offset in range(100):
        device.smmu.smmu.translate(Transaction(0x1300, 0x20_0000 + 8 * offset))
    device.smmu.smmu.translate(Transaction(0x1300, 0x20_1000))
    assert device.smmu.handle_events() == 2
    assert len(vsmmu.read_events()) == 2


def test_v_0_is_silent() -> None:
    host = Machine()
    device = host.function(host.smmu(), "a", 0x1300)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(device, 0x900)
    Guest(vsmmu).set(0x900, STE(0))
    vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)])
    outcome = device.smmu.smmu.translate(Transaction(0x1300, 0x20_0000))
    assert not outcome.ok
    assert outcome.event is None
    assert device.smmu.handle_events() == 0
    assert device.smmu.log == []


def test_without_an_entry_qemu_leaves_the_function_where_it_was() -> None:
    """smmuv3_accel_install_ste(): "No STE found, nothing to install"."""
    host = Machine()
    device = host.function(host.smmu(), "a", 0x1300)
    vsmmu = host.vsmmu(host.vm())
    vsmmu.plug(device, 0x900)
    Guest(vsmmu)
    assert vsmmu.consume([encode(Op.CFGI_STE, StreamID=0x900)]).count == 1
    assert device.installed.Config == 6
