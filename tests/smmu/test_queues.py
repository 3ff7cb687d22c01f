"""Queues, GERROR, merging and MSIs: IHI 0070 3.5, 3.18, 7.1 to 7.3.1."""

from __future__ import annotations

import pytest

from tests.smmu.world import RICH, VA, world
from wizard.arch import event as events
from wizard.arch.command import CommandError, Op, build
from wizard.arch.event import EventType, PageRequest
from wizard.arch.registers import QueueBase
from wizard.smmu import Ids, Msi

EVENTS, COMMANDS = 0x7000_0000, 0x7100_0000


def test_records_are_written_to_memory_and_the_queue_wraps() -> None:
    w = world("1")
    w.set_base("EVENTQ", QueueBase.build(LOG2SIZE=2, ADDR=EVENTS).value)
    for turn in range(3):
        for page in range(3):
            w.dma(0x1000 * (1 + turn * 3 + page))
        assert w.smmu.read("EVENTQ_PROD") == 3 * (turn + 1) % 8
        taken = w.smmu.events()
        assert [event.fields()["InputAddr"] for event in taken] == [0x1000 * (1 + turn * 3 + page) for page in range(3)]
    words = w.memory.read_words(EVENTS, 4) or []
    assert events.decode(events.Event.of_words(words).value).Type == EventType.F_TRANSLATION


def test_full_queue_overflows_once_until_acknowledged() -> None:
    w = world("1")
    w.set_base("EVENTQ", QueueBase.build(LOG2SIZE=1, ADDR=EVENTS).value)
    for page in range(5):
        w.dma(0x1000 * (page + 1))
    assert w.smmu.read("EVENTQ_PROD") == 1 << 31 | 2
    assert w.smmu.queue.lost == 3
    assert [event.fields()["InputAddr"] for event in w.smmu.events()] == [0x1000, 0x2000]
    w.dma(0x9000)
    assert len(w.smmu.events()) == 1
    assert not w.smmu.active("EVENTQ_ABT_ERR")


def test_queue_where_nothing_answers_raises_gerror() -> None:
    w = world("1")
    w.set_base("EVENTQ", QueueBase.build(LOG2SIZE=4, ADDR=0x1000).value)
    w.dma(0x1000)
    assert w.smmu.active("EVENTQ_ABT_ERR")
    w.set_base("EVENTQ", QueueBase.build(LOG2SIZE=4, ADDR=EVENTS).value)
    w.dma(0x2000)
    assert w.smmu.queue.lost == 2, "nothing is written until the error is acknowledged"
    w.smmu.write("GERRORN", w.smmu.read("GERROR"))
    w.dma(0x3000)
    assert len(w.smmu.events()) == 1


def test_disabled_queue_takes_nothing() -> None:
    w = world("1")
    w.smmu.write("CR0", 0x9)
    outcome = w.dma(0x1000)
    assert outcome.event is not None
    assert w.smmu.events() == ()


def test_mev_merges_what_differs_in_the_page_offset_only() -> None:
    w = world("1", ste={"MEV": 1})
    for address in (0x1000, 0x1008, 0x1FFC, 0x2000, 0x1000):
        w.dma(address)
    assert [event.fields()["InputAddr"] for event in w.smmu.events()] == [0x1000, 0x2000, 0x1000]
    assert w.smmu.queue.merged == 2
    w.dma(0x1000, write=True)
    w.dma(0x1000, write=False)
    assert len(w.smmu.events()) == 2, "reads and writes are not the same"
    plain = world("1")
    for _ in range(3):
        plain.dma(0x1000)
    assert len(plain.smmu.events()) == 3


def test_command_queue_in_memory_stops_at_an_error_and_goes_on() -> None:
    w = world("1")
    sync = build(Op.SYNC)
    for slot in range(4):
        w.memory.write_words(COMMANDS + 16 * slot, sync.words)
    w.memory.write_words(COMMANDS + 16 * 2, (0xFF, 0))
    w.set_base("CMDQ", QueueBase.build(LOG2SIZE=2, ADDR=COMMANDS).value)
    w.smmu.write("CMDQ_PROD", 4)
    assert w.smmu.read("CMDQ_CONS") == 1 << 24 | 2
    assert w.smmu.active("CMDQ_ERR")
    w.memory.write_words(COMMANDS + 16 * 2, sync.words)
    w.smmu.write("GERRORN", w.smmu.read("GERROR"))
    assert w.smmu.read("CMDQ_CONS") & 0xFFFFF == 4
    w.smmu.write("CMDQ_PROD", 1)
    assert w.smmu.read("CMDQ_CONS") & 0xFFFFF == 1, "the index wrapped"


def test_command_queue_where_nothing_answers() -> None:
    w = world("1")
    w.set_base("CMDQ", QueueBase.build(LOG2SIZE=2, ADDR=0x1000).value)
    w.smmu.write("CMDQ_PROD", 1)
    assert w.smmu.read("CMDQ_CONS") >> 24 == CommandError.CERROR_ABT


def test_commands_wait_for_the_queue_to_be_enabled() -> None:
    w = world("1")
    w.smmu.write("CR0", 5)
    assert w.smmu.submit([(0x46, 0)]).count == 0


def test_sync_sends_its_message() -> None:
    w = world("1")
    w.smmu.command(*build(Op.SYNC, CS=1, MSIAddress=0x7200_0040, MSIData=0xCAFE).words)
    assert w.smmu.msis == [Msi("SYNC", 0x7200_0040, 0xCAFE)]
    w.smmu.command(*build(Op.SYNC, CS=1, MSIAddress=0x1000).words)
    assert w.smmu.active("MSI_CMDQ_ABT_ERR")
    assert w.smmu.command(*build(Op.SYNC, CS=3).words) is CommandError.CERROR_ILL


def test_a_message_is_a_32_bit_store_beside_what_is_there() -> None:
    """4.7.3: software may poll the location; the other half of the word is not the message's."""
    w = world("1")
    w.memory.write(0x7200_0040, 0x1111_2222_3333_4444)
    w.smmu.command(*build(Op.SYNC, CS=1, MSIAddress=0x7200_0044, MSIData=0xCAFE).words)
    assert w.memory.read(0x7200_0040) == 0xCAFE_3333_4444
    w.smmu.command(*build(Op.SYNC, CS=1, MSIAddress=0x7200_0040, MSIData=0).words)
    assert w.memory.read(0x7200_0040) == 0xCAFE_0000_0000


def test_each_source_writes_its_own_message() -> None:
    """3.18.2: event queue, PRI queue and GERROR by their IRQ_CFG registers, each enabled by its own bit."""
    w = world("1")
    for source, at, data in (("EVENTQ", 0x7200_0080, 1), ("GERROR", 0x7200_0084, 2), ("PRIQ", 0x7200_0088, 3)):
        w.smmu.write(f"{source}_IRQ_CFG0", at)
        w.smmu.write(f"{source}_IRQ_CFG1", data)
    w.set_base("PRIQ", QueueBase.build(LOG2SIZE=2, ADDR=0x7300_0000).value)
    w.smmu.write("CR0", 0xF)
    w.smmu.write("IRQ_CTRL", 7)
    w.dma(0x1000)
    w.smmu.command(0xFF)
    w.smmu.page_request(PageRequest.build(StreamID=8, R=1, Last=1))
    assert [(message.source, message.data) for message in w.smmu.msis] == [("EVENTQ", 1), ("GERROR", 2), ("PRIQ", 3)]
    assert w.memory.read_words(0x7200_0080, 2) == [2 << 32 | 1, 3]


def test_messages_that_abort_are_global_errors_and_do_not_go_round_in_circles() -> None:
    w = world("1")
    for source in ("EVENTQ", "GERROR"):
        w.smmu.write(f"{source}_IRQ_CFG0", 0x1000)
    w.smmu.write("IRQ_CTRL", 5)
    w.dma(0x1000)
    assert (w.smmu.active("MSI_EVENTQ_ABT_ERR"), w.smmu.active("MSI_GERROR_ABT_ERR")) == (True, True)
    assert w.smmu.msis == []


def test_pri_queue_message_of_the_last_request_only() -> None:
    """6.3.36, LO: when a request with L arrives, also when an overflow discards it."""
    w = world("1")
    w.set_base("PRIQ", QueueBase.build(LOG2SIZE=0, ADDR=0x7300_0000).value)
    w.smmu.write("PRIQ_IRQ_CFG0", 0x7200_0088)
    w.smmu.write("PRIQ_IRQ_CFG2", 1 << 31)
    w.smmu.write("IRQ_CTRL", 2)
    request = PageRequest.build(StreamID=8, R=1)
    w.smmu.page_request(request.replace(Last=1))
    assert w.smmu.msis == [], "the queue is off"
    w.smmu.write("CR0", 0xF)
    w.smmu.page_request(request)
    assert w.smmu.msis == []
    w.smmu.page_request(request.replace(Last=1))
    assert [message.source for message in w.smmu.msis] == ["PRIQ"]


def test_queue_indices_stay_when_the_base_is_written() -> None:
    """6.3.26: software writes BASE, then PROD and CONS; nothing says that BASE clears them. A smaller queue has fewer bits (6.3.27)."""
    w = world("1")
    w.smmu.write("CR0", 1)
    for queue in ("CMDQ", "EVENTQ", "PRIQ"):
        w.smmu.write(f"{queue}_PROD", 0x15)
        w.smmu.write(f"{queue}_CONS", 0x15)
        w.smmu.write(f"{queue}_BASE", QueueBase.build(LOG2SIZE=5, ADDR=EVENTS).value)
        assert (w.smmu.read(f"{queue}_PROD"), w.smmu.read(f"{queue}_CONS")) == (0x15, 0x15)
        w.smmu.write(f"{queue}_BASE", QueueBase.build(LOG2SIZE=3, ADDR=EVENTS).value)
        assert (w.smmu.read(f"{queue}_PROD"), w.smmu.read(f"{queue}_CONS")) == (5, 5)


def test_first_record_sends_the_event_queue_message() -> None:
    w = world("1")
    w.smmu.write("EVENTQ_IRQ_CFG0", 0x7200_0080)
    w.dma(0x1000)
    assert w.smmu.msis == []
    w.smmu.events()
    w.smmu.write("IRQ_CTRL", 4)
    w.dma(0x1000)
    w.dma(0x2000)
    assert [message.address for message in w.smmu.msis] == [0x7200_0080]


def test_invalid_stream_is_recorded_only_when_asked() -> None:
    w = world("1")
    w.set_cr2(0)
    outcome = w.dma(sid=0x5000)
    assert outcome.event is not None
    assert not outcome.recorded
    assert w.smmu.events() == ()


def test_gbpa_abort_and_off() -> None:
    w = world("1")
    w.smmu.write("CR0", 0xC)
    assert w.dma().pa == VA
    w.smmu.write("GBPA", 1 << 20)
    assert w.dma().ok, "SMMUv3.2 takes GBPA only with Update"
    w.smmu.write("GBPA", 1 << 31 | 1 << 20)
    assert not w.dma().ok
    assert w.smmu.events() == ()


def test_device_msi_write_goes_through_both_stages() -> None:
    """The host's ITS page is mapped at the software MSI address by stage 2; the guest's stage 1 has to map it to itself."""
    w = world("nested")
    assert w.first is not None
    assert w.second is not None
    w.second.map(0x0800_0000, 0x0808_0000, 0x1000, MemAttr=1)
    assert not w.dma(0x0800_0040).ok, "the guest ignored the reserved region"
    w.first.map(0x0800_0000, 0x0800_0000, 0x1000, attr=1)
    outcome = w.dma(0x0800_0040)
    assert outcome.pa == 0x0808_0040
    assert str(outcome.attributes) == "Device-nGnRE"
    assert not w.dma(0x0800_0040, ssid=1).ok
    assert w.types() == [EventType.F_TRANSLATION, EventType.C_BAD_SUBSTREAMID]


def test_the_message_carries_its_data() -> None:
    w = world("1")
    w.smmu.write("EVENTQ_IRQ_CFG0", 0x7200_0080)
    w.smmu.write("EVENTQ_IRQ_CFG1", 0x1234)
    w.smmu.write("IRQ_CTRL", 4)
    w.smmu.write("EVENTQ_IRQ_CFG1", 0x5678)
    w.dma(0x1000)
    assert w.smmu.msis == [Msi("EVENTQ", 0x7200_0080, 0x1234)], "CFG1 is closed while the interrupt is enabled"


def test_addresses_of_queues_and_messages_are_truncated_to_oas() -> None:
    w = world("1")
    w.smmu.command(*build(Op.SYNC, CS=1, MSIAddress=1 << 50 | 0x7200_0040, MSIData=1).words)
    assert w.smmu.msis == [Msi("SYNC", 0x7200_0040, 1)]
    w.set_base("EVENTQ", QueueBase.build(LOG2SIZE=4, ADDR=1 << 50 | EVENTS).value)
    w.dma(0x1000)
    assert w.memory.read(EVENTS) != 0


@pytest.mark.parametrize(("version", "taken"), [(1, True), (2, False)])
def test_registers_are_closed_while_they_are_in_use(version: int, taken: bool) -> None:
    """6.3.24 and others: ignored since SMMUv3.2; before that the model takes the write."""
    w = world("1", Ids(RICH.idr0, RICH.idr1, RICH.idr3, RICH.idr5, version))
    for name in ("STRTAB_BASE", "STRTAB_BASE_CFG", "CR2", "CMDQ_BASE", "EVENTQ_BASE", "EVENTQ_IRQ_CFG0"):
        w.smmu.write("IRQ_CTRL", 7)
        before = w.smmu.registers[name]
        w.smmu.write(name, before ^ 0x40)
        assert (w.smmu.registers[name] != before) == taken, name


def test_cr0ack_shows_no_reserved_field() -> None:
    w = world("1", Ids())
    w.smmu.write("CR0", 0xFFFF_FFFF)
    assert w.smmu.read("CR0ACK") == 0xD, "no ATS, PRI or VMID wildcards on this one"
