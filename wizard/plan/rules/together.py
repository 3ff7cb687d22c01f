"""Several VMs on one host, and several profiles against each other."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from typing import Any

from wizard.base.action import set_to
from wizard.base.finding import Finding
from wizard.base.text import visible
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import DevicePlan, VmPlan
from wizard.plan.resolve import CMDQV_VINTFS
from wizard.plan.rules.base import Together, repeated, shared

NO_VMS = plan_code(
    "no-vms", ERROR,
    what="No VM is asked for.",
    why="A plan is made for one VM or more.",
    fix="Name one with --vm NAME=FUNCTION,… or a profile.",
)  # fmt: skip
NAME_TWICE = plan_code(
    "vm-name-twice", ERROR,
    what="Two VMs have the name {subject}.",
    why="Profiles, libvirt domains, sockets and variable files go by the name.",
    fix="Give them different names.",
)  # fmt: skip


@shared
def names(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """Names differ."""
    if not together.vms:
        yield None, NO_VMS.at("request")
    for name in repeated([vm.name for vm in together.vms]):
        for place, vm in enumerate(together.vms):
            if vm.name == name:
                yield place, NAME_TWICE.at(visible(str(name)))


IN_TWO = plan_code(
    "function-in-two-vms", ERROR,
    what="{subject} is in VM {one} and in VM {other}.",
    why="A function belongs to one VM at a time: the second QEMU can't open it.",
    fix="Take it out of one of them.",
)  # fmt: skip
GROUP_IN_TWO = plan_code(
    "group-in-two-vms", ERROR,
    what="IOMMU group {group} is divided: {subject} is in VM {one} and {second} in VM {other}.",
    why="A group is the smallest set of functions that can be isolated; VFIO gives it to one owner.",
    fix="Give the whole group to one of them.",
)  # fmt: skip
PF_ELSEWHERE = plan_code(
    "pf-in-another-vm", ERROR,
    what="{subject} is in VM {one}, and its VF {vf} in VM {other}.",
    why="Binding a PF to a vfio driver removes its VFs, and the VM that has the PF controls them.",
    fix="Give a VM the PF, or give VMs its VFs; not both.",
)  # fmt: skip


HOTPLUG_ELSEWHERE = plan_code(
    "hotplug-in-another-vm", WARNING,
    what="{subject} is in VM {one}, and may be plugged into VM {other}.",
    why="Only one VM can have it at a time: device_add fails while the other VM has it.",
    fix="Unplug it from {one} first, or name another function for the port.",
)  # fmt: skip


@shared
def pluggable(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """Free ports whose function is in another VM when it starts."""
    owner = {device.host: place for place, vm in enumerate(together.vms) for device in vm.devices}
    for place, vm in enumerate(together.vms):
        for address in dict.fromkeys(address for port in vm.ports for address in port.candidates):
            if owner.get(address, place) != place:
                yield place, HOTPLUG_ELSEWHERE.at(address, one=together.subject(owner[address]), other=together.subject(place))


SPLIT_VAIN = plan_code(
    "split-without-functions", WARNING,
    what="--split names {subject}, but no function of any VM is behind it.",
    why="--split gives the functions of an SMMU a vSMMU each; here there are none.",
    fix="Name the SMMU that your functions are behind (`smmu-wizard list` shows it), or leave --split out.",
    action=set_to("split"),
)  # fmt: skip


@shared
def split(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """An SMMU that was named for nothing; one that the host does not have is an error of its own."""
    used = {device.smmu for vm in together.vms for device in vm.devices}
    for name in dict.fromkeys(name for vm in together.vms for name in vm.request.split):
        if name in together.host.smmus and name not in used:
            yield None, SPLIT_VAIN.at(visible(name))


@shared
def functions(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """A function, a group, a PF and its VFs, in two VMs."""
    owner: dict[str, int] = {}
    groups: dict[int, tuple[int, DevicePlan]] = {}
    everything = [(place, device) for place, vm in enumerate(together.vms) for device in vm.devices]
    for place, device in everything:
        first = owner.setdefault(device.host, place)
        names: dict[str, Any] = {"one": together.subject(first), "other": together.subject(place)}
        if first != place:
            for one in (first, place):
                yield one, IN_TWO.at(device.host, **names)
        elif device.group is not None:
            held, other = groups.setdefault(device.group, (place, device))
            if held != place:
                names["one"] = together.subject(held)
                for one in (held, place):
                    yield one, GROUP_IN_TWO.at(other.host, group=device.group, second=device.host, **names)
    for place, device in everything:
        if device.pf is not None and device.pf in owner:
            values: dict[str, Any] = {"vf": device.host, "one": together.subject(owner[device.pf]), "other": together.subject(place)}
            for one in {owner[device.pf], place}:
                yield one, PF_ELSEWHERE.at(device.pf, **values)


def divided(vms: Sequence[VmPlan]) -> set[str]:
    """The functions of IOMMU groups that are in several VMs, which the rule above tells."""
    owner: dict[str, int] = {}
    groups: dict[int | None, set[int]] = {}
    devices = [(owner.setdefault(device.host, place), device) for place, vm in enumerate(vms) for device in vm.devices]
    for place, device in devices:
        groups.setdefault(device.group, set()).add(place)
    return {device.host for _, device in devices if device.group is not None and len(groups[device.group]) > 1}


CMDQV_VMS = plan_code(
    "cmdqv-vms-too-many", ERROR,
    what="{count} vSMMUs with CMDQV are planned on {subject}, and it has {limit} VINTFs for VMs.",
    why="Each takes a VINTF, and VINTF 0 is the kernel's ('no more available vintf').",
    fix="Write --cmdqv off for some of them.",
)  # fmt: skip


@shared
def cmdqv(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """An SMMU's CMDQV used up."""
    users: dict[str, list[int]] = {}
    for place, vm in enumerate(together.vms):
        for vsmmu in vm.vsmmus:
            if vsmmu.accel and vsmmu.cmdqv.resolved and vsmmu.smmu:
                users.setdefault(vsmmu.smmu, []).append(place)
    for smmu, places in users.items():
        if len(places) > CMDQV_VINTFS:
            for place in set(places):
                yield place, CMDQV_VMS.at(smmu, count=len(places), limit=CMDQV_VINTFS)


DISK_TWICE = plan_code(
    "disk-in-two-vms", ERROR,
    what="The disk {subject} is in VM {one} and in VM {other}, and at least one of them can write to it.",
    why="A guest that writes to a disk destroys the file system that another one sees; QEMU's lock refuses the second of them.",
    fix="Give each VM a disk of its own, or make it read-only in both.",
)  # fmt: skip
VARS_TWICE = plan_code(
    "vars-in-two-vms", ERROR,
    what="The firmware variables {subject} belong to VM {one} and VM {other}.",
    why="Each VM writes its own; QEMU's lock refuses the second one.",
    fix="Write a file of its own for each VM.",
)  # fmt: skip
UUID_TWICE = plan_code(
    "uuid-twice", ERROR,
    what="The UUID {subject} belongs to VM {one} and VM {other}.",
    why="libvirt and the guests' software know a VM by it: libvirt takes the second for the first ('domain is already defined with uuid').",
    fix="Leave uuid out of one profile: it is made from the name.",
)  # fmt: skip
SOCKET_TWICE = plan_code(
    "socket-in-two-vms", ERROR,
    what="The QMP socket {subject} belongs to VM {one} and VM {other}.",
    why="The second QEMU takes the path from the first, and commands reach the wrong VM.",
    fix="Leave qmp out of one profile: it is made from the name.",
)  # fmt: skip
TWICE_IN_ONE = plan_code(
    "named-twice-in-vm", ERROR,
    what="VM {subject} has {what_for} {named} twice.",
    why="A disk, a tap and a MAC address have one user: QEMU's lock, the kernel or the guest's network refuses the second.",
    fix="Name it once.",
)  # fmt: skip
TAP_TWICE = plan_code(
    "tap-in-two-vms", ERROR,
    what="The tap {subject} is used by VM {one} and VM {other}.",
    why="Only one VM can use a tap without queues: 'could not configure /dev/net/tun: Device or resource busy'.",
    fix="Make a tap for each, or use a bridge.",
)  # fmt: skip
MAC_TWICE = plan_code(
    "mac-twice", ERROR,
    what="The MAC address {subject} is given to VM {one} and VM {other}.",
    why="On one network neither would work.",
    fix="Leave mac out, or write different ones.",
)  # fmt: skip


@shared
def files(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """Files, taps and MAC addresses have one owner; a disk may be in several VMs that only read it."""
    owners: dict[tuple[str, str], list[tuple[int, bool]]] = {}
    codes = {"disk": DISK_TWICE, "tap": TAP_TWICE, "MAC address": MAC_TWICE, "variables": VARS_TWICE, "UUID": UUID_TWICE, "socket": SOCKET_TWICE}
    names = [vm.name for vm in together.vms]
    for place, vm in enumerate(together.vms):
        for kind, what, harmless in _claims(vm):
            others = owners.setdefault((kind, what), [])
            first = next((other for other, other_harmless in others if not (harmless and other_harmless)), None)
            if first == place:
                yield place, TWICE_IN_ONE.at(visible(vm.name), what_for=f"the {kind}", named=visible(what))
            elif first is not None and names[first] != names[place]:  # what is made from one name is said of the name
                for one in (first, place):
                    yield one, codes[kind].at(visible(what), one=together.subject(first), other=together.subject(place))
            others.append((place, harmless))


def _claims(vm: VmPlan) -> Iterator[tuple[str, str, bool]]:
    """Kind, name, and whether others may have it too that say the same."""
    yield from (("disk", posixpath.normpath(disk.path), disk.readonly) for disk in vm.disks)
    yield from (("tap", network.source or "", False) for network in vm.networks if network.kind == "tap")
    yield from (("MAC address", network.mac.lower(), False) for network in vm.networks)
    if vm.firmware and vm.firmware.vars:
        yield "variables", posixpath.normpath(vm.firmware.vars), False
    yield "UUID", vm.uuid.lower(), False
    if vm.qmp:
        yield "socket", posixpath.normpath(vm.qmp), False


OTHER_HOST = plan_code(
    "made-for-another-host", WARNING,
    what="{subject} was made for another host ({product}).",
    why="Everything in it was checked against this host instead.",
    fix="If nothing is found, write it again with `smmu-wizard plan` so that it names this host.",
)  # fmt: skip
CHANGED = plan_code(
    "host-changed", INFO,
    what="The host has changed since {subject} was made.",
    why="Its facts have another digest: kernel, firmware, devices or programs differ from then.",
    fix="Other findings say what no longer fits; without any there is nothing to do.",
)  # fmt: skip


@shared
def made_for(together: Together) -> Iterator[tuple[int | None, Finding]]:
    """A profile names the host that it was made for (sources: problem-36)."""
    identity = together.host.facts.identity
    for place, vm in enumerate(together.vms):
        made = vm.request.made_for
        if made is None:
            continue
        # Without a machine-id in one of the two records the product is all there is to tell them apart by.
        known = (made.host, identity.host) if made.host and identity.host else (made.product, identity.product)
        if all(known) and known[0] != known[1]:
            yield place, OTHER_HOST.at(together.subject(place), product=visible(made.product or "not named"))
        elif made.digest and made.digest != together.host.digest:
            yield place, CHANGED.at(together.subject(place))
