"""libvirt's domain XML as a ``Guest``: a file of one or several domains, also within ``<domstatus>`` or ``<domainsnapshot>``.

The values are taken as libvirt 12.8 takes them (sources: libvirt-accepts): ``<memory>`` in KiB without a unit, ``pciBus`` as the index of a
controller, a default of ``<iommufd>`` that each function may turn. What has no address is placed by ``placement``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from itertools import pairwise

from wizard.base.errors import InputError
from wizard.existing.domain_devices import read_devices
from wizard.existing.domain_override import read_override
from wizard.existing.guest import Fate, Firmware, Guest, Left, Machine, Memory, Node, Origin, Where
from wizard.existing.ledger import Ledger
from wizard.existing.numbers import integer, numbers, scaled
from wizard.existing.xmltree import Element, parse

_QEMUS = ("qemu-system-aarch64", "qemu-kvm")
_AROUND = ("domstatus", "domainsnapshot", "domains", "domainbackup", "inactiveDomain")
_DRIVER = re.compile(
    r"^[\s{]*(?:\"(?:driver|qom-type)\"\s*:\s*\"|driver=|qom-type=)?(vfio-|arm-smmuv3|pxb-pcie|pcie-root-port|iommufd|x3130|xio3130|virtio-iommu)"
)
_DEEP = 3  # elements around a domain


def read_domains(text: str, source: str) -> list[Guest]:
    """Every domain of a text. Raises ``InputError`` for what is no XML, or holds none."""
    found = _domains(_root(text, source))
    if not found:
        raise InputError(f"{source}: this XML holds no <domain>.", "Name the output of `virsh dumpxml NAME`, a <domstatus> or a <domainsnapshot>.")
    return [_Reader(domain, text, source).guest() for domain in found]


def _root(text: str, source: str) -> Element:
    """The root; several domains one after the other, as `virsh dumpxml` writes them for a list of names, get one around them."""
    try:
        return parse(text, source)
    except InputError:
        if text.count("<domain ") + text.count("<domain>") < 2:
            raise
    heads = text[: text.find("<domain")]
    if "<?xml" in text[len(heads) :] or "<!DOCTYPE" in text:
        raise InputError(f"{source}: several XML documents stand in one file.", "Put each into a file of its own.")
    # The places stay those of the file: the root that is missing takes no line and is taken off again.
    around = parse(f"<domains>{text[len(heads) :]}</domains>", source)
    shift = len(heads) - len("<domains>")
    lines = heads.count("\n")
    for element in around.walk():
        element.start, element.end, element.inner, element.line = (
            element.start + shift,
            element.end + shift,
            element.inner + shift,
            element.line + lines,
        )
        element.spans = {name: (start + shift, end + shift) for name, (start, end) in element.spans.items()}
        element.texts = [(part, start + shift, end + shift) for part, start, end in element.texts]
    return around


def _domains(root: Element, depth: int = 0) -> list[Element]:
    if root.name == "domain":
        return [root]
    if depth >= _DEEP:
        return []
    inner = [child for child in root.children if child.name in (*_AROUND, "domain")]
    # A snapshot may hold two: the domain as it ran, and its inactive definition; the first is the one to judge.
    found = [domain for child in inner for domain in _domains(child, depth + 1)]
    return found if root.name == "domains" else found[:1]


class _Reader:
    def __init__(self, root: Element, text: str, source: str) -> None:
        root.parent = None
        self.root, self.source = root, source
        self.ledger = Ledger(root, text)
        self.places: dict[str, Where] = {}

    def guest(self) -> Guest:
        root, ledger = self.root, self.ledger
        kvm = {"kvm": True, "qemu": False}.get(ledger.attribute(root, "type") or "")
        description = root.one("description")
        # Titles and metadata stay as they are; the description is a profile's notes.
        notes = ledger.content(description) or ""
        devices = root.one("devices")
        hard_limit = self._hard_limit()
        firmware = self._firmware()
        nodes = self._nodes()
        memory = self._memory(hard_limit)
        ats, reserves = read_override(root, ledger)
        found = read_devices(root, devices, ledger, self._iommufd(), kvm is not False)
        machine = self._machine(kvm, found.machine_iommu, found.window)
        return Guest(
            where=root.where(),
            places=self.places,
            origin=Origin.LIBVIRT,
            source=self.source,
            name=self._text("name", "name"),
            uuid=self._text("uuid", "uuid"),
            notes=notes,
            emulator=self._emulator(devices),
            machine=machine,
            memory=memory,
            cpus=self._cpus(),
            nodes=nodes,
            firmware=firmware,
            iommufds=("iommufd0",) if found.iommufd else (),
            devices=found.with_overrides(ats, reserves),
            left=(*found.left, *self._unchecked(), *ledger.finish()),
        )

    def _unchecked(self) -> Iterator[Left]:
        """What <qemu:commandline> brings past libvirt that belongs to this program's matters: it is kept as it is, and must not go unsaid."""
        line = self.root.one("qemu:commandline")
        args = line.all("qemu:arg") if line is not None else []
        for before, arg in pairwise(args):
            value = arg.attributes.get("value", "")
            driver = _DRIVER.search(value)
            if before.attributes.get("value") in ("-device", "--device", "-object", "--object") and driver is not None:
                said = "libvirt hands it on to QEMU, and neither it nor this check knows what is behind it"
                yield Left(fate=Fate.UNRESOLVED, where=arg.where("value"), name=value, text=value, said=said)

    def _text(self, name: str, attribute: str) -> str | None:
        element = self.root.one(name)
        if element is not None:
            self.places[attribute] = element.where_text()
        return self.ledger.content(element)

    def _cpus(self) -> int | None:
        element = self.root.one("vcpu")
        self.ledger.plain_attribute(element, "placement", "static")
        count = integer(self._text("vcpu", "cpus"))
        if count is None and element is not None:
            self.ledger.unknown(element.where_text(), "it is no number of CPUs")
        return count

    def _emulator(self, devices: Element | None) -> str | None:
        element = devices.one("emulator") if devices else None
        path = self.ledger.content(element)
        if element is not None and path and posixpath.basename(path) not in _QEMUS:
            self.ledger.lose(element, "a plan is for the host's own qemu-system-aarch64")
        return path

    def _hard_limit(self) -> tuple[int | None, Where | None]:
        """Of <memtune>, which is kept as it is."""
        tune = self.root.one("memtune")
        limit = tune.one("hard_limit") if tune else None
        if limit is None:
            return None, None
        return scaled(limit.text, limit.attributes.get("unit")), limit.where_text()

    def _iommufd(self) -> bool:
        element = self.root.one("iommufd")
        if element is None or set(element.attributes) != {"enabled"}:
            return element is not None and element.attributes.get("enabled") == "yes"  # kept as it is, with its fdgroup
        return self.ledger.attribute(element, "enabled") == "yes"

    def _memory(self, hard_limit: tuple[int | None, Where | None]) -> Memory:
        ledger, root = self.ledger, self.root
        element = root.one("memory")
        size = scaled(ledger.content(element), ledger.attribute(element, "unit"))
        places = {"size": element.where_text()} if element is not None else {}
        if element is not None and size is None:
            ledger.unknown(element.where_text(), "it is no size")
        current = root.one("currentMemory")
        if current is not None and scaled(current.text, current.attributes.get("unit")) == size:
            ledger.plain(current)
        backing = root.one("memoryBacking")
        pages = backing.one("hugepages") if backing else None
        hugepages = None
        if pages is not None:
            page = pages.one("page")
            ledger.open(pages)
            if page is None:
                ledger.unknown(pages.where(), "the size of the pages is the host's own default, which a profile has to name")
            elif len(pages.all("page")) == 1:
                hugepages = scaled(ledger.attribute(page, "size"), ledger.attribute(page, "unit"))
                places["hugepages"] = page.where("size")
        source = backing.one("source") if backing else None
        if hugepages:
            ledger.plain_attribute(source, "type", "memfd")
        if backing is not None:
            ledger.open(backing)
        if hard_limit[1] is not None:
            places["hard_limit"] = hard_limit[1]
        locked = backing is not None and backing.one("locked") is not None
        return Memory(
            where=element.where() if element else None, places=places, size=size, hugepages=hugepages, locked=locked, hard_limit=hard_limit[0]
        )

    def _machine(self, kvm: bool | None, iommu: tuple[str, Where] | None, window: tuple[int, Where] | None) -> Machine:
        ledger, root = self.ledger, self.root
        os_ = root.one("os")
        type_ = os_.one("type") if os_ else None
        ledger.content(type_)
        features = root.one("features")
        acpi = features.one("acpi") if features else None
        gic = features.one("gic") if features else None
        for element in (acpi, os_, features):
            if element is not None:
                ledger.open(element)
        places = {
            name: type_.where(attribute) for name, attribute in (("type", "machine"), ("arch", "arch")) if type_ and attribute in type_.attributes
        }
        if gic is not None:
            places["gic"] = gic.where("version")
        if acpi is not None:
            places["acpi"] = acpi.where()
        if iommu:
            places["iommu"] = iommu[1]
        if window:
            places["mmio_window"] = window[1]
        return Machine(
            where=type_.where() if type_ else root.where(),
            places=places,
            type=ledger.attribute(type_, "machine"),
            arch=ledger.attribute(type_, "arch"),
            gic=ledger.attribute(gic, "version"),
            acpi=acpi is not None,
            kvm=kvm,
            iommu=iommu[0] if iommu else None,
            mmio_window=window[0] if window else None,
        )

    def _firmware(self) -> Firmware | None:
        ledger = self.ledger
        os_ = self.root.one("os")
        if os_ is None:
            return None
        loader, nvram = os_.one("loader"), os_.one("nvram")
        auto = os_.attributes.get("firmware") == "efi"
        if auto:
            ledger.attribute(os_, "firmware")
        code = ledger.content(loader)
        if loader is not None:
            ledger.plain_attribute(loader, "readonly", "yes")
            ledger.plain_attribute(loader, "type", "pflash", "rom")
            ledger.plain_attribute(loader, "stateless", "no")
        if code is None and not auto:
            return None
        form = ledger.attribute(loader, "format") or "raw"
        vars_ = ledger.content(nvram)
        template = ledger.attribute(nvram, "template")
        nvram_form = ledger.attribute(nvram, "format") or form
        if nvram is not None and nvram.attributes.get("templateFormat") in (None, nvram_form):
            ledger.attribute(nvram, "templateFormat")
        if code is None:
            return Firmware(where=os_.where(), auto=True, vars=vars_, vars_template=template, vars_format=nvram_form)
        assert loader is not None
        return Firmware(
            where=loader.where(),
            places={"code": loader.where_text()} | ({"vars": nvram.where_text()} if nvram is not None else {}),
            code=code,
            code_format=form,
            vars_template=template,
            vars=vars_,
            vars_format=nvram_form,
        )

    def _nodes(self) -> tuple[Node, ...] | None:
        ledger, root = self.ledger, self.root
        cpu = root.one("cpu")
        if cpu is not None:
            ledger.open(cpu)
            ledger.plain_attribute(cpu, "mode", "host-passthrough")
        numa = cpu.one("numa") if cpu else None
        if numa is None:
            return None
        ledger.open(numa)
        bound = self._bound()
        nodes = []
        for place, cell in enumerate(numa.all("cell")):
            number = integer(ledger.attribute(cell, "id"))
            number = place if number is None else number
            ledger.called(cell, f"node{number}")
            size = scaled(ledger.attribute(cell, "memory"), ledger.attribute(cell, "unit"))
            cpus = ledger.attribute(cell, "cpus")
            if size is None:
                ledger.unknown(cell.where("memory"), "it is no size")
            nodes.append(
                Node(
                    where=cell.where(),
                    places={"memory": cell.where("memory"), "cpus": cell.where("cpus")} | bound.get(number, (None, {}))[1],
                    id=number,
                    memory=size or 0,
                    cpus=numbers(cpus) or (),
                    host_node=bound.get(number, (None, {}))[0],
                )
            )
        return tuple(sorted(nodes, key=lambda node: node.id))

    def _bound(self) -> dict[int, tuple[int | None, dict[str, Where]]]:
        """The host's node of each guest node that is bound strictly to one."""
        tune = self.root.one("numatune")
        found: dict[int, tuple[int | None, dict[str, Where]]] = {}
        for node in tune.all("memnode") if tune else ():
            guest, hosts = integer(node.attributes.get("cellid")), numbers(node.attributes.get("nodeset"))
            if node.attributes.get("mode", "strict") == "strict" and guest is not None and hosts is not None and len(hosts) == 1:
                for name in ("cellid", "mode", "nodeset"):
                    self.ledger.attribute(node, name)
                found[guest] = hosts[0], {"host_node": node.where("nodeset")}
        return found
