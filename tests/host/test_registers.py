"""ID registers of models and emulators whose raw words were published, through everything that reads them.

FVP Base RevC's default dump, the sets that Hafnium, TF-A and CCA start the FVP with, gem5's defaults, and QEMU's arm-smmuv3 as recorded.
Nobody published a raw word of silicon.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from tests.tools.hosts import with_registers
from wizard.arch.idr import IDR0, IDR5
from wizard.facts.model import HwInfo
from wizard.host.build import host_of
from wizard.host.errata import Errata, errata_of
from wizard.host.log.parse import SmmuLog
from wizard.host.model import Accel, Host, IdRegisters
from wizard.host.silicon import NAMES, hardware, registers_of
from wizard.host.smmu import Probed, Told, capabilities
from wizard.host.vmm import Vmm

Hosts = Callable[[str], Host]
NVME, SMMU = "0000:14:00.0", "smmu3.0x000000000c000000"

# name -> (IDR0 to IDR5, IIDR, AIDR)
MODELS: dict[str, tuple[tuple[int, ...], int, int]] = {
    "fvp": ((0x080F_E6BF, 0x0E73_9D10, 0, 0x14, 0, 0x1_005D), 0, 1),
    "fvp-hafnium": ((0x0046_123B, 0x0060_0002, 0, 0x1714, 0, 0xFFFF_0472), 0, 2),
    "fvp-cca": ((0x0046_123B, 0x0060_0002, 0, 0x1714, 0, 0xFFFF_0475), 0, 2),
    # IDR0 of gem5 was not published: nothing is asserted of it.
    "gem5": ((0, 0x00E0_0000, 0, 0, 0, 0x55), 0, 0),
    "qemu": ((0x0D44_101B, 0x0273_0010, 0, 0x1414, 0, 0x74), 0, 1),
}

# What the FVP program printed, the decoding of the others (sources: hardware-models), and the constants of QEMU's smmuv3_init_id_regs().
MEANINGS: dict[str, dict[str, bool | int | str]] = {
    "fvp": {
        "stage1": True, "stage2": True, "ttf": 3, "coherent_walks": True, "btm": True, "httu": 2, "ats": True, "asid16": False,
        "msi": True, "pri": True,
        "vmid16": True, "cd2l": True, "ttendian": 0, "stall_model": 0, "st_level": 1, "sidsize": 16, "ssidsize": 20, "cmdqs": 19, "eventqs": 19,
        "priqs": 19, "s2fwb": False, "ril": False, "oas": 48, "gran4k": True, "gran16k": False, "gran64k": True, "vax": 48, "stall_max": 1,
        "architecture": "SMMUv3.1", "implementer": "not given", "nesting": True,
    },
    "fvp-hafnium": {
        "stage1": True, "stage2": True, "ttf": 2, "coherent_walks": True, "btm": True, "ats": False, "pri": False, "msi": False, "cd2l": False,
        "asid16": True, "vmid16": True, "ttendian": 2, "st_level": 0, "sidsize": 2, "ssidsize": 0, "cmdqs": 3, "s2fwb": True, "ril": True, "bbml": 2,
        "oas": 40, "gran4k": True, "gran16k": True, "gran64k": True, "vax": 52, "stall_max": 65535, "architecture": "SMMUv3.2",
    },
    "fvp-cca": {"oas": 48, "vax": 52, "s2fwb": True},
    "gem5": {"cmdqs": 7, "oas": 48, "gran4k": True, "gran16k": False, "gran64k": True, "architecture": "SMMUv3.0"},
    "qemu": {
        "stage1": True, "stage2": True, "ttf": 2, "coherent_walks": True, "asid16": True, "vmid16": True, "ttendian": 2, "stall_model": 1,
        "st_level": 1,
        "sidsize": 16, "ssidsize": 0, "ril": True, "bbml": 2, "s2fwb": False, "oas": 44, "gran4k": True, "gran16k": True, "gran64k": True,
        "ats": False,
    },
}  # fmt: skip


def answer(name: str, address: str = NVME) -> HwInfo:
    """As IOMMU_GET_HW_INFO gives it: flags, reserved, six IDRs, IIDR, AIDR."""
    words, iidr, aidr = MODELS[name]
    return HwInfo(address=address, data_type=2, data=b"".join(word.to_bytes(4, "little") for word in (0, 0, *words, iidr, aidr)).hex())


@pytest.mark.parametrize("name", MODELS)
def test_registers_mean_what_their_owner_says(name: str) -> None:
    registers = registers_of(answer(name), assumed=False)
    assert registers is not None
    assert (registers.words, registers.iidr, registers.aidr) == MODELS[name]
    shown = {field: known.value for field, known in hardware(registers).items()}
    assert {field: shown[field] for field in MEANINGS[name]} == MEANINGS[name]


def test_only_what_the_abi_promises_is_shown_without_a_word() -> None:
    """include/uapi/linux/iommufd.h: which fields of struct iommu_hw_info_arm_smmuv3 may be used; the rest is raw."""
    registers = registers_of(answer("fvp"), assumed=False)
    promised = {name for name, known in hardware(registers).items() if not known.note}
    assert promised == {
        "st_level", "term_model", "stall_model", "ttendian", "cd2l", "asid16", "ttf", "sidsize", "ssidsize", "bbml", "ril", "vax",
        "ds", "gran64k", "gran16k",
        "gran4k",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fvp", ["no 16K translation granule"]),
        ("fvp-hafnium", ["STLEVEL=0", "SIDSIZE 2"]),
        ("fvp-cca", ["STLEVEL=0", "SIDSIZE 2"]),
        ("gem5", ["SIDSIZE 0", "no 16K"]),
        ("qemu", []),
    ],
)
def test_qemus_comparison_of_each(host: Hosts, name: str, words: list[str]) -> None:
    """smmuv3_accel_check_hw_compatible() of QEMU 11.1.2 on raw words: what no property relaxes."""
    facts = host("arm64-virt-canwbs").facts
    verdict = host_of(msgspec.structs.replace(facts, hw_info=(answer(name),))).verdict(NVME)
    told = "; ".join(finding.what for finding in verdict.reasons if finding.code == "qemu-refuses-smmu")
    assert all(word in told for word in words)
    assert bool(told) == bool(words)
    assert (verdict.accel is Accel.NO) == bool(words)


@pytest.mark.parametrize("value", [1, 3])
def test_ttendian_that_is_not_little(host: Hosts, value: int) -> None:
    """QEMU passes host <= 2: mixed (0) and little (2); 3 is big-endian only."""
    facts = host("arm64-virt-canwbs").facts
    idr0 = MODELS["qemu"][0][0] & ~(3 << 21) | value << 21
    data = bytearray.fromhex(answer("qemu").data or "")
    data[8:12] = idr0.to_bytes(4, "little")
    info = HwInfo(address=NVME, data_type=2, data=data.hex())
    codes = {finding.code for finding in host_of(msgspec.structs.replace(facts, hw_info=(info,))).verdict(NVME).reasons}
    assert ("qemu-refuses-smmu" in codes) == (value == 3)


@pytest.mark.parametrize("data", [None, "", "00" * 39, "zz"])
def test_answers_that_are_cut_short_are_none(data: str | None) -> None:
    assert registers_of(HwInfo(address=NVME, data_type=2, data=data), assumed=False) is None
    assert registers_of(HwInfo(address=NVME, data_type=1, data="00" * 40), assumed=False) is None


def iidr(product: int, variant: int, revision: int, implementer: int = 0x43B) -> int:
    return product << 20 | variant << 16 | revision << 12 | implementer


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, Errata()),
        (iidr(0x483, 0, 2), Errata(no_nesting=True)),  # MMU-600 r0p2
        (iidr(0x483, 1, 0), Errata(no_nesting=True)),
        (iidr(0x483, 2, 0), Errata()),
        (iidr(0x487, 0, 0), Errata(no_nesting=True, cmdq_force_sync=True)),  # MMU-700 before r1p1: errata 2268618, 2812531
        (iidr(0x487, 0, 5), Errata(no_nesting=True, cmdq_force_sync=True)),
        (iidr(0x487, 1, 0), Errata(no_nesting=True, cmdq_force_sync=True)),
        (iidr(0x487, 1, 1), Errata()),
        (iidr(0x487, 2, 0), Errata(no_nesting=True, cmdq_force_sync=True)),  # the kernel's rule: variant < 1 or revision < 1
        (iidr(0x498, 0, 0), Errata()),
        (iidr(0x487, 0, 0, implementer=0x36B), Errata()),  # another maker's product number
    ],
)
def test_errata_by_iidr(value: int, expected: Errata) -> None:
    """arm_smmu_device_iidr_probe(), Linux 7.2."""
    assert errata_of(value) == expected


def told(log: SmmuLog | None = None, registers: IdRegisters | None = None, release: str = "7.2.13") -> Told:
    return Told(has=hardware(registers), registers=registers, log=log, probed=Probed(), release=release, iort=None)


def test_every_capability_is_listed_whatever_was_read() -> None:
    """``list --json``: unknown values null with source none, never left out."""
    empty = capabilities(told())
    assert set(NAMES) <= set(empty)
    assert all(known.value is None and known.source == "none" for known in empty.values())
    more = {"cmdqv", "cmdq_force_sync", "viommu", "stalls", "sva", "s2fwb", "nesting"}
    assert more <= set(empty)


def test_what_a_log_alone_tells() -> None:
    """ThunderX2's mask 0x0000170d and Grace's 0x001e1fbf, as they were decoded by hand (sources: kernel-masks, hardware-models)."""
    thunderx2 = capabilities(told(SmmuLog("arm-smmu-v3.2.auto", options=2, features=0x170D, oas=44), release="5.0.0"))
    shown = {
        name: thunderx2[name].value for name in ("stage1", "stage2", "cd2l", "ats", "pri", "msi", "stall_model", "st_level", "ttendian", "oas", "vax")
    }
    assert shown == {
        "stage1": True, "stage2": True, "cd2l": False, "ats": False, "pri": False, "msi": False, "stall_model": 1, "st_level": 1, "ttendian": 0,
        "oas": 44, "vax": 48,
    }  # fmt: skip
    assert {name: thunderx2[name].value for name in ("ril", "s2fwb", "nesting", "sidsize", "gran4k")} == dict.fromkeys(
        ("ril", "s2fwb", "nesting", "sidsize", "gran4k")
    )
    covered = SmmuLog("arm-smmu-v3.0.auto", features=0x001E1FBF, oas=48, strtab_covers=(25, 32), queues={"vcmdq0": 1, "vcmdq1": 1})
    grace = capabilities(told(covered, release="6.16.0-rc5"))
    assert (grace["ril"].value, grace["nesting"].value, grace["sidsize"].value) == (False, True, 32)
    assert grace["cmdqv_queues_per_vm"].value == 2


def test_a_mask_without_nesting_though_both_stages_are_there_names_the_erratum() -> None:
    """The AmpereOne-class server: 0x0094dfef under 6.16."""
    ampereone = capabilities(told(SmmuLog("arm-smmu-v3.16.auto", features=0x0094DFEF, oas=48), release="6.16.0-rc3-next-20250627"))
    assert ampereone["nesting"].value is False
    assert "erratum" in ampereone["nesting"].note
    assert "MMU-700" in ampereone["nesting"].note
    assert ampereone["s2fwb"].value is True


def test_a_refused_cmdqv_proves_nothing_where_every_viommu_is_refused() -> None:
    log = SmmuLog("arm-smmu-v3.10.auto", options=0x10, cmdqv="NVDA200C:00")
    for viommu, expected in ((False, True), (True, False)):
        probed = Probed(nest_parent=True, viommu=viommu, viommu_cmdqv=False)
        found = capabilities(Told(has={}, registers=None, log=log, probed=probed, release="7.2.13", iort=None))
        assert found["cmdqv"].value is expected


@pytest.mark.parametrize(
    ("idr0", "idr5", "mismatches"),
    [
        ({}, {}, None),
        ({"TTF": 3, "TTENDIAN": 2}, {}, None),
        ({"TTF": 2, "TTENDIAN": 0}, {}, None),
        ({"TTF": 1}, {}, "no AArch64 translation tables"),
        ({"TTF": 0}, {}, "no AArch64 translation tables"),
        ({"TTENDIAN": 3}, {}, "no little-endian translation tables"),
        ({"TTENDIAN": 1}, {}, "no little-endian translation tables"),  # reserved
        ({}, {"GRAN4K": 0}, "no 4K translation granule"),
        ({}, {"GRAN16K": 0, "GRAN64K": 0}, None),
        ({"TTF": 1, "TTENDIAN": 3}, {"GRAN4K": 0},
         "no AArch64 translation tables; no little-endian translation tables; no 4K translation granule"),
    ],
)  # fmt: skip
def test_what_openvmm_compares_of_the_registers(idr0: dict[str, int], idr5: dict[str, int], mismatches: str | None) -> None:
    """resolve_host_caps(): each field by itself; the granules that it does not need are not looked at."""

    def change(words: list[int]) -> None:
        words[0] = IDR0(words[0]).replace(**idr0).value
        words[5] = IDR5(words[5]).replace(**idr5).value

    verdict = with_registers(change).other_verdicts[Vmm.OPENVMM]["0000:14:00.0"]
    said = [finding.what.partition(": ")[2] for finding in verdict.reasons if finding.code == "openvmm-refuses-smmu"]
    assert said == ([f"{mismatches}."] if mismatches else [])
