"""What the silicon of one SMMU has: its raw ID registers as iommufd handed them out, and what they mean."""

from __future__ import annotations

from collections.abc import Callable

from wizard.arch import idr
from wizard.facts.model import HwInfo
from wizard.host.known import Known, Source
from wizard.host.model import IdRegisters

HW_INFO_SMMUV3 = 2  # enum iommu_hw_info_type, include/uapi/linux/iommufd.h
_VAX_BITS = {0: 48, 1: 52, 2: 56}


def registers_of(info: HwInfo, *, assumed: bool) -> IdRegisters | None:
    """ID registers out of one answer of IOMMU_GET_HW_INFO (struct iommu_hw_info_arm_smmuv3); None when it is of another type or cut short."""
    if info.data_type != HW_INFO_SMMUV3 or info.data is None:
        return None
    try:
        raw = bytes.fromhex(info.data)
    except ValueError:
        return None
    if len(raw) < 40:
        return None
    words = [int.from_bytes(raw[at : at + 4], "little") for at in range(8, 40, 4)]  # u32 flags, __reserved come first
    return IdRegisters(tuple(words[:6]), words[6], words[7], info.address, assumed, int.from_bytes(raw[:4], "little"))


def _implementer(found: IdRegisters) -> str:
    iidr = idr.IIDR(found.iidr)
    if iidr.value == 0:
        return "not given"
    maker = idr.IIDR.Implementer.meaning(iidr.Implementer) or f"JEP106 {iidr.Implementer:#05x}"
    product = (idr.IIDR.ProductID.meaning(iidr.ProductID) if iidr.Implementer == 0x43B else None) or f"product {iidr.ProductID:#05x}"
    return f"{maker} {product} r{iidr.Variant}p{iidr.Revision}"


def _architecture(found: IdRegisters) -> str:
    aidr = idr.AIDR(found.aidr)
    return f"SMMUv3.{aidr.ArchMinorRev}" if aidr.ArchMajorRev == 0 else f"SMMU {3 + aidr.ArchMajorRev}.{aidr.ArchMinorRev}"


# name -> (register, field, what is made of it)
_FIELDS: dict[str, tuple[str, str, Callable[[IdRegisters], bool | int | str]]] = {
    "stage1": ("IDR0", "S1P", lambda r: bool(r.idr0.S1P)),
    "stage2": ("IDR0", "S2P", lambda r: bool(r.idr0.S2P)),
    "nesting": ("IDR0", "S1P and S2P", lambda r: bool(r.idr0.S1P and r.idr0.S2P)),
    "s2fwb": ("IDR3", "FWB", lambda r: bool(r.idr3.FWB)),
    "btm": ("IDR0", "BTM", lambda r: bool(r.idr0.BTM)),
    "httu": ("IDR0", "HTTU", lambda r: r.idr0.HTTU),
    "ats": ("IDR0", "ATS", lambda r: bool(r.idr0.ATS)),
    "pri": ("IDR0", "PRI", lambda r: bool(r.idr0.PRI)),
    "ssidsize": ("IDR1", "SSIDSIZE", lambda r: r.idr1.SSIDSIZE),
    "sidsize": ("IDR1", "SIDSIZE", lambda r: r.idr1.SIDSIZE),
    "oas": ("IDR5", "OAS", lambda r: idr.ADDRESS_BITS[r.idr5.OAS]),
    "gran4k": ("IDR5", "GRAN4K", lambda r: bool(r.idr5.GRAN4K)),
    "gran16k": ("IDR5", "GRAN16K", lambda r: bool(r.idr5.GRAN16K)),
    "gran64k": ("IDR5", "GRAN64K", lambda r: bool(r.idr5.GRAN64K)),
    "ril": ("IDR3", "RIL", lambda r: bool(r.idr3.RIL)),
    "bbml": ("IDR3", "BBML", lambda r: r.idr3.BBML),
    "stall_model": ("IDR0", "STALL_MODEL", lambda r: r.idr0.STALL_MODEL),
    "stall_max": ("IDR5", "STALL_MAX", lambda r: r.idr5.STALL_MAX),
    "term_model": ("IDR0", "TERM_MODEL", lambda r: r.idr0.TERM_MODEL),
    "ds": ("IDR5", "DS", lambda r: bool(r.idr5.DS)),
    "vax": ("IDR5", "VAX", lambda r: _VAX_BITS.get(r.idr5.VAX, r.idr5.VAX)),
    "coherent_walks": ("IDR0", "COHACC", lambda r: bool(r.idr0.COHACC)),
    "st_level": ("IDR0", "ST_LEVEL", lambda r: r.idr0.ST_LEVEL),
    "cd2l": ("IDR0", "CD2L", lambda r: bool(r.idr0.CD2L)),
    "ttf": ("IDR0", "TTF", lambda r: r.idr0.TTF),
    "ttendian": ("IDR0", "TTENDIAN", lambda r: r.idr0.TTENDIAN),
    "asid16": ("IDR0", "ASID16", lambda r: bool(r.idr0.ASID16)),
    "vmid16": ("IDR0", "VMID16", lambda r: bool(r.idr0.VMID16)),
    "msi": ("IDR0", "MSI", lambda r: bool(r.idr0.MSI)),
    "cmdqs": ("IDR1", "CMDQS", lambda r: r.idr1.CMDQS),
    "eventqs": ("IDR1", "EVENTQS", lambda r: r.idr1.EVENTQS),
    "priqs": ("IDR1", "PRIQS", lambda r: r.idr1.PRIQS),
    "architecture": ("AIDR", "ArchMinorRev", _architecture),
    "implementer": ("IIDR", "ProductID", _implementer),
}
NAMES = tuple(_FIELDS)


def hardware(registers: IdRegisters | None) -> dict[str, Known]:
    """What the silicon has, by its raw ID registers; fields outside the kernel's ABI list are marked raw. Empty where nobody asked."""
    if registers is None:
        return {}
    source = Source.ASSUMED if registers.assumed else Source.HW_INFO
    found = {}
    for name, (register, field, value) in _FIELDS.items():
        promised = field in idr.ABI_FIELDS.get(register, ())
        found[name] = Known(value(registers), source, "" if promised else f"raw {register}.{field}: outside what the kernel's ABI promises")
    return found
