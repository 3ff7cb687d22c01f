"""The table of ID register bits: every one is named, and what a host has and the model masks is shown."""

from __future__ import annotations

import pytest

from wizard.arch.bits import Record
from wizard.arch.idr import IDR0, IDR1, IDR3, IDR5
from wizard.smmu import Ids, Memory, Smmu
from wizard.smmu.cases import run_plain
from wizard.smmu.support import TABLE, Support, masked, masked_bits


@pytest.mark.parametrize("register", list(TABLE), ids=lambda register: register.__name__)
def test_every_field_has_a_row(register: type[Record]) -> None:
    assert set(TABLE[register]) == set(register.layout)
    for name, (support, word) in TABLE[register].items():
        assert support is Support.MODELLED or word, f"{name} says nothing on why it is {support.value}"


def test_what_a_host_has_and_the_model_masks_is_shown() -> None:
    ids = Ids(IDR0.build(S1P=1, S2P=1, TTF=2, ATOS=1).value, IDR1.build(SIDSIZE=16, ECMDQ=1).value, IDR3.build(MPAM=1, FWB=1).value, 0x0FF5 | 8)
    shown = {(found.register, found.field) for found in masked_bits(ids)}
    assert shown >= {("IDR0", "ATOS"), ("IDR1", "ECMDQ"), ("IDR3", "MPAM"), ("IDR5", "DS"), ("IDR5", "D128"), ("IDR5", "reserved")}
    kept = masked(ids)
    assert (IDR3(kept.idr3).MPAM, IDR3(kept.idr3).FWB, IDR5(kept.idr5).DS) == (0, 1, 0)
    assert Smmu(ids, Memory()).ids == kept


def test_qemu_has_nothing_that_is_masked() -> None:
    assert masked_bits(Ids()) == ()


def test_larger_values_than_the_model_has_are_shown_and_reduced() -> None:
    ids = Ids(IDR0.build(S1P=1, S2P=1, TTF=3, HTTU=3).value, IDR1.build(SIDSIZE=16).value, 0, IDR5.build(OAS=7, VAX=2, GRAN4K=1).value)
    shown = {(found.register, found.field, found.value) for found in masked_bits(ids)}
    assert shown == {("IDR0", "TTF", 3), ("IDR0", "HTTU", 3), ("IDR5", "OAS", 7), ("IDR5", "VAX", 2)}
    kept = masked(ids)
    assert IDR0(kept.idr0).TTF == 2
    assert (IDR0(kept.idr0).HTTU, IDR5(kept.idr5).OAS, IDR5(kept.idr5).VAX) == (2, 6, 1)


def test_a_case_says_what_of_its_ids_is_masked() -> None:
    case = {"ids": {"idr5": "0xf4"}, "strtab_base": "0x40100000", "sid": 0, "iova": 0}
    assert run_plain(case)["masked"] == [{"register": "IDR5", "field": "DS", "value": 1, "why": "52-bit addresses with the 64 KiB granule only"}]
    assert "masked" not in run_plain({**case, "ids": {}})
