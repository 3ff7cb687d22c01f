"""virt-install 5.1: the words that make the same domain as our libvirt XML.

The XML is walked leaf by leaf. virt-install names an option after the place of what it sets (``target.busNr`` for ``target/@busNr``,
``numa.cell0.id`` for the first cell), so a leaf whose name is in ``OPTIONS`` is that option, and every other leaf is carried by ``--xml``:
5.1 has no option for a vSMMU's bus, for accel or for iommufd (virt-manager#1137 and #1036 are in no release). So nothing that the plan holds
can be left out of one export and not of the other.

virt-install adds devices of its own choice (graphics, a balloon, a TPM, root ports): each of them is switched off by name.
Sources: virtinst/cli.py, guest.py and xmlbuilder.py of virt-manager 5.1.0 (sources: vmms-virt-install).
"""

from __future__ import annotations

from collections.abc import Iterator

from lxml import etree

from wizard.base.text import shell_word, visible
from wizard.export.libvirt import QEMU_NS, libvirt_domain
from wizard.export.qemu import heading
from wizard.plan.model import VmPlan

_ADDRESS = ("address.type", "address.domain", "address.bus", "address.slot", "address.function", "address.multifunction")
OPTIONS: dict[str, tuple[str, ...]] = {
    "--memorybacking": ("hugepages.page#.size", "hugepages.page#.unit", "source.type"),
    "--numatune": ("memnode#.cellid", "memnode#.mode", "memnode#.nodeset"),
    "--boot": ("loader", "loader.readonly", "loader.type", "nvram", "nvram.template", "nvram.templateFormat"),
    "--features": ("acpi", "gic.version"),
    "--cpu": ("mode", "numa.cell#.id", "numa.cell#.memory", "numa.cell#.unit", "numa.cell#.cpus"),
    "--controller": ("type", "index", "model", "target.busNr", "target.node", "target.chassis", "target.port", "target.memReserve", *_ADDRESS),
    "--disk": ("device", "driver.name", "driver.type", "source.file", "source.dev", "target.dev", "target.bus", "readonly", *_ADDRESS),
    "--network": ("type", "mac.address", "target.dev", "model.type", *_ADDRESS),
    "--serial": ("type",),
    "--hostdev": ("type", "driver.name", "rom.bar", *_ADDRESS),
    "--iommu": ("model", "driver.aw_bits"),
    "--memballoon": ("model",),
}
"""What virt-install 5.1 has a word for, of what our XML holds: by option, in its own spelling; # is a number from 0."""

_PARTS = {"memoryBacking": "--memorybacking", "numatune": "--numatune", "features": "--features", "cpu": "--cpu"}
_DEVICES = {"controller": "--controller", "disk": "--disk", "interface": "--network", "serial": "--serial", "hostdev": "--hostdev",
            "iommu": "--iommu", "memballoon": "--memballoon"}  # fmt: skip
_LISTS = ("page", "memnode", "cell")
_NOTHING_MORE = (
    ("--import",),
    ("--osinfo", "detect=off,require=off"),
    *((f"--{device}", "none") for device in ("graphics", "video", "sound", "rng", "tpm", "channel", "input")),
    ("--controller", "num_pcie_root_ports=0"),
    ("--noautoconsole",),
)
_ADDED = ("./os/boot", "./clock", "./currentMemory")
"""What virt-install writes without an option that keeps it from it; libvirt has the same defaults for the last two."""


def virt_install_argv(vm: VmPlan) -> list[str]:
    """The words of the command. Raises ``UsageError`` for what libvirt's XML can't carry either."""
    return ["virt-install", *(word for _, words in _options(vm) for word in words)]


def virt_install_script(vm: VmPlan) -> str:
    """A shell script (bash, for its arrays) that has virt-install define and start the VM; words given to it follow."""
    lines = [
        "#!/bin/bash",
        *(f"# {line}" for line in heading(vm)),
        "#",
        "# For virt-install 5.1 or later. Run the preparation script first (smmu-wizard export … --format prepare).",
        "# `./script --print-xml` shows the domain and makes nothing; without it the VM is defined and started.",
        "# What 5.1 has no option for (accel, pciBus, iommufd …) is set by --xml.",
        "set -eu",
        "",
        "# shellcheck disable=SC2054 # the commas are virt-install's",
        "args=(",
    ]
    for comment, words in _options(vm):
        lines += [f"  # {visible(comment)}"] if comment else []
        lines.append("  " + " ".join(shell_word(word) for word in words))
    return "\n".join([*lines, ")", 'exec virt-install "${args[@]}" "$@"', ""])


def _options(vm: VmPlan) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each option with what to say above it."""
    domain = libvirt_domain(vm)
    yield "", ("--virt-type", domain.get("type", ""))
    yield "", ("--name", vm.name)
    described = [("uuid", vm.uuid), *([("description", vm.notes)] if vm.notes else [])]
    yield "", ("--metadata", _joined(described))
    yield "", ("--memory", str(vm.memory.size >> 20))
    yield "", ("--vcpus", f"{vm.cpus},vcpu.placement=static")
    later: list[tuple[str, str]] = []
    for part in domain:
        if isinstance(part.tag, str) and part.tag in _PARTS:
            yield from _element(_PARTS[part.tag], part, f"./{part.tag}", later)
        elif part.tag == "os":
            kind = part.find("type")
            assert kind is not None
            yield "", ("--arch", kind.get("arch", ""), "--machine", kind.get("machine", ""))
            part.remove(kind)
            yield from _element("--boot", part, "./os", later, [("emulator", domain.findtext("devices/emulator") or "")])
        elif part.tag == "devices":
            yield from _device_options(part, later)
        elif part.tag == f"{{{QEMU_NS}}}override":
            later += _leaves(part, "./qemu:override", {"qemu": QEMU_NS})
    if not vm.disks:
        yield "", ("--disk", "none")
    if not vm.networks:
        yield "", ("--network", "none")
    for words in _NOTHING_MORE:
        yield "", words
    for path in _ADDED:
        yield "", ("--xml", f"xpath.delete={path}")
    for path, value in later:
        yield "", ("--xml", _joined([("xpath.set", path), ("xpath.value", value)] if value else [("xpath.create", path)]))


def _device_options(devices: etree._Element, later: list[tuple[str, str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    counts: dict[str, int] = {}
    for device in devices:
        if not isinstance(device.tag, str) or device.tag == "emulator":
            continue
        counts[device.tag] = counts.get(device.tag, 0) + 1
        yield from _element(_DEVICES[device.tag], device, f"./devices/{device.tag}[{counts[device.tag]}]", later)


def _element(
    option: str, element: etree._Element, path: str, later: list[tuple[str, str]], first: list[tuple[str, str]] | None = None
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The option of one element; what it has no word for is added to ``later``."""
    known, values = set(OPTIONS[option]), list(first or ())
    for place, value in _leaves(element, ""):
        name, pattern = _name(place)
        if pattern in known:
            values.append((name, value or "on"))
        else:
            later.append((f"{path}{place}", value))
    comment = next((_text(child).strip() for child in element if not isinstance(child.tag, str)), "")
    if values:
        yield comment, (option, _joined(values))


def _leaves(element: etree._Element, path: str, names: dict[str, str] | None = None) -> list[tuple[str, str]]:
    """Place and value of every attribute, text and empty element below, in the order of the text."""
    found = [(f"{path}/@{name!s}", str(value)) for name, value in element.attrib.items()]
    children = [child for child in element if isinstance(child.tag, str)]
    text = _text(element).strip() if children else _text(element)
    if path and (text or not (found or children)):
        found.insert(0, (path, text))
    counts: dict[str, int] = {}
    for child in children:
        tag = str(child.tag)
        for prefix, uri in (names or {}).items():
            tag = tag.replace(f"{{{uri}}}", f"{prefix}:")
        counts[tag] = counts.get(tag, 0) + 1
        several = sum(other.tag == child.tag for other in children) > 1 or tag in _LISTS
        found += _leaves(child, f"{path}/{tag}" + (f"[{counts[tag]}]" if several else ""), names)
    return found


def _text(element: etree._Element) -> str:
    return str(element.text or "")


def _name(place: str) -> tuple[str, str]:
    """A place as virt-install names it, and with # for the numbers: ``/numa/cell[2]/@id`` is ``numa.cell1.id`` and ``numa.cell#.id``."""
    name, pattern = [], []
    for part in place.strip("/").replace("@", "").split("/"):
        tag, _, number = part.removesuffix("]").partition("[")
        name.append(tag + (str(int(number) - 1) if number else ""))
        pattern.append(tag + ("#" if number else ""))
    return ".".join(name), ".".join(pattern)


def _joined(values: list[tuple[str, str]]) -> str:
    return ",".join(f"{key}={_quoted(value)}" for key, value in values)


def _quoted(value: str) -> str:
    """A value as virt-install's own splitting (shlex, at commas) gives it back."""
    if value and not set(value) & set(",\"'\\ \t\r\n"):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
