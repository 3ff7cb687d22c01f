"""Declared layouts against words whose meaning is known from outside: Linux's driver, the FVP, QEMU's records."""

from __future__ import annotations

import pytest

from wizard.arch import cd, command, descriptor, event, idr, registers, ste
from wizard.arch.bits import Record
from wizard.arch.command import Op
from wizard.arch.event import EventType

RECORDS = [
    item
    for module in (cd, command, descriptor, event, idr, registers, ste)
    for item in vars(module).values()
    if isinstance(item, type) and issubclass(item, Record) and item is not Record and item.__module__ == module.__name__
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_fields_do_not_overlap_and_every_one_round_trips(record: type[Record]) -> None:
    taken = 0
    for name, field in record.layout.items():
        bits = field.mask << field.lo
        inherited = name not in vars(record)
        assert inherited or not taken & bits, f"{record.__name__}.{name} overlaps another field"
        taken |= bits
        assert getattr(record.build(**{name: field.mask << field.shift}), name) == field.mask << field.shift


def test_qemu_smmu_identifies_itself() -> None:
    """The words of QEMU 11's arm-smmuv3 as its guest kernel decodes them."""
    found = idr.IDR0(0x0D44_101B).fields()
    assert found | {"S1P": 1, "S2P": 1, "TTF": 2, "ASID16": 1, "STALL_MODEL": 1, "ST_LEVEL": 1} == found
    assert idr.IDR1(0x0273_0010).SIDSIZE == 16
    assert idr.IDR1(0x0273_0010).CMDQS == 19
    assert idr.IDR3(0x1414).RIL == 1
    assert idr.IDR5(0x74).OAS == 4


def test_fvp_smmu_identifies_itself() -> None:
    """Arm's FVP: words and what its own program printed."""
    assert idr.IDR5(0xFFFF_0472).fields() == {"OAS": 2, "GRAN4K": 1, "GRAN16K": 1, "GRAN64K": 1, "DS": 0, "D128": 0, "VAX": 1, "STALL_MAX": 0xFFFF}
    found = {name: content for name, content in idr.IDR3(0x1714).fields().items() if content}
    assert found == {"HAD": 1, "XNX": 1, "FWB": 1, "STT": 1, "RIL": 1, "BBML": 2}


def test_abi_fields_exist() -> None:
    for register, names in idr.ABI_FIELDS.items():
        layout = getattr(idr, register).layout
        assert names <= set(layout)
    assert idr.abi_mask(idr.IDR1) == 0x7FF
    assert idr.abi_mask(idr.IDR5) == 0xCF0  # with DS, bit 7, since Linux 7.3


@pytest.mark.parametrize(
    ("op", "fields", "words"),
    [
        # What Linux 7.2 arm_smmu_cmdq_build_cmd() writes.
        (Op.CFGI_STE, {"StreamID": 8, "Leaf": 1}, (0x8_0000_0003, 0x1)),
        (Op.CFGI_STE_RANGE, {"Range": 31}, (0x4, 0x1F)),
        (Op.CFGI_CD, {"StreamID": 8, "SubstreamID": 5, "Leaf": 1}, (0x8_0000_5005, 0x1)),
        (Op.TLBI_NH_VA, {"ASID": 0x11, "VMID": 2, "Address": 0x1234_5678_9000, "Leaf": 1}, (0x0011_0002_0000_0012, 0x1234_5678_9001)),
        (Op.TLBI_NH_VA, {"NUM": 3, "SCALE": 1, "TTL": 3, "TG": 1, "Address": 0x1000}, (0x0010_3012, 0x1700)),
        (Op.TLBI_S2_IPA, {"VMID": 5, "Address": 0x9_A345_6000}, (0x5_0000_002A, 0x9_A345_6000)),
        (Op.ATC_INV, {"StreamID": 0x100, "SSV": 1, "SubstreamID": 2, "Size": 52}, (0x100_0000_2840, 0x34)),
        (Op.PRI_RESP, {"StreamID": 1, "PRGIndex": 0x1FF, "Resp": 2}, (0x1_0000_0041, 0x21FF)),
        (Op.RESUME, {"StreamID": 1, "Action": 1, "STAG": 0xABCD}, (0x1_0000_1044, 0xABCD)),
        (Op.SYNC, {"CS": 1, "MSH": 3, "MSIAttr": 15, "MSIAddress": 0x4000_1004}, (0x0FC0_1046, 0x4000_1004)),
        (Op.SYNC, {"CS": 2}, (0x2046, 0)),
    ],
)
def test_commands_have_the_words_that_drivers_write(op: Op, fields: dict[str, int], words: tuple[int, int]) -> None:
    built = command.build(op, **fields)
    assert built.words == words
    assert command.decode(*words) == built


def test_of_a_word_that_is_too_large_what_does_not_fit_is_cut_off() -> None:
    assert command.Command.of_words((5 << 64 | 7, -1)).words == (7, (1 << 64) - 1)
    assert command.Command.of_words(iter((7,))).words == (7, 0)


def test_event_of_a_nested_table_fault_decodes() -> None:
    """A record that QEMU 11.1.2 wrote for a stage 2 fault while it fetched a context descriptor."""
    found = event.decode(event.Event.of_words((0x8_0000_0010, 0x88_0000_0000, 0x1234_5678_9ABC, 0x10_4018_0000)).value)
    expected = {"Type": EventType.F_TRANSLATION, "StreamID": 8, "S2": 1, "CLASS": 0, "RnW": 1, "InputAddr": 0x1234_5678_9ABC}
    assert found.fields() | expected == found.fields()
    assert isinstance(found, event.TranslationEvent)
    assert found.IPA == 0x10_4018_0000


def test_linux_stream_table_entries_decode() -> None:
    """Words of fixtures/translation: a bypass entry and a stage 1 entry."""
    bypass = ste.STE.of_words((0x4018_0009, 0x1000_0000_0000))
    assert (bypass.V, bypass.Config, bypass.SHCFG, bypass.S1ContextPtr) == (1, ste.StreamConfig.BYPASS, 1, 0x4018_0000)
    context = cd.CD.of_words((0x12E2_04F5_9035_10, 0x4030_0000, 0, 0xFF))
    assert (context.T0SZ, context.V, context.AA64, context.A, context.R) == (16, 1, 1, 1, 1)
    assert (context.ASID, context.TTB0, context.IPS) == (0x12, 0x4030_0000, 4)
    assert context.MAIR0 == 0xFF
