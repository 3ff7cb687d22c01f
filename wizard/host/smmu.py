"""One SMMU: what the hardware has by its ID registers, and what this kernel uses of it.

Order of trust (design, section 2): the result of a probe beats the feature mask of the kernel's log, which beats the erratum
rules applied to the ID registers, which beat IORT.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from wizard.arch import idr
from wizard.facts.model import HwInfo
from wizard.host.errata import Errata, errata_of
from wizard.host.klog import Feature, Option, SmmuLog, feature
from wizard.host.known import UNKNOWN, Known, Source, first
from wizard.host.model import IdRegisters

HW_INFO_SMMUV3 = 2  # enum iommu_hw_info_type, include/uapi/linux/iommufd.h
_HW_INFO = "struct iommu_hw_info_arm_smmuv3"


def registers_of(info: HwInfo, *, assumed: bool) -> IdRegisters | None:
    """ID registers out of one answer of IOMMU_GET_HW_INFO; None when it is of another type or cut short."""
    if info.data_type != HW_INFO_SMMUV3 or info.data is None:
        return None
    try:
        raw = bytes.fromhex(info.data)
    except ValueError:
        return None
    if len(raw) < 40:
        return None
    words = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, 40, 4)]  # u32 flags, __reserved come first
    return IdRegisters(tuple(words[:6]), words[6], words[7], info.address, assumed)


class Probed(msgspec.Struct, frozen=True):
    """What was tried on functions of one SMMU: True it went, False it was refused, None nobody tried."""

    nest_parent: bool | None = None
    viommu: bool | None = None
    viommu_cmdqv: bool | None = None
    cmdqv: bytes | None = None  # struct iommu_hw_info_tegra241_cmdqv


def hardware(registers: IdRegisters | None) -> dict[str, Known]:
    """What the silicon has, by its raw ID registers; fields outside the kernel's ABI list are marked raw."""
    if registers is None:
        return {}
    idr0, idr1, idr3, idr5 = registers.idr0, registers.idr1, registers.idr3, registers.idr5
    source = Source.ASSUMED if registers.assumed else Source.HW_INFO

    def has(value: bool | int | str, register: str, field: str) -> Known:
        raw = "" if field in idr.ABI_FIELDS.get(register, ()) else f"raw {register}.{field}: outside what the kernel's ABI promises"
        return Known(value, source, raw)

    iidr = idr.IIDR(registers.iidr)
    aidr = idr.AIDR(registers.aidr)
    return {
        "stage1": has(bool(idr0.S1P), "IDR0", "S1P"),
        "stage2": has(bool(idr0.S2P), "IDR0", "S2P"),
        "nesting": has(bool(idr0.S1P and idr0.S2P), "IDR0", "S1P"),
        "s2fwb": has(bool(idr3.FWB), "IDR3", "FWB"),
        "btm": has(bool(idr0.BTM), "IDR0", "BTM"),
        "httu": has(idr0.HTTU, "IDR0", "HTTU"),
        "ats": has(bool(idr0.ATS), "IDR0", "ATS"),
        "pri": has(bool(idr0.PRI), "IDR0", "PRI"),
        "ssidsize": has(idr1.SSIDSIZE, "IDR1", "SSIDSIZE"),
        "sidsize": has(idr1.SIDSIZE, "IDR1", "SIDSIZE"),
        "oas": has(idr.ADDRESS_BITS[idr5.OAS], "IDR5", "OAS"),
        "gran4k": has(bool(idr5.GRAN4K), "IDR5", "GRAN4K"),
        "gran16k": has(bool(idr5.GRAN16K), "IDR5", "GRAN16K"),
        "gran64k": has(bool(idr5.GRAN64K), "IDR5", "GRAN64K"),
        "ril": has(bool(idr3.RIL), "IDR3", "RIL"),
        "bbml": has(idr3.BBML, "IDR3", "BBML"),
        "stall_model": has(idr0.STALL_MODEL, "IDR0", "STALL_MODEL"),
        "vax": has({0: 48, 1: 52, 2: 56}.get(idr5.VAX, idr5.VAX), "IDR5", "VAX"),
        "coherent_walks": has(bool(idr0.COHACC), "IDR0", "COHACC"),
        "st_level": has(idr0.ST_LEVEL, "IDR0", "ST_LEVEL"),
        "cd2l": has(bool(idr0.CD2L), "IDR0", "CD2L"),
        "ttf": has(idr0.TTF, "IDR0", "TTF"),
        "ttendian": has(idr0.TTENDIAN, "IDR0", "TTENDIAN"),
        "asid16": has(bool(idr0.ASID16), "IDR0", "ASID16"),
        "vmid16": has(bool(idr0.VMID16), "IDR0", "VMID16"),
        "msi": has(bool(idr0.MSI), "IDR0", "MSI"),
        "architecture": has(f"SMMUv3.{aidr.ArchMinorRev}", "AIDR", "ArchMinorRev"),
        "implementer": has(_implementer(iidr), "IIDR", "Implementer"),
    }


def _implementer(iidr: idr.IIDR) -> str:
    if iidr.value == 0:
        return "not given"
    maker = idr.IIDR.Implementer.meaning(iidr.Implementer) or f"JEP106 {iidr.Implementer:#05x}"
    product = (idr.IIDR.ProductID.meaning(iidr.ProductID) if iidr.Implementer == 0x43B else None) or f"product {iidr.ProductID:#05x}"
    return f"{maker} {product} r{iidr.Variant}p{iidr.Revision}"


def capabilities(
    has: Mapping[str, Known],
    registers: IdRegisters | None,
    log: SmmuLog | None,
    probed: Probed,
    release: str,
    *,
    force_assumed: bool = False,
) -> dict[str, Known]:
    """What this kernel uses, by name; what nothing tells is UNKNOWN with the reason."""
    told = Source.ASSUMED if force_assumed else Source.LOG
    mask = log.features if log else None

    def by_log(bit: Feature) -> Known:
        if mask is None:
            return Known(None, Source.NONE, "the kernel's log of this SMMU was not recorded")
        value = feature(mask, bit, release)
        if value is None:
            return Known(None, Source.NONE, f"kernel {release} may not have known {bit.name} yet, so its clear bit says nothing")
        return Known(value, told, f"features {mask:#010x}")

    def raw(name: str) -> Known:
        return has.get(name, UNKNOWN)

    errata = errata_of(registers.iidr) if registers else Errata()
    found = dict(has)
    nests = _tried(probed.nest_parent, "IOMMU_HWPT_ALLOC_NEST_PARENT")
    found["nesting"] = first(nests, by_log(Feature.NESTING), _unless(raw("nesting"), errata.no_nesting))
    found["s2fwb"] = first(by_log(Feature.S2FWB), _unless(raw("s2fwb"), errata.no_s2fwb))
    found["ats"] = first(by_log(Feature.ATS), raw("ats"))
    found["pri"] = first(by_log(Feature.PRI), raw("pri"))
    found["ril"] = first(by_log(Feature.RANGE_INV), raw("ril"))
    found["btm"] = Known(False, Source.ASSUMED if mask is None else told, "no kernel up to 7.2 sets BTM") if mask is not None else UNKNOWN
    found["coherent_walks"] = first(by_log(Feature.COHERENCY), raw("coherent_walks"))
    found["stalls"] = first(by_log(Feature.STALLS))
    found["vax"] = first(Known(52, told) if by_log(Feature.VAX).value else UNKNOWN, raw("vax"))
    ha, hd = by_log(Feature.HA), by_log(Feature.HD)
    found["httu"] = Known(int(bool(ha)) + int(bool(hd)), told, "by the firmware's word under ACPI") if ha.known and hd.known else raw("httu")
    found["sva"] = by_log(Feature.SVA)
    if log and log.oas is not None:
        found["oas"] = Known(log.oas, told, "the kernel cuts an OAS it does not know to 48 bits") if log.oas == 48 else Known(log.oas, told)
    found["cmdq_force_sync"] = _force_sync(registers, errata, probed)
    found["viommu"] = _tried(probed.viommu, "IOMMU_VIOMMU_ALLOC")
    found["cmdqv"] = _cmdqv(probed, log, told)
    return found


def _force_sync(registers: IdRegisters | None, errata: Errata, probed: Probed) -> Known:
    if probed.viommu:
        return Known(False, Source.PROBE, "a vIOMMU could be made")
    if registers is None:
        return UNKNOWN
    return Known(errata.cmdq_force_sync, Source.ASSUMED if registers.assumed else Source.HW_INFO, f"by IIDR {registers.iidr:#010x}")


def _tried(result: bool | None, what: str) -> Known:
    return UNKNOWN if result is None else Known(result, Source.PROBE, f"{what} {'succeeded' if result else 'was refused'}")


def _unless(value: Known, erratum: bool) -> Known:
    return Known(False, value.source, "cleared by an erratum rule of the kernel") if value and erratum else value


def _cmdqv(probed: Probed, log: SmmuLog | None, told: Source) -> Known:
    tried = _tried(probed.viommu_cmdqv, "IOMMU_VIOMMU_ALLOC of type TEGRA241_CMDQV")
    if tried.known:
        return tried
    if log is None:
        return UNKNOWN
    if log.cmdqv_fallback:
        return Known(False, told, "a companion was found, but the kernel fell back to the SMMU's own queue")
    if log.cmdqv is not None:
        return Known(True, told, f"companion {log.cmdqv}")
    if log.options is not None and log.options & Option.TEGRA241_CMDQV:
        return Known(True, told, f"option mask {log.options:#x}")
    return Known(False, told, "the kernel found no companion CMDQV device") if log.options is not None else UNKNOWN
