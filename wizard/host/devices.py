"""Devices that need more than their own configuration space says, by vendor and device ID: ``wizard/knowledge/devices.toml``."""

from __future__ import annotations

from collections.abc import Mapping

from wizard.host.model import Function
from wizard.host.pci import extcaps
from wizard.knowledge import tables
from wizard.knowledge.tables import CoherentGpu, GpuFamily

NVIDIA = 0x10DE
_DEPTH = 64  # bridges above one another: more than any hierarchy has


def coherent_gpu(function: Function) -> CoherentGpu | None:
    """What is known of a GPU whose memory is coherent with its CPU; None for anything else, and for what has an id that nobody wrote down."""
    if int(function.facts.vendor, 16) != NVIDIA or function.is_vf:
        return None
    device = int(function.facts.device, 16)
    return next((gpu for gpu in tables.devices().coherent_gpu if gpu.id == device), None)


def grace_gpu(function: Function) -> str | None:
    """The name of such a GPU; None for anything else."""
    gpu = coherent_gpu(function)
    return gpu.name if gpu else None


def unknown_gpu(functions: Mapping[str, Function], function: Function) -> tuple[GpuFamily, str] | None:
    """The family that a function looks like a member of, whose memory and nodes nobody has written down, and how it looks so; else None.

    A GPU in a slot shows its memory as a BAR; one of these shows none, and is below the CPU's own root port. The driver that
    the kernel bound it to, or a VF with the ID of such a GPU, tells as well.
    """
    facts = function.facts
    vendor = int(facts.vendor, 16)
    if vendor != NVIDIA or coherent_gpu(function) is not None:
        return None
    table = tables.devices()
    family = next((one for one in table.gpu_family if one.vendor == vendor and one.class_ == int(facts.class_, 16) >> 8), None)
    if family is None:
        return None
    if function.is_vf:
        return vf_of_gpu(function.ids)
    if (facts.driver or "").replace("-", "_") == family.driver:
        return family, f"the kernel has it on {family.driver}"
    if any(bar.size > family.largest_bar for bar in function.bars):
        return None
    root = _root_of(functions, function)
    if root is None or int(root.facts.vendor, 16) != family.root_port_vendor:
        return None
    return family, f"it is below {root}, a root port of the CPU" + (
        ", and none of its BARs holds its memory" if facts.resource else ", and its BARs were not read"
    )


def vf_of_gpu(ids: str) -> tuple[GpuFamily, str] | None:
    """The family of a VF that has the ID of one of these GPUs (``10de:3041``): what a VF shows of the memory, nobody has written down."""
    vendor, _, device = ids.partition(":")
    table = tables.devices()
    gpu = next((gpu for gpu in table.coherent_gpu if (f"{NVIDIA:04x}", f"{gpu.id:04x}") == (vendor, device)), None)
    return None if gpu is None else (table.gpu_family[0], f"it is a VF with the ID of a {gpu.name}")


def _root_of(functions: Mapping[str, Function], function: Function) -> Function | None:
    """The topmost bridge above a function that is known."""
    above: Function | None = None
    at = function
    for _ in range(_DEPTH):
        if at.parent is None or at.parent not in functions:
            break
        above = at = functions[at.parent]
    return above


def needs_ats(function: Function) -> bool:
    """pci_dev_specific_ats_required(): by vendor and device ID."""
    vendor = int(function.facts.vendor, 16)
    if vendor != NVIDIA:
        return False
    device = int(function.facts.device, 16)
    return any(one.vendor == vendor and device in one.ids for one in tables.devices().needs_ats)


def vf_ids(pf: Function) -> str | None:
    """What the VFs of a PF are called (``8086:10ca``): by the kernel's word (sriov_vf_device), else by its SR-IOV capability."""
    if pf.facts.sriov_vf_device:
        return f"{pf.facts.vendor[2:]}:{int(pf.facts.sriov_vf_device, 16):04x}"
    found = extcaps.sriov(pf.config)
    return f"{pf.facts.vendor[2:]}:{found.vf_device:04x}" if found else None
