"""Device files of PCI functions: what a process may have open that keeps a driver from letting go of its function.

The kernel lists every character device in /sys/dev/char, with its place in the tree of devices; NVIDIA's are in no class, its driver
tells their minor numbers in /proc. VFIO's own are another matter (``wizard.facts.vfio``): a VM that runs has them open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from wizard.facts.functions import last_function
from wizard.facts.model import InUse, PciFunction
from wizard.facts.tree import Tree
from wizard.facts.usage import net_functions

_CHAR = "sys/dev/char"
_NVIDIA = "proc/driver/nvidia/gpus"
# A framebuffer that the firmware set up: its driver holds a BAR of the function that shows it (drivers/firmware/sysfb.c).
_FRAMEBUFFER = re.compile(r"(?:simple|efi|vesa|ega|vga)-?framebuffer\.\d+")


def device_files(tree: Tree) -> dict[str, str]:
    """/dev/NAME -> the function that it belongs to; what hangs on a USB controller is not its own: nobody waits for that."""
    return dict(sorted({**dict(_of_classes(tree)), **dict(_of_nvidia(tree))}.items()))


def _of_classes(tree: Tree) -> Iterator[tuple[str, str]]:
    for number in tree.names(_CHAR):
        path = tree.link(f"{_CHAR}/{number}")
        if path is None or re.search(r"/usb\d+/|/vfio-dev/", path):
            continue
        owners = {address} if (address := last_function(path)) else _of_queue(tree, path)
        name = re.search(r"^DEVNAME=(.+)$", tree.text(f"{path}/uevent") or "", re.MULTILINE) if owners else None
        for address in owners if name else ():
            yield f"/dev/{name[1] if name else ''}", address


def _of_queue(tree: Tree, path: str) -> set[str]:
    # macvtap gives a network card's queues to a VM: /sys/devices/virtual/net/macvtap0/tap12
    match = re.search(r"/virtual/net/([^/]+)/(?:[^/]+/)?tap\d+$", path)
    return net_functions(tree, match[1]) if match else set()


def _of_nvidia(tree: Tree) -> Iterator[tuple[str, str]]:
    for address in tree.names(_NVIDIA):
        minor = re.search(r"^Device Minor:\s*(\d+)\s*$", tree.text(f"{_NVIDIA}/{address}/information") or "", re.MULTILINE)
        if minor:
            yield f"/dev/nvidia{minor[1]}", address


def of_files(files: Mapping[str, str], opened: Mapping[str, str]) -> list[InUse]:
    """From /dev/NAME -> function and /dev/NAME -> process: who keeps which function."""
    return [InUse(address=files[path], kind="held", detail=_has_open(who, path)) for path, who in opened.items() if path in files]


def _has_open(who: str, path: str) -> str:
    return f"processes {who} have {path} open" if " and " in who else f"process {who} has {path} open"


def of_vfio(functions: Iterable[PciFunction], opened: Mapping[str, str], guest_of: Callable[[str], str | None]) -> list[InUse]:
    """Functions whose VFIO device, or group, some process has open: a VM, or a program that drives the device itself (DPDK, SPDK).

    ``guest_of`` gives the name of the VM that a process is, by its number.
    """
    found = []
    for function in functions:
        paths = [f"/dev/vfio/devices/{name}" for name in function.vfio_dev]
        paths += [] if function.iommu_group is None else [f"/dev/vfio/{function.iommu_group}", f"/dev/vfio/noiommu-{function.iommu_group}"]
        for path in paths:
            if who := opened.get(path):
                found.append(InUse(address=function.address, kind="vm", detail=_has_open(who, path), owner=guest_of(who.split(" ", 1)[0])))
    return found


def of_displays(tree: Tree, functions: Iterable[PciFunction]) -> list[InUse]:
    """The function that shows the firmware's console: the one above the framebuffer, else the one that the firmware booted with (``boot_vga``)."""
    booted = [function.address for function in functions if function.boot_vga == "1"]
    found = []
    for name in tree.names("sys/bus/platform/devices"):
        path = tree.link(f"sys/bus/platform/devices/{name}") if _FRAMEBUFFER.fullmatch(name) else None
        driver = tree.target(f"{path}/driver") if path else None
        if path is None or driver is None:
            continue
        above = last_function(path)
        detail = f"{name} of the firmware, on driver {driver.rpartition('/')[2]}"
        found += [InUse(address=address, kind="display", detail=detail) for address in ([above] if above else booted)]
    return found
