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
from wizard.export.kept import said_of_kept
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
_SAID = {"name": ("",), "uuid": ("",), "description": ("",), "memory": ("", "/@unit"), "vcpu": ("", "/@placement")}
"""Elements whose text is an option of its own."""
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
    return ["virt-install", *(word for _, words in _Words(vm).options for word in words)]


def virt_install_script(vm: VmPlan) -> str:
    """A shell script (bash, for its arrays) that has virt-install define and start the VM; words given to it follow."""
    words = _Words(vm)
    lines = [
        "#!/bin/bash",
        *(f"# {line}" for line in heading(vm)),
        *([f"# {visible(unchecked)}"] if (unchecked := said_of_kept(vm, "libvirt")) else []),
        *(f"# LEFT OUT, since virt-install can't say it: {visible(lost)}" for lost in words.lost),
        "#",
        "# For virt-install 5.1 or later. Run the preparation script first (smmu-wizard export … --format prepare).",
        "# `./script --print-xml` shows the domain and makes nothing; without it the VM is defined and started.",
        "# What 5.1 has no option for (accel, pciBus, iommufd …) is set by --xml.",
        "set -eu",
        "",
        "# shellcheck disable=SC2054 # the commas are virt-install's",
        "args=(",
    ]
    for comment, option in words.options:
        lines += [f"  # {visible(comment)}"] if comment else []
        lines.append("  " + " ".join(shell_word(word) for word in option))
    return "\n".join([*lines, ")", 'exec virt-install "${args[@]}" "$@"', ""])


class _Words:
    """The options in their order, each with what to say above it; ``lost`` is what virt-install has no way to say."""

    def __init__(self, vm: VmPlan) -> None:
        self.vm = vm
        self.domain = libvirt_domain(vm)
        self.lost: list[str] = []
        self._later: list[tuple[str, str]] = []
        self.options = list(self._all())

    def _all(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        vm = self.vm
        yield "", ("--virt-type", self.domain.get("type", ""))
        yield "", ("--name", vm.name)
        described = [("uuid", vm.uuid), *([("description", vm.notes)] if vm.notes else [])]
        yield "", ("--metadata", _joined(described))
        yield "", ("--memory", str(vm.memory.size >> 20))
        yield "", ("--vcpus", f"{vm.cpus},vcpu.placement=static")
        counts: dict[str, int] = {}
        for part in _elements(self.domain):
            tag = self._tag(part)
            if tag is None:
                self.lost.append(f"<{etree.QName(part).localname}> of {etree.QName(part).namespace}")
                continue
            counts[tag] = counts.get(tag, 0) + 1
            path = f"./{tag}" + (f"[{counts[tag]}]" if len(self.domain.findall(part.tag)) > 1 else "")
            yield from self._part(tag, part, path)
        if not vm.disks:
            yield "", ("--disk", "none")
        if not vm.networks:
            yield "", ("--network", "none")
        for words in _NOTHING_MORE:
            yield "", words
        for path in _ADDED:
            yield "", ("--xml", f"xpath.delete={path}")
        for path, value in self._later:
            yield "", ("--xml", _joined([("xpath.set", path), ("xpath.value", value)] if value else [("xpath.create", path)]))

    def _part(self, tag: str, part: etree._Element, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        if tag in _SAID:
            self._later += [(f"{path}{place}", value) for place, value in self._leaves(part, "") if place not in _SAID[tag]]
        elif tag in _PARTS:
            yield from self._element(_PARTS[tag], part, path)
        elif tag == "os":
            kind = part.find("type")
            assert kind is not None
            yield "", ("--arch", kind.get("arch", ""), "--machine", kind.get("machine", ""))
            part.remove(kind)
            yield from self._element("--boot", part, path, [("emulator", self.domain.findtext("devices/emulator") or "")])
        elif tag == "devices":
            yield from self._devices(part)
        else:
            self._later += [(f"{path}{place}", value) for place, value in self._leaves(part, "")]

    def _devices(self, devices: etree._Element) -> Iterator[tuple[str, tuple[str, ...]]]:
        vm = self.vm
        own = {"disk": len(vm.disks), "interface": len(vm.networks), "hostdev": len(vm.devices), "serial": 1, "memballoon": 1, "iommu": 99}
        counts: dict[str, int] = {}
        for device in _elements(devices):
            tag = str(device.tag)
            if tag == "emulator":
                continue
            counts[tag] = counts.get(tag, 0) + 1
            path = f"./devices/{tag}[{counts[tag]}]"
            made = device.get("type") in ("pci", "usb") if tag == "controller" else counts[tag] <= own.get(tag, 0)
            if made:
                yield from self._element(_DEVICES[tag], device, path)
            else:
                # What was kept aside is created as it is: an option would look for its files, and add to it.
                self._later += [(f"{path}{place}", value) for place, value in self._leaves(device, "")]

    def _element(
        self, option: str, element: etree._Element, path: str, first: list[tuple[str, str]] | None = None
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """The option of one element; what it has no word for comes later."""
        known, values = set(OPTIONS[option]), list(first or ())
        for place, value in self._leaves(element, ""):
            name, pattern = _name(place)
            if pattern in known:
                values.append((name, value or "on"))
            else:
                self._later.append((f"{path}{place}", value))
        comment = next((_text(child).strip() for child in element.iter(etree.Comment)), "")
        if values:
            yield comment, (option, _joined(values))

    def _leaves(self, element: etree._Element, path: str) -> list[tuple[str, str]]:
        """Place and value of every attribute, text and empty element below, in the order of the text."""
        found = [(f"{path}/@{name!s}", str(value)) for name, value in element.attrib.items()]
        children = _elements(element)
        text = _text(element).strip() if children else _text(element)
        if text or not (found or children):
            found.insert(0, (path, text))
        counts: dict[str, int] = {}
        for child in children:
            tag = self._tag(child)
            if tag is None:
                self.lost.append(f"<{etree.QName(child).localname}> of {etree.QName(child).namespace}")
                continue
            counts[tag] = counts.get(tag, 0) + 1
            several = sum(other.tag == child.tag for other in children) > 1 or tag in _LISTS
            found += self._leaves(child, f"{path}/{tag}" + (f"[{counts[tag]}]" if several else ""))
        return found

    def _tag(self, element: etree._Element) -> str | None:
        """As virt-install's paths have it; None for a namespace that it does not know."""
        name = etree.QName(element)
        if not name.namespace:
            return name.localname
        return f"qemu:{name.localname}" if name.namespace == QEMU_NS else None


def _elements(parent: etree._Element) -> list[etree._Element]:
    """Its children without comments."""
    return [child for child in parent if isinstance(child.tag, str)]


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
