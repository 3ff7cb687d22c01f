"""``record --probe``: what iommufd and VFIO say of the functions that already are on a vfio driver.

Opening such a function resets it. So this asks first, leaves alone what a process has open, and never binds or unbinds
anything. The same call for every function, since what VFIO reports of regions is each function's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack

import msgspec

from wizard.base.errors import InputError, UsageError
from wizard.base.text import plural, visible
from wizard.facts import iommufd
from wizard.facts.iommufd import IommuFd, VfioDevice, errno_name
from wizard.facts.model import Facts, HwInfo, PciFunction
from wizard.facts.tree import DirectoryTree
from wizard.facts.vfio import NOIOMMU, holders, is_vfio_driver

_PREPARE = "Bind functions with `smmu-wizard prepare FUNCTION…` first; a probe never does."


def probe(facts: Facts, confirm: Callable[[str], bool], say: Callable[[str], None]) -> Facts:
    """Facts with ``hw_info`` of every function on a vfio driver, asked of the running kernel.

    ``confirm`` gets one question and says whether to go on; ``say`` gets what is left out and why. Raises UsageError when
    it was not confirmed, InputError when there is nothing to ask or nobody to ask it of.
    """
    if not os.path.exists("/dev/iommu"):
        raise InputError("This kernel has no /dev/iommu.", "Load the module iommufd, or boot a kernel with CONFIG_IOMMUFD.")
    if not os.access("/dev/iommu", os.R_OK | os.W_OK):
        raise InputError("You may not open /dev/iommu.", "Root may: run `sudo smmu-wizard record --probe`.")
    ready = [function for function in facts.functions if function.vfio_dev and not function.vfio_dev[0].startswith(NOIOMMU)]
    for function in facts.functions:
        if function.vfio_dev and function not in ready:
            say(f"{function.address} is left alone: it has no IOMMU ({visible(function.vfio_dev[0])}), and opening it taints the kernel.")
    for function in facts.functions:
        if not function.vfio_dev and function.driver and is_vfio_driver(function.driver):
            say(f"{function.address} is on {visible(function.driver)} but has no VFIO character device (CONFIG_VFIO_DEVICE_CDEV): it can't be asked.")
    free, busy = _divide(ready, _open_now(facts))
    for function, holder in busy:
        say(f"{function.address} is left alone: {visible(holder)} has it or its group open, and opening it again would reset it.")
    if not free:
        raise InputError(f"No function {'that is free ' if busy else ''}is on a vfio driver, so there is nothing to ask.", _PREPARE)
    opens = f"Probing opens {plural(len(free), 'function')}, which resets {'it' if len(free) == 1 else 'them'}"
    if not confirm(f"{opens}: {', '.join(function.address for function in free)}. Go on?"):
        raise UsageError("Nothing was probed, and no snapshot written.", "Confirm with y or give --yes, or leave --probe away.")
    members = {group.id: group.devices for group in facts.groups}
    asked = [ask(function, members.get(-1 if function.iommu_group is None else function.iommu_group, ())) for function in free]
    kept = [info for info in facts.hw_info if info.address not in {info.address for info in asked}]
    return msgspec.structs.replace(facts, hw_info=tuple(sorted([*kept, *asked], key=lambda info: info.address)))


def _open_now(facts: Facts) -> dict[str, str]:
    # Looked up again: the facts may be a minute old. Other users' processes are hidden from an ordinary user; the kernel
    # then refuses to bind a device that is open (EBUSY or EINVAL), before anything is reset.
    return facts.moment.open_devices | holders(DirectoryTree("/", live=True))


def _divide(functions: list[PciFunction], opened: dict[str, str]) -> tuple[list[PciFunction], list[tuple[PciFunction, str]]]:
    # A group belongs to one owner: a sibling that is open makes the whole group another's.
    opened_groups = {f.iommu_group: opened[path] for f in functions for path in _paths(f) if path in opened}
    free, busy = [], []
    for function in functions:
        holder = opened_groups.get(function.iommu_group)
        if holder is None:
            free.append(function)
        else:
            busy.append((function, holder))
    return free, busy


def _paths(function: PciFunction) -> tuple[str, str]:
    return f"/dev/vfio/devices/{function.vfio_dev[0]}", f"/dev/vfio/{function.iommu_group}"


def ask(function: PciFunction, members: tuple[str, ...] = ()) -> HwInfo:
    """Everything that the kernel says of one function; where it refuses, ``error`` has the errno and ``step`` the call."""
    known: dict[str, object] = {}
    step = "open"
    try:
        with ExitStack() as stack:
            context = stack.enter_context(IommuFd())
            device = stack.enter_context(VfioDevice(f"/dev/vfio/devices/{function.vfio_dev[0]}"))
            step = "bind"
            number = device.bind(context)
            step = "regions"
            known["regions"] = device.regions()
            step = "hw_info"
            default = context.hw_info(number)
            known |= {"data_type": default.type, "data": default.data.hex(), "capabilities": default.capabilities}
            known["max_pasid_log2"] = default.max_pasid_log2
            try:
                known["cmdqv"] = context.hw_info(number, iommufd.TEGRA241_CMDQV).data.hex()
            except OSError as error:
                known["cmdqv_error"] = errno_name(error)
            step = "ioas"
            known |= _ranges(context, device)
            known |= _nesting(context, number)
    except OSError as error:
        known |= {"error": errno_name(error), "step": step}
    return HwInfo(address=function.address, members=members or (function.address,), **known)  # type: ignore[arg-type]


def _ranges(context: IommuFd, device: VfioDevice) -> dict[str, object]:
    """What can be mapped for the function without nesting: an empty IOAS can map anything, one with the device attached what its path allows."""
    with context.address_space() as ioas:
        try:
            with device.attached(ioas):
                found = context.iova_ranges(ioas)
        except OSError as error:
            return {"iova_error": errno_name(error)}
        return {"iova_ranges": found.lines, "iova_alignment": found.alignment}


def _nesting(context: IommuFd, device: int) -> dict[str, str]:
    with context.address_space() as ioas:
        try:
            with context.nest_parent(device, ioas) as parent:
                kinds = {"viommu": iommufd.VIOMMU_ARM_SMMUV3, "viommu_cmdqv": iommufd.VIOMMU_TEGRA241_CMDQV}
                return {"nest_parent": "ok"} | {name: _viommu(context, device, parent, kind) for name, kind in kinds.items()}
        except OSError as error:
            return {"nest_parent": errno_name(error)}


def _viommu(context: IommuFd, device: int, parent: int, kind: int) -> str:
    try:
        with context.viommu(device, parent, kind):
            return "ok"
    except OSError as error:
        return errno_name(error)
