"""Where the function is: what it is itself, the SMMU above it, its group, its StreamIDs, its reserved memory."""

from __future__ import annotations

from wizard.base.finding import Area, Finding, OnTree, Severity
from wizard.base.text import plural
from wizard.facts.vfio import NOIOMMU
from wizard.host.conditions.evidence import HOLDS, Answer, Evidence, condition, fails, not_known, verdict_code
from wizard.host.model import KIND_NAMES

NOT_ENDPOINT = verdict_code(
    "not-an-endpoint", Area.HARDWARE,
    what="{subject} is a bridge, not an endpoint.",
    why="Only endpoints can be given to a VM; vfio-pci refuses any other header type.",
    fix="Choose a function below it.",
)  # fmt: skip


@condition
def endpoint(evidence: Evidence) -> Answer:
    """vfio_pci_probe(): only header type 0."""
    if evidence.function.is_bridge:
        return fails(NOT_ENDPOINT.at(evidence.function))
    return HOLDS


SILENT = verdict_code(
    "function-silent", Area.HARDWARE, severity=Severity.WARNING,
    what="{subject} does not answer: its configuration space reads all ones.",
    why="The kernel wakes a function before it reads: one that reads all ones was removed, has failed, or has no power. What it can do is not known.",
    fix="Look at it with `lspci -vvv -s {subject}` and at the kernel's log; reset it, reseat it or cycle its power, then look again.",
)  # fmt: skip


@condition
def answers(evidence: Evidence) -> Answer:
    """pci_config_pm_runtime_get() comes before each read of /sys/…/config: all ones are no sleep (drivers/pci/pci-sysfs.c)."""
    return not_known(SILENT.at(evidence.function)) if evidence.function.config.dead and not evidence.function.is_vf else HOLDS


ACCEL_OFF = verdict_code(
    "accel-off-by-policy", Area.HOST,
    what="The policy file switches acceleration off for {what_for}.",
    why="The reason that the policy file gives: {reason}",
    fix="Change policy.toml if the reason is no longer true.",
)  # fmt: skip


@condition
def policy(evidence: Evidence) -> Answer:
    """An administrator may overrule what is known to be broken."""
    ruling = evidence.function.policy or (evidence.smmu.policy if evidence.smmu else None)
    if ruling is not None and ruling.accel == "off":
        return fails(ACCEL_OFF.at(evidence.function, what_for=ruling.subject, reason=ruling.reason))
    return HOLDS


OTHER_IOMMU = verdict_code(
    "iommu-not-smmuv3", Area.HARDWARE,
    what="{whose} is {kind}, not an SMMUv3.",
    why="An accelerated vSMMU is nested translation of an SMMUv3; no other IOMMU can back it.",
    fix="Use a host with SMMUv3; without acceleration (--mode none) a function behind any IOMMU can be given.",
)  # fmt: skip
ALIAS_REFUSED = verdict_code(
    "stream-id-taken", Area.HARDWARE,
    what="{subject} is behind {smmu}, but the kernel left it without an IOMMU: its StreamID is an alias that {other} took first.",
    why="{cause}; the kernel gives a StreamID to one function only (Aliasing StreamID … unsupported), and DMA of this one is not translated for it.",
    fix="It can't be assigned at all. {step}",
)  # fmt: skip
NO_SMMU = verdict_code(
    "no-smmu", Area.HARDWARE,
    what="{subject} has no SMMU above it.",
    why="{because}. Nothing translates its DMA for a VM or keeps it from others' memory{untranslated}.",
    fix="Move the card to a slot behind an SMMU (`smmu-wizard list` shows what is behind one), or choose another function.",
)  # fmt: skip
NOT_ARM64 = verdict_code(
    "machine-not-arm64", Area.HARDWARE,
    what="{subject} is in a machine of kind {machine}: only an SMMUv3 can back an accelerated vSMMU, and SMMUv3s are in arm64 machines.",
    why="No IOMMU shows in /sys/class/iommu either: it is off in the firmware's setup or on the kernel command line, or there is none.",
    fix="Switch the IOMMU on (VT-d, AMD-Vi) to give VMs functions without acceleration; for acceleration, use an arm64 host with SMMUv3.",
)  # fmt: skip
SMMU_OFF = verdict_code(
    "smmu-off", Area.FIRMWARE,
    what="This host shows no SMMU.",
    why="There is no entry in /sys/class/iommu{cause}.",
    fix="{step}",
)  # fmt: skip
SMMU_UNKNOWN = verdict_code(
    "smmu-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether an SMMU is above {subject} is not known{because}.",
    why="Its iommu link, its group, the list of IOMMUs (/sys/class/iommu) and the firmware's IORT would each tell; {lacking}.",
    fix="Record the host itself: `sudo smmu-wizard record`.",
    on_tree=OnTree(why="Its iommu link, its group, the list of IOMMUs (/sys/class/iommu) and the device tree would each tell; {lacking}."),
)  # fmt: skip
NO_IOMMU_MAP = verdict_code(
    "no-iommu-map", Area.HARDWARE,
    what="This host's device tree puts no SMMU above {subject}{said}.",
    why="On many small boards (Raspberry Pi 5) PCIe has one address space without an IOMMU: there is no iommu-map, and nothing isolates a device.",
    fix="No setting changes this: its devices can't be given to VMs. Use a host whose PCIe has an SMMU.",
)  # fmt: skip
SMMU_NOT_USED = verdict_code(
    "smmu-not-used", Area.KCONFIG,
    what="The firmware puts {subject} behind {smmu}, but the kernel uses no IOMMU for it.",
    why="The function has neither an iommu link nor a group, and the log kept here does not say why.",
    fix="Look for 'arm-smmu-v3' and the address in `dmesg`: the driver may have failed to probe, or the function may have been added too late.",
)  # fmt: skip


SMMU_FAILED = verdict_code(
    "smmu-failed", Area.FIRMWARE,
    what="The kernel's driver could not start {smmu}, which is above {subject}: {because}.",
    why="Without its SMMU a function has no IOMMU group, and no VM can have it.",
    fix="Where two devices claim one StreamID, move the card behind the PCI bridge to another slot; otherwise update firmware and kernel.",
)  # fmt: skip


WITHOUT_IOMMU = verdict_code(
    "vfio-noiommu", Area.HARDWARE,
    what="{subject} has a VFIO device without an IOMMU ({cdev}).",
    why="The kernel made it because vfio.enable_unsafe_noiommu_mode is on and no IOMMU is above the function: a VM that has it reaches all of the "
    "host's memory by its DMA, and iommufd can tell nothing of it (IOMMU_GET_HW_INFO answers EOPNOTSUPP).",
    fix="Never give it to a VM. Switch the mode off, and bring the function behind an SMMU that the kernel uses.",
)  # fmt: skip


@condition
def not_noiommu(evidence: Evidence) -> Answer:
    """IOMMUFD_NOIOMMU: since Linux 7.3 such functions have cdevs too, and are told by their name alone."""
    cdevs = evidence.function.facts.vfio_dev
    cdev = next((name for name in cdevs if name.startswith(NOIOMMU)), None) if cdevs else None
    return HOLDS if cdev is None else fails(WITHOUT_IOMMU.at(evidence.function, cdev=f"/dev/vfio/devices/{cdev}"))


@condition
def smmu_above(evidence: Evidence) -> Answer:
    """There is an SMMUv3 above it that the kernel uses."""
    function = evidence.function
    if evidence.smmu is not None:
        if evidence.smmu.kind == "smmuv3":
            return HOLDS
        return fails(OTHER_IOMMU.at(function, whose=f"The IOMMU of {function}", kind=KIND_NAMES.get(evidence.smmu.kind, evidence.smmu.kind)))
    if evidence.alias_refused:
        cause, step = _one_stream_for_two(evidence)
        return fails(ALIAS_REFUSED.at(function, smmu=function.iort_smmu or "an SMMU", other=evidence.alias_refused, cause=cause, step=step))
    if evidence.smmu_failed:
        return fails(SMMU_FAILED.at(function, smmu=function.iort_smmu, because=evidence.smmu_failed))
    if evidence.other_iommu and not evidence.any_smmuv3 and (evidence.none_above or evidence.no_such_machine):
        why = f" ({evidence.tree_why})" if evidence.tree_why else ""
        unused = f"The kernel uses no IOMMU for {function}{why}, and the one of this host"
        whose = unused if evidence.none_above else "The IOMMU of this host"
        return fails(OTHER_IOMMU.at(function, whose=whose, kind=KIND_NAMES.get(evidence.other_iommu, evidence.other_iommu)))
    if evidence.no_such_machine:
        if evidence.iommus_unread is None:
            return fails(NOT_ARM64.at(function, machine=evidence.machine))
        return fails(OTHER_IOMMU.at(function, whose=f"An IOMMU of a machine of kind {evidence.machine}", kind="of another kind"))
    if not evidence.none_above:
        return not_known(_unknown(evidence))
    if not evidence.any_smmuv3:
        return _host_without(evidence)
    if function.iort_smmu:
        return fails(SMMU_NOT_USED.at(function, smmu=function.iort_smmu))
    return fails(NO_SMMU.at(function, because=_unmapped(evidence), untranslated=evidence.untranslated()))


_BRIDGE = (
    "Both sit behind a conventional PCI bridge, which sends their DMA under one requester ID",
    "Move the card out of the conventional bridge, into a PCI Express slot.",
)
_MAP = (
    "The device tree's iommu-map, or its iommu-map-mask, gives both one StreamID, and no bridge is to blame",
    "Each requester ID needs a StreamID of its own: correct iommu-map and iommu-map-mask of the host bridge in the device tree.",
)
_TABLE = "The firmware gives both one StreamID, and no bridge is to blame", "Update the firmware, or send the vendor the line of the kernel's log."


def _one_stream_for_two(evidence: Evidence) -> tuple[str, str]:
    """Why two functions have one StreamID, and what would part them: a bridge that sends for both, or a map that folds two requester IDs."""
    if evidence.behind_conventional() is not False:
        return _BRIDGE
    return _MAP if evidence.device_tree else _TABLE


def _host_without(evidence: Evidence) -> Answer:
    """No SMMU is listed; only where the list itself was looked at is that an answer."""
    function = evidence.function
    if evidence.iommus_unread is not None:
        return not_known(_unknown(evidence))
    if evidence.device_tree and function.iort_smmu:
        return fails(SMMU_NOT_USED.at(function, smmu=function.iort_smmu))
    if evidence.device_tree:
        return fails(NO_IOMMU_MAP.at(function, said=f": {evidence.tree_why}" if evidence.tree_why else ""))
    cause, step = _off(evidence.acpi_smmus)
    return fails(SMMU_OFF.at(function, cause=cause, step=step))


def _unknown(evidence: Evidence) -> Finding:
    function = evidence.function
    because = ""
    if function.group is not None:
        because = f": it is in group {function.group}, so an IOMMU may be above it, and nothing names which"
    elif function.iort_smmu:
        because = f": the firmware names {function.iort_smmu}, and whether the kernel uses it does not show"
    table = {} if evidence.device_tree else {"IORT": evidence.iort_unread}
    places = {"/sys/class/iommu": evidence.iommus_unread, **table, "the groups": evidence.groups_unread}
    lacking = ", ".join(f"{place} ({reason})" for place, reason in places.items() if reason is not None)
    told = f"not read were {lacking}" if lacking else "what was recorded of them does not agree"
    return SMMU_UNKNOWN.at(function, because=because, lacking=told, tree=evidence.device_tree)


def _off(nodes: int | None) -> tuple[str, str]:
    """Cause and step: where the firmware's table has the SMMUs, it is the kernel that does not use them; else the firmware has them off."""
    if nodes:
        return (
            f", while the firmware's IORT has {plural(nodes, 'SMMUv3 node')}: the firmware has it on, and the kernel does not use it",
            "Look for CONFIG_ARM_SMMU_V3 in the kernel's configuration, and for arm-smmu-v3 in `dmesg`; boot a kernel that has the driver.",
        )
    table = "" if nodes is None else ", and the firmware's IORT has no SMMUv3 node"
    return (
        f"{table}; many boards ship with the SMMU switched off in the firmware's settings",
        "Switch the SMMU (IOMMU) on in the firmware's setup and boot again; look for CONFIG_ARM_SMMU_V3 in the kernel if it is on.",
    )


def _unmapped(evidence: Evidence) -> str:
    if evidence.device_tree:
        said = evidence.tree_why
        return f"The device tree gives it none: {said}" if said else "The kernel made no link to one, as the device tree's iommu-map would have it"
    if evidence.acpi_smmus is None:
        return "The kernel made no link to one (the firmware's IORT, which says why, was not read: root would tell)"
    return "The firmware's IORT names no SMMU for its requester ID"


GROUP_SHARED = verdict_code(
    "group-shared", Area.HARDWARE,
    what="{subject} shares IOMMU group {group} with {others}.",
    why="The kernel attaches one function's stage 1 to the whole group; behind an accelerated vSMMU the guest's driver or QEMU fails on it.",
    fix="{remedy}.",
)  # fmt: skip
GROUP_UNKNOWN = verdict_code(
    "group-unknown", Area.HOST, severity=Severity.INFO,
    what="The IOMMU group of {subject} is not known.",
    why="The kernel gives every function behind an IOMMU a group; its link and its place in /sys/kernel/iommu_groups were not read.",
    fix="Record the host itself: `sudo smmu-wizard record`.",
)  # fmt: skip
MEMBERS_UNKNOWN = verdict_code(
    "group-members-unknown", Area.HOST, severity=Severity.INFO,
    what="Who else is in the IOMMU group of {subject} is not known.",
    why="The group's own list (/sys/kernel/iommu_groups/N/devices) was not read; with a second device in it, PCI or not, there is no acceleration.",
    fix="Record the host again, with /sys/kernel/iommu_groups.",
)  # fmt: skip
NO_GROUP = verdict_code(
    "no-group", Area.FIRMWARE,
    what="{subject} has no IOMMU group.",
    why="Without a group vfio-pci refuses it (probe error -22); no-IOMMU mode is not usable by QEMU.",
    fix="Put it behind an SMMU (firmware setup, kernel configuration), then look again.",
)  # fmt: skip


@condition
def alone_in_group(evidence: Evidence) -> Answer:
    """A group of exactly one device, bridges included (sources: problem-31)."""
    if evidence.group is None:
        if evidence.smmu is not None:
            return not_known(GROUP_UNKNOWN.at(evidence.function))  # a function with an IOMMU always has one
        return fails(NO_GROUP.at(evidence.function)) if evidence.none_above and evidence.other_iommu else HOLDS
    others = evidence.group.others(evidence.function.facts.address)
    if not others:
        known = evidence.group.members_known
        return HOLDS if known else not_known(MEMBERS_UNKNOWN.at(evidence.function))
    parent = evidence.function.parent  # of a damaged snapshot perhaps the function itself
    beside = parent in evidence.group.members and parent != evidence.function.facts.address
    if beside and evidence.function.config.is_express is False:
        elsewhere = "move the card out of the conventional bridge, into a PCI Express slot"
    else:
        elsewhere = "use a slot whose path has ACS"
    whole = "Give the whole group to one VM without a vIOMMU (--mode none), or " if evidence.aliases_known and not evidence.outside else ""
    fix = whole + elsewhere if whole else elsewhere[0].upper() + elsewhere[1:]
    return fails(GROUP_SHARED.at(evidence.function, group=evidence.group.id, others=others, remedy=fix))


STREAM_SHARED = verdict_code(
    "stream-id-shared", Area.HARDWARE,
    what="{subject} shares its StreamID {stream} with {others}, outside its own IOMMU group.",
    why="The SMMU can't tell their DMA apart: what one may reach, the other may reach too, whatever group the kernel shows.",
    fix="Give it to no VM, with acceleration or without. {step}",
)  # fmt: skip
STREAM_OF_GROUP = verdict_code(
    "stream-id-of-group", Area.HARDWARE,
    what="{subject} shares its StreamID {stream} with {others} of its IOMMU group.",
    why="The SMMU can't tell their DMA apart: only one VM can have all of them, and never with acceleration.",
    fix="{step}",
)  # fmt: skip
STREAMS_MANY = verdict_code(
    "stream-ids-many", Area.HARDWARE,
    what="{subject} has {count} StreamIDs ({streams}).",
    why="A vDEVICE takes exactly one StreamID (IOMMU_VDEVICE_ALLOC: Operation not supported); a conventional bridge adds its own.",
    fix="Move the card out of the conventional bridge, into a PCI Express slot.",
)  # fmt: skip
STREAMS_UNKNOWN = verdict_code(
    "stream-ids-unknown", Area.HOST, severity=Severity.INFO,
    what="The StreamID of {subject} is not known.",
    why="{because}",
    fix="Read the host as root (`sudo smmu-wizard record`).",
    on_tree=OnTree(fix="Record the host again (`smmu-wizard record`): every user can read the device tree."),
)  # fmt: skip
ALIASES_UNKNOWN = verdict_code(
    "dma-aliases-unknown", Area.HOST, severity=Severity.INFO,
    what="Whether the DMA of {subject} carries other requester IDs too is not known.",
    why="A bridge above it could not be read whole; a conventional one would add a StreamID, which others may have as well.",
    fix="Read the host as root (`sudo smmu-wizard record`): configuration space past 64 bytes needs it.",
)  # fmt: skip


@condition
def one_stream(evidence: Evidence) -> Answer:
    """Exactly one StreamID, shared with nobody."""
    function = evidence.function
    if evidence.smmu is None or evidence.smmu.kind != "smmuv3":
        return HOLDS
    if not function.stream_ids or (function.iort_smmu and function.iort_smmu != function.smmu):
        return not_known(STREAMS_UNKNOWN.at(function, because=_no_stream(evidence), tree=evidence.device_tree))
    if evidence.sharing:
        outside = evidence.outside
        told = outside or evidence.sharing
        streams = ", ".join(dict.fromkeys(f"{stream:#x}" for stream, _ in told))
        others = ", ".join(dict.fromkeys(other for _, other in told))
        return fails(
            (STREAM_SHARED if outside else STREAM_OF_GROUP).at(function, stream=streams, others=others, step=_one_stream_for_two(evidence)[1])
        )
    if len(function.stream_ids) > 1:
        streams = ", ".join(f"{stream:#x}" for stream in function.stream_ids)
        return fails(STREAMS_MANY.at(function, count=len(function.stream_ids), streams=streams))
    return HOLDS if evidence.aliases_known else not_known(ALIASES_UNKNOWN.at(function))


def _no_stream(evidence: Evidence) -> str:
    function = evidence.function
    if function.stream_ids:
        table = "device tree" if evidence.device_tree else "firmware's IORT"
        return f"The {table} puts it behind {function.iort_smmu}, while the kernel uses {function.smmu} for it."
    if evidence.acpi_smmus is not None:
        return f"The firmware's IORT leads nowhere for it, while the kernel uses {function.smmu} for it: the table is damaged, or of another boot."
    if evidence.device_tree:
        return f"It stands in the device tree's iommu-map, which does not tell: {function.stream_source.note}."
    return "It stands in the firmware's IORT (/sys/firmware/acpi/tables/IORT), which was not read."


DIRECT_REGION = verdict_code(
    "direct-region", Area.FIRMWARE,
    what="The firmware asks for a 1:1 mapping of {regions} for {subject}.",
    why="The kernel lets no VM have a function with a `direct` reserved region (iommu_group_claim_dma_owner).",
    fix="It can't be assigned. Ask the vendor for firmware whose RMR permits remapping, or keep the function for the host.",
    on_tree=OnTree(fix="It can't be assigned: memory that the device tree reserves for it is in the way (memory-region, iommu-addresses)."),
)  # fmt: skip


REGIONS_UNKNOWN = verdict_code(
    "reserved-regions-unknown", Area.HOST, severity=Severity.INFO,
    what="Which memory the firmware reserves for {subject} is not known.",
    why="reserved_regions of its IOMMU group were not recorded, or have a line that is not understood; with a `direct` one no VM can have it.",
    fix="Record the host again, with /sys/kernel/iommu_groups.",
)  # fmt: skip
ONE_TO_ONE = verdict_code(
    "one-to-one-requested", Area.FIRMWARE,
    what="The kernel refused to give {subject} to a VM: the firmware wants its memory mapped 1:1.",
    why="Its log says so (Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping).",
    fix="It can't be assigned. Ask the vendor for firmware whose RMR permits remapping, or keep the function for the host.",
    on_tree=OnTree(fix="It can't be assigned: memory that the device tree reserves for it is in the way (memory-region, iommu-addresses)."),
)  # fmt: skip


@condition
def no_direct_region(evidence: Evidence) -> Answer:
    """No `direct` reserved region; `direct-relaxable` is fine (sources: problem-32)."""
    regions = [f"{r.start:#x}-{r.end:#x}" for r in (evidence.group.regions if evidence.group else ()) if r.type == "direct"]
    if regions:
        return fails(DIRECT_REGION.at(evidence.function, regions=", ".join(regions), tree=evidence.device_tree))
    if evidence.group is not None and not evidence.group.regions_known:
        return not_known(REGIONS_UNKNOWN.at(evidence.function))
    return HOLDS


@condition
def not_refused_for_its_memory(evidence: Evidence) -> Answer:
    """iommu_group_claim_dma_owner() refused it already, and the kernel logged it (sources: problem-23)."""
    return fails(ONE_TO_ONE.at(evidence.function, tree=evidence.device_tree)) if evidence.one_to_one else HOLDS
