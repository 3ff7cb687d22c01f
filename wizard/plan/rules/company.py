"""Several VMs on one host, and several profiles against each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from wizard.base.finding import Area, Finding
from wizard.base.text import size, visible
from wizard.plan.codes import ERROR, INFO, WARNING, plan_code
from wizard.plan.model import DevicePlan, VmPlan
from wizard.plan.resolve import cmdqv_param
from wizard.plan.rules.base import Company, both, shared

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
def names(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """Names differ."""
    if not company.vms:
        yield None, NO_VMS.at("request")
    for name in both([vm.name for vm in company.vms]):
        for place, vm in enumerate(company.vms):
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
    why="Binding a PF to a vfio driver removes its VFs; and whoever has the PF has power over them.",
    fix="Give the PF or its VFs.",
)  # fmt: skip


@shared
def functions(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """A function, a group, a PF and its VFs, in two VMs."""
    owner: dict[str, int] = {}
    groups: dict[int, tuple[int, DevicePlan]] = {}
    everything = [(place, device) for place, vm in enumerate(company.vms) for device in vm.devices]
    for place, device in everything:
        first = owner.setdefault(device.host, place)
        names: dict[str, Any] = {"one": company.subject(first), "other": company.subject(place)}
        if first != place:
            for one in (first, place):
                yield one, IN_TWO.at(device.host, **names)
        elif device.group is not None:
            held, other = groups.setdefault(device.group, (place, device))
            if held != place:
                names["one"] = company.subject(held)
                for one in (held, place):
                    yield one, GROUP_IN_TWO.at(other.host, group=device.group, second=device.host, **names)
    for place, device in everything:
        if device.pf is not None and device.pf in owner:
            values: dict[str, Any] = {"vf": device.host, "one": company.subject(owner[device.pf]), "other": company.subject(place)}
            for one in {owner[device.pf], place}:
                yield one, PF_ELSEWHERE.at(device.pf, **values)


MEMORY_TOTAL = plan_code(
    "memory-over-host", ERROR, area=Area.HOST,
    what="{who} {asked} of memory, and the host has {total}.",
    why="Memory behind assigned functions is pinned: all of it is taken when the VM starts, and none can be swapped.",
    fix="Give less with --memory.",
)  # fmt: skip
MEMORY_FREE = plan_code(
    "memory-over-free", WARNING, area=Area.HOST,
    what="{who} {asked} of memory, and {free} were available when the host was recorded.",
    why="The memory is pinned when the VM starts; without enough of it the kernel kills something.",
    fix="Free memory before, or give less with --memory.",
)  # fmt: skip
NODE_MEMORY = plan_code(
    "memory-over-node", ERROR, area=Area.HOST,
    what="The VMs take {asked} from host node {subject}, which has {total}.",
    why="Each guest node's memory is bound to its host node, and pinned.",
    fix="Give less memory, or another host_node.",
)  # fmt: skip


@shared
def memory(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """Host memory: an error against MemTotal, a warning against what is available."""
    asked = sum(max(vm.memory.size, 0) for vm in company.vms)
    total, free = company.host.facts.memory_total, company.host.facts.moment.memory_available
    alone = [place for place, vm in enumerate(company.vms) if total and vm.memory.size > total]
    for place in alone:
        name, count = visible(company.vms[place].name), company.vms[place].memory.size
        yield place, MEMORY_TOTAL.at(name, who=f"VM {name} is to have", asked=size(count), total=_gib(total or 0))
    names = [visible(vm.name) for vm in company.vms]
    who = f"The {len(names)} VMs are to have" if len(names) > 1 else f"VM {''.join(names)} is to have"
    if total and asked > total and not alone:
        yield None, MEMORY_TOTAL.at("request", who=who, asked=size(asked), total=_gib(total))
    elif free is not None and asked > free and not (total and asked > total):
        yield None, MEMORY_FREE.at("request", who=who, asked=size(asked), free=_gib(free))
    by_node: dict[int, int] = {}
    for vm in company.vms:
        for node in vm.memory.nodes:
            if node.host_node is not None:
                by_node[node.host_node] = by_node.get(node.host_node, 0) + node.memory
    known = {node.id: node.memory for node in company.host.facts.nodes}
    for node_id, taken in by_node.items():
        there = known.get(node_id)
        if there and taken > there and len(company.vms) > 1:
            yield None, NODE_MEMORY.at(node_id, asked=size(taken), total=_gib(there))


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


MEMLOCK = plan_code(
    "memlock", INFO, area=Area.HOST,
    what="User {subject} has to be allowed to lock {needed} for {vms}.",
    why="iommufd charges pinned memory per user, against the limit of each process: with several VMs the limit has to hold the sum of them.",
    fix="The preparation script sets it; by hand: `ulimit -l {kib}` or memlock in /etc/security/limits.d.",
)  # fmt: skip


@shared
def memlock(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """Problems.md 34: root, with CAP_IPC_LOCK, is charged nothing."""
    for user, needed in memlock_of(company.vms).items():
        if user == "root":
            continue
        names = [visible(vm.name) for vm in company.vms if vm.user == user]
        finding = MEMLOCK.at(visible(user), needed=_gib(needed), kib=needed >> 10, vms=", ".join(names))
        for place, vm in enumerate(company.vms):
            if vm.user == user:
                yield place, finding


def memlock_of(vms: Sequence[VmPlan]) -> dict[str, int]:
    """Bytes that each user's processes have to be allowed to lock: the sum over the user's VMs."""
    sums: dict[str, int] = {}
    for vm in vms:
        if vm.devices or any(port.hotplug for port in vm.ports):
            sums[vm.user] = sums.get(vm.user, 0) + vm.memory.memlock
    return sums


CMDQV_VMS = plan_code(
    "cmdqv-vms-too-many", ERROR,
    what="{count} vSMMUs with CMDQV are planned on {subject}, and it has {limit} VINTFs for VMs.",
    why="Each takes a VINTF, and VINTF 0 is the kernel's ('no more available vintf').",
    fix="Write --cmdqv off for some of them.",
)  # fmt: skip
VINTFS = 63  # of 64 in NVIDIA's Tegra241; how many a host has is not in what iommufd tells


@shared
def cmdqv(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """An SMMU's CMDQV used up."""
    users: dict[str, list[int]] = {}
    for place, vm in enumerate(company.vms):
        for vsmmu in vm.vsmmus:
            if vsmmu.accel and vsmmu.cmdqv.resolved and vsmmu.smmu:
                users.setdefault(vsmmu.smmu, []).append(place)
    for smmu, places in users.items():
        if len(places) > VINTFS and cmdqv_param(company.host, company.host.smmus.get(smmu)) is not None:
            for place in set(places):
                yield place, CMDQV_VMS.at(smmu, count=len(places), limit=VINTFS)


DISK_TWICE = plan_code(
    "disk-in-two-vms", ERROR,
    what="The disk {subject} is written to by VM {one} and VM {other}.",
    why="Two guests that write to one disk destroy its file system; QEMU's lock refuses the second one.",
    fix="Give each VM a disk of its own, or make it read-only in both.",
)  # fmt: skip
VARS_TWICE = plan_code(
    "vars-in-two-vms", ERROR,
    what="The firmware variables {subject} belong to VM {one} and VM {other}.",
    why="Each VM writes its own; QEMU's lock refuses the second one.",
    fix="Write a file of its own for each VM.",
)  # fmt: skip
TAP_TWICE = plan_code(
    "tap-in-two-vms", ERROR,
    what="The tap {subject} is used by VM {one} and VM {other}.",
    why="A tap without queues has one user: 'could not configure /dev/net/tun: Device or resource busy'.",
    fix="Make a tap for each, or use a bridge.",
)  # fmt: skip
MAC_TWICE = plan_code(
    "mac-twice", ERROR,
    what="The MAC address {subject} is given to VM {one} and VM {other}.",
    why="On one network neither would work.",
    fix="Leave mac out, or write different ones.",
)  # fmt: skip


@shared
def files(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """Files, taps and MAC addresses have one owner."""
    owners: dict[tuple[str, str], int] = {}

    def claim(kind: str, what: str, place: int) -> int | None:
        first = owners.setdefault((kind, what), place)
        return None if first == place else first

    for place, vm in enumerate(company.vms):
        claims = [("disk", DISK_TWICE, disk.path) for disk in vm.disks if not disk.readonly]
        claims += [("tap", TAP_TWICE, network.source or "") for network in vm.networks if network.kind == "tap"]
        claims += [("mac", MAC_TWICE, network.mac) for network in vm.networks]
        if vm.firmware and vm.firmware.vars:
            claims.append(("vars", VARS_TWICE, vm.firmware.vars))
        for kind, code, what in claims:
            first = claim(kind, what, place)
            if first is not None:
                for one in (first, place):
                    yield one, code.at(visible(what), one=company.subject(first), other=company.subject(place))


OTHER_HOST = plan_code(
    "made-for-another-host", WARNING,
    what="{subject} was made for another host ({product}).",
    why="Everything in it was checked against this host instead, and what is found is said here.",
    fix="If it holds, write it again with `smmu-wizard plan` so that it names this host.",
)  # fmt: skip
CHANGED = plan_code(
    "host-changed", INFO,
    what="The host has changed since {subject} was made.",
    why="Its facts have another digest: kernel, firmware, devices or programs differ from then.",
    fix="What no longer holds is said here; otherwise there is nothing to do.",
)  # fmt: skip


@shared
def made_for(company: Company) -> Iterator[tuple[int | None, Finding]]:
    """A profile names the host that it was made for (problems.md 36)."""
    here = company.host.facts.identity.host
    for place, vm in enumerate(company.vms):
        made = vm.request.made_for
        if made is None:
            continue
        if made.host and here and made.host != here:
            yield place, OTHER_HOST.at(company.subject(place), product=visible(made.product or "not named"))
        elif made.digest and made.digest != company.host.digest:
            yield place, CHANGED.at(company.subject(place))
