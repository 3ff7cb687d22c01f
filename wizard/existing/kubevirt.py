"""KubeVirt's VirtualMachine and VirtualMachineInstance documents, as JSON.

They say what a VM is to have, and leave the rest to the launcher: devices are named by resource, not by address, and the bus they come
onto, the vSMMU and its properties are in the libvirt domain alone that the launcher makes. So what is read here is what the document holds,
each device is named as one whose function is not known, and the fix says where the rest is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wizard.base.errors import InputError
from wizard.existing.guest import Fate, Firmware, Function, Guest, Left, Machine, Memory, Origin, Where
from wizard.existing.numbers import integer

KINDS = ("VirtualMachine", "VirtualMachineInstance", "List")
_UNITS = {
    "": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "P": 1000**5,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}  # fmt: skip
"""Kubernetes' suffixes of quantities."""
_DEPTH = 32
_TAKEN = frozenset(
    (
        "cpu.cores",
        "cpu.sockets",
        "cpu.threads",
        "memory.guest",
        "memory.hugepages.pageSize",
        "machine.type",
        "firmware.bootloader.efi",
        "firmware.uuid",
    )
)


def read_kubevirt(text: str, source: str) -> list[Guest]:
    """The VMs of a document, or of a list of them. Raises ``InputError`` for what is no JSON, or holds none."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is no JSON: {error}.", "Give it as `kubectl get vmi NAME -o json` writes it.") from error
    found = [_guest(one, source) for one in _documents(document) if isinstance(one, dict)]
    if not found:
        raise InputError(f"{source} holds no VirtualMachine and no VirtualMachineInstance.", "Give it as `kubectl get vmi NAME -o json` writes it.")
    return found


def _documents(document: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict) and document.get("kind") in ("VirtualMachine", "VirtualMachineInstance"):
        yield document
    elif isinstance(document, dict) and isinstance(document.get("items"), list) and depth < 2:
        for item in document["items"]:
            yield from _documents(item, depth + 1)


def quantity(value: Any) -> int | None:
    """Bytes of a quantity of Kubernetes (``4Gi``, ``512M``)."""
    text = str(value)
    digits = text.rstrip("kMGTPi")
    number, unit = integer(digits), _UNITS.get(text[len(digits) :])
    return None if number is None or unit is None or number < 0 else number * unit


def _at(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _guest(document: dict[str, Any], source: str) -> Guest:
    spec = document.get("spec")
    if document["kind"] == "VirtualMachine":
        spec = _at(spec, "template", "spec")
    domain = _at(spec, "domain") or {}
    where = Where(source=source, path="spec.domain")
    name = _at(document, "metadata", "name")
    counts = [integer(str(_at(domain, "cpu", part) or 1)) or 1 for part in ("cores", "sockets", "threads")]
    memory = _at(domain, "memory", "guest") or _at(domain, "resources", "requests", "memory")
    pages = _at(domain, "memory", "hugepages", "pageSize")
    efi = _at(domain, "firmware", "bootloader", "efi") is not None or _at(domain, "firmware", "bootloader") is None
    devices = [
        Function(
            where=Where(source=source, path=f"spec.domain.devices.{kind}[{place}].deviceName"),
            driver="vfio-pci",
            id=str(_at(one, "name") or f"{kind}{place}"),
            descriptor=str(_at(one, "deviceName")),
        )
        for kind in ("gpus", "hostDevices")
        for place, one in enumerate(_at(domain, "devices", kind) or ())
    ]
    return Guest(
        where=where,
        origin=Origin.LIBVIRT,
        source=source,
        name=f"{_at(document, 'metadata', 'namespace') or 'default'}_{name}" if name else None,
        uuid=_at(domain, "firmware", "uuid"),
        machine=Machine(where=where, type=_at(domain, "machine", "type") or "virt", acpi=True, kvm=True),
        memory=Memory(where=where, size=quantity(memory) if memory is not None else None, hugepages=quantity(pages) if pages is not None else None),
        cpus=counts[0] * counts[1] * counts[2],
        firmware=Firmware(where=where, auto=True) if efi else None,
        devices=tuple(devices),
        left=(
            Left(
                fate=Fate.UNRESOLVED, where=where, name="the domain that the launcher makes",
                said="buses, addresses, vSMMUs and functions are in that domain alone (virsh dumpxml in the virt-launcher pod)",
            ),
            *(Left(fate=Fate.LOST, where=Where(source=source, path=f"spec.domain.{path}"), name=path) for path in _others(domain)),
        ),
    )  # fmt: skip


def _others(value: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """The parts of a domain that were not taken, by their paths; a list is one part."""
    for name, inner in value.items() if isinstance(value, dict) else ():
        here = f"{path}.{name}" if path else str(name)
        if here in _TAKEN or here in ("devices.gpus", "devices.hostDevices"):
            continue
        if isinstance(inner, dict) and inner and depth < _DEPTH:
            yield from _others(inner, here, depth + 1)
        else:
            yield here
