"""What another release of Linux would change on this host: ``wizard/knowledge/kernels.toml``, and which of it concerns the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wizard.base.finding import Area, Definition, Finding, Kind, Severity, define
from wizard.base.release import release_of
from wizard.base.text import visible
from wizard.facts.vfio import NOIOMMU
from wizard.host.commands import matters
from wizard.host.devices import needs_ats
from wizard.host.model import Accel, Host
from wizard.knowledge import tables
from wizard.knowledge.tables import KernelChange


def _smmuv3(host: Host) -> bool:
    return any(smmu.kind == "smmuv3" for smmu in host.smmus.values())


def _s2fwb_not_seen(host: Host) -> bool:
    return any(smmu.kind == "smmuv3" and not smmu.known("s2fwb").known for smmu in host.smmus.values())


def _several_endpoints(host: Host) -> bool:
    able = (name for name, function in host.functions.items() if not function.is_bridge and host.verdict(name).accel is not Accel.NO)
    return next(able, None) is not None and next(able, None) is not None


def _needs_ats(host: Host) -> bool:
    return any(needs_ats(function) or function.known("cxl_cache").is_true for function in host.functions.values())


def has_repeat_erratum(host: Host) -> dict[str, str]:
    """SMMU -> by what it is known, of those whose invalidations have to be issued twice (T264-SMMU-3)."""
    found: dict[str, str] = {}
    for erratum in tables.errata().repeat:
        for smmu in host.smmus.values():
            if smmu.registers is not None and smmu.registers.flags >> erratum.flag & 1:
                found.setdefault(smmu.name, "IOMMU_GET_HW_INFO says so (flag bit 0)")
            elif host.by_tree and (node := host.device_tree.named(smmu.name, smmu.device)) is not None:
                names = bytes.fromhex(node.properties.get("compatible", "")).decode(errors="replace").split("\0")
                if erratum.compatible in names:
                    found.setdefault(smmu.name, f"it is a {erratum.compatible} in the device tree")
    return found


def _t264(host: Host) -> bool:
    return bool(has_repeat_erratum(host))


def _ds(host: Host) -> bool:
    return any(smmu.registers is not None and smmu.registers.idr5.DS for smmu in host.smmus.values())


def noiommu_mode(host: Host) -> bool:
    """Whether the kernel lets VFIO have functions without an IOMMU."""
    return host.facts.kernel.module_parameters.get("vfio.enable_unsafe_noiommu_mode", "N") not in ("N", "0")


def _noiommu(host: Host) -> bool:
    return noiommu_mode(host) or any(name.startswith(NOIOMMU) for function in host.facts.functions for name in function.vfio_dev)


def _sva_on_bbml2(host: Host) -> bool:
    return any(smmu.known("sva").is_true and smmu.known("bbml").value == 2 for smmu in host.smmus.values())


def _vf_ats(host: Host) -> bool:
    return any((function.is_vf or function.facts.virtfns) and function.known("ats").is_true for function in host.functions.values())


CONCERNS: dict[str, Callable[[Host], bool]] = {
    "smmuv3": _smmuv3,
    "accelerated": matters,
    "s2fwb-not-seen": _s2fwb_not_seen,
    "several-endpoints": _several_endpoints,
    "needs-ats": _needs_ats,
    "t264": _t264,
    "ds": _ds,
    "noiommu": _noiommu,
    "sva-on-bbml2": _sva_on_bbml2,
    "vf-ats": _vf_ats,
}
"""Which hosts a change concerns, by the word that the table uses."""


def changes(host: Host, after: tuple[int, int], until: tuple[int, int]) -> Iterator[KernelChange]:
    """What releases later than ``after``, up to ``until``, change on this host."""
    concerned: dict[str, bool] = {}
    for change in tables.kernel_changes(after, until):
        if concerned.setdefault(change.concerns, CONCERNS[change.concerns](host)):
            yield change


def in_words(found: Iterable[KernelChange], running: tuple[int, int]) -> str:
    """``7.2 → 7.3: …; …. `` for each release."""
    by_release: dict[tuple[int, int], list[str]] = {}
    for change in found:
        by_release.setdefault(change.release, []).append(change.what)
    return " ".join(f"{_dotted(running)} → {_dotted(release)}: {'; '.join(texts)}." for release, texts in by_release.items())


def needs_of(found: Iterable[KernelChange]) -> str:
    """What those changes ask for, as sentences."""
    return " ".join(f"What came with {change.since} needs {change.needs}." for change in found if change.needs)


def _dotted(release: tuple[int, int]) -> str:
    return ".".join(map(str, release))


def _define(code: str, severity: Severity, area: Area, *, what: str, why: str, fix: str) -> Definition:
    return define(code, severity, Kind.TODO, area, what=what, why=why, fix=fix)


UPDATE = _define(
    "kernel-update", Severity.INFO, Area.HOST,
    what="An update of the kernel {release} would change on this host: {changes}",
    why="Of what is known of releases up to {newest} this concerns the host; a distribution may have brought some of it to its kernel already.",
    fix="Nothing to do now. {needs}`smmu-wizard doctor --knowledge` says how old the table is.",
)  # fmt: skip
REPEAT = _define(
    "smmu-repeats-invalidations", Severity.WARNING, Area.PACKAGES,
    what="{subject} has erratum T264-SMMU-3: {because}.",
    why="Each CFGI and TLBI with its SYNC has to be issued twice. Linux 7.3 does so for its own, and leaves a guest's to the VMM: with one that "
    "does not repeat them, a guest's stage 1 entries may outlive their invalidation.",
    fix="Accelerate behind this SMMU only with a VMM that looks at IOMMU_HW_INFO_ARM_SMMUV3_ERRATA_REPEAT_TLBI_CFGI; QEMU 11.1 is not known to.",
)  # fmt: skip


NOIOMMU_MODE = _define(
    "noiommu-mode", Severity.WARNING, Area.CMDLINE,
    what="vfio.enable_unsafe_noiommu_mode is on.",
    why="VFIO then gives out functions that no IOMMU translates: whoever opens one reads and writes all of the host's memory by its DMA.",
    fix="Switch it off (modprobe configuration, kernel command line, or `echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode`).",
)  # fmt: skip


def unsafe_mode(host: Host) -> Iterator[Finding]:
    """A switch that no VM needs."""
    if noiommu_mode(host):
        yield NOIOMMU_MODE.at("host")


def updates(host: Host) -> Iterator[Finding]:
    """What newer kernels than the one that runs would change here."""
    running, newest = release_of(host.facts.kernel.release), release_of(tables.kernels().newest)
    if running is None or newest is None or not _smmuv3(host):
        return
    found = tuple(changes(host, running, newest))
    if found:
        needs = needs_of(found)
        words: dict[str, Any] = {"changes": in_words(found, running), "newest": tables.kernels().newest, "needs": f"{needs} " if needs else ""}
        yield UPDATE.at("host", release=visible(host.facts.kernel.release), **words)


def repeats(host: Host) -> Iterator[Finding]:
    """SMMUs whose invalidations have to be issued twice."""
    for name, because in has_repeat_erratum(host).items():
        yield REPEAT.at(name, because=because)
