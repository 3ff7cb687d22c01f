"""Which of a message's causes holds on a host, and which are ruled out, and by what: the findings of the host and of a plan are asked, nothing else.

A cause holds where its finding is found about the function that the message names (about any, where it names none). It is ruled out where
the condition behind it was looked at and holds; what was not read leaves it not known, with what was not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property

from wizard.base.address import Address
from wizard.base.finding import REGISTRY, Finding, Kind
from wizard.explain.hits import Hit
from wizard.explain.model import Cause
from wizard.explain.report import Answer, Judge
from wizard.facts.vfio import is_vfio_driver
from wizard.host.hostrules import host_findings
from wizard.host.log import codes as log_codes
from wizard.host.model import Function, Host
from wizard.host.pci.bars import Resource, parse_resource
from wizard.plan import planner  # noqa: F401 (its rules declare the findings of plans)
from wizard.plan.model import DevicePlan, Plan, VmPlan
from wizard.plan.regions import RAM_BASE

HOLDS, RULED_OUT, NOT_KNOWN = "holds", "ruled out", "not known"
MSI_WINDOW = range(0x8000000, 0x8100000)  # MSI_IOVA_BASE and its length, arm-smmu-v3.c

# Of what a verdict does not know: the cause it would decide.
_UNKNOWN: Mapping[str, tuple[str, ...]] = {
    "nesting-unknown": ("no-nesting",),
    "canwbs-unknown": ("no-canwbs",),
    "kernel-config-unknown": ("kernel-lacks", "grace-gpu-driver-missing"),
    "group-unknown": ("no-group", "group-shared"),
    "group-members-unknown": ("group-shared",),
    "smmu-unknown": ("no-smmu", "smmu-off", "no-group", "smmu-not-used", "iommu-not-smmuv3", "cmdq-force-sync", "no-nesting"),
    "stream-ids-unknown": ("stream-ids-many", "stream-id-shared", "stream-id-taken"),
    "dma-aliases-unknown": ("stream-ids-many", "stream-id-shared"),
    "reserved-regions-unknown": ("direct-region", "reserved-region"),
    "msi-isolation-unknown": ("msi-not-isolated",),
    "msi-isolation-assumed": ("msi-not-isolated",),
    "coherency-unknown": ("smmu-not-coherent",),
    "ats-need-unknown": ("ats-required",),
    "id-registers-unknown": ("qemu-refuses-smmu",),
    "viommu-probe-failed": ("viommu-refused",),
    "vfio-cdev-unknown": ("no-vfio-cdev", "not-on-vfio"),
    "not-looked-at": ("no-iommufd", "no-vfio", "qemu-too-old", "libvirt-too-old", "not-on-vfio", "in-use"),
}  # fmt: skip
# Findings that a kernel's log leads to: what it does not say now, it may have said before.
_OF_LOG = frozenset(found.code for found in vars(log_codes).values() if hasattr(found, "code")) | {"smmu-events", "coherency-overridden"}
# What only describes the plan, and is no fault by itself: that it stands there proves nothing.
_ALWAYS = frozenset({"memlock", "guest-needs", "migration-blocked", "peer-to-peer-unmapped", "vf-to-be-made"})


class _Known:
    """A host, and the plan of the profiles that were given; indexes are made when they are asked for."""

    def __init__(self, host: Host, plan: Plan | None) -> None:
        self.host = host
        self.plan = plan

    @cached_property
    def of_host(self) -> tuple[Finding, ...]:
        return host_findings(self.host)

    @cached_property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(address for address, function in self.host.functions.items() if not function.is_bridge)

    @cached_property
    def of_plan(self) -> tuple[Finding, ...]:
        return self.plan.findings if self.plan else ()

    @cached_property
    def devices(self) -> dict[str, tuple[VmPlan, DevicePlan]]:
        return {device.host: (vm, device) for vm in (self.plan.vms if self.plan else ()) for device in vm.devices}

    def about(self, address: str) -> tuple[Finding, ...]:
        """What fails or is not known of a function, and what is to be mended."""
        verdict = self.host.verdict(address)
        return (*verdict.found, *verdict.todo)

    def functions(self, hit: Hit) -> tuple[tuple[str, ...], str]:
        """The functions that a message is about, and in which words: the one that it names, those of the profiles, else all."""
        for name in ("function", "device"):
            if (found := self.address(hit.words.get(name, ""))) is not None:
                return ((found,), found) if found in self.host.functions else ((), found)
        if self.devices:
            return tuple(address for address in self.devices if address in self.host.functions), "the functions of the profiles"
        return self.endpoints, "every function of this host"

    def address(self, text: str) -> str | None:
        """A function of this host by what a message calls it: its address on the host, else the one that it has in the guest."""
        try:
            found = str(Address.parse(text))
        except ValueError:
            return None
        if found in self.host.functions:
            return found
        return next((host for host, (_, device) in self.devices.items() if str(device.guest) == found), found)


def judge_of(host: Host, plan: Plan | None = None, name: str = "") -> Judge:
    """What answers for a host and, where profiles were given, for their plan."""
    known = _Known(host, plan)
    return Judge(lambda cause, hit: _answer(known, cause, hit), lambda name, value, hit: _part(known, name, value, hit), name, host.by_tree)


def _answer(known: _Known, cause: Cause, hit: Hit) -> Answer:
    if not cause.code:
        return Answer(NOT_KNOWN, "no finding says it: it has to be looked at by hand")
    codes = {cause.code, *cause.facts.split()}
    functions, whose = known.functions(hit)
    if not functions and whose != "the functions of the profiles" and whose != "every function of this host":
        if "unknown-function" in codes:
            return Answer(HOLDS, f"this host has no function {whose}")
        return Answer(NOT_KNOWN, f"this host has no function {whose}")
    for found in _found(known, functions):
        if found.code in codes and found.code not in _ALWAYS:
            return Answer(HOLDS, f"[{found.code}] {found.what}")
    if "unknown-function" in codes:
        return Answer(RULED_OUT, f"{whose} is on this host") if len(functions) == 1 else Answer(NOT_KNOWN, "the message names no function")
    if (special := _SPECIAL.get(cause.code)) is not None and (answer := special(known, functions, whose)) is not None:
        return answer
    definition = REGISTRY.get(cause.code)
    if definition is None or cause.code in _OF_LOG:
        return Answer(NOT_KNOWN, "the host's log, as it was read, does not say it")
    if definition.kind is Kind.PLAN:
        if cause.code in _ALWAYS or known.plan is None:
            return Answer(
                NOT_KNOWN,
                "it is a matter of the VM: give its profile with --profile" if known.plan is None else "nothing of the profile rules it out",
            )
        return Answer(RULED_OUT, "`check` finds nothing of the kind in the profiles")
    if definition.kind is Kind.DIFF:
        return Answer(NOT_KNOWN, "it needs two snapshots: `smmu-wizard diff`")
    unread = [found for found in _found(known, functions) if cause.code in _UNKNOWN.get(found.code, ())]
    if unread:
        return Answer(NOT_KNOWN, f"[{unread[0].code}] {unread[0].what}")
    if not functions:
        return Answer(NOT_KNOWN, "no function of this host was read")
    return Answer(RULED_OUT, _fact(known, cause.code, functions[0]) if len(functions) == 1 else f"{whose} was looked at, and none has it")


def _found(known: _Known, functions: Iterable[str]) -> Iterable[Finding]:
    for address in functions:
        yield from known.about(address)
    yield from known.of_host
    yield from known.of_plan


def _fact(known: _Known, code: str, address: str) -> str:
    """What of a function says no, in words."""
    function = known.host.functions[address]
    told = _FACTS.get(code)
    return (told(known.host, function) if told else None) or f"what was read of {address} says otherwise (`smmu-wizard show {address}`)"


def _driver(host: Host, function: Function) -> str | None:
    return f"{function} is on driver {function.facts.driver}" if is_vfio_driver(function.facts.driver) else None


def _group(host: Host, function: Function) -> str | None:
    group = host.groups.get(function.group) if function.group is not None else None
    if group is None:
        return None
    return f"IOMMU group {group.id} has {function} alone" if len(group.devices) == 1 else f"it is in IOMMU group {group.id}"


def _regions(host: Host, function: Function) -> str | None:
    group = host.groups.get(function.group) if function.group is not None else None
    if group is None or not group.regions_known:
        return None
    return "its reserved regions are " + (", ".join(f"{r.start:#x}-{r.end:#x} {r.type}" for r in group.regions) or "none")


def _capability(name: str) -> Callable[[Host, Function], str | None]:
    def told(host: Host, function: Function) -> str | None:
        smmu = host.smmu_of(function)
        value = function.known(name) if function.known(name).known else smmu.known(name) if smmu else None
        return (
            f"{name} of {smmu.name if smmu else function} is {value.show()} (known from {value.source})"
            if value is not None and value.known
            else None
        )

    return told


def _coherent(host: Host, function: Function) -> str | None:
    smmu = host.smmu_of(function)
    both = [("CANWBS", function.known("canwbs")), ("S2FWB", smmu.known("s2fwb") if smmu else None)]
    told = [f"{name} is {value.show()} ({value.source})" for name, value in both if value is not None and value.known]
    return " and ".join(told) or None


_FACTS: Mapping[str, Callable[[Host, Function], str | None]] = {
    "not-on-vfio": _driver,
    "driver-override-left": _driver,
    "no-vfio-cdev": lambda host, function: f"it has /dev/vfio/devices/{function.facts.vfio_dev}" if function.facts.vfio_dev else None,
    "no-group": _group,
    "group-shared": _group,
    "group-not-viable": _group,
    "direct-region": _regions,
    "reserved-region": _regions,
    "no-nesting": _capability("nesting"),
    "no-canwbs": _coherent,
    "cmdq-force-sync": _capability("cmdq_force_sync"),
    "smmu-off": lambda host, function: f"{function.smmu} is above it" if function.smmu else None,
    "stream-ids-many": lambda host, function: f"it has one StreamID, {function.stream_ids[0]:#x}" if len(function.stream_ids) == 1 else None,
    "kernel-lacks": lambda host, function: f"the kernel {host.facts.kernel.release} has the options, or a vIOMMU was made",
    "no-iommufd": lambda host, function: "/dev/iommu is there",
}  # fmt: skip


def _memlock(known: _Known, functions: tuple[str, ...], whose: str) -> Answer | None:
    vms = known.plan.vms if known.plan else ()
    if not vms:
        return None
    need = max(vm.memory.memlock for vm in vms)
    if all(vm.user == "root" for vm in vms):
        return Answer(RULED_OUT, "the profile's VM runs as root, whose locked memory the kernel does not limit")
    return Answer(NOT_KNOWN, f"the VM of {vms[0].user} needs {need >> 10} KiB; the limit of a running process is in /proc/PID/limits")


def _kvm(known: _Known, functions: tuple[str, ...], whose: str) -> Answer | None:
    return Answer(RULED_OUT, "/dev/kvm is there") if known.host.facts.kvm is True else None


_SPECIAL = {"memlock": _memlock, "no-kvm": _kvm}


# What stands in a message, as this host and these VMs know it.


def _part(known: _Known, name: str, value: str, hit: Hit) -> str:
    if name in ("function", "other", "device"):
        return _function(known, value)
    if name == "stream":
        return _stream(known, _number(value), hit)
    if name in ("iova", "address"):
        return _iova(known, _number(value), hit)
    if name == "group":
        group = known.host.groups.get(int(value)) if value.isdigit() and len(value) < 9 else None
        return f"IOMMU group with {', '.join(group.devices)}" if group else ""
    return ""


def _number(value: str) -> int | None:
    try:
        return int(value, 16)
    except ValueError:
        return None


def _function(known: _Known, value: str) -> str:
    address = known.address(value)
    if address is None or address not in known.host.functions:
        return "no function of this host" if address else ""
    function = known.host.functions[address]
    told = [function.name or function.ids]
    if address != value.lower() and len(value) > 7:
        told.insert(0, f"{address} of the host")
    told.append(f"behind {function.smmu}" if function.smmu else "behind no SMMU that is known")
    if address in known.devices:
        told.append(f"of VM {known.devices[address][0].name}")
    return ", ".join(filter(None, told))


def _stream(known: _Known, stream: int | None, hit: Hit) -> str:
    if stream is None:
        return ""
    owners = [str(function) for function in known.host.functions.values() if stream in function.stream_ids]
    guests = [f"{host} of VM {vm.name} (its StreamID in the guest)" for host, (vm, device) in known.devices.items() if device.vsid == stream]
    return "; ".join([*([f"StreamID of {', '.join(owners)}"] if owners else []), *guests]) or "StreamID of no function that is known"


def _iova(known: _Known, iova: int | None, hit: Hit) -> str:
    if iova is None:
        return ""
    if iova in MSI_WINDOW:
        return "in the window for MSIs (0x8000000): the guest has to map it to itself"
    for vm in known.plan.vms if known.plan else ():
        if RAM_BASE <= iova < RAM_BASE + vm.memory.size:
            return f"memory of VM {vm.name}"
        for vsmmu in vm.vsmmus:
            bits = vsmmu.of("oas").resolved
            if bits and iova >> bits:
                return f"beyond the {bits} bits of vSMMU {vsmmu.id}"
    for function in known.host.functions.values():
        for resource in _resources(function):
            if resource.flags.MEM and resource.start and resource.start <= iova <= resource.end:
                return f"the address of {resource.name} of {function} on the host"
    return ""


def _resources(function: Function) -> Sequence[Resource]:
    try:
        return parse_resource(function.facts.resource)
    except ValueError:
        return ()
