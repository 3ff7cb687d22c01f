"""KubeVirt's VirtualMachine and VirtualMachineInstance documents, as JSON or YAML.

They say what a VM is to have, and leave the rest to the launcher: devices are named by resource, not by address, and the bus they come
onto, the vSMMU and its properties are in the libvirt domain alone that the launcher makes. So what is read here is what the document holds,
each device is named as one whose function is not known, and the fix says where the rest is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Any

from wizard.base.errors import InputError
from wizard.base.text import visible
from wizard.existing.guest import Fate, Firmware, Function, Guest, Left, Machine, Memory, Origin, Where
from wizard.existing.numbers import integer

KINDS = ("VirtualMachine", "VirtualMachineInstance", "List")
_UNITS: dict[str, int | Fraction] = {
    "m": Fraction(1, 1000), "": 1, "k": 1000, "M": 1000**2, "G": 1000**3, "T": 1000**4, "P": 1000**5, "E": 1000**6,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "Ei": 1 << 60,
}  # fmt: skip
_QUANTITY = re.compile(r"\+?([0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE]([+-]?[0-9]{1,2})|(m|k|[KMGTPE]i|[MGTPE])?)")
"""Kubernetes' grammar of quantities (apimachinery/pkg/api/resource), of numbers that could be bytes; suffixes in ``_UNITS``."""
_DEPTH = 32
_YAML = 8 << 20  # characters; the reader is plain Python
_HOW = "Give it as `kubectl get vmi NAME -o yaml` or `-o json` writes it."
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
    """The VMs of a document, of several in one file, or of a list of them. Raises ``InputError`` for what can't be read, or holds none."""
    texts = _json(text, source) if text.lstrip().startswith(("{", "[")) else _yaml(text, source)
    found = [_guest(one, source) for document in texts for one in _documents(document)]
    if not found:
        raise InputError(f"{source} holds no VirtualMachine and no VirtualMachineInstance.", _HOW)
    return found


def _json(text: str, source: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source} is no JSON: {error}.", _HOW) from error


def _yaml(text: str, source: str) -> list[Any]:
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc] # yaml has no types
        """What Kubernetes writes: no names for parts (they can grow without end), no key twice."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                event = self.peek_event()
                raise yaml.MarkedYAMLError(problem=f"the alias *{event.anchor}, which Kubernetes does not write", problem_mark=event.start_mark)
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value} twice", problem_mark=key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep=deep)

    if len(text) > _YAML:
        raise InputError(f"{source} is {len(text)} characters of YAML: more than {_YAML}.", "Give the one VM, or JSON.")
    try:
        return list(yaml.load_all(text, Plain))  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"{source}{line} can't be read as YAML: {visible(str(error.problem))}.", _HOW) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        what = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{source} can't be read as YAML: {visible(what)}.", _HOW) from error


def _documents(document: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict) and document.get("kind") in ("VirtualMachine", "VirtualMachineInstance"):
        yield document
    elif isinstance(document, dict) and isinstance(document.get("items"), list) and depth < 2:
        for item in document["items"]:
            yield from _documents(item, depth + 1)


def quantity(value: Any) -> int | None:
    """Bytes of a quantity of Kubernetes (``4Gi``, ``1.5Gi``, ``512M``, ``1e9``), rounded up as it does; None for what is none, or negative."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        return None
    number, exponent, unit = found.groups()
    scale = Fraction(10) ** int(exponent) if exponent else Fraction(_UNITS[unit or ""])
    return ceil(Fraction(number) * scale)


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
