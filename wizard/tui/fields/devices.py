"""Fields of what a VM has: functions, disks, networks, hot-plug ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from msgspec.structs import replace

from wizard.host.model import Host
from wizard.plan.model import DevicePlan, VmPlan
from wizard.plan.request import DiskRequest, FunctionRequest, HotplugRequest, Mode, NetworkRequest, VmRequest
from wizard.tui.fields.model import YES_NO, Change, Field, path, yes

KINDS = ("user", "tap", "bridge")


def function_fields(host: Host, vm: VmRequest, planned: VmPlan | None, opened: frozenset[str]) -> Iterator[Field]:
    """The assigned functions with their places; of those that are opened, their own settings."""
    devices = {device.host: device for device in planned.devices} if planned else {}
    if not vm.functions:
        yield Field("functions", "none yet", "press a to give it functions (or 1 for the host)", section="Functions", role="dim")
    for one in vm.functions:
        device, function = devices.get(one.host), host.functions.get(one.host)
        key = f"function/{one.host}"
        place = _place(device) if device else "not placed"
        name = function.name if function else (device.name if device else "not on this host")
        yield Field(key, one.host, place, note=name, section="Functions", about="enter shows its own settings, x takes it away")
        if key in opened:
            yield from _function(one, key, device.driver if device else None)


def _place(device: DevicePlan) -> str:
    where = f"guest {str(device.guest).removeprefix('0000:')}"
    return f"{where} vSID {device.vsid:#x} {device.vsmmu}" if device.vsid is not None else f"{where} no vIOMMU"


def _function(one: FunctionRequest, key: str, driver: str | None) -> Iterator[Field]:
    def field(name: str, value: str, change: Callable[[FunctionRequest, str], FunctionRequest], **more: object) -> Field:
        def on_vm(vm: VmRequest, text: str) -> VmRequest:
            return replace(vm, functions=tuple(change(f, text) if f.host == one.host else f for f in vm.functions))

        return Field(f"{key}/{name}", name, value, on_vm, depth=1, **more)  # type: ignore[arg-type]

    yield field(
        "mode",
        str(one.mode) if one.mode else "as the VM",
        lambda f, t: replace(f, mode=Mode.NONE if t == "none" else None),
        choices=("as the VM", "none"),
        about="none: without a vIOMMU, on pcie.0, beside accelerated ones",
    )
    yield field(
        "vsmmu",
        one.vsmmu or "",
        lambda f, t: replace(f, vsmmu=t.strip() or None),
        text=one.vsmmu or "",
        note="" if one.vsmmu else "the one of its SMMU",
        about="the id of the vSMMU that it goes behind",
    )
    yield field(
        "driver",
        one.driver or "",
        lambda f, t: replace(f, driver=t.strip() or None),
        text=one.driver or "",
        note=f"{driver}" if driver and not one.driver else "",
        about="the vfio driver that the preparation script binds",
    )
    yield field(
        "ats",
        one.ats or "",
        lambda f, t: replace(f, ats=None if t == "default" else t),
        choices=("default", "auto", "on", "off"),
        about="off masks the capability",
    )
    yield field(
        "rom", "yes" if one.rom else "no", lambda f, t: replace(f, rom=t == "yes"), choices=YES_NO, about="whether the guest sees the expansion ROM"
    )
    yield field("iommufd", "yes" if one.iommufd else "no", lambda f, t: replace(f, iommufd=t == "yes"), choices=YES_NO)
    yield field(
        "port",
        one.port or "",
        lambda f, t: replace(f, port=t.strip() or None),
        text=one.port or "",
        about="the id of its root port; functions that name the same share it",
    )


def disk_fields(vm: VmRequest) -> Iterator[Field]:
    """Disks, and adding one."""
    for place, disk in enumerate(vm.disks):
        key = f"disk/{place}"
        yield Field(
            key,
            f"disk {place}",
            disk.path,
            _disk(place, lambda d, t: replace(d, path=path(t))),
            text=disk.path,
            section="Disks and networks",
            note=disk.format + (", read-only" if disk.readonly else ""),
            about="enter changes the path, x takes it away",
        )
        yield Field(
            f"{key}/format",
            "format",
            disk.format,
            _disk(place, lambda d, t: replace(d, format="qcow2" if t == "qcow2" else "raw")),
            ("raw", "qcow2"),
            depth=1,
            section="Disks and networks",
        )
        yield Field(
            f"{key}/readonly",
            "read-only",
            yes(disk.readonly),
            _disk(place, lambda d, t: replace(d, readonly=t == "yes")),
            YES_NO,
            depth=1,
            section="Disks and networks",
        )
    yield Field("disk/new", "add a disk", "", _add_disk, section="Disks and networks", about="the path of its image or block device", role="dim")


def _disk(place: int, change: Callable[[DiskRequest, str], DiskRequest]) -> Change:
    return lambda vm, text: replace(vm, disks=tuple(change(disk, text) if n == place else disk for n, disk in enumerate(vm.disks)))


def _add_disk(vm: VmRequest, text: str) -> VmRequest:
    image = path(text)
    return replace(vm, disks=(*vm.disks, DiskRequest(path=image, format="qcow2" if image.endswith(".qcow2") else "raw")))


def network_fields(vm: VmRequest) -> Iterator[Field]:
    """Networks, and adding one."""
    section = "Disks and networks"
    for place, one in enumerate(vm.networks):
        key = f"network/{place}"
        yield Field(
            key,
            f"network {place}",
            one.kind,
            _network(place, lambda n, t: replace(n, kind=_kind(t))),
            KINDS,
            section=section,
            note=one.source or "",
            about="space changes the kind, x takes it away",
        )
        if one.kind != "user":
            yield Field(
                f"{key}/source",
                "source",
                one.source or "",
                _network(place, lambda n, t: replace(n, source=t.strip() or None)),
                text=one.source or "",
                depth=1,
                section=section,
                about="the tap or bridge of the host",
            )
        yield Field(
            f"{key}/mac",
            "MAC",
            one.mac or "default",
            _network(place, lambda n, t: replace(n, mac=t.strip() or None)),
            text=one.mac or "",
            depth=1,
            section=section,
            note="" if one.mac else "made from the VM's name",
        )
    yield Field(
        "network/new",
        "add a network",
        "",
        _add_network,
        KINDS,
        section=section,
        about="user needs nothing; tap and bridge name one of the host",
        role="dim",
    )


def _kind(text: str) -> Literal["user", "tap", "bridge"]:
    if text not in KINDS:
        raise ValueError("user, tap or bridge.")
    return text  # type: ignore[return-value]  # one of the three, by the line above


def _network(place: int, change: Callable[[NetworkRequest, str], NetworkRequest]) -> Change:
    return lambda vm, text: replace(vm, networks=tuple(change(one, text) if n == place else one for n, one in enumerate(vm.networks)))


def _add_network(vm: VmRequest, text: str) -> VmRequest:
    return replace(vm, networks=(*vm.networks, NetworkRequest(kind=_kind(text))))


def hotplug_fields(vm: VmRequest) -> Iterator[Field]:
    """Ports left free, and adding one."""
    for place, port in enumerate(vm.hotplug):
        yield Field(
            f"hotplug/{place}",
            f"port {place}",
            ", ".join(port.functions) or "any function",
            _set_hotplug(place),
            text=" ".join(port.functions),
            section="Hot-plug ports",
            about="the functions that may be plugged; the largest decides the reserves; x takes it away",
        )
    yield Field(
        "hotplug/new",
        "add a port",
        "",
        lambda v, t: replace(v, hotplug=(*v.hotplug, HotplugRequest(functions=tuple(t.replace(",", " ").split())))),
        section="Hot-plug ports",
        about="addresses of the functions that may be plugged",
        role="dim",
    )


def _set_hotplug(place: int) -> Change:
    return lambda vm, text: replace(
        vm, hotplug=tuple(replace(one, functions=tuple(text.replace(",", " ").split())) if n == place else one for n, one in enumerate(vm.hotplug))
    )


def remove_field(vm: VmRequest, key: str) -> VmRequest | None:
    """The VM without the function, disk, network or port that a field belongs to; None where there is nothing to take away."""
    kind, _, rest = key.partition("/")
    name = rest.partition("/")[0]
    if kind == "function":
        return replace(vm, functions=tuple(one for one in vm.functions if one.host != name))
    if not name.isdecimal():
        return None
    place = int(name)
    if kind == "disk":
        return replace(vm, disks=vm.disks[:place] + vm.disks[place + 1 :])
    if kind == "network":
        return replace(vm, networks=vm.networks[:place] + vm.networks[place + 1 :])
    if kind == "hotplug":
        return replace(vm, hotplug=vm.hotplug[:place] + vm.hotplug[place + 1 :])
    return None


def move_function(vm: VmRequest, address: str, step: int) -> VmRequest:
    """With a function earlier or later: the first one behind a vSMMU decides what auto comes to."""
    order = list(vm.functions)
    place = next((n for n, one in enumerate(order) if one.host == address), -1)
    if place < 0 or not 0 <= place + step < len(order):
        return vm
    order.insert(place + step, order.pop(place))
    return replace(vm, functions=tuple(order))
