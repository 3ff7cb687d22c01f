"""One SMMU: what this kernel uses of what the hardware has.

Order of trust (sources: design-trust): the result of a probe beats the feature mask of the kernel's log, which beats the erratum
rules applied to the ID registers, which beat IORT. A register alone proves no use: what the silicon has counts only on a kernel
that is known to look for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from wizard.arch.cmdqv import CmdqvParam, cmdqv_param
from wizard.facts.model import HwInfo
from wizard.host.errata import Errata, errata_of
from wizard.host.iort import SmmuV3
from wizard.host.known import UNKNOWN, Known, Source, first
from wizard.host.log.parse import KNOWN_SINCE, Feature, Option, SmmuLog, feature, knows, release_of
from wizard.host.model import IdRegisters
from wizard.host.silicon import NAMES

HW_INFO_SINCE = "6.13"
"""Mainline release from which a kernel hands out SMMUv3's ID registers: one that did has at least that driver, whatever its name."""


class Probed(msgspec.Struct, frozen=True):
    """What was tried on functions of one SMMU: True it went, False it was refused, None nobody tried."""

    nest_parent: bool | None = None
    viommu: bool | None = None
    viommu_cmdqv: bool | None = None
    cmdqv: CmdqvParam | None = None


# What refuses for good: the kernel or the SMMU can't, or this kernel does not know the call. Anything else (EBUSY, ENOMEM, EPERM…)
# is of the moment and proves nothing.
REFUSALS = frozenset({"EOPNOTSUPP", "ENOTSUP", "ENOTTY"})


def probed(infos: Sequence[HwInfo], *, assumed: bool) -> Probed:
    """What probes of the functions behind one SMMU came to; nothing of it, but CMDQV's parameters, where they are made up."""
    return Probed(
        nest_parent=None if assumed else _all_tried([info.nest_parent for info in infos]),
        viommu=None if assumed else _all_tried([info.viommu for info in infos]),
        viommu_cmdqv=None if assumed else _all_tried([info.viommu_cmdqv for info in infos]),
        cmdqv=next((param for info in infos if (param := cmdqv_param(info.cmdqv))), None),
    )


def _all_tried(results: list[str | None]) -> bool | None:
    if "ok" in results:
        return True
    return False if REFUSALS.intersection(filter(None, results)) else None


class Told(msgspec.Struct, frozen=True):
    """Everything that was told of one SMMU: by its registers, the kernel's log, a probe, the firmware."""

    has: Mapping[str, Known]  # silicon.hardware()
    registers: IdRegisters | None
    log: SmmuLog | None
    probed: Probed
    release: str
    iort: SmmuV3 | None
    log_assumed: bool = False
    bits_assumed: frozenset[str] = frozenset()  # features of the mask by name, where not the whole log was made up
    iort_assumed: bool = False
    by_tree: bool = False  # there is a device tree: what the firmware says beside IDR0 is not in IORT
    tree_coherent: Known = UNKNOWN  # the device tree's word on its walks

    @property
    def said(self) -> Source:
        """The source of what the log says."""
        return Source.ASSUMED if self.log_assumed else Source.LOG

    @property
    def driver(self) -> str:
        """The mainline release that the kernel's driver is at least as new as."""
        named = release_of(self.release)
        measured = self.registers is not None and not self.registers.assumed
        return HW_INFO_SINCE if measured and (named is None or named < (6, 13)) else self.release


def capabilities(told: Told) -> dict[str, Known]:
    """What this kernel uses, by name; what nothing tells is UNKNOWN with the reason."""
    raw, log, probed = dict.fromkeys(NAMES, UNKNOWN) | dict(told.has), told.log, told.probed
    errata = errata_of(told.registers.iidr) if told.registers else Errata()
    found = dict(raw)
    by_mask = {
        "stage1": Feature.TRANS_S1, "stage2": Feature.TRANS_S2, "ats": Feature.ATS, "pri": Feature.PRI, "ril": Feature.RANGE_INV,
        "cd2l": Feature.TWO_LVL_CDTAB, "msi": Feature.MSI,
    }  # fmt: skip
    found |= {name: _used(told, bit, raw[name]) for name, bit in by_mask.items()}
    found["nesting"] = first(_tried(probed.nest_parent, "IOMMU_HWPT_ALLOC_NEST_PARENT"), _nesting(told, _unless(raw["nesting"], errata.no_nesting)))
    found["s2fwb"] = _used(told, Feature.S2FWB, _unless(raw["s2fwb"], errata.no_s2fwb))
    found["btm"] = Known(False, told.said, "no kernel up to 7.3 sets BTM") if log and log.features is not None else UNKNOWN
    cohacc = _firmware(told, None if told.iort is None else told.iort.cohacc)
    found["coherent_walks"] = first(by_log(told, Feature.COHERENCY), told.tree_coherent, cohacc, raw["coherent_walks"])
    found["stalls"] = by_log(told, Feature.STALLS)
    found["stall_model"] = first(_stall_model(told), raw["stall_model"])
    found["ttendian"] = first(_endian(told), raw["ttendian"])
    found["st_level"] = first(_table_level(told), raw["st_level"])
    found["ds"] = _used(told, Feature.DS, raw["ds"])
    found["vax"] = _vax(told, raw["vax"])
    found["httu"] = _httu(told, raw["httu"])
    found["sva"] = by_log(told, Feature.SVA)
    if log and log.strtab_covers and not raw["sidsize"].known:
        covered, bits = log.strtab_covers
        found["sidsize"] = Known(bits, told.said, f"2-level strtab only covers {covered}/{bits} bits of SID")
    if log and log.oas is not None:
        found["oas"] = Known(log.oas, told.said, "the kernel cuts an OAS it does not know to 48 bits" if log.oas == 48 else "")
    found["cmdq_force_sync"] = _force_sync(told, errata)
    found["viommu"] = _tried(probed.viommu, "IOMMU_VIOMMU_ALLOC")
    found["cmdqv"] = _cmdqv(told)
    return found | _cmdqv_limits(told) | _queues(told)


def by_log(told: Told, bit: Feature) -> Known:
    """A feature by the mask that the kernel printed; unknown where a clear bit proves nothing."""
    mask = told.log.features if told.log else None
    if mask is None:
        return Known(None, Source.NONE, "the kernel's log of this SMMU was not recorded")
    value = feature(mask, bit, told.driver)
    if value is None:
        # Without the local version, which may be the host's name and is another word in a snapshot.
        number = (told.release or "?").partition("-")[0]
        return Known(None, Source.NONE, f"kernel {number} may not have known {bit.name} yet, so its clear bit says nothing")
    return Known(value, Source.ASSUMED if bit.name in told.bits_assumed else told.said, f"features {mask:#010x}")


def _used(told: Told, bit: Feature, raw: Known) -> Known:
    """What the mask says; without its word what the register has, on a kernel that reads it."""
    said = by_log(told, bit)
    if said.known:
        return said
    if raw.is_true and not knows(bit, told.driver):
        since = ".".join(map(str, KNOWN_SINCE[bit]))
        why = f"the hardware has it, but only kernels from {since} on are known to use it, and this one is {told.release or 'not named'}"
        return Known(None, Source.NONE, why)
    return first(raw, said)


def _nesting(told: Told, raw: Known) -> Known:
    said = _used(told, Feature.NESTING, raw)
    both = by_log(told, Feature.TRANS_S1).value and by_log(told, Feature.TRANS_S2).value
    if said.value is False and said.source is not Source.HW_INFO and both:
        why = "both stages are there, so the kernel took nesting away by an erratum rule: MMU-600 before r2, MMU-700 before r1p1"
        return Known(False, said.source, f"{said.note}: {why}")
    return said


def _firmware(told: Told, value: bool | int | None) -> Known:
    """What IORT's flags say: under ACPI the kernel takes coherent walks and hardware updates from them alone."""
    if value is None:
        return UNKNOWN
    return Known(value, Source.ASSUMED if told.iort_assumed else Source.IORT, "the kernel takes the firmware's word for it")


def _httu(told: Told, raw: Known) -> Known:
    flags = [by_log(told, bit) for bit in (Feature.HA, Feature.HD, Feature.HAFT)]
    if flags[0].known and flags[1].known:
        return Known(sum(flag.is_true for flag in flags), told.said, "" if told.by_tree else "by the firmware's word under ACPI")
    return first(_firmware(told, None if told.iort is None else told.iort.httu), raw)


def _stall_model(told: Told) -> Known:
    stalls, forced = by_log(told, Feature.STALLS), by_log(told, Feature.STALL_FORCE)
    return Known(2 if forced.is_true else 0 if stalls.is_true else 1, told.said, stalls.note) if stalls.known else UNKNOWN


def _endian(told: Told) -> Known:
    little, big = by_log(told, Feature.TT_LE), by_log(told, Feature.TT_BE)
    if not (little.is_true or big.is_true):
        return UNKNOWN
    return Known(0 if little.is_true and big.is_true else 2 if little.is_true else 3, told.said, little.note)


def _table_level(told: Told) -> Known:
    two_level = by_log(told, Feature.TWO_LVL_STRTAB)
    # A clear bit may only mean that there are 8 or fewer StreamID bits.
    return Known(1, told.said, two_level.note) if two_level.is_true else UNKNOWN


def _vax(told: Told, raw: Known) -> Known:
    said = by_log(told, Feature.VAX)
    return Known(52 if said.is_true else 48, told.said, said.note) if said.known else raw


def _force_sync(told: Told, errata: Errata) -> Known:
    if told.probed.viommu:
        return Known(False, Source.PROBE, "a vIOMMU could be made")
    if told.registers is None:
        return Known(None, Source.NONE, "IIDR decides, and nobody asked for it")
    return Known(errata.cmdq_force_sync, Source.ASSUMED if told.registers.assumed else Source.HW_INFO, f"by IIDR {told.registers.iidr:#010x}")


def _tried(result: bool | None, what: str) -> Known:
    return UNKNOWN if result is None else Known(result, Source.PROBE, f"{what} {'succeeded' if result else 'was refused'}")


def _unless(value: Known, erratum: bool) -> Known:
    return Known(False, value.source, "cleared by an erratum rule of the kernel") if value.is_true and erratum else value


def _cmdqv(told: Told) -> Known:
    log, probed = told.log, told.probed
    # Where no vIOMMU of any kind can be made, a refusal says nothing of CMDQV.
    if probed.viommu_cmdqv or (probed.viommu_cmdqv is False and probed.viommu):
        return _tried(probed.viommu_cmdqv, "IOMMU_VIOMMU_ALLOC of type TEGRA241_CMDQV")
    if log and log.cmdqv_fallback:
        return Known(False, told.said, "a companion was found, but the kernel fell back to the SMMU's own queue")
    if log and log.cmdqv is not None:
        return Known(True, told.said, f"companion {log.cmdqv}")
    if log and log.options is not None:
        found = bool(log.options & Option.TEGRA241_CMDQV)
        return Known(found, told.said, f"option mask {log.options:#x}" if found else "the kernel found no companion CMDQV device")
    if probed.cmdqv is not None:
        source = Source.ASSUMED if told.registers and told.registers.assumed else Source.HW_INFO
        return Known(True, source, "iommufd describes it")
    return _tried(probed.viommu_cmdqv, "IOMMU_VIOMMU_ALLOC of type TEGRA241_CMDQV")


def _cmdqv_limits(told: Told) -> dict[str, Known]:
    """What one VM gets of a CMDQV; nothing where there is none."""
    param, found = told.probed.cmdqv, {}
    if param is not None:
        source = Source.ASSUMED if told.registers and told.registers.assumed else Source.HW_INFO
        found["cmdqv_version"] = Known(param.version, source)
        found["cmdqv_queues_per_vm"] = Known(1 << param.log2vcmdqs, source)
        found["cmdqv_stream_ids_per_vm"] = Known(1 << param.log2vsids, source)
    elif told.log and (queues := sum(name.startswith("vcmdq") for name in told.log.queues)):
        found["cmdqv_queues_per_vm"] = Known(queues, told.said, "as many as the kernel made for itself")
    return found


def _queues(told: Told) -> dict[str, Known]:
    """Entries of the queues that the kernel made: at most what IDR1 allows, and no more than it could allocate."""
    made = told.log.queues if told.log else {}
    return {f"{queue}_entries": Known(made[queue], told.said) for queue in ("cmdq", "evtq", "priq") if queue in made}
