"""The live host: pyudev enumerates, psutil gives the figures, /sys is read as any tree is.

pyudev is imported here and nowhere else.
"""

from __future__ import annotations

import os
import platform as host_platform
import time
from collections.abc import Iterable

import msgspec
import psutil
import pyudev

from wizard.base.errors import InputError
from wizard.facts import opened as opened_files
from wizard.facts import rdma, routes, taken, usage
from wizard.facts.keptlog import split
from wizard.facts.kmsg import read_kernel_log
from wizard.facts.many import read_many
from wizard.facts.model import Facts, Group, InUse, Moment, PciFunction
from wizard.facts.pci_ids import named
from wizard.facts.policy import policy_of
from wizard.facts.programs import find_programs
from wizard.facts.record import assemble, cpu_model, free_hugepages, unique
from wizard.facts.scope import Scope
from wizard.facts.tree import DirectoryTree, Tree
from wizard.facts.uefi import find_firmware
from wizard.facts.vfio import guest_of, holders


def read_live(root: str = "/", scope: Scope = Scope.WHOLE) -> Facts:
    """The Facts of this machine. Reads only; what root would add is in ``unread``."""
    tree = DirectoryTree(root, live=True)
    if not tree.names("sys/bus"):
        raise InputError("This machine has no /sys to read.", "Run on Linux with sysfs mounted, or use --replay SNAPSHOT.")
    lines, complete = read_kernel_log(tree)
    log, moment_log = split(lines)
    functions, groups = live_functions(tree, scope)
    moment = Moment(log=moment_log)
    surroundings: dict[str, object] = {}
    if scope is Scope.WHOLE:
        surroundings, moment = _surroundings(tree, functions, moment)
    return assemble(
        tree,
        scope,
        origin="live",
        functions=functions,
        groups=groups,
        log=log,
        log_complete=complete,
        iommufd=os.path.exists("/dev/iommu"),
        vfio=os.path.exists("/dev/vfio/vfio") or os.path.exists("/dev/vfio/devices"),
        kvm=os.path.exists("/dev/kvm"),
        policy=policy_of(tree),
        moment=moment,
        **surroundings,
    )


def _surroundings(tree: Tree, functions: tuple[PciFunction, ...], moment: Moment) -> tuple[dict[str, object], Moment]:
    """What the scope of a table leaves out of a host, and the moment with its figures."""
    disks = frozenset(tree.names("sys/class/block"))
    files = opened_files.device_files(tree)
    opened = holders(tree, disks, files)
    used = [*_disks(tree), *_network(tree), *usage.of_openers(tree, {path: who for path, who in opened.items() if path[5:] in disks})]
    used += usage.of_holders(tree, used)
    held = [
        *opened_files.of_files(files, opened),
        *opened_files.of_vfio(functions, opened, guest_of),
        *opened_files.of_displays(tree, functions),
        *taken.of_tree(tree),
        *rdma.of_rdma(tree),
    ]
    known: dict[str, object] = {
        "cpus": psutil.cpu_count(),
        "cpu_model": cpu_model(tree),
        "memory_total": psutil.virtual_memory().total,
        "in_use": unique([*used, *held]),
        "programs": find_programs(),
        "firmware": find_firmware(tree),
        "limits": _limits(),
    }
    open_devices = {path: who for path, who in opened.items() if path not in files}
    return known, msgspec.structs.replace(read_figures(tree), log=moment.log, open_devices=open_devices)


def read_figures(tree: Tree | None = None) -> Moment:
    """The time, memory and free hugepages of this machine now: cheap enough to be asked every second."""
    memory = psutil.virtual_memory()
    return Moment(
        time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        memory_available=memory.available,
        memory_free=memory.free,
        hugepages_free=free_hugepages(tree or DirectoryTree("/", live=True)),
    )


def live_functions(tree: Tree, scope: Scope = Scope.WHOLE) -> tuple[tuple[PciFunction, ...], tuple[Group, ...]]:
    """Every PCI function that udev knows, with its names out of the hwdb, else out of pci.ids; and every group."""
    try:
        devices = {device.sys_name: device.properties for device in pyudev.Context().list_devices(subsystem="pci")}
    except (ImportError, OSError) as error:
        raise InputError(f"udev can't be asked for devices ({error}).", "Install libudev1, or use --root / to read /sys directly.") from error
    functions, groups = read_many(tree, devices, scope)
    return named(_of_hwdb(function, devices[function.address]) for function in functions if function.address in devices), groups


def _of_hwdb(function: PciFunction, properties: pyudev.device._device.Properties) -> PciFunction:
    return msgspec.structs.replace(
        function,
        vendor_name=properties.get("ID_VENDOR_FROM_DATABASE"),
        device_name=properties.get("ID_MODEL_FROM_DATABASE"),
        class_name=properties.get("ID_PCI_SUBCLASS_FROM_DATABASE") or properties.get("ID_PCI_CLASS_FROM_DATABASE"),
    )


def _disks(tree: Tree) -> Iterable[InUse]:
    mounts = [(partition.device, partition.mountpoint) for partition in psutil.disk_partitions(all=False)]
    yield from usage.of_mounts(tree, mounts, resolve=os.path.realpath)
    yield from usage.of_mounts(tree, usage.swaps_of_proc(tree), "swap")


def _network(tree: Tree) -> Iterable[InUse]:
    session = _session()
    uses: list[tuple[str, str, str]] = list(dict.fromkeys([*usage.default_routes_of_proc(tree), *routes.uses()]))
    if len(session) == 4 and (way := routes.way_to(session[0])):
        uses.append((way, "session", f"what this ssh session is answered leaves by {way}"))
    for name, addresses in psutil.net_if_addrs().items():
        for address in addresses:
            if address.family.name not in ("AF_INET", "AF_INET6"):
                continue
            if len(session) == 4 and session[2] == address.address:
                uses.append((name, "session", f"this ssh session comes in on {name}"))
            if address.address.startswith(("127.", "::1", "fe80:")):
                continue
            # Which address it is says nothing more, and a temporary one would make each record another.
            uses.append((name, "address", f"{'IPv4' if address.family.name == 'AF_INET' else 'IPv6'} address on {name}"))
    yield from usage.of_interfaces(tree, uses)


def _session() -> list[str]:
    """Client's and server's address and port of the ssh session that this program runs in; empty where there is none.

    sudo and su leave the variable out: then it is the one of a process above.
    """
    inherited = os.environ.get("SSH_CONNECTION", "").split()
    process: psutil.Process | None = psutil.Process()
    try:
        while not inherited and process is not None:
            inherited = process.environ().get("SSH_CONNECTION", "").split()
            process = process.parent()
    except psutil.Error:
        return inherited  # somebody else's process
    return inherited


def _limits() -> dict[str, str]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = resource.RLIM_INFINITY
    return {
        "memlock_soft": "unlimited" if soft == unlimited else str(soft),
        "memlock_hard": "unlimited" if hard == unlimited else str(hard),
        "machine": host_platform.machine(),
    }
