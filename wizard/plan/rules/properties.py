"""The properties of vSMMUs against QEMU's values, the host's registers, auto, ATS and CMDQV (sources: qemu-properties, qemu-host-registers)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from wizard.base.action import TAKE_THE_RISK, mode_to, set_to
from wizard.base.finding import Finding
from wizard.base.text import visible
from wizard.host.known import Source
from wizard.host.model import Accel
from wizard.host.vmm import Vmm
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import VsmmuPlan
from wizard.plan.properties import declared
from wizard.plan.request import Layout, Mode
from wizard.plan.resolve import CMDQV_VINTFS, cmdqv_fits, cmdqv_functions, cmdqv_param, richest, supply
from wizard.plan.rules.base import Scene, rule, rule_of

VALUE = plan_code(
    "property-value", ERROR,
    what="VM {subject}: vSMMU {id} can't have {name}={value}.",
    why="QEMU ends: '{because}'.",
    fix="Write {allowed}, or leave it out.",
)  # fmt: skip


@rule_of(Vmm.QEMU)
def values(scene: Scene) -> Iterator[Finding]:
    """S-table: the values of each property."""
    for vsmmu in scene.vm.vsmmus:
        for name, prop in vsmmu.properties():
            one = declared(name)
            if prop.written is not None and not one.takes(prop.written):
                value, because = visible(prop.written), visible(one.refusal(prop.written))
                yield VALUE.at(scene.name, id=vsmmu.id, name=name, value=value, because=because, allowed=one.allowed)


EMULATED_VALUES = plan_code(
    "property-needs-accel", ERROR,
    what="VM {subject}: vSMMU {id} is not accelerated and can't have {name}={value}.",
    why="QEMU ends: '{because}'.",
    fix="Leave {name} out.",
    action=set_to("properties.{name}"),
)  # fmt: skip
STAGE = plan_code(
    "stage-not-1", ERROR,
    what="VM {subject}: vSMMU {id} can't have stage={stage}.",
    why="'Only stage1 is supported for SMMUv3 with accel=on'; stage=nested is the emulated model, not the hardware's nesting.",
    fix="Leave stage out.",
)  # fmt: skip
EMULATED_VFIO = plan_code(
    "vfio-behind-emulated", ERROR,
    what="VM {subject}: {function} is behind vSMMU {id}, which is not accelerated.",
    why="vfio-pci behind an emulated arm-smmuv3 can't work in QEMU: 'requires iommu MAP notifier which is not currently supported'.",
    fix="Accelerate the vSMMU, or use --mode virtio-iommu or --mode none.",
    action=mode_to("none", "{function}"),
)  # fmt: skip


@rule_of(Vmm.QEMU)
def without_accel(scene: Scene) -> Iterator[Finding]:
    """What a plain emulated SMMU can't have."""
    for vsmmu in scene.vm.vsmmus:
        if vsmmu.accel:
            if vsmmu.stage not in (None, "1"):
                yield STAGE.at(scene.name, id=vsmmu.id, stage=visible(vsmmu.stage))
            continue
        for name, prop in vsmmu.properties():
            if prop.written is not None and not prop.auto and declared(name).number(prop.written) not in declared(name).emulated:
                words = declared(name).needs_accel
                yield EMULATED_VALUES.at(scene.name, id=vsmmu.id, name=name, value=visible(prop.written), because=words)
        for device in scene.vm.devices_of(vsmmu):
            yield EMULATED_VFIO.at(scene.name, id=vsmmu.id, function=device.host)
    if scene.vm.machine.iommu == "smmuv3":
        for device in scene.vm.devices:
            yield EMULATED_VFIO.at(scene.name, id="of the machine (iommu=smmuv3)", function=device.host)


IN_VAIN = plan_code(
    "needs-accel", ERROR,
    what="VM {subject} has mode {mode}, and asks for what only accelerated vSMMUs have: {asked}.",
    why="In this mode the VM has no vSMMU, so what is asked would have no effect.",
    fix="Leave it out, or use --mode accel.",
)  # fmt: skip


@rule
def in_vain(scene: Scene) -> Iterator[Finding]:
    """Words of a request that contradict each other. What a fall-back drops is said by the ladder."""
    request = scene.vm.request
    if request.mode is Mode.ACCEL:
        return
    asked = [f"{name}={value}" for name, value in request.properties.asked()]
    asked += [f"layout {request.layout}"] if request.layout is not Layout.PER_SMMU else []
    asked += [f"split of {name}" for name in request.split]
    if request.mode is not Mode.VIRTIO_IOMMU:  # two kinds of vIOMMU are an error of their own
        asked += [f"vSMMU {vsmmu.id}" for vsmmu in request.vsmmus]
    asked += [f"vSMMU {function.vsmmu} for {function.host}" for function in request.functions if function.vsmmu]
    asked += [f"vSMMU {hotplug.vsmmu} for a free port" for hotplug in request.hotplug if hotplug.vsmmu]
    if asked:
        yield IN_VAIN.at(scene.name, mode=request.mode, asked=visible(", ".join(asked)))


EXCEEDS = plan_code(
    "property-exceeds-host", ERROR,
    what="VM {subject}: vSMMU {id} has {name}={value}, but {smmu} has only {host}.",
    why="{vmm} compares them when the function is attached: '{message}'.",
    fix="{fix}",
)  # fmt: skip
UNPROVEN = plan_code(
    "property-unproven", ERROR,
    what="VM {subject}: vSMMU {id} has {values}, but what {smmu} has is {known}.",
    why="If the host has less, {vmm} refuses the function at start.",
    fix="Record the host with --probe{lower}, or take the risk with --assume-accel.",
    action=TAKE_THE_RISK,
)  # fmt: skip
LEAST = plan_code(
    "property-least", INFO,
    what="VM {subject}: vSMMU {id} gets the lowest values where it is not known what {smmu} has: {values}.",
    why="Every host can do the lowest value; a higher one is written only when the host is known to have it.",
    fix="Record the host with --probe to learn more.",
)  # fmt: skip


@rule
def host_compare(scene: Scene) -> Iterator[Finding]:
    """What is written against the host's registers. That they were not read is told once: beside a function of which it leaves open
    whether it can be accelerated at all, nothing is left to say of each property.
    """
    for vsmmu in scene.vm.vsmmus:
        yield from (found for found in compared(scene, vsmmu) if found.code != UNPROVEN.code or not _told(scene, vsmmu))


def _told(scene: Scene, vsmmu: VsmmuPlan) -> bool:
    verdicts = (candidate.verdict for candidate in scene.behind(vsmmu))
    return any(one.accel is Accel.UNKNOWN and not _NOT_READ.isdisjoint(reason.code for reason in one.reasons) for one in verdicts)


_NOT_READ = frozenset({"nesting-unknown", "id-registers-unknown"})
"""Reasons of a verdict that a probe would settle, and with them what QEMU compares."""


def compared(scene: Scene, vsmmu: VsmmuPlan) -> Iterator[Finding]:
    """QEMU's comparison of one vSMMU, property by property; equal or less passes (sources: qemu-host-registers)."""
    smmu = scene.smmu(vsmmu.smmu)
    if not vsmmu.accel or smmu is None:
        return
    unknown, unproven, lower = [], dict[str, list[str]](), dict[str, str]()
    for name, prop in vsmmu.properties():
        one = declared(name)
        if prop.written is None or prop.auto or prop.resolved is None or not one.takes(prop.written, scene.vm.vmm):
            continue  # a value that QEMU has for no host is said once, by the rule above
        known = supply(smmu, name).compared
        least = prop.resolved == one.least
        host = known.value if isinstance(known.value, int) else 0
        shown = one.spell(host) if known.known else known.show()
        if known.known and prop.resolved > host:
            if scene.compared_later(vsmmu):
                continue  # the VM starts; each function that may be plugged is refused, and told
            message = (one.exceeds if scene.vm.vmm is Vmm.QEMU else one.openvmm_exceeds).format(host=host, value=prop.written)
            fix = f"Write {name}={shown}, or leave {name} out to get the richest value that the host supplies."
            if host < one.least:
                fix = f"No {name} that {scene.vm.vmm.name_of_it} has fits this host: use --mode virtio-iommu or none."
            words: dict[str, Any] = {"id": vsmmu.id, "name": name, "value": prop.written, "smmu": smmu.name, "host": shown}
            yield EXCEEDS.at(scene.name, **words, vmm=scene.vm.vmm.name_of_it, message=message, fix=fix)
        elif not known.measured and not (least and one.least_passes) and not scene.vm.request.assume_accel:
            how = "assumed" if known.source is Source.ASSUMED else "not known"
            unproven.setdefault(how, []).append(f"{name}={prop.written}")
            lower[how] = lower.get(how, "") if least else ", write lower values"
        elif not known.measured and least and prop.origin == "host":
            unknown.append(f"{name}={prop.written}")
    for how, values_ in unproven.items():
        yield UNPROVEN.at(
            scene.name, id=vsmmu.id, smmu=smmu.name, values=", ".join(values_), known=how, lower=lower[how], vmm=scene.vm.vmm.name_of_it
        )
    if unknown:
        yield LEAST.at(scene.name, id=vsmmu.id, smmu=smmu.name, values=", ".join(unknown))


AUTO = plan_code(
    "auto-depends-on-host", WARNING,
    what="VM {subject}: vSMMU {id} leaves {names} to QEMU; on this host: {resolved}.",
    why="The guest's platform then depends on the host that it is started on. {function} decides: the first one behind it on the command line.",
    fix="Leave the option out: the profile then has the same values written, and fits other hosts.",
)  # fmt: skip
AUTO_EMPTY = plan_code(
    "auto-without-function", ERROR,
    what="VM {subject}: vSMMU {id} leaves {names} to QEMU, and has no function when the VM starts.",
    why="QEMU ends: 'arm-smmuv3 accel=on with 'auto' properties requires at least one cold-plugged VFIO device'.",
    fix="Write the values out, or put a function behind it.",
)  # fmt: skip
CMDQV_EMPTY = plan_code(
    "cmdqv-without-function", ERROR,
    what="VM {subject}: vSMMU {id} has cmdqv=on, and no function when the VM starts.",
    why="The queues are mapped with the first cold-plugged function; QEMU 11.1 forgets to refuse this, and the guest would hang on them.",
    fix="Write cmdqv=off, or put a function behind it.",
)  # fmt: skip
AUTO_OAS = plan_code(
    "auto-oas-above-48", WARNING,
    what="VM {subject}: with oas=auto vSMMU {id} will have {bits} bits on this host.",
    why="QEMU copies the host's field as it is; guests have been tried with 44 and 48 bits.",
    fix="Write oas=48.",
    action=set_to("properties.oas", "48"),
)  # fmt: skip


@rule_of(Vmm.QEMU)
def auto(scene: Scene) -> Iterator[Finding]:
    """What auto needs (sources: qemu-S9, qemu-S10, qemu-S11, qemu-S12, problem-15)."""
    for vsmmu in scene.vm.vsmmus:
        devices = scene.vm.devices_of(vsmmu)
        names = [name for name, prop in vsmmu.properties() if prop.auto]
        waiting = [name for name in names if declared(name).decided_cold]
        if waiting and vsmmu.accel and not devices:
            yield AUTO_EMPTY.at(scene.name, id=vsmmu.id, names=", ".join(waiting))
        elif names and vsmmu.accel:
            resolved = ", ".join(f"{name} {_shown(vsmmu, name)}" for name in names)
            yield AUTO.at(scene.name, id=vsmmu.id, names=", ".join(names), resolved=resolved, function=devices[0].host if devices else "A function")
        if vsmmu.cmdqv.written == "on" and vsmmu.accel and not devices:
            yield CMDQV_EMPTY.at(scene.name, id=vsmmu.id)
        if vsmmu.oas.auto and (vsmmu.oas.resolved or 0) > 48:
            yield AUTO_OAS.at(scene.name, id=vsmmu.id, bits=vsmmu.oas.resolved)


def _shown(vsmmu: VsmmuPlan, name: str) -> str:
    value = vsmmu.of(name).resolved
    return "unknown" if value is None else declared(name).spell(value)


ATS_MIXED = plan_code(
    "ats-not-the-same", ERROR,
    what="VM {subject}: ats differs between its vSMMUs ({values}).",
    why="IORT has one ATS bit for all of QEMU's root complexes: it is set if any vSMMU has ats, and the guest then uses ATS behind the others too.",
    fix="Write the same ats for all of them.",
)  # fmt: skip
ATS_TRUST = plan_code(
    "ats-trusts-the-device", INFO,
    what="VM {subject} has ats=on: {functions} may send addresses that they say are translated.",
    why="The SMMU does not check translated requests against stage 2: you have to trust the device with host physical addresses.",
    fix="Use --ats off for devices that you do not trust so far.",
    action=set_to("properties.ats", "off"),
)  # fmt: skip


@rule
def ats(scene: Scene) -> Iterator[Finding]:
    """IORT has one ATS bit for all root complexes (sources: qemu-P14)."""
    accelerated = [vsmmu for vsmmu in scene.vm.vsmmus if vsmmu.accel]
    resolved = {vsmmu.ats.resolved for vsmmu in accelerated if vsmmu.ats.written is not None}
    if len(resolved) > 1:
        yield ATS_MIXED.at(scene.name, values=", ".join(f"{v.id}: {_shown(v, 'ats')}" for v in accelerated))
    if 1 in resolved:
        able = [
            device.host
            for device in scene.vm.devices
            if device.vsmmu and device.ats != "off" and (c := scene.candidate(device)) and c.function.known("ats").value is not False
        ]
        if able:
            yield ATS_TRUST.at(scene.name, functions=", ".join(able))


CMDQV_UNFIT = plan_code(
    "cmdqv-unfit", ERROR,
    what="VM {subject}: vSMMU {id} asks for cmdqv=on, and the CMDQV of {smmu} does not fit: {because}.",
    why="QEMU 11.1 wants version 1, at least two vCMDQs and 16 StreamIDs ('Host CMDQV: unsupported version', 'insufficient vCMDQs').",
    fix="Write --cmdqv off.",
    action=set_to("properties.cmdqv", "off"),
)  # fmt: skip
CMDQV_SIDS = plan_code(
    "cmdqv-functions-too-many", ERROR,
    what="VM {subject}: vSMMU {id} has cmdqv=on and {count} functions; the CMDQV of {smmu} matches {limit} StreamIDs for a VM.",
    why="Each VINTF has a table of SID_MATCH registers; a function that is not in it can't be invalidated from the guest's own queue.",
    fix="Take functions away, or write --cmdqv off.",
    action=set_to("properties.cmdqv", "off"),
)  # fmt: skip
CMDQV_LEFT_OUT = plan_code(
    "cmdqv-left-out", INFO,
    what="VM {subject}: vSMMU {id} gets no CMDQV, though {smmu} has one: more than {limit} functions are behind it.",
    why="Each VINTF has a table of SID_MATCH registers; a function that is not in it can't be invalidated from the guest's own queue.",
    fix="Take functions away, or write --layout per-function, if the guest needs its own queues.",
    action=set_to("layout", "per-function"),
)  # fmt: skip
CMDQV_USED_UP = plan_code(
    "cmdqv-used-up", INFO,
    what="VM {subject}: vSMMU {id} gets no CMDQV: the {limit} that {smmu} has for VMs are with other vSMMUs of this plan.",
    why="Each takes a VINTF, and VINTF 0 is the kernel's ('no more available vintf'). Those that ask come first, then the VMs in their order.",
    fix="Write --cmdqv off for VMs that need it less; this one invalidates through QEMU until then.",
)  # fmt: skip
CMDQV_UNPLUG = plan_code(
    "cmdqv-first-stays", INFO,
    what="VM {subject}: {function} can't be unplugged while the VM runs.",
    why="CMDQV is on, and this function made the vIOMMU that the guest's queues belong to ('CMDQV is active: removing the device … would break').",
    fix="Unplug others, or write --cmdqv off.",
    action=set_to("properties.cmdqv", "off"),
)  # fmt: skip
CMDQV_PAGES = plan_code(
    "cmdqv-small-queues", WARNING,
    what="VM {subject}: vSMMU {id} has cmdqv=on, and the guest's memory is not on hugepages.",
    why="A queue has to be in one piece in host memory, so QEMU lowers IDR1.CMDQS to what fits the smallest page: 256 commands in 4 KiB.",
    fix="Give the VM hugepages (--hugepages 2M).",
    action=set_to("hugepages", "2097152"),
)  # fmt: skip


def _held(scene: Scene, vsmmu: VsmmuPlan) -> int:
    """Functions behind a vSMMU, and those that may be plugged there."""
    return len(scene.vm.devices_of(vsmmu)) + sum(port.hotplug for port in scene.vm.ports if port.bus == vsmmu.bus)


@rule
def cmdqv(scene: Scene) -> Iterator[Finding]:
    """What the guest's own queue needs (sources: qemu-S13, kernel-cmdqv, problem-35)."""
    for vsmmu in scene.vm.vsmmus:
        if not vsmmu.accel:
            continue
        if not vsmmu.cmdqv.resolved:
            smmu = scene.smmu(vsmmu.smmu)
            if vsmmu.cmdqv.origin == "host" and richest(scene.host, smmu, "cmdqv", assumed=scene.vm.request.assume_accel):
                if _held(scene, vsmmu) > cmdqv_functions(scene.host, smmu):
                    yield CMDQV_LEFT_OUT.at(scene.name, id=vsmmu.id, limit=cmdqv_functions(scene.host, smmu), smmu=vsmmu.smmu)
                else:
                    yield CMDQV_USED_UP.at(scene.name, id=vsmmu.id, limit=CMDQV_VINTFS, smmu=vsmmu.smmu)
            continue
        devices = scene.vm.devices_of(vsmmu)
        param = cmdqv_param(scene.host, scene.smmu(vsmmu.smmu))
        if param is not None and vsmmu.cmdqv.written == "on" and not cmdqv_fits(param):
            because = f"version {param.version}, {1 << param.log2vcmdqs} vCMDQs, {1 << param.log2vsids} StreamIDs"
            yield CMDQV_UNFIT.at(scene.name, id=vsmmu.id, smmu=vsmmu.smmu, because=because)
            continue
        limit = cmdqv_functions(scene.host, scene.smmu(vsmmu.smmu))
        held = _held(scene, vsmmu)
        if held > limit:
            yield CMDQV_SIDS.at(scene.name, id=vsmmu.id, count=held, smmu=vsmmu.smmu, limit=limit)
        if devices:
            yield CMDQV_UNPLUG.at(scene.name, function=devices[0].host)
        if scene.vm.memory.hugepages is None and scene.host.page_size != 65536:
            yield CMDQV_PAGES.at(scene.name, id=vsmmu.id)
