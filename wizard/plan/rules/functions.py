"""The functions that were asked for: there, free, whole groups, PFs and VFs."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from wizard.base.action import LEAVE_OUT, TAKE_THE_RISK, Act, Action, mode_to, set_to
from wizard.base.finding import Area, Finding, Severity
from wizard.base.text import plural, visible
from wizard.facts.vfio import is_vfio_driver
from wizard.host import uses
from wizard.host.model import Host
from wizard.host.verdict import BUILT
from wizard.plan.candidate import Candidate, canonical
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.drivers import variant
from wizard.plan.model import DevicePlan
from wizard.plan.request import Mode, VmRequest
from wizard.plan.rules.base import Scene, rule

UNKNOWN = plan_code(
    "unknown-function", ERROR,
    what="This host has no function {subject}{hint}.",
    why="VM {vm} asks for it, and neither a function nor a VF that could be made has that address.",
    fix="Choose one that `smmu-wizard list` shows.",
    action=LEAVE_OUT,
)  # fmt: skip
TWICE = plan_code(
    "function-twice", ERROR,
    what="{subject} is named twice in VM {vm}.",
    why="A function can be assigned once: the second vfio-pci would find its device open.",
    fix="Name it once.",
)  # fmt: skip


def not_usable(host: Host, request: VmRequest, address: str, *, known: bool) -> Finding:
    """A function that can't enter the plan at all."""
    if known:
        return TWICE.at(visible(address), vm=visible(request.name))
    same = [other for other in host.functions if other.rpartition(".")[0] == address.rpartition(".")[0]]
    hint = f", but {', '.join(same[:4])}" if same else ""
    return UNKNOWN.at(visible(address), vm=visible(request.name), hint=hint)


NONE_ASKED = plan_code(
    "no-functions", WARNING,
    what="VM {subject} has no function of the host.",
    why="A plan without assigned functions needs no vSMMU; there is nothing here to accelerate.",
    fix="Name functions with --vm {subject}=FUNCTION,… unless you want it so.",
    action=Action(Act.OPEN, value="functions"),
)  # fmt: skip


@rule
def some_function(scene: Scene) -> Iterator[Finding]:
    """A VM without functions is allowed, and said."""
    if not scene.vm.request.functions and not scene.vm.request.hotplug:
        yield NONE_ASKED.at(scene.name)


NOT_ASSIGNABLE = plan_code(
    "not-assignable", ERROR,
    what="{subject} can't be given to a VM: {because}",
    why="{why}",
    fix="{fix}",
    action=LEAVE_OUT,
)  # fmt: skip


ASSIGNABLE_UNKNOWN = plan_code(
    "assignable-not-known", ERROR,
    what="Whether {subject} can be given to a VM is not known: {because}",
    why="{why} If it is wrong, VFIO or QEMU ends with an error when the VM starts.",
    fix="{fix} Or take the risk with --assume-accel.",
    action=TAKE_THE_RISK,
)  # fmt: skip


@rule
def assignable(scene: Scene) -> Iterator[Finding]:
    """Without a vIOMMU too a function has to be an endpoint in a group, without a direct region (sources: problem-3, problem-32)."""
    # Of accelerated ones the ladder has judged those that are there at the start, and a rule of its own those for hot-plug.
    found = [candidate for device in scene.vm.devices if device.mode is not Mode.ACCEL and (candidate := scene.candidate(device))]
    found += [candidate for port in scene.vm.ports if not scene.behind_vsmmu(port) for candidate in scene.pluggable(port)]
    for candidate in found:
        for reason in candidate.verdict.obstacles:
            yield NOT_ASSIGNABLE.at(candidate.address, because=reason.what, why=reason.why, fix=reason.fix)
        if candidate.verdict.assignable is None:
            first, *others = candidate.verdict.undecided
            more = f" ({plural(len(others), 'more reason')}: `smmu-wizard show {candidate.function}`.)" if others else ""
            # A host that was built from what is published has no real ITS to read: that is said, and refuses nobody.
            built = all(reason.code in BUILT for reason in candidate.verdict.undecided)
            severity = WARNING if scene.vm.request.assume_accel or built else ERROR
            yield ASSIGNABLE_UNKNOWN.at(candidate.address, severity=severity, because=first.what + more, why=first.why, fix=first.fix)


FUNCTION_MODE = plan_code(
    "function-mode", ERROR,
    what="{subject} asks for mode {wanted}, but VM {vm} has mode {mode}.",
    why="Only mode none is possible for one function, beside accelerated ones: a virtio-iommu is for the whole VM, and without vSMMUs "
    "nothing is accelerated.",
    fix="Leave mode out for the function, or change the mode of the VM.",
    action=set_to("function.mode"),
)  # fmt: skip


@rule
def function_modes(scene: Scene) -> Iterator[Finding]:
    """A function's own mode against that of its VM: what can't be had is refused, never taken for something else."""
    for function in scene.vm.request.functions:
        if function.mode not in (None, scene.vm.mode) and (function.mode, scene.vm.mode) != (Mode.NONE, Mode.ACCEL):
            yield FUNCTION_MODE.at(visible(function.host), wanted=function.mode, mode=scene.vm.mode, vm=scene.name)


ALLOWED_IN_USE = plan_code(
    "in-use-allowed", WARNING,
    what="{subject} is in use by the host, and the VM will get it anyway.",
    why="{why} It was allowed with --allow-in-use.",
    fix="Make sure that the host does not need it before the preparation script runs.",
)  # fmt: skip
_USES = {"in-use", "held-open", "boot-display"}
_SCRIPT_DOES = {"not-on-vfio", "driver-override-left", "group-not-viable"}


@rule
def todo(scene: Scene) -> Iterator[Finding]:
    """What stands in the way on the host and the preparation script can't mend (sources: problem-5, problem-6, problem-9)."""
    allowed = {canonical(address) for address in scene.vm.request.allow_in_use}
    for candidate in scene.everything:
        for finding in candidate.verdict.todo if not candidate.to_make else ():
            if finding.code in _USES and candidate.address in allowed:
                yield ALLOWED_IN_USE.at(candidate.address, why=finding.what)
            elif finding.code == "pf-has-vfs":
                yield replace(finding, severity=Severity.ERROR)  # now somebody wants it
            elif finding.severity is not Severity.INFO and finding.code not in _SCRIPT_DOES:
                yield finding
        yield from _others(scene, candidate, allowed=candidate.address in allowed)


def _others(scene: Scene, candidate: Candidate, *, allowed: bool) -> Iterator[Finding]:
    """Other VMs and pools: an error for who wants the function too, unless it may be the same VM, whose name a snapshot does not tell."""
    if candidate.to_make:
        return
    for finding in uses.taken_by_others(scene.host.uses.get(candidate.address, ()), candidate.function, but=scene.vm.name):
        if allowed:
            yield ALLOWED_IN_USE.at(candidate.address, why=finding.what)
        else:
            sure = finding.code != uses.IN_DOMAIN.code and not (finding.code == uses.VM_HAS.code and scene.host.facts.redacted)
            yield replace(finding, severity=Severity.ERROR if sure else Severity.WARNING)


GROUP_ACCEL = plan_code(
    "group-shared-accelerated", ERROR,
    what="{subject} is in IOMMU group {group} together with {others}, and can't be accelerated.",
    why="The kernel attaches one function's stage 1 to the whole group: QEMU ends with 'Invalid argument' on the second function, and with one of "
    "them alone the guest's SMMU driver fails on 'CMDQ error … Illegal command'.",
    fix="{remedy}",
    action=mode_to("none"),
)  # fmt: skip


@rule
def alone_in_group(scene: Scene) -> Iterator[Finding]:
    """A group of several devices, bridges included, is never accelerated; no option lifts this."""
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        group = candidate.group if candidate else None
        others = group.others(device.host) if group else ""
        if device.mode is Mode.ACCEL and candidate and group and others:
            told = (reason.fix for reason in candidate.verdict.reasons if reason.code == "group-shared")
            remedy = next(told, "Give the whole group to one VM with --mode none, or move the card to a slot whose path has ACS.")
            yield GROUP_ACCEL.at(device.host, group=group.id, others=others, remedy=remedy)


GROUP_NOT_WHOLE = plan_code(
    "group-not-whole", ERROR,
    what="{subject} is in IOMMU group {group}, and VM {vm} does not ask for the rest of it: {others}.",
    why="A group is the smallest set that can be isolated: VFIO gives all of it to one owner ('group {group} is not viable').",
    fix="Name {others} for the same VM too, or keep {subject} for the host.",
    action=Action(Act.ALONG, value="{others}"),
)  # fmt: skip


@rule
def whole_group(scene: Scene) -> Iterator[Finding]:
    """Without a vIOMMU a group of several is given whole (bridges stay with the host)."""
    mine = {candidate.address for candidate in scene.everything}
    accelerated = {device.host for device in scene.vm.devices if device.mode is Mode.ACCEL}
    accelerated |= {candidate.address for port in scene.vm.ports if scene.behind_vsmmu(port) for candidate in scene.pluggable(port)}
    for candidate in scene.everything:
        group = candidate.group
        if candidate.address in accelerated or group is None:
            continue
        others = [o for o in group.devices if o not in mine and o in scene.host.functions and not scene.host.functions[o].is_bridge]
        if others:
            yield GROUP_NOT_WHOLE.at(candidate.address, group=group.id, others=", ".join(others), vm=scene.name)


VF_PREDICTED = plan_code(
    "vf-to-be-made", INFO,
    what="{subject} is VF {index} of {pf} and is still to be made: its address, group and SMMU are predicted.",
    why="They follow from the PF's SR-IOV capability; the kernel decides when the VFs are made.",
    fix="Run the preparation script: it makes them and stops where they differ from the plan.",
)  # fmt: skip
PF_ON_VFIO = plan_code(
    "pf-on-vfio", ERROR, area=Area.DRIVERS,
    what="The PF {subject} is on {driver}, and VFs are asked of it ({vfs}).",
    why="VFs are made by the PF's own driver, which also serves their mailboxes; vfio-pci does neither for the host.",
    fix="Bind {subject} to its own driver first (driverctl unset-override {subject}, or clear driver_override and probe again).",
)  # fmt: skip
PF_WITHOUT_DRIVER = plan_code(
    "pf-without-driver", ERROR, area=Area.DRIVERS,
    what="The PF {subject} has no driver, and VFs are asked of it ({vfs}).",
    why="VFs are made by the PF's own driver; without one the kernel refuses sriov_numvfs ('no driver bound to device; cannot configure SR-IOV').",
    fix="Load the driver of {subject} on the host, then record it again.",
)  # fmt: skip
PF_MANY = plan_code(
    "vfs-live-too-few", ERROR,
    what="{subject} has {live} live VFs, and the plan needs {needed} of them.",
    why="sriov_numvfs can only go from 0 to a number: growing it removes the VFs that are there, and takes them from whoever has them.",
    fix="Remove the VFs first (echo 0 > /sys/bus/pci/devices/{subject}/sriov_numvfs), or choose from those that are there.",
)  # fmt: skip


@rule
def vfs(scene: Scene) -> Iterator[Finding]:
    """VFs to be made, and their PFs."""
    wanted: dict[str, list[DevicePlan]] = {}
    for device in scene.vm.devices:
        if device.to_make and device.pf:
            wanted.setdefault(device.pf, []).append(device)
            yield VF_PREDICTED.at(device.host, index=device.vf_index, pf=device.pf)
    for pf, devices in wanted.items():
        facts = scene.host.functions[pf].facts
        names = ", ".join(device.host for device in devices)
        if facts.driver is None:
            yield PF_WITHOUT_DRIVER.at(pf, vfs=names)
        elif is_vfio_driver(facts.driver):
            yield PF_ON_VFIO.at(pf, driver=facts.driver, vfs=names)
        if facts.sriov_numvfs:
            yield PF_MANY.at(pf, live=facts.sriov_numvfs, needed=max((device.vf_index or 0) + 1 for device in devices))


VARIANT = plan_code(
    "variant-driver-missing", WARNING, area=Area.DRIVERS,
    what="{subject} has a vfio driver of its own, {variant}, but this kernel is not known to have it.",
    why="With plain vfio-pci it works without what the variant adds (migration of its state, GPU memory).",
    fix="Install or load {variant}, record the host again, or write driver = \"vfio-pci\" in the profile to use vfio-pci.",
)  # fmt: skip
WRONG_DRIVER = plan_code(
    "grace-gpu-on-vfio-pci", ERROR, area=Area.DRIVERS,
    what="{subject} is a Grace GPU and is planned on {driver}.",
    why="Only nvgrace_gpu_vfio_pci gives the guest the GPU's memory as BARs; on vfio-pci the guest's driver finds none.",
    fix="Leave the driver to the planner, or write driver = \"nvgrace_gpu_vfio_pci\".",
)  # fmt: skip


@rule
def drivers(scene: Scene) -> Iterator[Finding]:
    """Variant drivers (sources: problem-8)."""
    for device in scene.vm.devices:
        candidate = scene.candidate(device)
        wanted = variant(candidate) if candidate else None
        if candidate is not None and candidate.unknown_gpu is not None:
            continue  # `gpu-memory-unknown` says it
        if wanted == "nvgrace_gpu_vfio_pci" and device.driver != wanted:
            yield WRONG_DRIVER.at(device.host, driver=device.driver)
        elif wanted and device.driver != wanted and not _written(scene, device):
            yield VARIANT.at(device.host, variant=wanted)


NOT_VFIO = plan_code(
    "driver-not-vfio", ERROR, area=Area.DRIVERS,
    what="{subject} is planned on driver {driver}, which is no vfio driver.",
    why="QEMU takes a function only from vfio-pci or a variant of it; with any other the host keeps using it.",
    fix="Leave driver out of the profile, or write driver = \"vfio-pci\".",
    action=set_to("function.driver"),
)  # fmt: skip


@rule
def vfio_drivers(scene: Scene) -> Iterator[Finding]:
    """A driver that a profile has written."""
    for device in scene.vm.devices:
        if not is_vfio_driver(device.driver):
            yield NOT_VFIO.at(device.host, driver=visible(device.driver))


def _written(scene: Scene, device: DevicePlan) -> bool:
    return any(canonical(function.host) == device.host and function.driver for function in scene.vm.request.functions)


IDENTITY = plan_code(
    "not-the-same-device", ERROR,
    what="{subject} is {found}, and the profile was made for {written}.",
    why="Addresses move when cards or firmware change; another device now has this one.",
    fix="Find the device again with `smmu-wizard list` and correct host, or ids and serial, in the profile.",
)  # fmt: skip


@rule
def identity(scene: Scene) -> Iterator[Finding]:
    """A profile names ids and serial number beside the address (sources: problem-36)."""
    devices = {device.host: device for device in reversed(scene.vm.devices)}  # of two with one address the first
    for function in scene.vm.request.functions:
        device = devices.get(canonical(function.host))
        if device is None:
            continue
        if function.ids and device.ids and function.ids.lower() != device.ids.lower():
            yield IDENTITY.at(device.host, found=device.ids, written=visible(function.ids))
        elif function.serial and device.serial and function.serial != device.serial:
            yield IDENTITY.at(device.host, found=f"serial number {visible(device.serial)}", written=f"serial number {visible(function.serial)}")
