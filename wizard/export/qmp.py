"""QMP commands that plug and unplug functions of a running VM: one JSON document, to be read by programs and people alike.

    {"socket": PATH or null,
     "plug":   [{"function", "port", "commands": [QMP command…]}…],    into the ports that were left free
     "unplug": [{"function", "id", "also", "commands": [QMP command…]}…]}      of every function that may go

``also`` are the functions that go with it: the guest lets go of a slot, not of one of its functions. A connection starts with
``{"execute": "qmp_capabilities"}``; the function has to be on its vfio driver before it is plugged (the preparation script's
--plug). DEVICE_DELETED is the guest's consent: ``device_del`` only asks for it.
"""

from __future__ import annotations

import json
from typing import Any

from wizard.base.address import Address
from wizard.base.text import visible_json
from wizard.host.vmm import Vmm
from wizard.plan.model import VmPlan, require


def qmp_hotplug(vm: VmPlan) -> str:
    """The commands for a VM's hot-plug ports and for unplugging what it has."""
    require(vm, Vmm.QEMU, "QMP is QEMU's")
    plug: list[dict[str, Any]] = []
    unplug: list[dict[str, Any]] = []
    for port in vm.ports:
        id = f"hot.{port.id}"
        for address in port.candidates or ("DDDD:BB:DD.F",) if port.hotplug else ():
            plug.append({"function": address, "port": port.id, "id": id, "commands": [_add(vm, port.id, address, id)]})
    ids = {item["id"]: item["function"] for item in plug}
    stays = {devices[0].id for vsmmu in vm.vsmmus if vsmmu.cmdqv.resolved and (devices := vm.devices_of(vsmmu))}
    for device in vm.devices:
        # With CMDQV on, the function that made the vIOMMU can't go: the guest's queues belong to it.
        if device.id not in stays:
            ids[device.id] = device.host
    companions = {one.id: [other.host for other in vm.devices if other.port == one.port and other is not one] for one in vm.devices}
    for id, function in ids.items():
        also = companions.get(id, [])
        unplug.append({"function": function, "id": id, "also": also, "commands": [{"execute": "device_del", "arguments": {"id": id}}]})
    return visible_json(json.dumps({"socket": vm.qmp, "plug": plug, "unplug": unplug}, ensure_ascii=False, indent=1)) + "\n"


def _add(vm: VmPlan, port: str, address: str, id: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {"driver": "vfio-pci"}
    if address[0] != "D" and Address.parse(address).segment > 0xFFFF:
        arguments["sysfsdev"] = f"/sys/bus/pci/devices/{address}"
    else:
        arguments["host"] = address
    arguments |= {"id": id, "bus": port, "addr": "0x0"}
    if vm.iommufd:
        arguments["iommufd"] = vm.iommufd
    return {"execute": "device_add", "arguments": arguments}
