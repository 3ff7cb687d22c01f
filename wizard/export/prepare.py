"""The preparation script: what has to be done on the host before a plan's VMs can start, and its undo.

The administrator reads and runs it; the program itself changes nothing. It is idempotent, refuses another host, finds each
function again by address, ids, serial number, SMMU and group, and stops where they differ. VFs that it makes are compared with
the plan before anything is bound. Drivers are changed by driver_override alone, where every write has its answer and its time; what driverctl
has saved stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from wizard.base.errors import UsageError
from wizard.base.text import shell_word, visible
from wizard.export.qemu import heading
from wizard.host.model import Host
from wizard.plan.candidate import Candidate, canonical, look_up
from wizard.plan.drivers import vfio_driver
from wizard.plan.model import Plan, VmPlan
from wizard.plan.places import is_ours
from wizard.plan.planner import make_plan, serial_of
from wizard.plan.request import Mode, Request, VmRequest, function
from wizard.plan.rules.budget import memlock_of
from wizard.plan.rules.files import made_for

# The last one reads the options; prepare_words.sh is made out of the messages of wizard.explain.
_FRAGMENTS = ("prepare_words.sh", "prepare_devices.sh", "prepare_files.sh", "prepare_shared.sh", "prepare_uses.sh", "prepare.sh")


@cache
def _library() -> str:
    return "\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in _FRAGMENTS)


def prepare_script(plan: Plan, host: Host) -> str:
    """A script for all VMs of the plan: VFs, drivers, hugepages, limits, access of the VM's user, variables of the firmware."""
    unit = _unit_name([vm.name for vm in plan.vms])
    lines = [line for vm in plan.vms for line in heading(vm)]
    return _script(lines, host, unit, list(_work(plan.vms, host, unit)), list(_undo(plan.vms, host, unit)), list(_plug(plan.vms, host)))


def _unit_name(names: Sequence[str]) -> str:
    """A name for a systemd unit and for files: the VMs' names as far as they are plain, and a hash that keeps them apart."""
    plain = "-".join("".join(c if c.isascii() and c.isalnum() else "_" for c in name) for name in names)[:60]
    digest = hashlib.sha256("\n".join(names).encode("utf-8", "surrogatepass")).hexdigest()
    return f"smmu-wizard-{plain}-{digest[:8]}"


def bind_script(host: Host, functions: Sequence[str]) -> str:
    """A script that only binds functions to their vfio driver: what a first ``record --probe`` needs.

    Raises ``UsageError`` for a function that the host does not have, or that can't be given away.
    """
    for address in functions:
        candidate = look_up(host, canonical(address))
        if candidate is None or candidate.to_make:
            raise UsageError(f"This host has no function {visible(address)}.", "Choose one that `smmu-wizard list` shows.")
        if candidate.function.is_bridge or candidate.group is None:
            what = "is a bridge" if candidate.function.is_bridge else "has no IOMMU group"
            raise UsageError(f"{candidate.address} {what}, and can't be given to a vfio driver.", "Choose another function.")
    asked = VmRequest(name="prepare", mode=Mode.NONE, functions=tuple(function(address) for address in functions))
    vm = make_plan(host, Request(vms=(asked,))).vms[0]
    names = [f"Bind {', '.join(device.host for device in vm.devices)} to a vfio driver, for `smmu-wizard record --probe`."]
    work = [*_checks((vm,), host), *_bind((vm,))]
    unit = _unit_name(["prepare", *(device.host for device in vm.devices)])
    return _script(names, host, unit, work, list(_undo((vm,), host, unit, whole=False)))


def _script(lines: Iterable[str], host: Host, unit: str, work: Sequence[str], undo: Sequence[str], plug: Sequence[str] = ()) -> str:
    identity = host.facts.identity.host
    guard = (
        [f"check_host {shell_word(identity)}"]
        if identity
        else ["# The recorded host has no pseudonym: its functions alone tell whether this is the one that the plan was made for."]
    )
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"# {line}" for line in lines),
            "#",
            "# Read it, then run it as root: it may be run again at any time. Options:",
            "#   --dry-run        say what would be done, change nothing",
            "#   --undo           take back what an earlier run has done",
            *(["#   --plug FUNCTION  bind one of the functions that may be plugged later, and give it to the VM's user"] if plug else []),
            "#   --install-unit   do it at every boot (driver overrides, VFs and hugepages do not survive one); --remove-unit",
            "set -euo pipefail",
            "export LC_ALL=C",
            "",
            _library() + "if [ $action = remove ]; then",
            f"    remove_unit {shell_word(unit)}",
            "    exit",
            "fi",
            *guard,
            "",
            "if [ $action = undo ]; then",
            *(f"    {line}" for line in undo),
            "    exit",
            "fi",
            "",
            "if [ $action = plug ]; then",
            *_choice(plug),
            "fi",
            "",
            *work,
            "",
            "if [ $action = install ]; then",
            f"    install_unit {shell_word(unit)}",
            "fi",
            'say "done"',
            "",
        ]
    )


def _choice(plug: Sequence[str]) -> Iterator[str]:
    none = 'stop "${plug:-nothing} is none of the functions that may be plugged."'
    if not plug:
        yield f"    {none}"
        return
    yield "    case $plug in"
    yield from (f"        {line}" for line in plug)
    yield f"        *) {none};;"
    yield "    esac"
    yield "    exit"


def _work(vms: Sequence[VmPlan], host: Host, unit: str) -> Iterator[str]:
    yield from (_call("check_user", user) for user in _users(vms))
    yield from _vfs(vms, host)
    yield from _checks(vms, host)
    yield from _bind(vms)
    yield from _pages(vms, unit)
    yield from _access(vms, unit)
    for vm in vms:
        for path, what, _, mine, _, _ in made_for(vm):
            if is_ours(path) and not mine(vm.name, path):
                yield _call("stop", f"{what} {visible(path)} is not VM {visible(vm.name)}'s own: correct the profile.")
            elif path == vm.qmp:
                yield _call("directory", str(Path(path).parent), vm.user)
            elif vm.firmware and vm.firmware.vars_template:
                yield _call("vars", vm.firmware.vars_template, path, vm.user)


def _users(vms: Sequence[VmPlan]) -> list[str]:
    return [user for user in dict.fromkeys(vm.user for vm in vms) if user != "root"]


def _vfs(vms: Sequence[VmPlan], host: Host) -> Iterator[str]:
    """VFs to be made: as many as the highest index needs, those that may be plugged later too, since their number can't grow."""
    counts = _vf_counts(vms, host)
    for pf, count in sorted(counts.items()):
        yield _call("make_vfs", pf, str(count))


def _vf_counts(vms: Sequence[VmPlan], host: Host) -> dict[str, int]:
    addresses = [device.host for vm in vms for device in vm.devices] + [address for vm in vms for port in vm.ports for address in port.candidates]
    counts: dict[str, int] = {}
    for candidate in (look_up(host, address) for address in addresses):
        if candidate is not None and candidate.to_make and candidate.pf is not None:
            counts[candidate.pf] = max(counts.get(candidate.pf, 0), (candidate.index or 0) + 1)
    return counts


def _checks(vms: Sequence[VmPlan], host: Host) -> Iterator[str]:
    for vm in vms:
        for device in vm.devices:
            candidate = look_up(host, device.host)
            if candidate is not None:
                yield from _check(candidate, vm)


def _check(candidate: Candidate, vm: VmPlan) -> Iterator[str]:
    smmu = candidate.smmu.name if candidate.smmu else ""
    call = _call("check", candidate.address, candidate.ids or "", serial_of(candidate) or "", smmu, " ".join(_members(candidate)))
    # Behind the dry run of making them there is nothing to look at yet.
    yield f'[ -n "$dry" ] || {call}' if candidate.to_make else call
    if candidate.address not in vm.request.allow_in_use and not candidate.to_make:
        yield _call("check_free", candidate.address, vm.name)


def _members(candidate: Candidate) -> list[str]:
    return sorted(candidate.group.devices) if candidate.group else [candidate.address]


def _bind(vms: Sequence[VmPlan]) -> Iterator[str]:
    if any(vm.iommufd for vm in vms):
        yield "load iommufd /dev/iommu"
    for vm in vms:
        for device in vm.devices:
            yield _call("bind", device.host, device.driver)
        for port in vm.ports:
            # What may be plugged later is not taken from the host now.
            if port.candidates:
                yield f"# {', '.join(port.candidates)}: not now; --plug FUNCTION before the QMP commands of `smmu-wizard export PROFILE --format qmp`"


def _plug(vms: Sequence[VmPlan], host: Host) -> Iterator[str]:
    """For each function that may be plugged later, a case: what the script does for a function that is there from the start."""
    done: set[str] = set()
    for vm in vms:
        for address in dict.fromkeys(address for port in vm.ports for address in port.candidates):
            candidate = look_up(host, address)
            if candidate is None or address in done:
                continue
            done.add(address)
            yield f"{shell_word(address)})"
            for line in _check(candidate, vm):
                yield f"    {line}"
            yield f"    {_call('bind', address, vfio_driver(candidate))}"
            if vm.user != "root":
                yield f"    {_call('give_function', vm.user, address, 'yes' if vm.iommufd else 'no')}"
            yield "    ;;"


def _pages(vms: Sequence[VmPlan], unit: str) -> Iterator[str]:
    for (node, kib), count in _page_counts(vms).items():
        yield _call("hugepages", node, str(kib), str(count), unit)


def _page_counts(vms: Sequence[VmPlan]) -> dict[tuple[str, int], int]:
    counts: dict[tuple[str, int], int] = {}
    for vm in vms:
        page = vm.memory.hugepages
        if not page:
            continue
        parts = [(node.host_node, node.memory) for node in vm.memory.nodes if node.memory] or [(None, vm.memory.size)]
        for node, memory in parts:
            key = ("any" if node is None else str(node), page >> 10)
            counts[key] = counts.get(key, 0) + memory // page
    # Those of any node last: their pool holds those of the nodes.
    return dict(sorted(counts.items(), key=lambda item: item[0][0] == "any"))


def _access(vms: Sequence[VmPlan], unit: str) -> Iterator[str]:
    """The user that a VM runs as: /dev/iommu, the functions' cdevs, and the limit of locked memory (charged per user)."""
    for user in dict.fromkeys(vm.user for vm in vms if vm.iommufd and vm.user != "root"):
        yield _call("give_iommu", user, unit)
    for vm in vms:
        if vm.user == "root":
            continue
        for device in vm.devices:
            yield _call("give_function", vm.user, device.host, "yes" if device.iommufd else "no")
    for user, needed in memlock_of(vms).items():
        if user != "root":
            yield _call("memlock", user, str(-(-needed // 1024)), unit)


def _undo(vms: Sequence[VmPlan], host: Host, unit: str, *, whole: bool = True) -> Iterator[str]:
    """What the work did, backwards; the unit first, so that a boot in between does not do it again. ``whole``: not only drivers."""
    yield _call("undo_unit", unit)
    for vm in reversed(vms) if whole else ():
        for path, _, _, mine, _, _ in made_for(vm):
            if mine(vm.name, path):
                yield _call("undo_directory", str(Path(path).parent)) if path == vm.qmp else _call("undo_vars", path)
    for vm in reversed(vms):
        for address in [address for port in vm.ports for address in port.candidates] + [device.host for device in reversed(vm.devices)]:
            if whole and vm.user != "root":
                yield _call("undo_give_function", vm.user, address)
            yield _call("undo_bind", address)
    yield from (_call("undo_vfs", pf) for pf in sorted(_vf_counts(vms, host)))
    if whole:
        for node, kib in reversed(_page_counts(vms)):
            yield _call("undo_hugepages", node, str(kib), unit)
        for user in _users(vms):
            yield _call("undo_memlock", user, unit)
            yield _call("undo_give_iommu", user, unit)
    yield "end_undo"


def _call(name: str, *words: str) -> str:
    return " ".join([name, *(shell_word(word) for word in words)])
