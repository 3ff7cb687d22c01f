"""Who has a function: the host itself, processes, other VMs. None of it enters the verdict; a plan refuses what was not allowed (--allow-in-use)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from wizard.base.action import LEAVE_OUT
from wizard.base.finding import Area, Definition, Finding, Kind, Severity, define
from wizard.base.text import visible
from wizard.facts.model import InUse
from wizard.facts.vfio import is_vfio_driver
from wizard.host.model import Function


def _todo(code: str, severity: Severity, area: Area, *, what: str, why: str, fix: str) -> Definition:
    return define(code, severity, Kind.TODO, area, what=what, why=why, fix=fix, action=LEAVE_OUT)


IN_USE = _todo(
    "in-use", Severity.ERROR, Area.HOST,
    what="The host uses {subject}: {detail}.",
    why="When a VM gets it, the host loses it at once: that could be the root disk, or the network of this session.",
    fix="Make the host stop using it first: {how}. If you are sure, plan with --allow-in-use {subject} --yes.",
)  # fmt: skip


_STOP = {
    "mount": "unmount it (umount)",
    "swap": "switch the swap off (swapoff)",
    "session": "come in another way",
    "route": "give the route another interface",
    "address": "take the address away (ip address flush dev)",
    "holder": "take apart what stands on it (vgchange -an, mdadm --stop, cryptsetup close, zpool export; ip link set nomaster, ip link delete)",
    "open": "end the process or the VM that writes to it",
    "export": "take it out of the target (nvmetcli, targetcli)",
    "storage": "log out (iscsiadm --mode session --logout, nvme disconnect)",
    "rdma": "unmount, log out or end what uses RDMA through it",
    "mdev": "end the VMs that have a part of it, then remove the part (echo 1 > /sys/bus/mdev/devices/UUID/remove, echo 0 > current_vgpu_type)",
}
"""How each kind of use is ended."""
_OTHERS = ("held", "display", "vm", "domain", "pool")

VM_HAS = _todo(
    "another-vm-has-it", Severity.INFO, Area.HOST,
    what="{subject} is at work already: {who}.",
    why="A VFIO device has one owner: the VM that comes second ends with 'Device or resource busy', or libvirt says that it is in use by a domain.",
    fix="End that VM or program before this one starts (virsh shutdown, systemctl stop); to plan for that time, --allow-in-use {subject} --yes.",
)  # fmt: skip
IN_POOL = _todo(
    "in-network-pool", Severity.INFO, Area.HOST,
    what="{subject} belongs to a pool: libvirt gives it, or its VFs, to domains that ask for {who}.",
    why="libvirt hands out whichever function is free when a domain starts: if it is this one, the VM that it was planned for does not start.",
    fix="Take it out of that network (virsh net-edit) or end the network (virsh net-destroy); if it stays free, --allow-in-use {subject} --yes.",
)  # fmt: skip
IN_DOMAIN = _todo(
    "in-another-domain", Severity.INFO, Area.HOST,
    what="{subject} is named by {who} too.",
    why="Only one of them can run at a time; with managed='yes' libvirt also takes the function back to its host driver when that domain ends.",
    fix="Take it out of that domain (virsh detach-device --config) unless the two never run together.",
)  # fmt: skip


HELD_OPEN = _todo(
    "held-open", Severity.ERROR, Area.HOST,
    what="{subject} can't be taken from its driver now: {detail}.",
    why="The driver waits until it is closed, NVIDIA's for ever, and closing it later does not help then; the preparation script stops there.",
    fix="End that process first, a service (persistence daemon, display manager, RDMA program) with `systemctl stop`, and keep it from coming back.",
)  # fmt: skip
BOOT_DISPLAY = _todo(
    "boot-display", Severity.ERROR, Area.CMDLINE,
    what="{subject} shows the console that the firmware has set up ({detail}).",
    why="That driver holds a BAR of it: the kernel says 'can't reserve', and the guest's driver fails.",
    fix="Boot the host with initcall_blacklist=sysfb_init on the kernel command line, or write the framebuffer's name to `unbind` of its driver; "
    "if the host can go without that console, plan with --allow-in-use {subject} --yes after it.",
)  # fmt: skip


def on_vfio(function: Function) -> bool:
    """Bound to vfio-pci or a variant driver (nvgrace_gpu_vfio_pci, mlx5_vfio_pci …)."""
    return is_vfio_driver(function.facts.driver)


def uses_of(found: Sequence[InUse], function: Function) -> Iterator[Finding]:
    """Everything that has it; other VMs are of no weight until somebody wants it too.

    Mounted disks, swap, addresses and routes (sources: problem-5), what the kernel exports of it, storage and RDMA through it, parts of it; who
    has its device files open (open-gpu-kernel-modules#1119, kubevirt#8549); the boot display (talos#14356).
    """
    kinds = {use.kind for use in found}
    if details := _details(found, lambda kind: kind not in _OTHERS):
        how = [step for kind, step in _STOP.items() if kind in kinds]
        yield IN_USE.at(function, detail=details, how="; ".join(how) or "who has it is named above")
    if (details := _details(found, lambda kind: kind == "held")) and not on_vfio(function):
        yield HELD_OPEN.at(function, detail=details)
    if details := _details(found, lambda kind: kind == "display"):
        yield BOOT_DISPLAY.at(function, detail=details)
    yield from taken_by_others(found, function)


def _details(found: Sequence[InUse], wanted: Callable[[str], bool]) -> str:
    return "; ".join(sorted({visible(told(use)) for use in found if wanted(use.kind)}))


def taken_by_others(found: Sequence[InUse], function: Function, *, but: str = "") -> Iterator[Finding]:
    """Other VMs, programs on VFIO, and pools of libvirt that have a function; ``but`` is the VM that is asked for, which may have its own."""
    for kind, code in (("vm", VM_HAS), ("pool", IN_POOL), ("domain", IN_DOMAIN)):
        uses = [use for use in found if use.kind == kind and (kind == "pool" or use.owner != but)]
        if uses:
            yield code.at(function, who="; ".join(dict.fromkeys(map(_who, uses))))


def _who(use: InUse) -> str:
    if use.owner is None:
        return use.detail
    name = visible(use.owner)
    return {"vm": f"VM {name} ({use.detail})", "domain": f"the libvirt domain {name}", "pool": f"its network {name}"}.get(use.kind, use.detail)


def told(use: InUse) -> str:
    """A use in a few words, for lists."""
    names = {"vm": "VM", "domain": "libvirt domain", "pool": "network of libvirt", "export": "target", "storage": "target"}
    return f"{names.get(use.kind, 'owner')} {use.owner}: {use.detail}" if use.owner else use.detail
