"""Values of a ``Guest`` put into the text that it was read from: one writer for command lines, one for domain XML.

Both take QEMU's meaning of a value and spell it as the text does. A value that is written is replaced where it stands; one that is not is
added to the option, or to the element. ``Beyond`` where the text has no single place for it: a word in pieces, a descriptor, a variable.
"""

from __future__ import annotations

import re

from wizard.existing.guest import ROOT_BUS, Bridge, Device, Guest, Origin, Vsmmu, Where
from wizard.existing.xmltree import Element, parse
from wizard.mend.edits import Beyond, Edit, applied
from wizard.plan.properties import NAMES

_SAFE = re.compile(r"[A-Za-z0-9._:/+-]*")
# What a value is called where a command line and a domain have it, when that is another name than the model's.
_KEYS = {"slot": "addr", "bus_reserve": "bus-reserve", "mem_reserve": "mem-reserve", "pref64_reserve": "pref64-reserve"}
_ELEMENTS = {
    "bus_nr": ("target", "busNr"), "chassis": ("target", "chassis"), "iommufd": ("driver", "iommufd"), "slot": ("address", "slot"),
    "bus": ("address", "bus"), "function": ("address", "function"), "managed": ("", "managed"), **{name: ("driver", name) for name in NAMES},
}  # fmt: skip


class Writer:
    """Collects the edits of one text."""

    def __init__(self, text: str, guest: Guest) -> None:
        self.bom = "\ufeff" if text.startswith("\ufeff") else ""  # which the reader leaves out of its count
        self.text, self.guest = text.removeprefix(self.bom), guest
        self.edits: list[Edit] = []

    def result(self) -> str:
        """The text with every edit."""
        return self.bom + applied(self.text, self.edits)

    def at(self, where: Where | None) -> tuple[int, int]:
        """The characters of a place; ``Beyond`` where it has none."""
        if where is None or where.start is None or where.end is None:
            raise Beyond("it is not written in one piece")
        if where.source != self.guest.source:
            raise Beyond(f"it is written in {where.source}")
        return where.start, where.end

    def replace(self, where: Where | None, value: str) -> None:
        """What stands there becomes ``value``."""
        start, end = self.at(where)
        if not _SAFE.fullmatch(value):
            raise Beyond(f"{value} would have to be quoted")
        self.edits.append(Edit(start, end, value))

    def put(self, device: Device, name: str, value: str) -> None:
        """A value of a device, by the name of the model's attribute."""
        raise NotImplementedError

    def rename(self, where: Where | None, old: str, new: str) -> None:
        """The name in front of a value."""
        start, _ = self.at(where)
        found = re.search(rf"{re.escape(old)}(?=\"?\s*[=:]\s*[\"']?$)", self.text[max(0, start - 80) : start])
        if found is None:
            raise Beyond(f"{old} does not stand right before its value")
        base = max(0, start - 80)
        self.edits.append(Edit(base + found.start(), base + found.end(), new))


class CommandWriter(Writer):
    """``-device driver,key=value`` and ``-device {"driver": …}``."""

    def put(self, device: Device, name: str, value: str) -> None:
        """A key of the option."""
        if name == "function":
            return  # addr= has both, and slot writes them
        if name == "bus" and isinstance(device, Vsmmu) and name not in device.places:
            raise Beyond("it has no primary-bus")
        text = f"0x{int(value):x}" if name == "slot" else value
        if name == "slot" and device.function:
            text += f".{device.function:#x}"
        if name in device.places:
            start, end = self.at(device.places[name])
            # A JSON value may have been a number where addr is a text now; what stands in quotes stays in them.
            bare = self._json(device) and name == "slot" and self.text[start - 1 : start] != '"' and self.text[start : start + 1] != '"'
            self.edits.append(Edit(start, end, f'"{text}"' if bare else self._like(start, end, text)))
            return
        start, end = self.at(device.where)
        key = _KEYS.get(name, name)
        if self._json(device):
            close = self.text.rfind("}", start, end)
            if close < 0:
                raise Beyond("its JSON has no end")
            self.edits.append(Edit(close, close, f',"{key}":"{text}"'))
        elif _SAFE.fullmatch(text):
            self.edits.append(Edit(end, end, f",{key}={text}"))
        else:
            raise Beyond(f"{text} would have to be quoted")

    def add_iommufd(self, device: Device, id_: str) -> None:
        """An -object iommufd in front of the option that makes a device."""
        start, _ = self.at(device.where)
        option = re.search(r"--?device(?:=|[\s\\]+)[\"']?$", self.text[:start])
        if option is None:
            raise Beyond("what stands in front of the function is not its -device")
        self.edits.append(Edit(option.start(), option.start(), f"-object iommufd,id={id_} "))

    def machine(self, key: str, value: str) -> None:
        """A further key of -machine."""
        _, end = self.at(self.guest.machine.where)
        self.edits.append(Edit(end, end, f",{key}={value}"))

    def _json(self, device: Device) -> bool:
        start, end = self.at(device.where)
        return self.text[start:end].lstrip().startswith("{")

    def _like(self, start: int, end: int, text: str) -> str:
        old = self.text[start:end]
        return f'"{text}"' if old.startswith('"') and old.endswith('"') and len(old) > 1 else text


class DomainWriter(Writer):
    """Attributes of elements."""

    def __init__(self, text: str, guest: Guest) -> None:
        super().__init__(text, guest)
        root = parse(self.text, guest.source)
        self._elements = {element.start: element for element in root.walk()}

    def element(self, where: Where | None) -> Element:
        """The element that stands there."""
        found = self._elements.get(self.at(where)[0])
        if found is None:
            raise Beyond("it is no element")
        return found

    def features(self) -> Element:
        """The domain's <features>."""
        found = next((one for one in self._elements.values() if one.name == "features" and one.parent and one.parent.name == "domain"), None)
        if found is None:
            raise Beyond("the domain has no <features>")
        return found

    def hole(self, size: int) -> None:
        """The window for BARs, in the pcie-root controller."""
        found = [one for one in self._elements.values() if one.name == "controller" and one.attributes.get("model") == "pcie-root"]
        if len(found) != 1:
            raise Beyond("the domain has no pcie-root controller")
        self.child(found[0], f"<pcihole64 unit='KiB'>{size >> 10}</pcihole64>")

    def index(self, bus: str) -> int:
        """Libvirt's number of a bus."""
        bridge = self.guest.device(bus)
        if bus == ROOT_BUS:
            return 0
        if not isinstance(bridge, Bridge) or bridge.index is None:
            raise Beyond(f"{bus} is no controller with an index")
        return bridge.index

    def put(self, device: Device, name: str, value: str) -> None:
        """An attribute of the element that it belongs to."""
        element = self.element(device.where)
        if name == "id":
            raise Beyond("libvirt gives the ids itself")
        if isinstance(device, Vsmmu) and name == "bus":
            self.attribute(element, "driver", "pciBus", str(self.index(value)))
            return
        if name not in _ELEMENTS:
            raise Beyond(f"a domain has no place for {name}")
        child, attribute = _ELEMENTS[name]
        match name:
            case "iommufd":
                text = "yes"
            case "bus":
                text = f"0x{self.index(value):02x}"
            case "slot":
                text = f"0x{int(value):02x}"
            case "function":
                text = f"0x{int(value):x}"
            case _:
                text = value
        if child == "address" and element.one("address") is None:
            self.address(element, device, {attribute: text})
        else:
            self.attribute(element, child, attribute, text)

    def address(self, element: Element, device: Device, values: dict[str, str]) -> None:
        """A new <address>, of what is known; a second value of it joins the first."""
        old = next((edit for edit in self.edits if edit.new.lstrip().startswith("<address") and edit.start == self._inside(element)), None)
        known = {"bus": f"0x{self.index(device.bus):02x}" if device.bus else "0x00", "slot": f"0x{device.slot or 0:02x}", "function": "0x0"}
        if old is not None:
            self.edits.remove(old)
            known |= dict(re.findall(r"(bus|slot|function)='(\w+)'", old.new))
        known |= values
        text = f"<address type='pci' domain='0x0000' bus='{known['bus']}' slot='{known['slot']}' function='{known['function']}'/>"
        self.child(element, text)

    def attribute(self, element: Element, child: str, name: str, value: str) -> None:
        """An attribute of the element, or of a child of it."""
        owner = element.one(child) if child else element
        if owner is None:
            self.child(element, f"<{child} {name}='{value}'/>")
        elif name in owner.spans:
            start, end = owner.spans[name]
            self.edits.append(Edit(start, end, value))
        else:
            at = owner.inner - 1
            at -= self.text[at - 1] == "/"
            while self.text[at - 1].isspace():
                at -= 1
            quote = '"' if self.text[element.start : element.end].count('"') > self.text[element.start : element.end].count("'") else "'"
            self.edits.append(Edit(at, at, f" {name}={quote}{value}{quote}"))

    def _inside(self, element: Element) -> int:
        return element.children[-1].end if element.children else element.inner

    def child(self, element: Element, text: str) -> None:
        """A new last child, indented like its brothers."""
        if not element.children:
            if not self.text.startswith("/>", element.inner - 2):
                self.edits.append(Edit(element.inner, element.inner, text))
                return
            self.edits.append(Edit(element.inner - 2, element.inner, f">{text}</{element.name}>"))
            return
        last = element.children[-1]
        line = self.text.rfind("\n", 0, last.start)
        indent = self.text[line : last.start] if line >= 0 and not self.text[line : last.start].strip() else ""
        self.edits.append(Edit(last.end, last.end, f"{indent}{text}"))


def writer_of(text: str, guest: Guest) -> CommandWriter | DomainWriter:
    """The writer for the text that a guest was read from."""
    return DomainWriter(text, guest) if guest.origin is Origin.LIBVIRT else CommandWriter(text, guest)
