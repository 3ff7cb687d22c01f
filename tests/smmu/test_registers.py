"""Registers by name and by offset, halves, resets and what ignores writes: IHI 0070 6.2, 6.3."""

from __future__ import annotations

import pytest

from tests.smmu.world import RICH, world
from wizard.arch.registers import ABSENT, CR0, REGISTERS, register
from wizard.smmu import Ids, Memory, Smmu
from wizard.smmu.cases import run_plain

OFFSETS = {
    # the tables of 6.2.1 and 6.2.2
    "IDR0": 0x0, "IDR5": 0x14, "IIDR": 0x18, "AIDR": 0x1C, "CR0": 0x20, "CR0ACK": 0x24, "CR1": 0x28, "CR2": 0x2C, "S2PII": 0x30, "STATUSR": 0x40,
    "GBPA": 0x44, "AGBPA": 0x48, "IRQ_CTRL": 0x50, "IRQ_CTRLACK": 0x54, "GERROR": 0x60, "GERRORN": 0x64, "GERROR_IRQ_CFG0": 0x68,
    "GERROR_IRQ_CFG2": 0x74, "STRTAB_BASE": 0x80, "STRTAB_BASE_CFG": 0x88, "CMDQ_BASE": 0x90, "CMDQ_PROD": 0x98, "CMDQ_CONS": 0x9C,
    "EVENTQ_BASE": 0xA0, "EVENTQ_IRQ_CFG2": 0xBC, "PRIQ_BASE": 0xC0, "PRIQ_IRQ_CFG0": 0xD0, "PRIQ_IRQ_CFG2": 0xDC, "GATOS_CTRL": 0x100,
    "GATOS_PAR": 0x118, "MPAMIDR": 0x130, "GBPMPAM": 0x13C, "VATOS_SEL": 0x180, "IDR6": 0x190, "DPT_BASE": 0x200, "DPT_CFG_FAR": 0x210,
    "CMDQ_CONTROL_PAGE_BASE0": 0x4000, "CMDQ_CONTROL_PAGE_STATUS255": 0x5FEC, "S_IDR0": 0x8000, "S_CR0": 0x8020, "S_INIT": 0x803C,
    "S_EVENTQ_PROD": 0x80A8, "S_GATOS_PAR": 0x8118, "S_VATOS_SEL": 0x8180, "S_CMDQ_CONTROL_PAGE_CFG1": 0xC028, "EVENTQ_PROD": 0x100A8,
    "EVENTQ_CONS": 0x100AC, "PRIQ_PROD": 0x100C8, "PRIQ_CONS": 0x100CC,
}  # fmt: skip


@pytest.mark.parametrize("name", OFFSETS)
def test_offsets_are_those_of_the_specification(name: str) -> None:
    assert register(name).offset == OFFSETS[name]


def test_no_two_registers_share_a_byte() -> None:
    taken: dict[int, str] = {}
    for name, found in {**REGISTERS, **ABSENT}.items():
        for byte in range(found.offset, found.offset + found.size):
            assert taken.setdefault(byte, name) == name


def test_reset_values() -> None:
    """CR0, IRQ_CTRL, GERROR and GERRORN reset to 0 (6.3.9, 6.3.16, 6.3.19); GBPA as QEMU's; ID registers are what they are."""
    smmu = Smmu(Ids(), Memory())
    assert {name: smmu.read(name) for name in ("IDR0", "IDR1", "IDR3", "IDR5", "AIDR")} == {
        "IDR0": 0x0D44_101B, "IDR1": 0x0273_0010, "IDR3": 0x1414, "IDR5": 0x74, "AIDR": 1,
    }  # fmt: skip
    others = {name: smmu.read(name) for name in REGISTERS if not name.startswith(("IDR", "AIDR"))}
    assert others == {**dict.fromkeys(others, 0), "GBPA": 0x1000}


def test_every_register_is_read_by_its_name_and_its_offset() -> None:
    smmu = world("nested").smmu
    smmu.write("CR1", 0xD75)
    for name, found in {**REGISTERS, **ABSENT}.items():
        assert smmu.read_at(found.offset, found.size) == smmu.read(name), name
    assert smmu.read_at(0x28) == 0xD75


def test_halves_of_64_bits_are_written_by_themselves() -> None:
    smmu = Smmu(Ids(), Memory())
    smmu.write_at(0x84, 0x4000_0001)
    smmu.write_at(0x80, 0x4010_0000)
    assert smmu.read("STRTAB_BASE") == 0x4000_0001_4010_0000
    assert (smmu.read_at(0x80), smmu.read_at(0x84), smmu.read_at(0x80, 8)) == (0x4010_0000, 0x4000_0001, 0x4000_0001_4010_0000)
    smmu.write_at(0x80, 0x1_4020_0000, 8)
    assert smmu.read("STRTAB_BASE") == 0x1_4020_0000


def test_eight_bytes_over_two_registers_are_two_accesses() -> None:
    smmu = Smmu(Ids(), Memory())
    smmu.write_at(0x98, 3 << 32 | 3, 8)
    assert (smmu.read("CMDQ_PROD"), smmu.read("CMDQ_CONS")) == (3, 3)
    assert smmu.read_at(0x98, 8) == 3 << 32 | 3
    assert smmu.read_at(0x20, 8) == 0


def test_a_write_at_an_offset_does_what_the_register_does() -> None:
    w = world("1")
    w.smmu.write_at(0x20, 0xC)
    assert (w.smmu.read_at(0x24), w.smmu.cr0.SMMUEN) == (0xC, 0)


def test_the_pages_are_each_others_aliases() -> None:
    smmu = Smmu(Ids(), Memory())
    smmu.write_at(0x100A8, 5)
    assert (smmu.read_at(0xA8), smmu.read("EVENTQ_PROD")) == (5, 5)


@pytest.mark.parametrize(("offset", "size"), [(0x21, 4), (0x84, 8), (0x20, 2), (0x38, 4), (0xFD0, 4), (0x1000, 8)])
def test_what_is_no_register_or_no_access_reads_as_zero_and_ignores_writes(offset: int, size: int) -> None:
    smmu = Smmu(Ids(), Memory())
    smmu.write("STRTAB_BASE", 0x1234_0000_5678_0000)
    before = {name: smmu.read(name) for name in REGISTERS}
    smmu.write_at(offset, 0x55, size)
    assert smmu.read_at(offset, size) == 0
    assert {name: smmu.read(name) for name in REGISTERS} == before


def test_registers_of_what_the_model_lacks_are_res0() -> None:
    smmu = Smmu(RICH, Memory())
    for name in ABSENT:
        smmu.write(name, 1)
        assert smmu.read(name) == 0, name


def test_read_only_registers_ignore_writes() -> None:
    smmu = Smmu(RICH, Memory())
    for name in ("IDR0", "IDR5", "IIDR", "AIDR", "CR0ACK", "STATUSR", "IRQ_CTRLACK", "GERROR"):
        before = smmu.read(name)
        smmu.write(name, 0xFFFF_FFFF ^ before)
        assert smmu.read(name) == before, name


def test_a_value_that_does_not_fit_is_an_error() -> None:
    smmu = Smmu(Ids(), Memory())
    with pytest.raises(ValueError, match="32 bits"):
        smmu.write("CR0", 1 << 32)
    for value in (1 << 32, -1):
        with pytest.raises(ValueError, match="does not fit 4 bytes"):
            smmu.write_at(0x20, value)
    with pytest.raises(KeyError):
        smmu.read("CR9")


def test_a_case_names_registers_in_every_way() -> None:
    case = {
        "cr0": 0,
        "steps": [
            {"reg": {"STRTAB_BASE+4": 1, "@0x80": "0x40100000"}},
            {"reg": {"0x28": 5, "SMMU_IRQ_CTRL": 7, "@0x90:64": "0x40200005"}},
            {
                "read": [
                    "STRTAB_BASE",
                    "STRTAB_BASE+0",
                    "STRTAB_BASE+4",
                    "@0x28",
                    "IRQ_CTRLACK",
                    "@0x10054",
                    "CMDQ_BASE",
                    "@0x98:64",
                    "S_IDR1",
                ]
            },
        ],
    }
    [answer] = run_plain(case)["steps"]
    assert answer["values"] == {
        "STRTAB_BASE": "0x140100000", "STRTAB_BASE+0": "0x40100000", "STRTAB_BASE+4": "0x1", "@0x28": "0x5", "IRQ_CTRLACK": "0x7", "@0x10054": "0x7",
        "CMDQ_BASE": "0x40200005", "@0x98:64": "0x0", "S_IDR1": "0x0",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["CR9", "CR0+4", "STRTAB_BASE+8", "@0x80:16", "@", "@-4", "@zz"])
def test_a_case_with_no_such_register_says_so(name: str) -> None:
    assert "steps[0].reg" in run_plain({"cr0": 0, "steps": [{"reg": {name: 0}}]})["error"]


def test_cr0_by_offset_in_a_case_turns_the_smmu_off() -> None:
    case = {"cr0": 0xD, "steps": [{"dma": {"sid": 0, "iova": 0}}, {"reg": {"@0x20": CR0.build(EVENTQEN=1).value}}, {"dma": {"sid": 0, "iova": 0}}]}
    first, second = run_plain(case)["steps"]
    assert "fault" in first
    assert second["how"] == "disable"
