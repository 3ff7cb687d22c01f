"""Which bits of a guest's STE pass: masks and errno against Linux 7.2's arm_smmu_validate_vste()."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wizard.arch.ste import STE, StreamConfig
from wizard.nesting import KernelError
from wizard.nesting.vste import ALLOWED, VMM_MASKS, physical, validate

# STRTAB_STE_0_NESTING_ALLOWED and STRTAB_STE_1_NESTING_ALLOWED of include/uapi/linux/iommufd.h, computed from its GENMASKs.
WORD0 = 1 | 0b111 << 1 | 0b11 << 4 | ((1 << 52) - 1 & ~0x3F) | 0x1F << 59
WORD1 = 0b11 | 0b11 << 2 | 0b11 << 4 | 0b11 << 6 | 1 << 27 | 0b11 << 28
STAGE2 = STE.build(V=1, Config=StreamConfig.STAGE2, S2VMID=5, S2TTB=0x8000_0000, S2R=1, S2PTW=1, SHCFG=1)
words = st.tuples(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))


def test_the_masks_are_the_fields_of_the_specification() -> None:
    assert ALLOWED == (WORD0, WORD1)
    # IHI 0070 gives S1ContextPtr bits 55:6, Linux's header 51:6. QEMU masks with the whole field (STE0_CTXPTR, MAKE_64BIT_MASK(6, 50)).
    assert VMM_MASKS == (WORD0 | 0xF << 52, WORD1)


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"V": 1, "Config": 0}, True),
        ({"V": 1, "Config": 4}, True),
        ({"V": 1, "Config": 5, "S1ContextPtr": 0x1000, "S1CDMax": 3, "S1Fmt": 1}, True),
        ({"V": 1, "Config": 5, "S1STALLD": 1, "S1DSS": 2, "S1CIR": 1, "S1COR": 1, "S1CSH": 3, "EATS": 1}, True),
        ({"V": 1, "Config": 5, "S1ContextPtr": 1 << 51}, True),
        ({"V": 1, "Config": 5, "S1ContextPtr": 1 << 52}, False),
        ({"V": 1, "Config": 6}, False),
        ({"V": 1, "Config": 7}, False),
        ({"V": 1, "Config": 1}, False),
        ({"V": 1, "Config": 5, "EATS": 2}, False),
        ({"V": 1, "Config": 5, "EATS": 3}, False),
        ({"V": 1, "Config": 5, "STRW": 2}, False),
        ({"V": 1, "Config": 5, "SHCFG": 1}, False),
        ({"V": 1, "Config": 4, "MTCFG": 1}, False),
        ({"V": 1, "Config": 5, "MEV": 1}, False),
        ({"V": 1, "Config": 5, "PRIVCFG": 3}, False),
        ({"V": 0, "Config": 7, "S2FWB": 1}, True),
    ],
)
def test_what_is_not_a_guests_is_eio(fields: dict[str, int], passes: bool) -> None:
    low, high = STE.build(**fields).words[:2]
    if passes:
        validate((low, high))
    else:
        with pytest.raises(KernelError, match="EIO"):
            validate((low, high))


def test_v_0_aborts_without_a_look_at_the_rest() -> None:
    vste = validate(STE.build(V=0, Config=5, EATS=1).words[:2])  # type: ignore[arg-type]
    assert vste.config is StreamConfig.ABORT
    assert physical(vste, STAGE2, ats=True) == STE.build(V=1, Config=0)


def test_eats_counts_with_stage_1_only_and_only_where_the_device_has_ats() -> None:
    translated = validate(STE.build(V=1, Config=5, EATS=1).words[:2])  # type: ignore[arg-type]
    assert translated.ats
    assert physical(translated, STAGE2, ats=False).EATS == 0
    assert physical(translated, STAGE2, ats=True).EATS == 1
    assert not validate(STE.build(V=1, Config=4, EATS=1).words[:2]).ats  # type: ignore[arg-type]


def test_bypass_is_stage_2_alone_and_stage_1_merges_events() -> None:
    assert physical(validate((0b1001, 0)), STAGE2, ats=False) == STAGE2
    nested = physical(validate(STE.build(V=1, Config=5, S1ContextPtr=0x4000).words[:2]), STAGE2, ats=False)  # type: ignore[arg-type]
    assert (nested.Config, nested.MEV, nested.S1ContextPtr, nested.S2VMID, nested.S2TTB) == (7, 1, 0x4000, 5, 0x8000_0000)


@given(words)
def test_whatever_a_guest_writes_stage_2_stays_the_kernels(vste_words: tuple[int, int]) -> None:
    """The heart of the isolation proof: no accepted entry changes a stage 2 field, or translates without stage 2."""
    try:
        vste = validate(vste_words)
    except KernelError:
        return
    installed = physical(vste, STAGE2, ats=False)
    assert installed.Config in (StreamConfig.ABORT, StreamConfig.STAGE2, StreamConfig.NESTED)
    if installed.Config != StreamConfig.ABORT:
        assert installed.words[2:] == STAGE2.words[2:]
        assert installed.words[1] & ~WORD1 & ~(1 << 19) == STAGE2.words[1]


@given(words.map(lambda pair: (pair[0] & ALLOWED[0] | 1, pair[1] & ALLOWED[1])))
def test_accepted_entries_are_installed_as_written(vste_words: tuple[int, int]) -> None:
    written = STE.of_words(vste_words)
    if written.Config not in (0, 4, 5) or written.EATS > 1:
        with pytest.raises(KernelError, match="EIO"):
            validate(vste_words)
        return
    vste = validate(vste_words)
    if vste.config is StreamConfig.STAGE1:
        installed = physical(vste, STAGE2, ats=vste.ats)
        assert installed.words[0] & ~0xE == vste_words[0] & ~0xE
        assert installed.words[1] & WORD1 == vste_words[1]
