"""Findings about the host as a whole: packages, kernel command line, page size, firmware tables.

A rule is one short function beside its code; adding one touches this file and its test.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from wizard.arch.pci import STANDARD_SPACE
from wizard.base.finding import Area, Definition, Finding, Kind, Severity, define
from wizard.base.text import parse_size, size
from wizard.facts.held import Place, why_unread
from wizard.host import libvirt
from wizard.host.commands import guest_commands
from wizard.host.conditions.kernel import OPTIONS
from wizard.host.devices import coherent_gpu
from wizard.host.log.findings import log_findings
from wizard.host.model import ARM64, KIND_NAMES, Host

Rule = Callable[[Host], Iterable[Finding]]
RULES: list[Rule] = []


def rule(check: Rule) -> Rule:
    """Register a rule; they are asked in the order of this file."""
    RULES.append(check)
    return check


def host_findings(host: Host) -> tuple[Finding, ...]:
    """Every finding about the host as a whole."""
    return (*host.iort_findings, *log_findings(host), *(finding for check in RULES for finding in check(host)))


def _define(code: str, severity: Severity, kind: Kind, area: Area, *, what: str, why: str, fix: str) -> Definition:
    return define(code, severity, kind, area, what=what, why=why, fix=fix)


def is_smmuv3_host(host: Host) -> bool:
    """Whether acceleration is a question here at all."""
    return any(smmu.kind == "smmuv3" for smmu in host.smmus.values()) or (not host.smmus and bool(host.log.smmus))


NOT_LOOKED_AT = _define(
    "not-looked-at", Severity.INFO, Kind.VERDICT, Area.HOST,
    what="Not looked at: {places}.",
    why="What was recorded here says nothing of them, neither that they are there nor that they are not: what rests on them is unknown.",
    fix="{remedy}",
)  # fmt: skip
_WORDS = {
    Place.FUNCTIONS: "PCI functions", Place.IOMMUS: "the list of IOMMUs in /sys/class/iommu", Place.LINKS: "links from functions to their IOMMU",
    Place.GROUP_LINKS: "links from functions to their IOMMU group", Place.GROUPS: "IOMMU groups in /sys/kernel/iommu_groups",
    Place.CONFIG: "configuration space", Place.RESOURCES: "BARs", Place.DRIVERS: "drivers", Place.LOG: "the kernel's log of the boot",
    Place.IORT: "the firmware's IORT", Place.DEVICE_TREE: "the device tree",
}  # fmt: skip
_USERS = {
    "/proc/*/fd": "who has functions open", "/etc/libvirt/qemu": "libvirt's domains and networks", "/run/libvirt/qemu": "libvirt's running domains",
    "rdma resource show": "who uses RDMA",
}  # fmt: skip


@rule
def not_looked_at(host: Host) -> Iterator[Finding]:
    """What a source could not hold, or a user not read: once, with what would tell."""
    facts = host.facts
    unread = {place: reason for place in Place if (reason := why_unread(facts, place)) is not None}
    if host.by_tree:
        unread.pop(Place.IORT, None)
        if not facts.device_tree_nodes:
            unread[Place.DEVICE_TREE] = why_unread(facts, Place.DEVICE_TREE) or "not recorded"
    if not facts.functions and Place.FUNCTIONS not in unread and facts.origin not in ("live", "root"):
        unread[Place.FUNCTIONS] = "none was recorded"
    endpoints = [function for function in host.functions.values() if not function.is_bridge]
    if Place.CONFIG not in unread and endpoints and not any(function.config.length > STANDARD_SPACE for function in endpoints):
        unread[Place.CONFIG] = f"at most {max(function.config.length for function in endpoints)} bytes of each function"
    if Place.FUNCTIONS in unread:
        unread = {place: reason for place, reason in unread.items() if not place.startswith(f"{Place.FUNCTIONS}/")}
    lacking = [(_WORDS[place], reason) for place, reason in unread.items()]
    if facts.kernel.config is None:
        lacking.append(("the kernel's configuration", facts.unread.get("/proc/config.gz", "not found")))
    elif silent := [name for name in (*OPTIONS, "CONFIG_VFIO_PCI") if facts.kernel.option(name) is None]:
        lacking.append((f"what the kernel's configuration says of {', '.join(silent)}", "only part of it is there"))
    if not facts.kernel.release:
        lacking.append(("which kernel runs", "not found"))
    lacking += [(words, facts.unread[place]) for place, words in _USERS.items() if place in facts.unread]
    if not lacking:
        return
    reasons = dict.fromkeys(reason for _, reason in lacking)
    places = "; ".join(f"{', '.join(place for place, why in lacking if why == reason)} ({reason})" for reason in reasons)
    as_root = "Read the host as root: `sudo smmu-wizard doctor`, or `sudo smmu-wizard record` for a recording of all of it."
    elsewhere = "Record the host itself with `sudo smmu-wizard record -o host.json`, and look at that: it reads all of this."
    yield NOT_LOOKED_AT.at("host", places=places, remedy=as_root if facts.origin == "live" else elsewhere)


NOT_SMMUV3_HOST = _define(
    "host-not-smmuv3", Severity.INFO, Kind.VERDICT, Area.HARDWARE,
    what="{what}: only an SMMUv3 can back an accelerated vSMMU.",
    why="The program lists functions, groups and the kind of IOMMU here, and plans without acceleration.",
    fix="Nothing to do; for acceleration, use an arm64 host with SMMUv3.",
)  # fmt: skip


@rule
def not_smmuv3(host: Host) -> Iterator[Finding]:
    """x86 hosts and hosts with SMMUv2."""
    kinds, machine = sorted({smmu.kind for smmu in host.smmus.values()}), host.facts.kernel.machine
    if kinds and not is_smmuv3_host(host):
        yield NOT_SMMUV3_HOST.at("host", what=f"The IOMMU of this host is {' and '.join(KIND_NAMES.get(kind, kind) for kind in kinds)}")
    elif not kinds and machine and machine not in ARM64:
        looked = why_unread(host.facts, Place.IOMMUS) is None
        yield NOT_SMMUV3_HOST.at("host", what=f"This is a machine of kind {machine}{', and shows no IOMMU' if looked else ''}")


PASSTHROUGH = _define(
    "iommu-passthrough", Severity.WARNING, Kind.TODO, Area.CMDLINE,
    what="The kernel runs with {option}.",
    why="VMs do not need it, though many guides say so: it leaves the host's own devices untranslated, and harms Grace GPUs.",
    fix="Remove {option} from the kernel command line and boot again.",
)  # fmt: skip


@rule
def passthrough(host: Host) -> Iterator[Finding]:
    """iommu.passthrough=1 (sources: problem-19)."""
    for word in (host.facts.kernel.cmdline or "").split():
        on = re.fullmatch(r"iommu\.passthrough=(1|[yY]\w*|[tT]\w*|[oO][nN]\w*)", word)  # kstrtobool()
        if on and is_smmuv3_host(host):
            yield PASSTHROUGH.at("host", option=word)


NO_IOMMUFD = _define(
    "no-iommufd", Severity.ERROR, Kind.TODO, Area.DRIVERS,
    what="/dev/iommu does not exist.",
    why="QEMU's iommufd object needs it: /dev/iommu does not exist (is your kernel config missing CONFIG_IOMMUFD?).",
    fix="Load the module (modprobe iommufd), or use a kernel with CONFIG_IOMMUFD.",
)  # fmt: skip


@rule
def iommufd(host: Host) -> Iterator[Finding]:
    """The device that everything nested goes through."""
    if host.facts.iommufd is False and is_smmuv3_host(host):
        yield NO_IOMMUFD.at("host")


NO_VFIO = _define(
    "no-vfio", Severity.ERROR, Kind.TODO, Area.KCONFIG,
    what="The kernel {release} has no vfio-pci.",
    why="Distributions for small arm64 boards leave VFIO out; without it no VM can have a function.",
    fix="Install a kernel with CONFIG_VFIO_PCI, or the package that holds its modules.",
)  # fmt: skip


@rule
def vfio(host: Host) -> Iterator[Finding]:
    """Kernel shipped without VFIO (sources: problem-29)."""
    kernel = host.facts.kernel
    if kernel.option("CONFIG_VFIO_PCI") == "n" and "vfio-pci" not in kernel.drivers:
        yield NO_VFIO.at("host", release=kernel.release)


QEMU_OLD = _define(
    "qemu-too-old", Severity.WARNING, Kind.TODO, Area.PACKAGES,
    what="{subject} {version} {lacks}.",
    why="{why}",
    fix="Install QEMU 11.1 or newer; `smmu-wizard plan … --target qemu=VERSION` plans for another one.",
)  # fmt: skip
NO_QEMU = _define(
    "no-qemu", Severity.WARNING, Kind.TODO, Area.PACKAGES,
    what="No qemu-system-aarch64 was found on this host.",
    why="Plans can be made and exported, but nothing can be started here.",
    fix="Install QEMU 11.1 or newer (Debian: qemu-system-arm).",
)  # fmt: skip
LIBVIRT_OLD = _define(
    "libvirt-too-old", Severity.WARNING, Kind.TODO, Area.PACKAGES,
    what="libvirt {version} can't say what an accelerated vSMMU is: it has no {lacking}.",
    why="pciBus came with 11.10, iommufd with 12.1, accel after that.",
    fix="Install libvirt 12.8 or newer, or start the exported QEMU command line directly.",
)  # fmt: skip


@rule
def programs(host: Host) -> Iterator[Finding]:
    """QEMU and libvirt by what they can do (sources: problem-16); QEMU by property, as it says itself."""
    if host.facts.origin != "live" and not host.facts.programs:
        return  # a tree holds no programs: nothing is known
    if not is_smmuv3_host(host):
        return
    qemu = next((program for program in host.facts.programs if program.name == "qemu"), None)
    if qemu is None:
        yield NO_QEMU.at("host")
    elif qemu.properties:
        smmu = qemu.properties.get("arm-smmuv3", {})
        version = qemu.version or "(unknown version)"
        if "smmu_per_bus" not in smmu:
            yield QEMU_OLD.at(qemu.path, version=version, lacks="has no pluggable arm-smmuv3", why="Several vSMMUs came with QEMU 10.2.")
        elif "accel" not in smmu:
            yield QEMU_OLD.at(qemu.path, version=version, lacks="has no arm-smmuv3,accel=on", why="Nested translation came with QEMU 11.0.")
        elif "cmdqv" not in smmu:
            yield QEMU_OLD.at(qemu.path, version=version, lacks="does not resolve auto properties", why="They, and cmdqv, came with QEMU 11.1.")
    for program in host.facts.programs:
        if program.name in libvirt.NAMES and (lacking := libvirt.lacks(program)):
            yield LIBVIRT_OLD.at(program.path, version=program.version or "(unknown version)", lacking=", ".join(lacking))


GI_NODES = _define(
    "grace-gi-nodes-missing", Severity.WARNING, Kind.TODO, Area.FIRMWARE,
    what="{subject} is a {gpu}, and the host has {count} memory-less NUMA nodes without CPUs for it; 8 are usual.",
    why="The GPU's memory is handed to the guest as NUMA nodes of its own (generic initiators); MIG needs up to 8 per GPU.",
    fix="Check the firmware's setting for GPU memory nodes, and that the nvidia driver has not claimed the memory.",
)  # fmt: skip


GI_UNKNOWN = _define(
    "grace-gi-nodes-unknown", Severity.INFO, Kind.TODO, Area.FIRMWARE,
    what="Whether the host has enough memory-less NUMA nodes for {subject}, a {gpu}, is not known: {count} were read, and {unread}.",
    why="The GPU's memory is handed to the guest as NUMA nodes of its own (generic initiators); MIG needs up to 8 per GPU.",
    fix="Look on the host: `numactl --hardware`, or record it again with /sys/devices/system/node.",
)  # fmt: skip


@rule
def gi_nodes(host: Host) -> Iterator[Finding]:
    """Generic-initiator nodes of Grace (sources: problem-21): what was not read of a node, or of how many there are, makes none missing."""
    gpus = [(f, known) for f in host.functions.values() if (known := coherent_gpu(f))]
    if not gpus:
        return
    (function, first), nodes, needed = gpus[0], host.facts.nodes, sum(one.nodes for _, one in gpus)
    gpu = first.name
    empty = sum(not node.cpus and (node.generic_initiator or node.memory == 0) for node in nodes)
    if empty >= needed:
        return
    # node_read_distance() of drivers/base/node.c prints one number for each node that is online, as each node directory is.
    there = max((len(node.distance.split()) for node in nodes if node.distance), default=None)
    unread = None if there is None else max(there, len(nodes)) - empty - sum(bool(node.cpus) for node in nodes)
    if unread is not None and empty + unread < needed:
        yield GI_NODES.at(function, gpu=gpu, count=empty + unread)
    else:
        lacking = "how many there are was not" if unread is None else f"{unread} {'was' if unread == 1 else 'were'} not"
        yield GI_UNKNOWN.at(function, gpu=gpu, count=empty, unread=lacking)


HUGEPAGES_64K = _define(
    "hugepage-size-unknown", Severity.WARNING, Kind.TODO, Area.CMDLINE,
    what="The kernel command line asks for hugepages of {asked}, which a kernel with {page} pages does not have.",
    why="With 64K pages the sizes are 2M, 512M and 16G, not 1G; the request is ignored at boot.",
    fix="Ask for one of {sizes}.",
)  # fmt: skip


@rule
def hugepages(host: Host) -> Iterator[Finding]:
    """hugepagesz= against the pools that there are (sources: problem-35)."""
    pools = sorted({int(kib) << 10 for node in host.facts.nodes for kib in node.hugepages})
    for word in (host.facts.kernel.cmdline or "").split():
        if word.startswith("hugepagesz=") and pools and host.page_size:
            try:
                asked = parse_size(word.removeprefix("hugepagesz="))
            except ValueError:
                continue  # the kernel ignores it with a line of its own
            if asked not in pools:
                yield HUGEPAGES_64K.at("host", asked=size(asked), page=size(host.page_size), sizes=", ".join(map(size, pools)))


V2_OPTION = _define(
    "smmuv2-option", Severity.INFO, Kind.VERDICT, Area.CMDLINE,
    what="{option} on the kernel command line does nothing here.",
    why="It belongs to the driver of SMMUv2; this host has SMMUv3s, whose driver is arm_smmu_v3.",
    fix="Remove it.",
)  # fmt: skip
X86_OPTION = _define(
    "x86-iommu-option", Severity.INFO, Kind.VERDICT, Area.CMDLINE,
    what="{option} on the kernel command line does nothing here.",
    why="iommu=, intel_iommu= and amd_iommu= are options of x86; on arm64 iommu.passthrough= and iommu.strict= say how devices are translated.",
    fix="Remove it.",
)  # fmt: skip


@rule
def v2_option(host: Host) -> Iterator[Finding]:
    """Options of arm-smmu on a host with SMMUv3 (sources: problem-30), and of x86 (kernel-parameters.txt)."""
    for word in (host.facts.kernel.cmdline or "").split():
        if word.startswith(("arm-smmu.disable_bypass", "arm_smmu.disable_bypass")) and is_smmuv3_host(host):
            yield V2_OPTION.at("host", option=word)
        elif word.startswith(("iommu=", "intel_iommu=", "amd_iommu=")) and is_smmuv3_host(host):
            yield X86_OPTION.at("host", option=word)


POLICY_MISSES = _define(
    "policy-subject-unknown", Severity.WARNING, Kind.TODO, Area.HOST,
    what="The policy file has a rule for {subject}, which this host does not have.",
    why="The rule has no effect here: a VM may get what it should protect.",
    fix="Correct the rule's subject (`smmu-wizard list` shows the names), or remove it.",
)  # fmt: skip


@rule
def policy_subjects(host: Host) -> Iterator[Finding]:
    """Rules of policy.toml that bite nowhere."""
    for ruling in host.facts.policy:
        if ruling.subject not in host.functions and ruling.subject not in host.smmus:
            yield POLICY_MISSES.at(ruling.subject)


rule(guest_commands)


@rule
def kernels(host: Host) -> Iterator[Finding]:
    """What another kernel would change, and what this one asks for; only who asks for findings loads the rules."""
    from wizard.host.kernels import repeats, unsafe_mode, updates

    yield from (*updates(host), *repeats(host), *unsafe_mode(host))
