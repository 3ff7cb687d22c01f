"""``<qemu:override>``: the properties that our own exports write there, since libvirt 12.8 has no element for them."""

from __future__ import annotations

from wizard.existing.ledger import Ledger
from wizard.existing.numbers import integer
from wizard.existing.xmltree import Element

RESERVES = {"bus-reserve": "bus_reserve", "mem-reserve": "mem_reserve", "pref64-reserve": "pref64_reserve"}
Reserves = dict[str, dict[str, int]]


def read_override(root: Element, ledger: Ledger) -> tuple[dict[str, str], Reserves]:
    """vfio-pci's ``ats`` and the reserves of ports, by the alias of their device; all else is kept."""
    ats: dict[str, str] = {}
    reserves: Reserves = {}
    override = root.one("qemu:override")
    for device in override.all("qemu:device") if override else ():
        alias = device.attributes.get("alias", "")
        front = device.one("qemu:frontend")
        for prop in front.all("qemu:property") if front else ():
            name, value = prop.attributes.get("name", ""), prop.attributes.get("value")
            number = integer(value)
            if name == "ats" and value in ("on", "off", "auto"):
                ats[alias] = value
            elif name in RESERVES and number is not None:
                reserves.setdefault(alias, {})[RESERVES[name]] = number
            else:
                continue
            for attribute in ("name", "type", "value"):
                ledger.attribute(prop, attribute)
            ledger.attribute(device, "alias")
    return ats, reserves
