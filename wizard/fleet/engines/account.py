"""What an engine's file says of a VM, what it leaves out, and what is none of its business: each field of a plan in one of the three.

``Account.said`` is what a person is told beside the file. What would make it another VM than the planned one is refused (``settle``),
unless a file that says less was asked for. The tests hold every field of ``VmPlan`` against the accounts, so that a new one has to be placed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wizard.base.errors import UsageError
from wizard.base.text import plural, visible
from wizard.plan.model import VmPlan

Say = Callable[[VmPlan], str | None]
"""A sentence about what this VM has and the file has not; None where it has nothing of the kind."""


@dataclass(frozen=True)
class Left:
    """Fields that the file can't carry. ``alters``: the VM that the engine makes is another one than was planned."""

    fields: str  # paths below VmPlan, by spaces
    say: Say
    alters: bool = False


@dataclass(frozen=True)
class Account:
    """Of one engine and form. ``written``: what is in the file; ``not_ours``: fields by the reason why they concern nobody there."""

    written: str
    left: tuple[Left, ...]
    not_ours: Mapping[str, str]

    def said(self, vm: VmPlan) -> list[str]:
        """What is left out of this VM, most serious first."""
        return list(dict.fromkeys(said for left in sorted(self.left, key=lambda one: not one.alters) if (said := left.say(vm))))

    def altered(self, vm: VmPlan) -> list[str]:
        """The part of it that makes another VM."""
        return list(dict.fromkeys(said for left in self.left if left.alters and (said := left.say(vm))))

    def places(self) -> dict[str, list[str]]:
        """Each field and where it is: ``written``, ``left``, ``alters``, or a reason."""
        found: dict[str, list[str]] = {}
        parts = [("written", self.written), *(("alters" if one.alters else "left", one.fields) for one in self.left), *self.not_ours.items()]
        for place, fields in parts:
            for field in fields.split():
                found.setdefault(field, []).append(place)
        return found


def settle(account: Account, vm: VmPlan, instead: str, *, partial: bool | None = None) -> None:
    """UsageError where the file would make another VM.

    ``instead``: what else can be done; ``partial``: whether a file that says less was asked for, None where there is none.
    """
    if (altered := account.altered(vm)) and not partial:
        raise UsageError(" ".join(altered), instead if partial is None else f"{instead} Or give --partial: what it can't have is then left out.")


def places(vm: VmPlan) -> str | None:
    """For engines that make the guest's buses themselves."""
    if not vm.devices:
        return None
    return "The guest's buses, ports and addresses are made there, not here: guest addresses and StreamIDs may not be the profile's."


def own_disks(vm: VmPlan) -> str | None:
    """Disks and networks are named by the cluster's own objects."""
    parts = [plural(len(found), word) for found, word in ((vm.disks, "disk"), (vm.networks, "network")) if found]
    return f"Left out: {' and '.join(parts)} of the profile; add them in the cluster's own words." if parts else None


def kept(vm: VmPlan) -> str | None:
    """What an import kept aside for exports of its own kind."""
    qemu, libvirt = vm.request.kept_qemu, vm.request.kept_libvirt
    count = len(qemu.options) + len(qemu.properties) if qemu else 0
    count += len(libvirt.domain) + len(libvirt.devices) + len(libvirt.inside) if libvirt else 0
    return f"Left out: {plural(count, 'part')} that [passthrough] of the profile keeps of the VM that it was imported from." if count else None


def spare_ports(vm: VmPlan) -> str | None:
    """Ports that wait for a function."""
    count = sum(port.hotplug for port in vm.ports)
    return f"Left out: {plural(count, 'port')} for functions to come." if count else None


def others(vm: VmPlan) -> str | None:
    """Bridges and emulated devices of a VM that was imported."""
    names = ", ".join(visible(other.id) for other in vm.others)
    return f"Left out: {names}: bridges or devices that only QEMU and libvirt have words for." if names else None


def function_options(vm: VmPlan) -> str | None:
    """ROMs that are hidden, and ATS that is masked, of single functions."""
    hidden = [f"{device.host} rom=off" for device in vm.devices if not device.rom]
    hidden += [f"{device.host} ats={device.ats}" for device in vm.devices if device.ats is not None]
    return f"Left out: {', '.join(hidden)}; there is no word for it." if hidden else None


PLACES = (
    "vsmmus.id vsmmus.bus buses.id buses.bus_nr buses.last buses.slot buses.numa_node buses.host_node "
    "ports.id ports.bus ports.slot ports.chassis ports.port ports.secondary ports.subordinate ports.bus_reserve ports.mem_reserve "
    "ports.pref64_reserve ports.place ports.candidates devices.port devices.bus devices.slot devices.function devices.multifunction"
)
OTHERS = (
    "others.id others.kind others.driver others.bus others.slot others.function others.bus_nr others.numa_node others.chassis others.port "
    "others.secondary others.subordinate others.bus_reserve others.mem_reserve others.pref64_reserve"
)
DISKS = (
    "disks.id disks.path disks.format disks.readonly disks.slot disks.bus "
    "networks.id networks.kind networks.source networks.mac networks.slot networks.bus"
)
FIRMWARE = "firmware.code firmware.code_format firmware.vars_template firmware.vars firmware.vars_format"
KEPT = "request.kept_qemu request.kept_libvirt"
RESOLVED = (
    "request.name request.functions request.memory request.hugepages request.cpus request.numa request.firmware request.machine request.disks "
    "request.networks request.mode request.fall_back request.layout request.split request.properties request.vsmmus request.hotplug "
    "request.others request.mmio_window request.user request.qmp request.assume_accel request.allow_in_use request.uuid request.notes "
    "request.made_for"
)
NOT_OURS: Mapping[str, str] = {
    "the plan has what came of it": RESOLVED,
    "which host and VMM it was planned for is the profile's": (
        "made_for.host made_for.digest made_for.product findings request.target qemu memory.low_mmio_needed devices.bars_from"
    ),
    "the engine starts QEMU itself: its program, sockets, user, limits and objects are its own": "emulator qmp user iommufd memory.memlock",
}
"""Reasons that hold for every engine."""
