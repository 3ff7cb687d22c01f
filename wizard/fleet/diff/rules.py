"""What a difference means for VMs: findings of kind ``diff`` (domain: problems 28 and 36).

A code is declared beside its rule. Rules about what a reboot loses are asked unless the two snapshots are known to be of two hosts.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from wizard.base.finding import SAME, Area, Definition, Finding, Kind, OnTree, Severity, define
from wizard.base.release import release_of
from wizard.base.text import few, visible
from wizard.facts.held import Place, why_unread
from wizard.facts.vfio import is_vfio_driver
from wizard.fleet.diff.changes import group_of
from wizard.fleet.diff.pairs import Pairing
from wizard.host import kernels
from wizard.host.commands import checks_commands, matters
from wizard.host.model import Accel, Function, Host
from wizard.plan.properties import NAMES, declared
from wizard.plan.resolve import supply

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
Rule = Callable[[Pairing], Iterator[Finding]]
_RULES: list[tuple[Rule, bool]] = []


def diff_code(code: str, severity: Severity, area: Area, *, what: str, why: str, fix: str, on_tree: OnTree = SAME) -> Definition:
    """Declare a finding that needs two snapshots."""
    return define(code, severity, Kind.DIFF, area, what=what, why=why, fix=fix, on_tree=on_tree)


def _rule(*, one_host: bool = False) -> Callable[[Rule], Rule]:
    def register(check: Rule) -> Rule:
        _RULES.append((check, one_host))
        return check

    return register


def of(pairing: Pairing) -> Iterator[Finding]:
    """Every finding about the pair."""
    for check, one_host in _RULES:
        if not one_host or pairing.same_host is not False:
            yield from check(pairing)


VERDICT_LOST = diff_code(
    "verdict-lost", ERROR, Area.HOST,
    what="{subject} could be accelerated before and can't be now: {because}.",
    why="{why}",
    fix="{fix}",
)  # fmt: skip
VERDICT_WON = diff_code(
    "verdict-won", INFO, Area.HOST,
    what="{subject} can be accelerated now; before {was}: {because}.",
    why="The obstacle is gone, or is known by now.",
    fix="Nothing to do; `smmu-wizard plan` takes it from now on.",
)  # fmt: skip
VERDICT_UNSURE = diff_code(
    "verdict-unsure", WARNING, Area.HOST,
    what="Whether {subject} can be accelerated was known before (yes) and is not known now: {because}.",
    why="{why}",
    fix="{fix}",
)  # fmt: skip


@_rule()
def verdicts(pairing: Pairing) -> Iterator[Finding]:
    """The verdict of a function that is on both sides."""
    for old, new in pairing.endpoint_pairs:
        before, after = pairing.a.verdict(old.facts.address), pairing.b.verdict(new.facts.address)
        if before.accel is after.accel:
            continue
        told = after if before.accel is Accel.YES else before
        words: dict[str, Any] = {
            "because": " ".join(reason.what for reason in told.reasons).rstrip(".") or "nothing is known of it",
            "why": " ".join(dict.fromkeys(reason.why for reason in told.reasons)) or "Nothing is known of it.",
            "fix": " ".join(dict.fromkeys(reason.fix for reason in told.reasons)) or "Record the host with --probe.",
        }
        if after.accel is Accel.YES:
            yield VERDICT_WON.at(new, was="it could not" if before.accel is Accel.NO else "that was not known", **words)
        elif before.accel is Accel.YES:
            yield (VERDICT_LOST if after.accel is Accel.NO else VERDICT_UNSURE).at(new, **words)


FACT_UNKNOWN = diff_code(
    "fact-not-known", WARNING, Area.HOST,
    what="{name} of {subject} was known before ({before}) and is not known now.",
    why="The newer side does not hold it, so that nothing can be said of a change: not read is neither gone nor the same.",
    fix="Record the host again with `sudo smmu-wizard record`, and compare that.",
)  # fmt: skip
GROUP_GREW = diff_code(
    "group-changed", ERROR, Area.FIRMWARE,
    what="{subject} was {before}, and is {after} now.",
    why="Groups follow ACS and the firmware: a new kernel or BIOS can merge them. One VM has to take the whole group, and a group of more "
    "than one device is never accelerated.",
    fix="Look for an ACS, SR-IOV or IOMMU setting that the update reset in the firmware; otherwise plan the VMs of {subject} again.",
)  # fmt: skip
GROUP_SPLIT = diff_code(
    "group-split", INFO, Area.FIRMWARE,
    what="{subject} was {before}, and is {after} now.",
    why="Groups follow ACS and the firmware; with a smaller one you can choose more freely.",
    fix="Plan again to use it: profiles that have the whole group still work.",
)  # fmt: skip


@_rule()
def groups(pairing: Pairing) -> Iterator[Finding]:
    """Problem 28: groups changed after an update of kernel or firmware. Their numbers do not matter."""

    @cache  # the same for every function of two groups, which may be thousands
    def compared(one: int | None, other: int | None) -> tuple[tuple[str, ...], tuple[str, ...], bool, bool]:
        before = () if one is None else pairing.members_before[one]
        after = () if other is None else pairing.members_after[other]
        return before, after, before != after, bool(set(after) - set(before))

    for old, new in pairing.endpoint_pairs:
        groups = group_of(pairing.a, old), group_of(pairing.b, new)
        before, after, differ, more = compared(*(None if group is None else group.id for group in groups))
        name = new.facts.address
        known = [_members_known(host, one) for host, one in ((pairing.a, old), (pairing.b, new))]
        if before and not known[1] and not more and (differ or known[0]):
            yield FACT_UNKNOWN.at(new, name="The IOMMU group", before=_company(before, name))
        elif differ and (before or after) and (known[0] or not more):
            code = GROUP_GREW if not after or more else GROUP_SPLIT
            yield code.at(new, before=_company(before, name), after=_company(after, name))


def _members_known(host: Host, function: Function) -> bool:
    """Whether all members of a function's group are known; of one without a group, whether that it has none is."""
    group = group_of(host, function)
    if group is not None:
        return group.members_known
    return not {"group-unknown", "smmu-unknown"} & {reason.code for reason in host.verdict(function.facts.address).reasons}


def _company(members: tuple[str, ...], name: str) -> str:
    """Of a group's members, which are sorted."""
    if not members:
        return "in no IOMMU group"
    at = bisect_left(members, name)
    there = at < len(members) and members[at] == name
    others = few((member for member in members if member != name), len(members) - there)
    return f"in an IOMMU group with {others}" if others else "alone in its IOMMU group"


FUNCTION_GONE = diff_code(
    "function-gone", WARNING, Area.HARDWARE,
    what="{subject} ({name}) is gone.",
    why="It was there and could be given to a VM; no function that is there now has its serial number, or its slot, address and kind.",
    fix="Check that the card is seated, its slot is on in the firmware, and VFs were made; profiles that name it no longer start.",
)  # fmt: skip
FUNCTION_MOVED = diff_code(
    "function-moved", WARNING, Area.HOST,
    what="{old} is {subject} now.",
    why="Bus numbers may change with the cards that are in, the firmware or a kernel option; profiles name functions by address.",
    fix="Correct host in the profiles that name {old}, or plan them again.",
)  # fmt: skip


@_rule()
def functions(pairing: Pairing) -> Iterator[Finding]:
    """Functions that profiles may name and that are gone or elsewhere (problem 36)."""
    for name, function in pairing.a.functions.items():
        if why_unread(pairing.b.facts, Place.FUNCTIONS) is not None:
            return  # nobody looked
        made_again = function.facts.physfn in pairing.functions  # a VF of a PF that is still there: `vfs-lost` says it
        if name not in pairing.functions and not function.is_bridge and not made_again and pairing.same_host is not False:
            yield FUNCTION_GONE.at(name, name=visible(function.name))
    for old, new in pairing.endpoint_pairs:
        if old.facts.address != new.facts.address and pairing.same_host is not False:
            yield FUNCTION_MOVED.at(new, old=old)


SMMU_CHANGED = diff_code(
    "function-behind-another-smmu", WARNING, Area.FIRMWARE,
    what="{subject} was behind {before} and is behind {after} now.",
    why="A vSMMU belongs to one SMMU of the host; profiles that write which one no longer fit.",
    fix="Plan its VMs again.",
)  # fmt: skip


@_rule(one_host=True)
def smmus(pairing: Pairing) -> Iterator[Finding]:
    """The SMMU above a function."""
    for old, new in pairing.endpoint_pairs:
        before = pairing.smmus.get(old.smmu or "", old.smmu)
        lost = [reason.code for host, one in ((pairing.a, old), (pairing.b, new)) for reason in host.verdict(one.facts.address).reasons]
        if "smmu-unknown" in lost:
            if before and new.smmu is None:
                yield FACT_UNKNOWN.at(new, name="The SMMU", before=before)
        elif before != new.smmu:
            yield SMMU_CHANGED.at(new, before=old.smmu or "no SMMU", after=new.smmu or "no SMMU")


PROPERTY_LESS = diff_code(
    "property-lost", ERROR, Area.HOST,
    what="{subject} had {name}={before} and has {name}={after} now.",
    why="QEMU compares what a profile writes with the ID registers of the host: one that asks for {name}={before} no longer starts.",
    fix="Find what took it away (kernel, kernel option, firmware), or write the lower value into the profiles.",
)  # fmt: skip
PROPERTY_MORE = diff_code(
    "property-won", INFO, Area.HOST,
    what="{subject} had {name}={before} and has {name}={after} now.",
    why="Profiles with written properties keep the guest's platform as it was; one with auto gives the guest a new one.",
    fix="Plan again to use it.",
)  # fmt: skip
PROPERTY_UNKNOWN = diff_code(
    "property-not-known", WARNING, Area.HOST,
    what="{name} of {subject} was known before ({before}) and is not known now.",
    why="Without a probe or the kernel's log of the boot nobody can tell; the plan then writes the least value.",
    fix="Record the host with `sudo smmu-wizard record --probe`, soon after its boot.",
)  # fmt: skip


@_rule()
def properties(pairing: Pairing) -> Iterator[Finding]:
    """What QEMU compares of every SMMU that is on both sides."""
    for old, new in pairing.smmu_pairs():
        for name in NAMES:
            before, after = supply(old, name).compared, supply(new, name).compared
            if before.value == after.value or not before.known:
                continue
            had, has = (declared(name).spell(int(known.value or 0)) for known in (before, after))
            if not after.known:
                yield PROPERTY_UNKNOWN.at(new.name, name=name, before=had)
                continue
            code = PROPERTY_LESS if int(after.value or 0) < int(before.value or 0) else PROPERTY_MORE
            yield code.at(new.name, name=name, before=had, after=has)


OVERRIDE_LOST = diff_code(
    "driver-override-lost", WARNING, Area.DRIVERS,
    what="{subject} had driver_override {override} and has {now} now; it is on {driver}.",
    why="driver_override does not survive a reboot: the host's own driver takes the function again.",
    fix="Run the preparation script again, or install its systemd unit so that it runs at each boot.",
)  # fmt: skip
OFF_VFIO = diff_code(
    "vfio-driver-lost", WARNING, Area.DRIVERS,
    what="{subject} was on {before} and is on {after} now.",
    why="QEMU takes a function only from vfio-pci or a variant of it; a reboot gives it back to the host's driver.",
    fix="Run the preparation script again, or install its systemd unit so that it runs at each boot.",
)  # fmt: skip
VFS_LOST = diff_code(
    "vfs-lost", WARNING, Area.DRIVERS,
    what="{subject} had {before} VFs and has {after} now.",
    why="sriov_numvfs does not survive a reboot; VMs whose profiles name a VF that is gone do not start.",
    fix="Run the preparation script again, or install its systemd unit so that it runs at each boot.",
)  # fmt: skip
HUGEPAGES_LOST = diff_code(
    "hugepages-lost", WARNING, Area.HOST,
    what="Node {subject} had {before} hugepages of {size} and has {after} now.",
    why="A pool that was filled at run time is gone after a reboot; a VM that is backed by hugepages does not start without them.",
    fix="Run the preparation script again, or reserve them on the kernel command line (hugepagesz=, hugepages=).",
)  # fmt: skip


@_rule(one_host=True)
def lost_at_reboot(pairing: Pairing) -> Iterator[Finding]:
    """Problem 36: what a preparation script set up and the machine has forgotten."""
    for old, new in pairing.endpoint_pairs:
        before, after = old.facts, new.facts
        if why_unread(pairing.b.facts, Place.LINKS) is not None and after.driver is None:
            continue
        if before.driver_override and before.driver_override != after.driver_override:
            yield OVERRIDE_LOST.at(new, override=visible(before.driver_override), now=visible(after.driver_override or "none"),
                                   driver=f"driver {after.driver}" if after.driver else "no driver")  # fmt: skip
        elif is_vfio_driver(before.driver) and not is_vfio_driver(after.driver) and not (after.driver is None and after.vfio_dev):
            yield OFF_VFIO.at(new, before=before.driver, after=after.driver or "no driver")
        if before.sriov_numvfs and after.sriov_numvfs is None and not after.virtfns:
            yield FACT_UNKNOWN.at(new, name="The number of VFs", before=before.sriov_numvfs)
        elif before.sriov_numvfs and after.sriov_numvfs is not None and before.sriov_numvfs > after.sriov_numvfs:
            yield VFS_LOST.at(new, before=before.sriov_numvfs, after=after.sriov_numvfs)
    now = {node.id: node.hugepages for node in pairing.b.facts.nodes}
    for node in pairing.a.facts.nodes:
        for kib, count in sorted(node.hugepages.items()):
            left = now.get(node.id, {}).get(kib)
            if left is None and count:
                yield FACT_UNKNOWN.at(f"node {node.id}", name=f"The number of hugepages of {_pages(kib)}", before=count)
            elif left is not None and left < count:
                yield HUGEPAGES_LOST.at(node.id, before=count, after=left, size=_pages(kib))


def _pages(kib: str) -> str:
    count = int(kib) if kib.isdigit() else 0
    return f"{count >> 20} GiB" if count and count % (1 << 20) == 0 else f"{count >> 10} MiB" if count and count % (1 << 10) == 0 else f"{kib} KiB"


PAGE_SIZE = diff_code(
    "page-size-changed", WARNING, Area.HOST,
    what="The kernel's pages were {before} KiB and are {after} KiB now.",
    why="The page size decides the hugepage sizes, which BARs share a page, and the granule of a virtio-iommu.",
    fix="Check every profile against the host again: `smmu-wizard check PROFILE…`.",
)  # fmt: skip
KERNEL = diff_code(
    "kernel-changed", INFO, Area.HOST,
    what="The kernel was {before} and is {after} now.",
    why="Groups, erratum rules and what iommufd offers may differ between kernels; the changes list what does.",
    fix="Nothing to do if no other finding follows from it.",
)  # fmt: skip
KERNEL_CHANGES = diff_code(
    "kernel-update-changes", INFO, Area.HOST,
    what="The update of the kernel changes on this host: {changes}",
    why="By the table of what each release of Linux changed, as far as it concerns this host.",
    fix="Nothing to do beyond this. {needs}`smmu-wizard doctor --knowledge` says how old the table is.",
)  # fmt: skip
KERNEL_GOES_BACK = diff_code(
    "kernel-update-undone", WARNING, Area.HOST,
    what="The kernel is older now, and this host loses what came with: {changes}",
    why="By the table of what each release of Linux changed, as far as it concerns this host.",
    fix="Boot the newer kernel again if a VM rests on it. `smmu-wizard doctor --knowledge` says how old the table is.",
)  # fmt: skip


@_rule(one_host=True)
def kernel_releases(pairing: Pairing) -> Iterator[Finding]:
    """What the way from one release of Linux to the other means here."""
    before, after = (release_of(host.facts.kernel.release) for host in (pairing.a, pairing.b))
    if before is None or after is None or before == after:
        return
    found = tuple(kernels.changes(pairing.b, min(before, after), max(before, after)))
    if found and before < after:
        needs = kernels.needs_of(found)
        yield KERNEL_CHANGES.at("kernel", changes=kernels.in_words(found, before), needs=f"{needs} " if needs else "")
    elif found:
        yield KERNEL_GOES_BACK.at("kernel", changes=kernels.in_words(found, after))


FIRMWARE = diff_code(
    "firmware-changed", INFO, Area.FIRMWARE,
    what="The firmware was {before} and is {after} now.",
    why="IORT, groups, ACS and BAR sizes come from it, and an update may reset its settings.",
    fix="Check the settings for SMMU, ACS and SR-IOV; what differs is listed with the changes.",
    on_tree=OnTree(why="It gives the device tree, and with it StreamIDs and which SMMU is on; groups, ACS and BAR sizes come from it too."),
)  # fmt: skip


@_rule(one_host=True)
def software(pairing: Pairing) -> Iterator[Finding]:
    """Kernel, page size, firmware."""
    a, b = pairing.a.facts, pairing.b.facts
    if a.kernel.page_size and b.kernel.page_size and a.kernel.page_size != b.kernel.page_size:
        yield PAGE_SIZE.at("kernel", before=a.kernel.page_size >> 10, after=b.kernel.page_size >> 10)
    if (a.kernel.release, a.kernel.version) != (b.kernel.release, b.kernel.version) and a.kernel.release and b.kernel.release:
        whole = a.kernel.release == b.kernel.release
        before, after = ((f"{k.release} {k.version}" if whole else k.release) for k in (a.kernel, b.kernel))
        yield KERNEL.at("kernel", before=visible(before), after=visible(after))
    if a.identity.firmware and b.identity.firmware and a.identity.firmware != b.identity.firmware:
        yield FIRMWARE.at("firmware", tree=pairing.b.by_tree, before=visible(a.identity.firmware), after=visible(b.identity.firmware))


COMMANDS_LOST = diff_code(
    "guest-commands-check-lost", WARNING, Area.HOST,
    what="The kernel {before} checked every field of a guest's SMMU commands; {after}.",
    why="Without the check a malformed command of a guest can stop the SMMU's own queue, which all functions behind it share, until the driver has "
    "skipped it: a tenant can disturb the others.",
    fix="Boot the newer kernel again, or give the functions of one SMMU to one tenant.",
)  # fmt: skip
COMMANDS_WON = diff_code(
    "guest-commands-check-won", INFO, Area.HOST,
    what="The kernel {after} checks every field of a guest's SMMU commands; {before} looked at the opcode alone.",
    why="Since Linux 7.3 a malformed command ends in an error for its guest alone, and the queue that all functions of an SMMU share never sees it.",
    fix="Nothing to do.",
)  # fmt: skip


@_rule(one_host=True)
def guest_commands(pairing: Pairing) -> Iterator[Finding]:
    """The check of Linux 7.3, by the kernels' releases (``wizard.host.commands``)."""
    before, after = checks_commands(pairing.a), checks_commands(pairing.b)
    names = [visible(host.facts.kernel.release or "of an unknown release") for host in (pairing.a, pairing.b)]
    if before is True and after is not True and (matters(pairing.a) or matters(pairing.b)):
        said = f"{names[1]} looks at the opcode alone" if after is False else f"whether the kernel {names[1]} does is not known"
        yield COMMANDS_LOST.at("kernel", before=names[0], after=said)
    elif before is False and after is True and matters(pairing.b):
        yield COMMANDS_WON.at("kernel", before=names[0], after=names[1])


LOG_MORE = diff_code(
    "log-says-more", WARNING, Area.HOST,
    what="The kernel's log says now what it did not say before: {what}",
    why="{why}",
    fix="{fix}",
)  # fmt: skip
LOG_LESS = diff_code(
    "log-says-less", INFO, Area.HOST,
    what="The kernel's log does not say any more: {what}",
    why="The cause is gone, or it has not happened since the last boot: each boot begins a new log.",
    fix="Nothing to do; look again when the devices were used.",
)  # fmt: skip


@_rule(one_host=True)
def logs(pairing: Pairing) -> Iterator[Finding]:
    """What the log of one record has and that of the other has not; a log that was not read is no answer."""
    if any(not (side.facts.log or side.facts.moment.log) for side in (pairing.a, pairing.b)):
        return
    names = pairing.functions | pairing.smmus
    before = {(key[0], names.get(key[1], key[1]), *key[2:]): finding for key, finding in pairing.a.told.items()}
    after = pairing.b.told
    for key, finding in after.items():
        if key not in before:
            yield LOG_MORE.at(finding.subject, severity=finding.severity, what=finding.what, why=finding.why, fix=finding.fix)
    for key, finding in before.items():
        if key not in after and finding.severity is not INFO:
            yield LOG_LESS.at(finding.subject, what=finding.what)
