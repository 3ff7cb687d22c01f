"""libvirt's own files, as far as they name functions of the host: domains (defined, or with their state) and networks of forward mode hostdev.

A function stands in an ``address`` directly below ``source``, whatever it is given as: hostdev, an interface of type hostdev, a disk of type
nvme, what a running interface got out of a pool (docs of formatdomain). The files are read as they come by, without a tree: they may be a stranger's.
"""

from __future__ import annotations

import re
from xml.parsers import expat

import msgspec

from wizard.base.address import Address


class Named(msgspec.Struct, frozen=True):
    """A domain or a network: its name, and the functions and interfaces of the host that it names."""

    name: str = ""
    functions: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()


def domain_of(data: bytes) -> Named:
    """The domain of a file below /etc/libvirt/qemu or /run/libvirt/qemu; one that is no XML names nothing."""
    found = _Reader("domain")
    found.read(data)
    return Named(found.name, tuple(dict.fromkeys(found.functions)))


def pool_of(data: bytes) -> Named:
    """The network of a file below /etc/libvirt/qemu/networks, if it hands functions of the host out (forward mode hostdev)."""
    found = _Reader("network")
    found.read(data)
    if found.forward != "hostdev":
        return Named(found.name)
    return Named(found.name, tuple(dict.fromkeys(found.functions)), tuple(dict.fromkeys(found.interfaces)))


class _Reader:
    def __init__(self, root: str) -> None:
        self._root = root
        self._way: list[str] = []
        self.name = ""
        self.forward = ""
        self.functions: list[str] = []
        self.interfaces: list[str] = []

    def read(self, data: bytes) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._entity  # libvirt writes none; a stranger's might grow without end
        parser.buffer_text = True
        try:
            parser.Parse(data, True)
        except (expat.ExpatError, ValueError):
            return  # what was named before it broke off counts

    @staticmethod
    def _entity(*_: object) -> None:
        raise ValueError("an entity")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        above = self._way[-1] if self._way else ""
        self._way.append(name)
        if name == "forward" and above == self._root:
            self.forward = attributes.get("mode", "")
        elif name == "pf" and above == "forward":
            self.interfaces.append(attributes.get("dev", ""))
        elif name == "address" and above in ("source", "forward") and {"bus", "slot"} <= attributes.keys() and (one := _function(attributes)):
            self.functions.append(one)

    def _end(self, _: str) -> None:
        self._way.pop()

    def _text(self, text: str) -> None:
        if self._way[-2:] == [self._root, "name"]:
            self.name += text.strip()


def _function(attributes: dict[str, str]) -> str | None:
    words = [attributes.get(name, "0") for name in ("domain", "bus", "slot", "function")]
    if not all(re.fullmatch("0x[0-9a-fA-F]{1,8}|[0-9]{1,8}", word) for word in words):
        return None
    segment, bus, device, function = (int(word, 16) if word.startswith("0x") else int(word) for word in words)
    return str(Address(segment, bus, device, function)) if bus < 256 and device < 32 and function < 8 else None
