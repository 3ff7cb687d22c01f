"""What QEMU itself says of a VM that runs: its vSMMUs, which functions are behind which, and where the guest has them.

QOM names a device's bus by its path; the bus above it is asked of that device, until one is the primary bus of a vSMMU. A port's bus is a
child of the port (``/machine/peripheral/port1/port1``): without its last part the path is the device's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from wizard.base.address import Address
from wizard.plan.properties import NAMES
from wizard.running.monitor import Monitor
from wizard.running.wire import Nonsense, Refused

PERIPHERAL = "/machine/peripheral"
ANONYMOUS = "/machine/peripheral-anon"
NO_ADDRESS = "ffff:ff:ff.f"
"""What vfio-pci answers for ``host`` where it was given a descriptor (libvirt)."""
ACCELERATED = "Migration not supported with SMMUv3 accelerator mode enabled"
"""A reason of query-migrate; it stands once for each vSMMU that is accelerated (smmuv3_accel_init() of QEMU)."""
_NO_NODE = 128  # NUMA_NODE_UNASSIGNED: MAX_NODES of include/system/numa.h
_DEEP = 32  # bridges above one another
_MOST = 4096  # devices


class QemuVsmmu(msgspec.Struct, frozen=True, kw_only=True):
    """An arm-smmuv3 as it is. ``accel`` None: this QEMU has no such property."""

    id: str
    bus: str | None
    accel: bool | None
    properties: Mapping[str, str] = {}


class QemuFunction(msgspec.Struct, frozen=True, kw_only=True):
    """A vfio-pci as it is. ``guest`` None: firmware has not numbered its bus yet."""

    id: str
    host: str | None  # None: it was given by descriptor
    bus: str | None
    vsmmu: str | None
    guest: Address | None = None
    iommufd: str | None = None


class QemuBridge(msgspec.Struct, frozen=True, kw_only=True):
    """An expander or a port."""

    id: str
    kind: str  # QEMU's class
    bus: str | None
    bus_nr: int | None = None
    numa_node: int | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it."""

    name: str | None
    status: str  # running, paused, prelaunch …
    running: bool
    version: str
    type: str | None  # virt-11.1
    kvm: bool | None
    vsmmus: tuple[QemuVsmmu, ...]
    functions: tuple[QemuFunction, ...]
    bridges: tuple[QemuBridge, ...]
    memory: int | None  # bytes, as it was started
    cpus: Mapping[int, int]  # number -> thread
    blocked: int  # how often ``ACCELERATED`` stands in query-migrate


def ask_machine(monitor: Monitor) -> Machine:
    """All of it; raises ``MonitorError``."""
    status = _object(monitor.ask("query-status"))
    version = _object(_object(monitor.ask("query-version")).get("qemu"))
    devices = dict(_devices(monitor))
    places = dict(_places(monitor.ask("query-pci")))
    primary = {str(_get(monitor, path, "primary-bus")): id for id, (path, kind) in devices.items() if kind == "arm-smmuv3"}
    reasons = _object(monitor.ask("query-migrate")).get("blocked-reasons") or []
    return Machine(
        name=_text(_object(monitor.ask("query-name")).get("name")), status=str(status.get("status")), running=status.get("running") is True,
        version=".".join(str(version.get(part, "?")) for part in ("major", "minor", "micro")),
        type=(_text(_get(monitor, "/machine", "type")) or "").removesuffix("-machine") or None,
        kvm=_flag(_optional(monitor, "query-kvm").get("enabled")),
        vsmmus=tuple(_vsmmu(monitor, id, path) for id, (path, kind) in devices.items() if kind == "arm-smmuv3"),
        functions=tuple(_function(monitor, id, path, primary, places) for id, (path, kind) in devices.items() if kind.startswith("vfio-pci")),
        bridges=tuple(_bridge(monitor, id, path, kind) for id, (path, kind) in devices.items() if kind in ("pxb-pcie", "pcie-root-port")),
        memory=_number(_optional(monitor, "query-memory-size-summary").get("base-memory")),
        cpus=dict(_cpus(monitor)), blocked=sum(ACCELERATED in str(reason) for reason in _list(reasons)),
    )  # fmt: skip


def _devices(monitor: Monitor) -> Iterator[tuple[str, tuple[str, str]]]:
    """Id -> (path, class) of each device; one without an id is called by its path."""
    for base in (PERIPHERAL, ANONYMOUS):
        for child in _list(monitor.ask("qom-list", path=base))[:_MOST]:
            told = _object(child)
            name, kind = str(told.get("name")), str(told.get("type"))
            if kind.startswith("child<"):
                yield name if base is PERIPHERAL else f"{base}/{name}", (f"{base}/{name}", kind[6:-1])


def _vsmmu(monitor: Monitor, id: str, path: str) -> QemuVsmmu:
    values = {name: _get(monitor, path, name) for name in NAMES}
    return QemuVsmmu(
        id=id, bus=_leaf(_get(monitor, path, "primary-bus")), accel=_flag(_get(monitor, path, "accel")),
        properties={name: _spelled(value) for name, value in values.items() if value is not None},
    )  # fmt: skip


def _function(monitor: Monitor, id: str, path: str, primary: Mapping[str, str], places: Mapping[str, Address]) -> QemuFunction:
    host = _text(_get(monitor, path, "host"))
    if not host or host == NO_ADDRESS:
        sysfs = _text(_get(monitor, path, "sysfsdev")) or ""
        host = sysfs.rpartition("/")[2] or None
    bus = _text(_get(monitor, path, "parent_bus"))
    return QemuFunction(
        id=id, host=_canonical(host), bus=_leaf(bus), vsmmu=_behind(monitor, bus, primary), guest=places.get(id),
        iommufd=_leaf(_get(monitor, path, "iommufd")),
    )  # fmt: skip


def _behind(monitor: Monitor, bus: str | None, primary: Mapping[str, str]) -> str | None:
    """The vSMMU that a bus is behind: the first one up the tree."""
    for _ in range(_DEEP):
        if not bus:
            return None
        if bus in primary:
            return primary[bus]
        bus = _text(_get(monitor, bus.rpartition("/")[0], "parent_bus"))
    return None


def _bridge(monitor: Monitor, id: str, path: str, kind: str) -> QemuBridge:
    expander = kind == "pxb-pcie"
    node = _number(_get(monitor, path, "numa_node")) if expander else None
    return QemuBridge(
        id=id, kind=kind, bus=_leaf(_get(monitor, path, "parent_bus")), bus_nr=_number(_get(monitor, path, "bus_nr")) if expander else None,
        numa_node=None if node == _NO_NODE else node,
    )  # fmt: skip


def _places(told: Any) -> Iterator[tuple[str, Address]]:
    """Id -> guest address out of query-pci, down through its bridges; buses that firmware has not numbered are 0 and say nothing."""
    waiting: list[tuple[Any, bool]] = [(device, True) for bus in _list(told) for device in _list(_object(bus).get("devices"))]
    while waiting:
        entry, root = waiting.pop()
        device = _object(entry)
        bus, slot, function = (_number(device.get(name)) for name in ("bus", "slot", "function"))
        id = _text(device.get("qdev_id"))
        if id and bus is not None and slot is not None and function is not None and (root or bus):
            yield id, Address(0, bus, slot, function)
        inner = device.get("pci_bridge")
        if isinstance(inner, dict):
            waiting += [(below, False) for below in _list(inner.get("devices") or [])]


def _cpus(monitor: Monitor) -> Iterator[tuple[int, int]]:
    for cpu in _list(monitor.ask("query-cpus-fast")):
        number, thread = (_number(_object(cpu).get(name)) for name in ("cpu-index", "thread-id"))
        if number is not None and thread is not None:
            yield number, thread


def _get(monitor: Monitor, path: str, name: str) -> Any:
    try:
        return monitor.ask("qom-get", path=path, property=name)
    except Refused:
        return None  # this QEMU's device has no such property


def _optional(monitor: Monitor, command: str) -> Mapping[str, Any]:
    try:
        return _object(monitor.ask(command))
    except Refused:
        return {}


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise Nonsense("an answer has another shape than QEMU's")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise Nonsense("an answer has another shape than QEMU's")
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _spelled(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _leaf(path: Any) -> str | None:
    return path.rpartition("/")[2] or None if isinstance(path, str) else None


def _canonical(address: str | None) -> str | None:
    if address is None:
        return None
    try:
        return str(Address.parse(address))
    except ValueError:
        return None
